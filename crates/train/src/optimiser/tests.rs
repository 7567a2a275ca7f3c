use forerun_tensors::save;
use proptest::prelude::*;
use tch::Device;

use super::*;

fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).set_requires_grad(true)
}

fn parameters(list: &[(&str, Role, f64, Vec<f32>)]) -> Parameters {
    let mut parameters = Parameters::new();
    for (name, role, lr_multiplier, values) in list {
        let (name, role, lr_multiplier) = ((*name).to_owned(), *role, *lr_multiplier);
        parameters.push(Parameter { name, tensor: tensor(values), role, lr_multiplier }).unwrap();
    }
    parameters
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::<f32>::try_from(tensor.detach()).unwrap().into_iter().map(f64::from).collect()
}

/// The loss Σ cᵢ θᵢ², whose gradient is 2 cᵢ θᵢ.
fn set_gradient(parameter: &Tensor, c: f64) {
    (parameter.square() * c).sum(Kind::Float).backward();
}

/// Algorithm 2 of the paper in PyTorch's form, one number at a time, f64.
struct Plain {
    theta: f64,
    m: f64,
    v: f64,
}

impl Plain {
    fn step(&mut self, hyper: &OptimiserConfig, lr: f64, decay: f64, t: i32, c: f64) {
        let gradient = 2.0 * c * self.theta;
        self.theta -= lr * decay * self.theta;
        self.m = hyper.beta1 * self.m + (1.0 - hyper.beta1) * gradient;
        self.v = hyper.beta2 * self.v + (1.0 - hyper.beta2) * gradient * gradient;
        let (m_hat, v_hat) =
            (self.m / (1.0 - hyper.beta1.powi(t)), self.v / (1.0 - hyper.beta2.powi(t)));
        self.theta -= lr * m_hat / (v_hat.sqrt() + hyper.eps);
    }
}

const ROLES: [Role; 4] = [Role::Matrix, Role::Embedding, Role::Norm, Role::Bias];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_group_equals_plain_adamw(
        starts in prop::collection::vec(prop::collection::vec(0.1_f32..2.0, 1..6), 4),
        multipliers in prop::collection::vec(prop::sample::select(vec![1.0, 0.25]), 4),
        (lr, decay, decay_all) in (1e-3..1e-1_f64, 0.0..0.5_f64, any::<bool>()),
    ) {
        let mut config = OptimiserConfig::with_lr(1.0);
        config.weight_decay = decay;
        config.decay_norms_biases_embeddings = decay_all;
        let names = ["a", "b", "c", "d"];
        let list: Vec<_> = (0..4).map(|i| (names[i], ROLES[i], multipliers[i], starts[i].clone())).collect();
        let parameters = parameters(&list);
        let mut optimiser = Optimiser::new(&parameters, &config).unwrap();
        let mut plain: Vec<Vec<Plain>> = starts
            .iter()
            .map(|start| start.iter().map(|&x| Plain { theta: x.into(), m: 0.0, v: 0.0 }).collect())
            .collect();
        for t in 1..=5 {
            let (lr, c) = (lr / f64::from(t), 0.5 * f64::from(t));
            parameters.zero_grad();
            parameters.iter().for_each(|p| set_gradient(&p.tensor, c));
            optimiser.step(lr).unwrap();
            for (i, numbers) in plain.iter_mut().enumerate() {
                let decays = decay_all || ROLES[i] == Role::Matrix;
                let decay = if decays { decay } else { 0.0 };
                numbers.iter_mut().for_each(|x| x.step(&config, lr * multipliers[i], decay, t, c));
            }
        }
        for (parameter, numbers) in parameters.iter().zip(&plain) {
            for (got, expected) in values(&parameter.tensor).into_iter().zip(numbers) {
                // Five f32 updates of numbers of order 1.
                prop_assert!((got - expected.theta).abs() < 3e-6, "{got} {}", expected.theta);
            }
        }
    }
}

