use forerun_tensors::{Autocast, backward};
use proptest::prelude::*;

use super::*;
use crate::config::{NormKind, Parametrisation};
use crate::testing::{CPU, all_masks, all_positions, max_diff, model, normal, rng, tiny, tokens};

const PLACEMENTS: [NormPlacement; 4] =
    [NormPlacement::Post, NormPlacement::Pre, NormPlacement::Sub, NormPlacement::Deep];

fn configs() -> impl Strategy<Value = DecoderConfig> {
    (
        prop::sample::select(all_positions()),
        prop::sample::select(PLACEMENTS.to_vec()),
        prop::sample::select(vec![NormKind::LayerNorm, NormKind::RmsNorm]),
        prop::sample::select(vec![Activation::Gelu, Activation::Relu, Activation::SwiGlu]),
        prop::sample::select(vec![1_i64, 2, 4]),
    )
        .prop_map(|(positions, norm, norm_kind, activation, n_kv_heads)| DecoderConfig {
            positions,
            norm,
            norm_kind,
            activation,
            n_kv_heads,
            ..tiny()
        })
}

fn logits(model: &Decoder, tokens: &Tensor, mask: Mask) -> Tensor {
    tch::no_grad(|| model.logits(tokens, &Forward { mask, ..Forward::default() }).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Invariant 1, bit for bit: rows of a product do not depend on other rows, and a masked score
    /// contributes an exact zero.
    #[test]
    fn a_later_token_changes_nothing_before_it(
        config in configs(), seed in 0_u64..1000, seq in 2_i64..16, at in 1_i64..16,
        mask in prop::sample::select(all_masks()),
    ) {
        let at = at.min(seq - 1);
        let model = model(&config, seed);
        let before = tokens(2, seq, 29, &mut rng(seed));
        let after = before.copy();
        let bumped = (after.narrow(1, at, 1) + 1).remainder(29);
        after.narrow(1, at, 1).copy_(&bumped);
        let (a, b) = (logits(&model, &before, mask), logits(&model, &after, mask));
        prop_assert!(a.narrow(1, 0, at).equal(&b.narrow(1, 0, at)));
        prop_assert!(!a.narrow(1, at, 1).equal(&b.narrow(1, at, 1)));
    }

    /// Invariant 5, bit for bit, for the same reason.
    #[test]
    fn batch_rows_do_not_see_each_other(
        config in configs(), seed in 0_u64..1000, mask in prop::sample::select(all_masks()),
    ) {
        let model = model(&config, seed);
        let mut rng = rng(seed);
        let (one, two, other) =
            (tokens(1, 9, 29, &mut rng), tokens(1, 9, 29, &mut rng), tokens(1, 9, 29, &mut rng));
        let a = logits(&model, &Tensor::cat(&[&one, &two], 0), mask);
        let b = logits(&model, &Tensor::cat(&[&one, &other], 0), mask);
        prop_assert!(a.get(0).equal(&b.get(0)));
        let swapped = logits(&model, &Tensor::cat(&[&two, &one], 0), mask);
        // Other rows of the same products: nothing else differs.
        prop_assert!(max_diff(&a.get(0), &swapped.get(1)) < 1e-5);
    }

    /// Invariant 2 for whole blocks: run without a mask and without positions.
    #[test]
    fn without_mask_and_positions_blocks_commute_with_permuting_tokens(
        seed in 0_u64..1000, norm in prop::sample::select(PLACEMENTS.to_vec()), seq in 1_i64..12,
    ) {
        let model = model(&DecoderConfig { norm, positions: Positions::None, ..tiny() }, seed);
        let mut rng = rng(seed);
        let (x, order) = (normal(&[2, seq, 16], &mut rng), normal(&[seq], &mut rng).argsort(0, false));
        let plan = model.plan(None, seq).unwrap();
        let run = |x: &Tensor| {
            model.blocks.iter().fold(x.copy(), |x, block| block.forward(&x, &plan, false, None).unwrap())
        };
        let permute = |x: &Tensor| x.index_select(1, &order);
        // f32 sums in another order through two layers of activations of size 3.
        prop_assert!(max_diff(&permute(&run(&x)), &run(&permute(&x))) < 2e-5);
    }

    /// Invariant 8: shared key and value heads are heads whose projections are equal.
    #[test]
    fn grouped_heads_equal_repeated_ones(
        seed in 0_u64..1000, n_kv_heads in prop::sample::select(vec![1_i64, 2]),
        positions in prop::sample::select(all_positions()), mask in prop::sample::select(all_masks()),
    ) {
        let grouped = model(&DecoderConfig { n_kv_heads, positions: positions.clone(), ..tiny() }, seed);
        let full = model(&DecoderConfig { positions, ..tiny() }, seed);
        tch::no_grad(|| {
            for (to, from) in full.parameters().iter().zip(grouped.parameters()) {
                let size = to.tensor.size();
                let repeated = if size == from.tensor.size() {
                    from.tensor.copy()
                } else {
                    let by_head = from.tensor.unflatten(0, [n_kv_heads, 4]);
                    by_head.repeat_interleave_self_int(4 / n_kv_heads, 0, None).reshape(size)
                };
                to.tensor.shallow_clone().copy_(&repeated);
            }
        });
        let text = tokens(2, 9, 29, &mut rng(seed));
        // The same sums; products of other shapes may order them differently.
        prop_assert!(max_diff(&logits(&grouped, &text, mask), &logits(&full, &text, mask)) < 2e-5);
    }
}

fn gradients(model: &Decoder, options: &Forward, text: &Tensor) -> Vec<Tensor> {
    model.parameters().zero_grad();
    let logits = model.logits(text, options).unwrap();
    backward(&logits.square().mean(Kind::Float)).unwrap();
    model.parameters().iter().map(|p| p.tensor.grad().copy()).collect()
}

#[test]
fn activation_checkpointing_changes_no_gradient() {
    for positions in all_positions() {
        let config = DecoderConfig { positions, dropout: 0.2, attention_dropout: 0.2, ..tiny() };
        let model = model(&config, 1);
        let text = tokens(2, 9, 29, &mut rng(2));
        let run = |activation_checkpointing| {
            forerun_tensors::seed_generator(3);
            let options = Forward { train: true, activation_checkpointing, ..Forward::default() };
            gradients(&model, &options, &text)
        };
        for (plain, again) in run(false).iter().zip(run(true)) {
            // The same operations in the same order, with the same dropout.
            assert!(max_diff(plain, &again) < 1e-7);
        }
    }
}

#[test]
fn every_parameter_gets_a_gradient() {
    for norm in PLACEMENTS {
        for positions in all_positions() {
            let config = DecoderConfig {
                norm,
                positions,
                norm_embedding: true,
                activation: Activation::SwiGlu,
                ..tiny()
            };
            let model = model(&config, 1);
            let text = tokens(2, 9, 29, &mut rng(2));
            let gradients = gradients(&model, &Forward::default(), &text);
            for (parameter, gradient) in model.parameters().iter().zip(gradients) {
                let size = f64::try_from(gradient.abs().max()).unwrap();
                // A key bias shifts all scores of a query alike unless positions rotate it.
                let no_effect = parameter.name.ends_with("k_proj.bias");
                assert!(size > 1e-9 || no_effect, "{} under {norm:?}", parameter.name);
            }
        }
    }
}

#[test]
fn a_forward_pass_under_bf16_autocast_stays_close_to_f32() {
    for positions in all_positions() {
        for norm_kind in [NormKind::LayerNorm, NormKind::RmsNorm] {
            for mask in all_masks() {
                let config = DecoderConfig { positions: positions.clone(), norm_kind, ..tiny() };
                let model = model(&config, 1);
                let text = tokens(2, 12, 29, &mut rng(2));
                let wide = logits(&model, &text, mask);
                let autocast = Autocast::enable(CPU, Kind::BFloat16).unwrap();
                let narrow = logits(&model, &text, mask);
                let _ = gradients(&model, &Forward { mask, ..Forward::default() }, &text);
                drop(autocast);
                assert_eq!(narrow.kind(), Kind::Float);
                let diff = max_diff(&wide, &narrow);
                // Two layers of bf16 products (8 bits) under logits of size 4.
                assert!(diff > 0.0 && diff < 0.15, "{positions:?} {norm_kind:?} {mask:?}: {diff}");
            }
        }
    }
}

#[test]
fn dropout_acts_in_training_only() {
    let text = tokens(2, 9, 29, &mut rng(2));
    let train = Forward { train: true, ..Forward::default() };
    type Change = fn(&mut DecoderConfig);
    let changes: [Change; 3] =
        [|c| c.dropout = 0.3, |c| c.attention_dropout = 0.3, |c| c.activation_dropout = 0.3];
    let plain = logits(&model(&tiny(), 1), &text, Mask::Causal);
    for change in changes {
        let mut config = tiny();
        change(&mut config);
        let model = model(&config, 1);
        assert!(logits(&model, &text, Mask::Causal).equal(&plain));
        let dropped = model.logits(&text, &train).unwrap();
        assert!(max_diff(&dropped, &plain) > 1e-2, "{config:?}");
    }
}

#[test]
fn a_tied_head_is_the_embedding_and_mup_scales_its_logits() {
    let parametrisation = Parametrisation::Mup { base_d_model: 4 };
    let config = DecoderConfig { tie_embeddings: true, parametrisation, ..tiny() };
    let model = model(&config, 1);
    let embedding = &model.parameters().get("embed_tokens.weight").unwrap().tensor;
    assert_eq!(model.head().data_ptr(), embedding.data_ptr());
    assert_eq!(model.logit_scale(), 0.25);
    let text = tokens(1, 4, 29, &mut rng(2));
    let hidden = model.hidden(&text, &Forward::default()).unwrap();
    let want = hidden.matmul(&model.head().tr()) * 0.25;
    assert!(max_diff(&logits(&model, &text, Mask::Causal), &want) < 1e-6);
}

#[test]
fn the_residual_stream_ends_where_the_hidden_states_begin() {
    let model = model(&DecoderConfig { norm: NormPlacement::Deep, ..tiny() }, 1);
    let text = tokens(2, 7, 29, &mut rng(2));
    let stream = model.residual_stream(&text, Mask::Causal).unwrap();
    assert_eq!(stream.len(), 3);
    assert!(stream[2].equal(&model.hidden(&text, &Forward::default()).unwrap()));
}

#[test]
fn bad_tokens_are_refused() {
    let model = model(&tiny(), 1);
    let message =
        |tokens: &Tensor| model.hidden(tokens, &Forward::default()).unwrap_err().to_string();
    let flat = message(&Tensor::from_slice(&[1_i64, 2]));
    assert_eq!(flat, "tokens must have shape [batch, seq], i64, not empty, got [2]");
    let empty = message(&Tensor::zeros([2, 0], (Kind::Int64, CPU)));
    assert_eq!(empty, "tokens must have shape [batch, seq], i64, not empty, got [2, 0]");
    let outside = message(&Tensor::from_slice(&[29_i64]).view([1, 1]));
    assert!(outside.contains("index out of range"), "{outside}");
    let bad = Forward { mask: Mask::SlidingWindow { window: 0 }, ..Forward::default() };
    let text = tokens(1, 4, 29, &mut rng(1));
    let window = model.hidden(&text, &bad).unwrap_err().to_string();
    assert_eq!(window, "window must be positive, got 0");
}
