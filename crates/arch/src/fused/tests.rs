use forerun_tensors::{Autocast, Mask, backward};
use tch::Kind;

use super::*;
use crate::config::{Activation, DecoderConfig, NormKind, NormPlacement};
use crate::decoder::Decoder;
use crate::testing::{CPU, all_positions, model, normal, rng, tiny};

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

/// The distance of each from what it should be, relative to the length of that. A gradient that vanishes, as that of a
/// key's bias does where nothing turns the keys, is measured by the longest of all.
fn distances(got: &[Tensor], want: &[Tensor]) -> Vec<f64> {
    let length = |x: &Tensor| f64::try_from(x.to_kind(Kind::Double).norm()).unwrap();
    let longest = want.iter().map(length).fold(0.0, f64::max);
    assert_eq!(got.len(), want.len());
    let distance = |(got, want): (&Tensor, &Tensor)| {
        assert_eq!(got.size(), want.size());
        length(&(got - want)) / length(want).max(0.01 * longest)
    };
    got.iter().zip(want).map(distance).collect()
}

fn build(config: &DecoderConfig, members: Option<u64>) -> (Decoder, Tensor) {
    let model = match members {
        None => model(config, 1),
        Some(n) => {
            let models: Vec<_> = (0..n).map(|seed| model(config, seed)).collect();
            Decoder::stack(&models).unwrap()
        }
    };
    let batch = 3 * members.unwrap_or(1) as i64;
    (model, normal(&[batch, SEQ, config.d_model], &mut rng(2)))
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
    for chunk_bytes in [None, Some(1)] {
        let _limit = ChunkBytes::set(chunk_bytes);
        each(|config, members| {
            let (model, x) = build(config, members);
            let (got, want) = (pass(&model, &x, true), pass(&model, &x, false));
            for distance in distances(&got, &want) {
                // Sums of some hundred f32 products in another order, and e^x and erf to a few units.
                assert!(
                    distance < 3e-5,
                    "{distance:e}, {chunk_bytes:?}: {members:?} of {config:?}"
                );
            }
        });
    }
}

/// How many bytes a chunk may have, while it lives; with one byte every sequence is a chunk of its own.
struct ChunkBytes;

impl ChunkBytes {
    fn set(limit: Option<i64>) -> Self {
        spec::FORCED_CHUNK_BYTES.set(limit);
        Self
    }
}

impl Drop for ChunkBytes {
    fn drop(&mut self) {
        spec::FORCED_CHUNK_BYTES.set(None);
    }
}

#[test]
fn the_number_of_threads_changes_no_more_than_rounding() {
    let (model, x) = build(&tiny(), Some(2));
    let on = |threads| {
        tch::set_num_threads(threads);
        let all = pass(&model, &x, true);
        tch::set_num_threads(1);
        all
    };
    for distance in [2, 3].into_iter().flat_map(|threads| distances(&on(threads), &on(1))) {
        assert!(distance < 1e-5, "{distance:e}");
    }
}

#[test]
fn a_parameter_that_was_changed_in_between_is_an_error() {
    let (model, x) = build(&tiny(), None);
    let plan = model.plan(Some(Mask::Causal), SEQ).unwrap();
    let out = forward(&model.blocks[0], &x, &plan, true).unwrap().unwrap();
    tch::no_grad(|| drop(model.blocks[0].mlp.fc1.weight.shallow_clone().g_add_scalar_(1.0)));
    let error = backward(&out.sum(Kind::Float)).unwrap_err().to_string();
    assert!(error.contains("a parameter was changed in place between"), "{error}");
}

#[test]
fn under_bf16_autocast_they_are_as_close_to_f32_as_op_by_op() {
    each(|config, members| {
        let (model, x) = build(config, members);
        let exact = pass(&model, &x, false);
        let _autocast = Autocast::enable(CPU, Kind::BFloat16).unwrap();
        let (fused, plain) = (pass(&model, &x, true), pass(&model, &x, false));
        let rivals = distances(&fused, &exact).into_iter().zip(distances(&plain, &exact));
        for (index, (fused, plain)) in rivals.enumerate() {
            // Both round to 8 bits, at other places, so that either may be nearer by chance; more so where the slope jumps.
            let chance = if config.activation == Activation::Relu { 0.1 } else { 0.01 };
            let near = fused < 1.5 * plain + chance;
            assert!(near, "{index}: {fused:e}, op by op {plain:e}, {members:?} of {config:?}");
        }
    });
}

