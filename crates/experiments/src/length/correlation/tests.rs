use super::*;
use crate::catalog::find;
use crate::config::{Body, Overrides};

const N_ARMS: usize = 6;

fn experiment() -> Experiment {
    let overrides = Overrides { seeds: Some(3), ..Overrides::default() };
    Experiment::resolve(&find("length-extrapolation").unwrap(), &overrides).unwrap()
}

fn body(experiment: &Experiment) -> &LengthConfig {
    let Body::LengthExtrapolation(body) = &experiment.body else { unreachable!() };
    body
}

/// Curves of every arm, mask and seed; `point` gives resolution and loss of (arm, mask, length).
fn measured(body: &LengthConfig, point: impl Fn(usize, usize, f64) -> (f64, f64)) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (arm, name) in body.arms.iter().map(|arm| arm.name.clone()).enumerate() {
        for seed in 0..3 {
            for (mask, label) in ["causal", "bca"].into_iter().enumerate() {
                let at = |ratio: &i64| {
                    let length = (ratio * body.training_length()) as f64;
                    let (resolution, loss) = point(arm, mask, length);
                    let noise =
                        1e-3 * ((seed + 1) as f64) * ((arm + 2 * mask) as f64 + length).sin();
                    (length, resolution, loss + noise)
                };
                let points: Vec<_> = body.evaluation.ratios.iter().map(at).collect();
                for (series, y) in [("resolution", 1), ("nll", 2)] {
                    curves.push(Curve {
                        arm: name.clone(),
                        seed,
                        series: format!("{series}/{label}"),
                        points: points
                            .iter()
                            .map(|p| (p.0, if y == 1 { p.1 } else { p.2 }))
                            .collect(),
                    });
                }
            }
        }
    }
    curves
}

#[track_caller]
fn check(
    ranked: Ranked,
    point: impl Fn(usize, usize, f64) -> (f64, f64),
    expected: Verdict,
    says: &str,
) {
    let experiment = experiment();
    let body = body(&experiment);
    let measured = measured(body, point);
    let curves = [measured.clone(), derived(&experiment, body, &measured)].concat();
    let (name, _) = CORRELATIONS.into_iter().find(|(_, kind)| *kind == ranked).unwrap();
    let claim = experiment.claims.iter().find(|claim| claim.a.series == name).unwrap();
    let values: Vec<f64> = curves
        .iter()
        .filter(|curve| curve.arm == ALL_ARMS && curve.series == name)
        .map(|curve| curve.points[0].1)
        .collect();
    let mut rng = forerun_runs::seed::Seed::new(1).stream("test");
    let judgement =
        forerun_runs::verdict::judge(&claim.rule, &values, &vec![0.0; values.len()], &mut rng)
            .unwrap();
    let judgement = reconsider(body, claim, &curves, judgement).unwrap();
    assert_eq!(judgement.verdict, expected, "{}", judgement.reason);
    assert!(judgement.reason.contains(says), "{}", judgement.reason);
}

/// Every arm loses resolution with length, each from another level, and pays for what it has left.
fn paid_for(arm: usize, mask: usize, length: f64) -> (f64, f64) {
    let resolution = 1.0 / (length * (1.0 + arm as f64)) + 1e-5 * mask as f64;
    let loss = if length == 128.0 { 2.0 } else { 2.0 - 0.3 * resolution.ln() };
    (resolution, loss)
}

#[test]
fn low_resolution_with_high_loss_is_a_prediction() {
    for ranked in [Ranked::Pooled, Ranked::WithinLength] {
        check(ranked, paid_for, Verdict::Reproduced, "over the 6 arms, each left out in turn");
    }
}

#[test]
fn high_resolution_with_high_loss_is_none() {
    let point = |arm: usize, _: usize, length: f64| {
        let resolution = length * (1.0 + arm as f64);
        (resolution, if length == 128.0 { 2.0 } else { 2.0 + 0.3 * resolution.ln() })
    };
    for ranked in [Ranked::Pooled, Ranked::WithinLength] {
        check(ranked, point, Verdict::NotReproduced, "none of it is below -0.3");
    }
}

