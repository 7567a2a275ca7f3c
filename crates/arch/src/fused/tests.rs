use forerun_tensors::{Autocast, Mask, backward};
use tch::Kind;

use super::*;
use crate::config::{Activation, DecoderConfig, NormKind, NormPlacement};
use crate::decoder::Decoder;
use crate::testing::{CPU, all_positions, max_diff, model, normal, rng, tiny};

const PLACEMENTS: [NormPlacement; 4] =
    [NormPlacement::Post, NormPlacement::Pre, NormPlacement::Sub, NormPlacement::Deep];
const ACTIVATIONS: [Activation; 4] =
    [Activation::Gelu, Activation::Relu, Activation::Swish, Activation::SwiGlu];
const SEQ: i64 = 19;

/// Output of the first block, and the gradients of its input and of every parameter that has one.
fn pass(model: &Decoder, x: &Tensor, fused: bool) -> Vec<Tensor> {
    let x = x.copy().set_requires_grad(true);
    let plan = model.plan(Some(Mask::Causal), x.size()[1]).unwrap();
    model.parameters().zero_grad();
    let block = &model.blocks[0];
    let out = match fused {
        true => forward(block, &x, &plan, true).unwrap().expect("this pass is supported"),
        false => block.forward(&x, &plan, true, None).unwrap(),
    };
    // A weight for each number, so that no gradient cancels.
    let weights = normal(&out.size(), &mut rng(9));
    backward(&(&out * weights).sum(Kind::Float)).unwrap();
    let grads = model.parameters().iter().map(|p| p.tensor.grad()).filter(Tensor::defined);
    let mut all = vec![out.detach(), x.grad()];
    all.extend(grads.map(|grad| grad.copy()));
    all
}

/// The largest difference of each, relative to the largest number of what should be. A gradient that vanishes, as that
/// of a key's bias does where nothing turns the keys, is compared with the others.
fn worst(got: &[Tensor], want: &[Tensor]) -> f64 {
    assert_eq!(got.len(), want.len());
    let size = |x: &Tensor| f64::try_from(x.abs().max()).unwrap();
    let most = want.iter().map(size).fold(0.0, f64::max);
    let relative = got.iter().zip(want).map(|(got, want)| {
        assert_eq!(got.size(), want.size());
        max_diff(got, want) / size(want).max(0.05 * most)
    });
    relative.fold(0.0, f64::max)
}

fn check(config: &DecoderConfig, members: Option<u64>, tolerance: f64) {
    let model = match members {
        None => model(config, 1),
        Some(n) => {
            let models: Vec<_> = (0..n).map(|seed| model(config, seed)).collect();
            Decoder::stack(&models).unwrap()
        }
    };
    let batch = 3 * members.unwrap_or(1) as i64;
    let x = normal(&[batch, SEQ, config.d_model], &mut rng(2));
    let (got, want) = (pass(&model, &x, true), pass(&model, &x, false));
    let worst = worst(&got, &want);
    eprintln!("WORST {worst:e} {:?} {:?} {:?} {:?}", config.norm, config.positions, config.norm_kind, config.activation);
    if std::env::var("SHOW").is_ok() { return; }
    assert!(worst < tolerance, "{worst:e} for {members:?} of {config:?}");
}

/// Every placement with every position, norm and activation; the other options take turns.
fn each(mut body: impl FnMut(&DecoderConfig, Option<u64>)) {
    let mut turn = 0_usize;
    for norm in PLACEMENTS {
        for positions in all_positions() {
            for norm_kind in [NormKind::LayerNorm, NormKind::RmsNorm] {
                for activation in ACTIVATIONS {
                    turn += 1;
                    let n_kv_heads = [4, 2, 1][turn % 3];
                    let bias = turn % 5 < 3;
                    let positions = positions.clone();
                    let config = DecoderConfig {
                        norm,
                        positions,
                        norm_kind,
                        activation,
                        n_kv_heads,
                        bias,
                        ..tiny()
                    };
                    body(&config, [None, Some(2)][turn % 2]);
                }
            }
        }
    }
}

#[test]
fn output_and_gradients_are_those_of_the_block_op_by_op() {
    // Sums of some hundred f32 products in another order.
    each(|config, members| check(config, members, 5e-5));
}

#[test]
fn under_bf16_autocast_they_are_as_close_as_bf16_allows() {
    let _autocast = Autocast::enable(CPU, Kind::BFloat16).unwrap();
    // Both round every product to 8 bits, but not at the same places.
    each(|config, members| check(config, members, 0.06));
}
