use super::*;
use crate::testing::rng;

/// Shares of each token over many draws.
fn shares(logits: &[f32], options: &Generation) -> Vec<f64> {
    let mut rng = rng(1);
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..4000 {
        counts[sample(logits, &[], options, &mut rng)] += 1.0 / 4000.0;
    }
    counts
}

fn check(options: &Generation, want: &[f64]) {
    // Probabilities 0.5, 0.25, 0.15, 0.1 in another order.
    let logits = [0.15_f32.ln(), 0.5_f32.ln(), 0.1_f32.ln(), 0.25_f32.ln()];
    for (got, want) in shares(&logits, options).iter().zip(want) {
        // Four standard errors of 4000 draws.
        assert!((got - want).abs() < 0.032, "{options:?}: {got}, not {want}");
        assert!(*want > 0.0 || *got == 0.0, "{options:?}: a token outside the candidates");
    }
}

#[test]
fn shares_are_the_probabilities_of_the_candidates() {
    let plain = Generation::default();
    check(&plain, &[0.15, 0.5, 0.1, 0.25]);
    check(&Generation { temperature: 0.0, ..plain.clone() }, &[0.0, 1.0, 0.0, 0.0]);
    check(&Generation { top_k: Some(2), ..plain.clone() }, &[0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
    check(&Generation { top_p: Some(0.4), ..plain.clone() }, &[0.0, 1.0, 0.0, 0.0]);
    let nucleus = [0.15 / 0.9, 0.5 / 0.9, 0.0, 0.25 / 0.9];
    check(&Generation { top_p: Some(0.8), ..plain.clone() }, &nucleus);
    let likely = [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0];
    check(&Generation { min_p: Some(0.4), ..plain.clone() }, &likely);
    check(&Generation { min_p: Some(1.0), ..plain.clone() }, &[0.0, 1.0, 0.0, 0.0]);
    let cold = [0.15_f64, 0.5, 0.1, 0.25].map(|p| p * p);
    let total: f64 = cold.iter().sum();
    check(&Generation { temperature: 0.5, ..plain }, &cold.map(|p| p / total));
}

#[test]
fn what_occurred_before_is_penalised_once() {
    let logits = [2.0, 1.5, -1.0, -1.5];
    let options = Generation { temperature: 0.0, repetition_penalty: 1.6, ..Generation::default() };
    let best = |text: &[i64]| sample(&logits, text, &options, &mut rng(1));
    assert_eq!(best(&[]), 0);
    assert_eq!(best(&[0]), 1); // 1.25 against 1.5
    assert_eq!(best(&[0, 1, 1, 1]), 0); // 1.25 against 0.94
    let mut candidates: Vec<(usize, f64)> = vec![(0, 2.0), (1, -2.0)];
    penalise(&mut candidates, &[0, 1, 5, -1], 2.0);
    assert_eq!(candidates, [(0, 1.0), (1, -4.0)]);
}

/// However large the vocabulary: the fewest likeliest, found by sorting all.
#[test]
fn a_nucleus_is_that_of_a_full_sort() {
    use rand::Rng;
    let mut rng = rng(3);
    for (n, p) in [
        (1, 0.5),
        (5, 1.0),
        (127, 0.9),
        (128, 0.999),
        (129, 1.0),
        (3000, 0.2),
        (3000, 0.99),
        (3000, 1.0),
    ] {
        let weights: Vec<(usize, f64)> =
            (0..n).map(|i| (i, f64::from(rng.random_range(0..50_u32)).exp2())).collect();
        let mut sorted = weights.clone();
        sorted.sort_by(by_likelihood);
        let total: f64 = weights.iter().map(|weight| weight.1).sum();
        let mut reached = 0.0;
        let mut want = Vec::new();
        for weight in sorted {
            if reached < p * total || want.is_empty() {
                want.push(weight);
            }
            reached += weight.1;
        }
        let mut got = weights;
        keep_nucleus(&mut got, p);
        assert_eq!(got, want, "{p} of {n}");
    }
}

#[test]
fn logits_that_are_no_numbers_are_refused() {
    assert!(ensure_sound(&[1.0, f32::NEG_INFINITY]).is_ok());
    for (logits, got) in [([1.0, f32::NAN], "NaN"), ([f32::INFINITY, 1.0], "inf")] {
        assert_eq!(
            ensure_sound(&logits).unwrap_err().to_string(),
            format!("logits must be finite, got {got}")
        );
    }
    assert!(ensure_sound(&[f32::NEG_INFINITY; 3]).is_err());
}

#[test]
fn bad_options_are_refused_by_name() {
    let message = |options: Generation| options.validate().unwrap_err().to_string();
    let plain = Generation::default();
    let hot = message(Generation { temperature: f64::NAN, ..plain.clone() });
    assert_eq!(hot, "temperature must be finite and not negative, got NaN");
    let none = message(Generation { top_k: Some(0), ..plain.clone() });
    assert_eq!(none, "top_k must be positive, got 0");
    let least = message(Generation { min_p: Some(-0.1), ..plain.clone() });
    assert_eq!(least, "min_p must be in [0, 1], got -0.1");
    let penalty = message(Generation { repetition_penalty: 0.0, ..plain.clone() });
    assert_eq!(penalty, "repetition_penalty must be positive and finite, got 0");
    let most = message(Generation { top_p: Some(1.5), ..plain });
    assert_eq!(most, "top_p must be in (0, 1], got 1.5");
}