#[test]
fn what_one_arm_alone_shows_is_no_prediction_about_arms() {
    // One arm falls off in both; the others scatter without a connection. Its seeds agree perfectly.
    let point = |arm: usize, mask: usize, length: f64| {
        if arm == 0 {
            return (1e-4 / length, 8.0 + length.ln());
        }
        let turn = (arm * 7 + mask * 3) as f64 + length.log2() * 5.0;
        (0.5 + 0.1 * turn.sin(), 2.0 + 0.1 * (2.3 * turn).cos())
    };
    check(Ranked::Pooled, point, Verdict::Inconclusive, "only a part of it");
}

#[test]
fn what_length_alone_does_to_both_tells_nothing_about_arms() {
    // Resolution falls and loss rises with length in every arm; which arm has more of either is unconnected.
    let point = |arm: usize, mask: usize, length: f64| {
        let (high, dear) = ([3, 0, 5, 1, 4, 2][arm] as f64, [2, 0, 1, 5, 3, 4][(arm + mask) % 6]);
        let loss = if length == 128.0 { 2.0 } else { 2.0 + length.log2() + 0.02 * dear as f64 };
        ((1.0 + 0.01 * high) / length, loss)
    };
    check(Ranked::Pooled, point, Verdict::Reproduced, "all of it is below -0.3");
    check(Ranked::WithinLength, point, Verdict::Inconclusive, "only a part of it");
}

#[test]
fn within_a_length_the_correlation_is_the_mean_over_lengths_and_masks() {
    let seen = |arm, length, resolution, added_loss| Observation {
        arm,
        seed: 0,
        mask: 0,
        length,
        resolution,
        added_loss,
    };
    // Perfectly against each other at 256, perfectly together at 512.
    let mut all: Vec<Observation> =
        (0..3).map(|arm| seen(arm, 256.0, arm as f64, -(arm as f64))).collect();
    all.extend((0..3).map(|arm| seen(arm, 512.0, arm as f64, arm as f64)));
    assert_eq!(correlation(&all, Ranked::WithinLength, 0, None), Some(0.0));
    assert_eq!(correlation(&all[..3], Ranked::WithinLength, 0, None), Some(-1.0));
    // Two arms always agree or disagree, which is no correlation.
    assert_eq!(correlation(&all, Ranked::WithinLength, 0, Some(1)), None);
    assert_eq!(correlation(&all, Ranked::WithinLength, 1, None), None);
}

#[test]
fn the_training_length_is_no_observation_and_what_is_not_finite_is_left_out() {
    let experiment = experiment();
    let body = body(&experiment);
    let mut curves = measured(body, |arm, _, length| (1.0 / length, arm as f64 + length));
    let all = observations(body, &curves);
    assert_eq!(all.len(), N_ARMS * 3 * 2 * 3); // arms, seeds, masks, lengths beyond the training length
    assert!(all.iter().all(|seen| seen.length > 128.0));
    let added = all.iter().find(|seen| seen.length == 256.0).unwrap().added_loss;
    assert!((added - 128.0).abs() < 0.01, "{added}");
    let broken = curves.iter_mut().find(|curve| curve.series == "nll/bca").unwrap();
    broken.points[1].1 = f64::NAN;
    assert_eq!(observations(body, &curves).len(), all.len() - 1);
}

#[test]
fn other_claims_are_left_alone() {
    let experiment = experiment();
    let claim = &experiment.claims[0];
    let judgement = Judgement {
        verdict: Verdict::Reproduced,
        effect: Some(1.0),
        interval: Some(Interval { low: 0.5, high: 1.5 }),
        n_seeds: 3,
        reason: "as it was".to_owned(),
    };
    assert_eq!(reconsider(body(&experiment), claim, &[], judgement.clone()).unwrap(), judgement);
}

#[test]
fn an_arm_that_was_never_measured_is_no_arm() {
    let experiment = experiment();
    let body = body(&experiment);
    let mut curves = measured(body, paid_for);
    curves.retain(|curve| curve.arm != "none");
    let (n_arms, interval) =
        interval_over_arms(&observations(body, &curves), Ranked::Pooled, 0.95).unwrap();
    assert_eq!(n_arms, N_ARMS - 1);
    assert!(interval.unwrap().high < -0.3, "{interval:?}");
    curves.retain(|curve| curve.arm == "rope" || curve.arm == "xpos");
    let two = interval_over_arms(&observations(body, &curves), Ranked::Pooled, 0.95).unwrap();
    assert_eq!(two, (2, None));
}