#[test]
fn only_matrices_decay_unless_told_otherwise() {
    let check = |decay_all: bool, decaying: &[&str]| {
        let mut config = OptimiserConfig::with_lr(1.0);
        config.decay_norms_biases_embeddings = decay_all;
        let list: Vec<_> = ["m", "e", "n", "b"]
            .into_iter()
            .zip(ROLES)
            .map(|(n, r)| (n, r, 1.0, vec![1.0]))
            .collect();
        let optimiser = Optimiser::new(&parameters(&list), &config).unwrap();
        let with_decay = optimiser.groups.iter().filter(|group| group.weight_decay > 0.0);
        let names: Vec<_> =
            with_decay.flat_map(|g| &g.slots).map(|slot| slot.name.as_str()).collect();
        assert_eq!(names, decaying);
        assert_eq!(optimiser.groups.len(), if decay_all { 1 } else { 2 }, "no group too many");
    };
    check(false, &["m"]);
    check(true, &["m", "e", "n", "b"]);
}

#[test]
fn a_parameter_without_a_gradient_is_left_alone() {
    let parameters = parameters(&[
        ("used", Role::Matrix, 1.0, vec![1.0]),
        ("idle", Role::Matrix, 1.0, vec![1.0]),
    ]);
    let mut optimiser = Optimiser::new(&parameters, &OptimiserConfig::with_lr(1.0)).unwrap();
    set_gradient(&parameters.get("used").unwrap().tensor, 1.0);
    assert_eq!(optimiser.gradients().len(), 1);
    optimiser.step(0.1).unwrap();
    assert_eq!(values(&parameters.get("idle").unwrap().tensor), [1.0]);
    assert!(values(&parameters.get("used").unwrap().tensor)[0] < 0.9);
}

fn saved(folder: &std::path::Path, optimiser: &Optimiser) -> SafetensorsFile {
    let path = folder.join("optimizer.safetensors");
    save(&path, &optimiser.named_tensors(), &Default::default()).unwrap();
    SafetensorsFile::open(&path).unwrap()
}

#[test]
fn saved_and_loaded_it_goes_on_bit_for_bit() {
    let start = [("w", Role::Matrix, 0.5, vec![1.0, -2.0]), ("b", Role::Bias, 1.0, vec![0.5])];
    let (original, copy) = (parameters(&start), parameters(&start));
    let config = OptimiserConfig::with_lr(1.0);
    let mut first = Optimiser::new(&original, &config).unwrap();
    let update = |parameters: &Parameters, optimiser: &mut Optimiser| {
        parameters.zero_grad();
        parameters.iter().for_each(|p| set_gradient(&p.tensor, 1.0));
        optimiser.step(0.1).unwrap();
    };
    (0..3).for_each(|_| update(&original, &mut first));

    let folder = tempfile::tempdir().unwrap();
    let mut second = Optimiser::new(&copy, &config).unwrap();
    second.load(&saved(folder.path(), &first)).unwrap();
    for (from, to) in original.iter().zip(copy.iter()) {
        tch::no_grad(|| to.tensor.shallow_clone().copy_(&from.tensor));
    }
    update(&original, &mut first);
    update(&copy, &mut second);
    for (a, b) in original.iter().zip(copy.iter()) {
        assert_eq!(values(&a.tensor), values(&b.tensor), "{}", a.name);
    }
    let steps = second.named_tensors().into_iter().find(|(name, _)| name == "step.w").unwrap().1;
    assert_eq!((steps.double_value(&[]), steps.device()), (4.0, Device::Cpu));
}

#[test]
fn a_state_of_other_parameters_is_refused_by_name() {
    let optimiser_of = |list: &[(&str, Role, f64, Vec<f32>)]| {
        Optimiser::new(&parameters(list), &OptimiserConfig::with_lr(1.0)).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let two = [("w", Role::Matrix, 1.0, vec![1.0, 2.0]), ("b", Role::Bias, 1.0, vec![0.5])];
    let file = saved(folder.path(), &optimiser_of(&two));
    let check = |list: &[(&str, Role, f64, Vec<f32>)], expected: &str| {
        let error = optimiser_of(list).load(&file).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    };
    check(&[("v", Role::Matrix, 1.0, vec![1.0])], "tensor `exp_avg.v` is missing");
    check(&two[..1], "tensor `exp_avg.b` belongs to no parameter");
    let short = ("w", Role::Matrix, 1.0, vec![1.0]);
    check(&[short, two[1].clone()], "tensor `exp_avg.w` must have shape [1], got [2]");
}