/// The slope along a random direction of everything: of a sum over the output, f32, so that the step cannot be small.
#[test]
fn gradients_are_slopes() {
    for norm in PLACEMENTS {
        let (model, x) = build(&DecoderConfig { norm, ..tiny() }, None);
        let grads = pass(&model, &x, true);
        let plan = model.plan(Some(Mask::Causal), SEQ).unwrap();
        let weights = normal(&x.size(), &mut rng(9)).to_kind(Kind::Double);
        let directions: Vec<Tensor> =
            grads[1..].iter().map(|grad| normal(&grad.size(), &mut rng(4))).collect();
        let own: Vec<Tensor> = model
            .parameters()
            .iter()
            .filter(|p| p.tensor.grad().defined())
            .map(|p| p.tensor.detach())
            .collect();
        let _no_grad = tch::no_grad_guard();
        let value = |step: f64| {
            let moved = |x: &Tensor, along: &Tensor| x.shallow_clone().g_add_(&(along * step));
            let x = x.copy();
            let _ = moved(&x, &directions[0]);
            own.iter().zip(&directions[1..]).for_each(|(x, along)| drop(moved(x, along)));
            let out = forward(&model.blocks[0], &x, &plan, true).unwrap().unwrap();
            own.iter().zip(&directions[1..]).for_each(|(x, along)| {
                let _ = x.shallow_clone().g_sub_(&(along * step));
            });
            f64::try_from((out.to_kind(Kind::Double) * &weights).sum(Kind::Double)).unwrap()
        };
        let slope = (value(1e-3) - value(-1e-3)) / 2e-3;
        let along = grads[1..].iter().zip(&directions);
        let want: f64 = along.map(|(g, d)| f64::try_from((g * d).sum(Kind::Double)).unwrap()).sum();
        // Third derivatives times 1e-6, and f32 sums of size 100 over a step of 1e-3.
        assert!((slope - want).abs() < 0.01 * want.abs().max(10.0), "{norm:?}: {slope} {want}");
    }
}

#[test]
fn a_pass_without_gradients_gives_the_same_output() {
    let (model, x) = build(&tiny(), None);
    let plan = model.plan(Some(Mask::Causal), SEQ).unwrap();
    let run = |train| forward(&model.blocks[0], &x, &plan, train).unwrap().unwrap();
    let without = tch::no_grad(|| run(false));
    assert!(!without.requires_grad() && run(true).requires_grad());
    assert!(without.equal(&run(true)));
}

#[test]
fn a_kept_graph_gives_the_same_gradients_again_and_only_to_those_who_ask() {
    let (model, x) = build(&tiny(), None);
    let plan = model.plan(Some(Mask::Causal), SEQ).unwrap();
    let frozen = &model.parameters().get("layers.0.ffn.fc1.weight").unwrap().tensor;
    let _ = frozen.set_requires_grad(false);
    let out = forward(&model.blocks[0], &x, &plan, true).unwrap().unwrap().sum(Kind::Float);
    let own = "layers.0.self_attn.k_proj.weight";
    let own = model.parameters().get(own).unwrap().tensor.shallow_clone();
    let once = Tensor::run_backward(&[&out], &[&own], true, false);
    let again = Tensor::run_backward(&[&out], &[&own], false, false);
    assert!(once[0].equal(&again[0]) && f64::try_from(once[0].abs().max()).unwrap() > 0.0);
    // What does not ask gets none, and the others get what they would have got beside it.
    let grads = |frozen_too: bool| {
        let _ = frozen.set_requires_grad(frozen_too);
        model.parameters().zero_grad();
        let out = forward(&model.blocks[0], &x, &plan, true).unwrap().unwrap();
        backward(&out.square().sum(Kind::Float)).unwrap();
        model.parameters().iter().map(|p| p.tensor.grad()).collect::<Vec<_>>()
    };
    let (without, with) = (grads(false), grads(true));
    let names = model.parameters().iter().map(|p| p.name.clone());
    for (name, (without, with)) in names.zip(without.iter().zip(&with)) {
        let is_frozen = name == "layers.0.ffn.fc1.weight";
        assert_eq!(without.defined(), with.defined() && !is_frozen, "{name}");
        assert!(!without.defined() || without.equal(with), "{name}");
    }
}

#[test]
fn what_it_cannot_do_is_left_to_the_block() {
    let config = tiny();
    let goes = |config: &DecoderConfig, mask: Option<Mask>, x: &Tensor, train: bool| {
        let model = model(config, 1);
        let plan = model.plan(mask, x.size()[1]).unwrap();
        forward(&model.blocks[0], x, &plan, train).unwrap().is_some()
    };
    let x = normal(&[2, SEQ, 16], &mut rng(2));
    let causal = Some(Mask::Causal);
    assert!(goes(&config, causal, &x, true));
    // As wide as the text, a window hides nothing.
    assert!(goes(&config, Some(Mask::SlidingWindow { window: SEQ }), &x, true));
    assert!(!goes(&config, Some(Mask::SlidingWindow { window: 3 }), &x, true));
    assert!(!goes(&config, Some(Mask::BlockwiseCausal { block_size: 4 }), &x, true));
    assert!(!goes(&config, None, &x, true));
    assert!(!goes(&config, causal, &x.to_kind(Kind::Double), true));
    for (dropout, attention_dropout) in [(0.1, 0.0), (0.0, 0.1)] {
        let config = DecoderConfig { dropout, attention_dropout, ..tiny() };
        assert!(!goes(&config, causal, &x, true));
        assert!(goes(&config, causal, &x, false));
    }
    let _half = Autocast::enable(CPU, Kind::Half).unwrap();
    assert!(!goes(&config, causal, &x, true));
}

/// A row that is not a number stays in its member, and members do as they do alone.
#[test]
fn members_do_not_see_each_other() {
    let (stack, x) = build(&tiny(), Some(2));
    let alone = stack.member(1).unwrap();
    let plan = stack.plan(Some(Mask::Causal), SEQ).unwrap();
    let run = |model: &Decoder, x: &Tensor| {
        forward(&model.blocks[0], x, &plan, false).unwrap().unwrap().detach()
    };
    let _ = x.get(0).fill_(f64::NAN);
    let own = x.narrow(0, 3, 3);
    assert!(run(&stack, &x).narrow(0, 3, 3).equal(&run(&alone, &own)));
}
