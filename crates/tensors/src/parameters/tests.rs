use tch::{Kind, Tensor};

use super::{Parameter, Parameters, Role};
use crate::fixtures::{leaf, randn};

fn parameter(name: &str, tensor: Tensor) -> Parameter {
    Parameter { name: name.to_owned(), tensor, role: Role::Matrix, lr_multiplier: 1.0 }
}

fn refused(parameters: &mut Parameters, parameter: Parameter, expected: &str) {
    let before = parameters.len();
    assert_eq!(parameters.push(parameter).unwrap_err().to_string(), expected);
    assert_eq!(parameters.len(), before);
}

#[test]
fn parameters_keep_their_order_and_are_found_by_name() {
    let mut parameters = Parameters::new();
    assert!(parameters.is_empty());
    for (name, shape) in [("z", vec![2, 3]), ("a", vec![4]), ("m", vec![])] {
        parameters.push(parameter(name, leaf(&shape, 1))).unwrap();
    }
    assert_eq!(parameters.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["z", "a", "m"]);
    assert_eq!(parameters.n_elements(), 6 + 4 + 1);
    assert_eq!(parameters.get("a").unwrap().tensor.size(), [4]);
    assert!(parameters.get("b").is_none());
    let named = parameters.named_tensors();
    assert_eq!(named[0].1.data_ptr(), parameters.get("z").unwrap().tensor.data_ptr());
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let mut parameters = Parameters::new();
    parameters.push(parameter("w", leaf(&[2], 1))).unwrap();
    let again = parameter("w", leaf(&[2], 2));
    refused(&mut parameters, again, "parameter name must be unique, got `w` twice");
    let want = "must be a leaf tensor that requires a gradient, got kind Some(Float)";
    let frozen = parameter("f", randn(&[2], 3));
    refused(&mut parameters, frozen, &format!("parameter `f` {want}, requires_grad false, a leaf"));
    let inner = parameter("i", leaf(&[2], 4) * 2.0);
    refused(
        &mut parameters,
        inner,
        &format!("parameter `i` {want}, requires_grad true, not a leaf"),
    );
    let odd = Parameter { lr_multiplier: f64::NAN, ..parameter("n", leaf(&[2], 5)) };
    refused(&mut parameters, odd, "lr_multiplier of `n` must be finite and not negative, got NaN");
}

#[test]
fn zero_grad_leaves_no_gradient() {
    let mut parameters = Parameters::new();
    parameters.push(parameter("w", leaf(&[2], 1))).unwrap();
    let w = &parameters.get("w").unwrap().tensor;
    (w * 3.0).sum(Kind::Float).backward();
    assert!(w.grad().defined());
    parameters.zero_grad();
    assert!(!w.grad().defined());
    parameters.zero_grad(); // none there: nothing to do
    (w * 3.0).sum(Kind::Float).backward();
    assert_eq!(Vec::<f32>::try_from(w.grad()).unwrap(), [3.0, 3.0]);
}
