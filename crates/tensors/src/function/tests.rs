use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Device, Kind, Tensor};

use super::{backward, custom_function};
use crate::error::{Error, Result};
use crate::fixtures::{distance, floats, leaf, randn};

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// `x * factor` by hand, with a drop counter in the closure.
fn scaled(x: &Tensor, factor: f64) -> (Tensor, impl Fn() -> usize + use<>) {
    let drops = Arc::new(AtomicUsize::new(0));
    let counted = Counted(Arc::clone(&drops));
    let y = tch::no_grad(|| x * factor);
    let mut outputs = custom_function(&[x], vec![y], move |grads| {
        let _in_closure = &counted;
        Ok(vec![Some(grads[0].f_mul_scalar(factor)?)])
    })
    .unwrap();
    (outputs.remove(0), move || drops.load(Ordering::SeqCst))
}

fn failing(fail: impl FnMut(&[Tensor]) -> Result<Vec<Option<Tensor>>> + Send + 'static) -> String {
    let x = leaf(&[3], 1);
    let y = custom_function(&[&x], vec![randn(&[3], 2)], fail).unwrap();
    let error = backward(&y[0].sum(Kind::Float)).unwrap_err();
    assert!(matches!(error, Error::Foreign(_)));
    error.to_string()
}

#[test]
fn several_inputs_and_outputs_agree_with_autograd() {
    let inputs = || (leaf(&[3, 4], 1), leaf(&[4, 2], 2), leaf(&[3, 2], 3));
    let loss = |ys: &[Tensor]| (&ys[0] * &ys[0]).sum(Kind::Float) + (&ys[1] * 3.0).sum(Kind::Float);

    let (a, b, c) = inputs();
    loss(&[a.matmul(&b) + &c, b.exp()]).backward();
    let want = [a.grad(), b.grad(), c.grad()];

    let (a, b, c) = inputs();
    let outputs = tch::no_grad(|| vec![a.matmul(&b) + &c, b.exp()]);
    let (sa, sb, exp) = (a.detach(), b.detach(), outputs[1].shallow_clone());
    let ys = custom_function(&[&a, &b, &c], outputs, move |grads| {
        let [d0, d1] = grads else { unreachable!() };
        assert!(!tch::no_grad(|| d0 * 1.0).requires_grad() && !(d0 * 1.0).requires_grad());
        let db = sa.f_transpose(0, 1)?.f_matmul(d0)?.f_add(&d1.f_mul(&exp)?)?;
        Ok(vec![Some(d0.f_matmul(&sb.f_transpose(0, 1)?)?), Some(db), Some(d0.shallow_clone())])
    })
    .unwrap();
    backward(&loss(&ys)).unwrap();
    for (got, want) in [a.grad(), b.grad(), c.grad()].iter().zip(&want) {
        assert!(distance(got, want) < 1e-5, "rounding of a product of 4 terms");
    }
}

#[test]
fn an_input_may_have_no_gradient_and_an_output_no_use() {
    let (a, b) = (leaf(&[3], 1), leaf(&[3], 2));
    let ids = Tensor::from_slice(&[1i64, 2, 3]);
    let ys = custom_function(&[&a, &ids, &b], vec![randn(&[3], 3), randn(&[2, 2], 4)], |grads| {
        assert_eq!(floats(&grads[1]), [0.0; 4], "the unused output's gradient is zeros");
        Ok(vec![Some(grads[0].f_mul_scalar(2.0)?), None, None])
    })
    .unwrap();
    backward(&ys[0].sum(Kind::Float)).unwrap();
    assert_eq!(floats(&a.grad()), [2.0; 3]);
    assert!(!b.grad().defined());
}

#[test]
fn errors_come_back_with_their_text() {
    let shape = || Error::Shape { arg: "x", want: "[n]".to_owned(), got: vec![2, 2] };
    assert_eq!(failing(move |_| Err(shape())), shape().to_string());
    let tch = |grads: &[Tensor]| Ok(vec![Some(grads[0].f_matmul(&Tensor::new())?)]);
    let message = failing(tch);
    assert!(!message.is_empty() && !message.contains("Exception raised"), "{message}");
    assert_eq!(failing(|_| Err(Error::Foreign("a\0b ü".to_owned()))), "a\u{fffd}b ü");
    assert_eq!(failing(|_| Ok(vec![])), "a Rust backward returned 0 gradients for 1 inputs");
    let message = failing(|_| Ok(vec![Some(randn(&[2], 1))]));
    assert!(message.contains("RustBackward") && message.contains("invalid gradient"), "{message}");
    let tensor = Error::tensor("m.safetensors".as_ref(), "w", "is missing");
    assert_eq!(
        failing(move |_| Err(Error::Foreign(tensor.to_string()))),
        "`m.safetensors`: tensor `w` is missing"
    );
}

