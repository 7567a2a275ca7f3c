use forerun_arch::{Init, NormPlacement, Positions};
use forerun_runs::seed::Seed;
use rand::Rng;
use tch::{Device, Kind, Tensor};

use super::*;

fn config(norm: NormPlacement, n_layers: i64) -> DecoderConfig {
    DecoderConfig {
        vocab_size: 50,
        d_model: 32,
        n_layers,
        n_heads: 4,
        d_ff: 64,
        norm,
        init: Init::Paper,
        positions: Positions::Rope { base: 10_000.0 },
        ..DecoderConfig::default()
    }
}

fn adamw(lr: f64) -> OptimiserConfig {
    OptimiserConfig { weight_decay: 0.5, ..OptimiserConfig::with_lr(lr) }
}

/// As in text, a few tokens are common and most are rare.
fn batches(seed: &Seed) -> Batches {
    let mut rng = seed.stream("tokens");
    let mut tokens = |width: i64| {
        let mut id = || (50_f64.powf(rng.random::<f64>()) - 1.0) as i64; // density 1 / (id + 1)
        let ids: Vec<i64> = (0..4 * width).map(|_| id()).collect();
        Tensor::from_slice(&ids).view([4, width])
    };
    Batches { train: tokens(17), held_out: tokens(16) }
}

fn decoder(config: &DecoderConfig, seed: &Seed) -> Decoder {
    tch::set_num_threads(1);
    Decoder::new(config, &mut seed.stream("init"), Device::Cpu).unwrap()
}

fn measured(config: &DecoderConfig, seed: u64, sgd_lr: f64, adamw_lr: f64) -> Moved {
    let seed = Seed::new(seed);
    measure(&decoder(config, &seed), &batches(&seed), sgd_lr, &adamw(adamw_lr)).unwrap()
}

fn rms(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).square().mean(None).sqrt().double_value(&[])
}

/// The same by hand: plain cross-entropy of plain logits, and each parameter of a block moved on its own.
#[test]
fn a_step_made_by_hand_moves_the_model_as_far() {
    for norm in [NormPlacement::Post, NormPlacement::Sub] {
        let (seed, lr) = (Seed::new(3), 1e-2);
        let batches = batches(&seed);
        let config = config(norm, 3);
        let model = decoder(&config, &seed);
        let rows = &batches.train;
        let logits = model.logits(&rows.narrow(1, 0, 16), &Forward::default()).unwrap();
        let targets = rows.narrow(1, 1, 16).reshape([-1]);
        logits.reshape([-1, 50]).cross_entropy_for_logits(&targets).backward();
        let no_grad = tch::no_grad_guard();
        let before = model.hidden(&batches.held_out, &Forward::default()).unwrap();
        let mut squares = 0.0;
        for parameter in model.parameters() {
            if parameter.name.starts_with("layers.") {
                let gradient = parameter.tensor.grad();
                squares += gradient.square().sum(Kind::Double).double_value(&[]);
                let _ = parameter.tensor.detach().subtract_(&(gradient * lr));
            }
        }
        let after = model.hidden(&batches.held_out, &Forward::default()).unwrap();
        let want = rms(&(after - before)) / lr;
        drop(no_grad);

        let moved = measured(&config, 3, lr, 1e-6);
        assert!((moved.sgd / want - 1.0).abs() < 1e-3, "{norm:?}: {} for {want}", moved.sgd);
        let norm_want = squares.sqrt();
        assert!((moved.grad_norm / norm_want - 1.0).abs() < 1e-4, "{norm:?}: {}", moved.grad_norm);
    }
}

/// To first order the change is linear in the learning rate; the second order is what is left at a tenth of it.
#[test]
fn the_change_is_proportional_to_a_small_learning_rate() {
    let config = config(NormPlacement::Pre, 4);
    let (large, small) = (measured(&config, 5, 1e-3, 1e-5), measured(&config, 5, 1e-4, 1e-6));
    assert!((large.sgd / small.sgd - 1.0).abs() < 0.02, "{large:?} {small:?}");
    assert!((large.adamw / small.adamw - 1.0).abs() < 0.05, "{large:?} {small:?}");
}

/// AdamW's first step is one of the learning rate in every coordinate; the weight decay of `adamw` is not taken.
#[test]
fn the_first_step_of_adamw_goes_by_the_signs_of_the_gradient() {
    let (seed, lr) = (Seed::new(7), 1e-5);
    let (config, batches) = (config(NormPlacement::Sub, 2), batches(&seed));
    let model = decoder(&config, &seed);
    let rows = &batches.train;
    let logits = model.logits(&rows.narrow(1, 0, 16), &Forward::default()).unwrap();
    let targets = rows.narrow(1, 1, 16).reshape([-1]);
    logits.reshape([-1, 50]).cross_entropy_for_logits(&targets).backward();
    let no_grad = tch::no_grad_guard();
    let before = model.hidden(&batches.held_out, &Forward::default()).unwrap();
    for parameter in model.parameters().iter().filter(|p| p.name.starts_with("layers.")) {
        let step = parameter.tensor.grad().sign() * lr;
        let _ = parameter.tensor.detach().subtract_(&step);
    }
    let want = rms(&(model.hidden(&batches.held_out, &Forward::default()).unwrap() - before)) / lr;
    drop(no_grad);
    let moved = measured(&config, 7, 1e-4, lr);
    // Coordinates without a gradient (key biases) have only the sign of rounding errors: they move nothing.
    assert!((moved.adamw / want - 1.0).abs() < 0.05, "{} for {want}", moved.adamw);
}

/// Exponent of depth from 2 to 32 layers, from geometric means over some initialisations whose scaled matrices are
/// divided by `divisor(depth)`.
fn growth(norm: NormPlacement, divisor: fn(i64) -> f64) -> f64 {
    let size = |depth| {
        let draw = |seed| {
            let seed = Seed::new(seed);
            let model = decoder(&config(norm, depth), &seed);
            let scaled = ["v_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight"];
            let of_name =
                |p: &&forerun_tensors::Parameter| scaled.iter().any(|end| p.name.ends_with(end));
            for parameter in model.parameters().iter().filter(of_name) {
                let _ = tch::no_grad(|| parameter.tensor.detach().divide_scalar_(divisor(depth)));
            }
            measure(&model, &batches(&seed), 1e-4, &adamw(1e-6)).unwrap().sgd
        };
        geometric_mean((20..28).map(draw))
    };
    (size(32) / size(2)).ln() / 16_f64.ln()
}

/// What the gain of the paper's initialisation is for: without it, Sub-LN's update grows as fast as Pre-LN's.
#[test]
fn the_gain_of_sub_ln_keeps_the_update_from_growing_with_depth() {
    let post = growth(NormPlacement::Post, |_| 1.0);
    let pre = growth(NormPlacement::Pre, |_| 1.0);
    let sub = growth(NormPlacement::Sub, |_| 1.0);
    let plain = growth(NormPlacement::Sub, |depth| forerun_arch::Gains::single(depth).gamma);
    println!("exponents: post {post:.3}, pre {pre:.3}, sub {sub:.3}, without gain {plain:.3}");
    assert!(sub < pre - 0.1, "sub {sub}, pre {pre}");
    assert!(sub < plain - 0.1, "sub {sub}, without gain {plain}");
    assert!(post > 0.7, "post {post}");
}

#[test]
fn what_is_not_finite_stays_so() {
    assert!(geometric_mean([1.0, f64::NAN].into_iter()).is_nan());
    assert!((geometric_mean([2.0, 8.0].into_iter()) - 4.0).abs() < 1e-12);
}
