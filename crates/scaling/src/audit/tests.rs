use super::*;
use crate::{FitConfig, Objective, Observations, fit};

const LLAMA: Target = Target { n: Params(7e9), d: Tokens(1e12), batch: None };

#[test]
fn the_papers_case_was_too_large_by_2_6_to_2_8() {
    let best = PublishedLr::by_name("bjorck-2024").unwrap().predict(&LLAMA);
    assert!((best.lr - 1.086e-4).abs() < 1e-7, "{best:?}");
    let audit = audit(best, 3e-4, Some(0.02)).unwrap();
    assert!((2.6..2.8).contains(&audit.ratio), "{audit:?}");
    assert!(audit.best.basis.contains("second-hand"));
    assert!((audit.penalty.unwrap() - 0.02 * audit.ratio.ln().powi(2)).abs() < 1e-15);
    assert_eq!((audit.ratio_interval, audit.penalty_interval), (None, None));
}

#[test]
fn published_laws_count_in_their_own_unit() {
    // With raw counts in a constant for billions the answer would be five orders of magnitude away.
    for law in PUBLISHED {
        let lr = law.predict(&LLAMA).lr;
        assert!((2e-5..3e-3).contains(&lr), "{}: {lr}", law.name);
    }
    assert_eq!(PublishedLr::by_name("nobody"), None);
}

/// Optima of a law with 5 % noise at five horizons.
fn fitted() -> (LrHorizon, Fit) {
    let law = LrHorizon::of_tokens(CountUnit::Billions);
    let d: Vec<f64> = (0..5).map(|i| 1e9 * 2_f64.powi(i)).collect();
    let noise = [0.05, -0.04, 0.02, -0.05, 0.03];
    let lr = d
        .iter()
        .zip(noise)
        .map(|(d, e): (&f64, f64)| 2e-3 * (d / 1e9).powf(-0.3) * e.exp())
        .collect();
    let optima = Observations::new("lr", lr).with_input("d", d);
    let fit = fit(&law, &optima, &FitConfig::new(Objective::NlsLog)).unwrap();
    (law, fit)
}

#[test]
fn a_fitted_law_gives_intervals() {
    let (law, fit) = fitted();
    let target = Target { n: Params(1e8), d: Tokens(1e11), batch: None };
    let best = predict_fitted(&law, &fit, &target).unwrap();
    let truth = 2e-3 * 100_f64.powf(-0.3);
    assert!(best.interval.unwrap().contains(truth), "{best:?} {truth}");
    let (lr, interval) = (best.lr, best.interval.unwrap());
    let good = audit(best.clone(), lr, Some(0.05)).unwrap();
    assert_eq!((good.ratio, good.penalty), (1., Some(0.)));
    assert_eq!(good.penalty_interval.unwrap().low, 0.);
    let bad = audit(best, 10. * lr, Some(0.05)).unwrap();
    let ratio = bad.ratio_interval.unwrap();
    assert!((ratio.low - 10. * lr / interval.high).abs() < 1e-9 && ratio.contains(bad.ratio));
    assert!(bad.penalty_interval.unwrap().low > 0.);
    assert!(bad.penalty_interval.unwrap().contains(bad.penalty.unwrap()));
}

#[test]
fn a_rate_that_is_none_is_refused() {
    let best = PUBLISHED[0].predict(&LLAMA);
    let check = |used, curvature, expected: &str| {
        assert_eq!(audit(best.clone(), used, curvature).unwrap_err().to_string(), expected);
    };
    check(0., None, "used must be a positive learning rate, got 0");
    check(1e-3, Some(-1.), "curvature must be positive, got -1");
}

#[test]
fn the_rule_of_thumb_goes_down_with_the_horizon() {
    let long = rule_of_thumb(1e-3, Tokens(1e9), Tokens(1e10));
    assert!((long / 1e-3 - 10_f64.powf(-0.32)).abs() < 1e-12);
    assert!((rule_of_thumb(long, Tokens(1e10), Tokens(1e9)) - 1e-3).abs() < 1e-15);
}