#[test]
fn panics_do_not_cross() {
    assert_eq!(failing(|_| panic!("on purpose")), "a Rust backward panicked: on purpose");
    let name = "gradient";
    assert_eq!(failing(move |_| panic!("bad {name}")), "a Rust backward panicked: bad gradient");
    assert_eq!(failing(|_| std::panic::panic_any(5)), "a Rust backward panicked: no message");
}

#[test]
fn the_closure_is_dropped_once_after_backward() {
    let x = leaf(&[3], 1);
    let (y, drops) = scaled(&x, 3.0);
    assert_eq!(drops(), 0);
    backward(&y.sum(Kind::Float)).unwrap();
    assert_eq!((drops(), floats(&x.grad())), (1, vec![3.0; 3]));
    drop(y);
    assert_eq!(drops(), 1);
}

#[test]
fn the_closure_is_dropped_once_when_backward_never_runs() {
    let x = leaf(&[3], 1);
    let (y, drops) = scaled(&x, 3.0);
    let z = y.sum(Kind::Float) * 2.0;
    drop(y);
    assert_eq!(drops(), 0, "the loss still holds the graph");
    drop(z);
    assert_eq!(drops(), 1);
}

#[test]
fn the_closure_is_dropped_once_when_it_fails() {
    let drops = Arc::new(AtomicUsize::new(0));
    for fail in [|| Error::Foreign("x".to_owned()), || panic!("on purpose")] {
        let counted = Counted(Arc::clone(&drops));
        failing(move |_| {
            let _in_closure = &counted;
            Err(fail())
        });
    }
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

#[test]
fn without_a_need_for_gradients_there_is_no_graph() {
    let (y, drops) = scaled(&randn(&[3], 1), 2.0);
    assert!(!y.requires_grad());
    assert_eq!(drops(), 1);
    let x = leaf(&[3], 1);
    let (y, drops) = tch::no_grad(|| scaled(&x, 2.0));
    assert!(!y.requires_grad());
    assert_eq!(drops(), 1);
    let ids = Tensor::from_slice(&[1i64]);
    let refused = custom_function(&[&x], vec![ids], |_| Ok(vec![None])).unwrap_err().to_string();
    assert!(refused.contains("output 0 has kind Long"), "{refused}");
}

#[test]
fn a_kept_graph_runs_again_and_a_freed_one_says_so() {
    let x = leaf(&[3], 1);
    let (y, drops) = scaled(&x, 3.0);
    let loss = y.sum(Kind::Float);
    for _ in 0..2 {
        let grads = Tensor::f_run_backward(&[&loss], &[&x], true, false).unwrap();
        assert_eq!(floats(&grads[0]), [3.0; 3]);
    }
    assert_eq!(drops(), 0);
    backward(&loss).unwrap();
    let message = backward(&loss).unwrap_err().to_string();
    assert!(message.contains("freed by an earlier backward pass"), "{message}");
    assert_eq!(drops(), 1);
}

#[test]
fn second_derivatives_are_refused() {
    let x = leaf(&[3], 1);
    let (y, _drops) = scaled(&x, 3.0);
    let refused = Tensor::f_run_backward(&[y.sum(Kind::Float)], &[&x], true, true);
    let message = Error::from(refused.unwrap_err()).to_string();
    assert!(message.contains("no second derivative"), "{message}");
}

#[test]
fn a_thousand_graphs_leave_nothing_behind() {
    let (x, mut total) = (leaf(&[3], 1), 0);
    for round in 0..1000 {
        let (y, drops) = scaled(&x, 1.0);
        if round % 2 == 0 {
            backward(&y.sum(Kind::Float)).unwrap();
        }
        drop(y);
        total += drops();
    }
    assert_eq!(total, 1000);
    assert_eq!(floats(&x.grad()), [500.0; 3]);
}

#[test]
fn the_outputs_share_memory_and_can_be_changed_in_place_downstream() {
    let x = leaf(&[3], 1);
    let (mut y, _drops) = scaled(&x, 3.0);
    let _ = y.f_mul_scalar_(2.0).unwrap();
    backward(&y.sum(Kind::Float)).unwrap();
    assert_eq!(floats(&x.grad()), [6.0; 3]);
    let plain = Tensor::ones([2], (Kind::Float, Device::Cpu));
    let same = custom_function(&[&x], vec![plain.shallow_clone()], |_| Ok(vec![None])).unwrap();
    assert_eq!(same[0].data_ptr(), plain.data_ptr());
    assert!(!plain.requires_grad());
}

#[test]
fn backward_of_what_has_no_graph_is_an_error() {
    assert!(backward(&randn(&[], 1)).unwrap_err().to_string().contains("does not require grad"));
    let message = backward(&leaf(&[2], 1)).unwrap_err().to_string();
    assert!(message.contains("scalar"), "{message}");
}
