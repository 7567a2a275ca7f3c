use super::*;
use crate::testing::rng;

/// Shares of each token over many draws.
fn shares(logits: &[f32], options: &Generation) -> Vec<f64> {
    let mut rng = rng(1);
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..4000 {
        counts[sample(logits, options, &mut rng)] += 1.0 / 4000.0;
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
    let cold = [0.15_f64, 0.5, 0.1, 0.25].map(|p| p * p);
    let total: f64 = cold.iter().sum();
    check(&Generation { temperature: 0.5, ..plain }, &cold.map(|p| p / total));
}

#[test]
fn bad_options_are_refused_by_name() {
    let message = |options: Generation| options.validate().unwrap_err().to_string();
    let plain = Generation::default();
    let hot = message(Generation { temperature: f64::NAN, ..plain.clone() });
    assert_eq!(hot, "temperature must be finite and not negative, got NaN");
    let none = message(Generation { top_k: Some(0), ..plain.clone() });
    assert_eq!(none, "top_k must be positive, got 0");
    let most = message(Generation { top_p: Some(1.5), ..plain });
    assert_eq!(most, "top_p must be in (0, 1], got 1.5");
}
