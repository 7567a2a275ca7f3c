use proptest::prelude::*;

use super::*;
use crate::config::{DecoderConfig, Positions};
use crate::testing::{CPU, max_diff, model, normal, rng, tiny, tokens};

#[test]
fn the_resolution_of_two_scores_is_written_out() {
    let (a, b) = (1.5_f64, 0.25_f64);
    let want = (a.exp() * (a.exp() - b.exp())) / (a.exp() * a.exp());
    assert!((resolution_of(&[a, b]) - want).abs() < 1e-14);
    // No shift changes it, however far beyond the range of exp.
    assert!((resolution_of(&[a + 5000.0, b + 5000.0]) - want).abs() < 1e-9);
    assert!(resolution_of(&[1.0]).is_nan());
}

#[test]
fn expected_scores_equal_the_double_loop() {
    let scores = normal(&[2, 7, 7], &mut rng(1));
    let got = expected_scores(&scores).unwrap();
    for head in 0..2 {
        for distance in 0..7 {
            let pairs = (distance..7).map(|i| scores.double_value(&[head, i, i - distance]));
            let want = pairs.sum::<f64>() / (7 - distance) as f64;
            assert!((got.double_value(&[head, distance]) - want).abs() < 1e-12);
        }
    }
    assert!(expected_scores(&scores.narrow(1, 0, 3)).is_err());
}

#[test]
fn a_steeper_decay_resolves_better() {
    let rope = design_curve(32, 1e4, None, 64);
    let xpos = design_curve(32, 1e4, Some((0.4, 64.0)), 64);
    assert_eq!(rope[0], 16.0);
    assert_eq!(xpos[0], 16.0);
    let scaled = |curve: &[f64]| curve.iter().map(|g| g / 16.0).collect::<Vec<_>>();
    assert!(resolution_of(&scaled(&xpos)) > resolution_of(&scaled(&rope)));
}

#[test]
fn a_model_that_cannot_tell_distances_resolves_nothing() {
    let config = DecoderConfig { positions: Positions::None, n_layers: 1, ..tiny() };
    let tokens = tch::Tensor::ones([2, 12], (Kind::Int64, CPU)); // all alike: all scores are equal
    let resolution = attention_resolution(&model(&config, 1), &tokens, Mask::Causal).unwrap();
    // f32 scores of size 1 that differ by roundings.
    assert!(resolution.mean.abs() < 1e-5, "{resolution:?}");
    let alibi = DecoderConfig { positions: Positions::Alibi, ..config };
    let resolution = attention_resolution(&model(&alibi, 1), &tokens, Mask::Causal).unwrap();
    // All that is left of the scores is the penalty, which each head scales.
    let head =
        |slope: f64| resolution_of(&(0..12).map(|n| -slope * f64::from(n)).collect::<Vec<_>>());
    let want = crate::alibi_slopes(4).into_iter().map(head).sum::<f64>() / 4.0;
    assert!((resolution.mean - want).abs() < 1e-5, "{resolution:?}, not {want}");
}

#[test]
fn under_a_mask_only_visible_distances_count() {
    let model = model(&tiny(), 2);
    let tokens = tokens(2, 16, 29, &mut rng(3));
    let mask = Mask::BlockwiseCausal { block_size: 3 };
    let resolution = attention_resolution(&model, &tokens, mask).unwrap();
    assert_eq!(resolution.per_layer.len(), 2);
    assert!(resolution.expected_scores.iter().all(|scores| scores.len() == 6));
    let causal = attention_resolution(&model, &tokens, Mask::Causal).unwrap();
    assert!(causal.expected_scores.iter().all(|scores| scores.len() == 16));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// The first layer's curve against scores written out from the model's own weights.
    #[test]
    fn the_measurement_equals_scores_written_out(seed in 0_u64..1000, seq in 2_i64..12) {
        let model = model(&DecoderConfig { positions: Positions::None, ..tiny() }, seed);
        let tokens = tokens(2, seq, 29, &mut rng(seed));
        let got = attention_resolution(&model, &tokens, Mask::Causal).unwrap();
        let _guard = tch::no_grad_guard();
        let get = |name: &str| {
            model.parameters().get(&format!("layers.0.{name}")).unwrap().tensor.shallow_clone()
        };
        let x = model.residual_stream(&tokens, Mask::Causal).unwrap().remove(0);
        let norm = [get("self_attn_layer_norm.weight"), get("self_attn_layer_norm.bias")];
        let x = x.layer_norm([16], Some(&norm[0]), Some(&norm[1]), 1e-5, false);
        let project = |name: &str| {
            let y = x.matmul(&get(&format!("self_attn.{name}.weight")).tr())
                + get(&format!("self_attn.{name}.bias"));
            y.view([2, seq, 4, 4]).transpose(1, 2)
        };
        let scores = project("q_proj").matmul(&project("k_proj").transpose(-1, -2)) / 2.0;
        let by_head = expected_scores(&scores.mean_dim([0_i64].as_slice(), false, None)).unwrap();
        let mean = by_head.mean_dim([0_i64].as_slice(), false, None);
        let curve = tch::Tensor::from_slice(&got.expected_scores[0]);
        // f32 products of size 5.
        prop_assert!(max_diff(&curve, &mean) < 1e-5);
        let rows: Vec<Vec<f64>> = Vec::try_from(&by_head).unwrap();
        let want = rows.iter().map(|row| resolution_of(row)).sum::<f64>() / 4.0;
        prop_assert!((got.per_layer[0] - want).abs() < 1e-4);
    }
}
