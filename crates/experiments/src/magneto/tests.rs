use forerun_runs::stats::Interval;
use forerun_runs::verdict::{Judgement, Verdict};

use super::grid::{End, Grid, Largest, PLATEAU, TEXT, UNIGRAM, largest_that_trains};
use super::verdicts::log_slope;
use super::*;
use crate::catalog;
use crate::config::{Body, Overrides, Scale};
use crate::outcome::Curve;

const RATES: [f64; 5] = [0.01, 0.02, 0.04, 0.08, 0.16];
const NAN: f64 = f64::NAN;

#[track_caller]
fn check_largest(losses: [f64; 5], want: Largest) {
    assert_eq!(largest_that_trains(&RATES, &losses, 2.5), want, "{losses:?}");
}

#[test]
fn the_largest_rate_is_the_last_before_the_first_that_fails() {
    check_largest([2.4, 2.2, 2.3, 2.6, 3.1], Largest::At(0.04));
    check_largest([2.4, 2.2, 2.3, NAN, NAN], Largest::At(0.04));
    check_largest([2.5, 2.6, 2.7, 2.8, 2.9], Largest::At(0.01)); // a loss at the border trains
}

#[test]
fn slow_low_rates_do_not_count_as_failures() {
    check_largest([3.0, 2.7, 2.2, 2.3, 2.9], Largest::At(0.08));
}

#[test]
fn a_lucky_rate_beyond_one_that_fails_does_not_count() {
    check_largest([2.4, 2.2, 2.7, 2.4, 3.0], Largest::At(0.02));
    check_largest([2.4, 2.2, NAN, 2.3, NAN], Largest::At(0.02));
    // From the best on: what fails below it is of no account either.
    check_largest([2.4, 2.7, 2.45, 2.2, 2.6], Largest::At(0.08));
}

#[test]
fn the_end_of_the_grid_is_a_bound() {
    check_largest([2.4, 2.3, 2.2, 2.3, 2.4], Largest::AtLeast(0.16));
    check_largest([2.8, 2.7, 2.6, 2.5, 2.2], Largest::AtLeast(0.16));
}

#[test]
fn nothing_trains_where_the_best_does_not() {
    check_largest([3.1, 2.9, 2.8, 3.0, 3.1], Largest::None);
    check_largest([NAN; 5], Largest::None);
    assert_eq!(largest_that_trains(&RATES, &[2.0; 5], NAN), Largest::None);
    assert_eq!(largest_that_trains(&[], &[], 2.5), Largest::None);
}

#[test]
fn a_place_is_read_back_as_it_was_written() {
    for lr in [5e-4, 0.016, 1.2e-3, 1.0 / 3.0] {
        let place = Place { arm: "sub-torchscale".to_owned(), depth: 24, lr };
        assert_eq!(place.to_string().parse::<Place>().unwrap(), place);
    }
    for text in ["sub", "sub/24", "sub/x/0.1", "sub/24/0.1/3"] {
        assert!(text.parse::<Place>().is_err(), "{text}");
    }
}

fn experiment(changes: &[&str]) -> Result<(Experiment, MagnetoConfig)> {
    let overrides = Overrides {
        scale: Scale::Smoke,
        set: changes.iter().map(|&change| change.to_owned()).collect(),
        ..Overrides::default()
    };
    let experiment = Experiment::resolve(&catalog::find("magneto-stability")?, &overrides)?;
    let Body::MagnetoStability(body) = experiment.body.clone() else { bail!("another kind") };
    Ok((experiment, body))
}

#[track_caller]
fn check_refused(change: &str, reason: &str) {
    let error = format!("{:#}", experiment(&[change]).unwrap_err());
    assert!(error.contains(reason), "{change}: {error}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    check_refused("grid.depths=[24,6]", "grid.depths must be positive and ascend, got [24, 6]");
    check_refused("grid.depths=[]", "grid.depths");
    check_refused("grid.learning_rates=[1e-3]", "grid.learning_rates must be two or more");
    check_refused("grid.learning_rates=[1e-3, 1e-3]", "grid.learning_rates");
    check_refused("grid.trains_share=1.0", "grid.trains_share must lie between 0 and 1, got 1");
    check_refused("grid.loss_rows=0", "grid.loss_rows");
    check_refused("update.depths=[4]", "update.depths must be two or more");
    check_refused("update.draws=0", "update.draws");
    check_refused("update.sgd_lr=-1e-3", "update.sgd_lr must be positive, got -0.001");
    check_refused("update.batch_size=0", "update.batch_size");
    check_refused("arms.pre.model.n_heads=3", "arms.pre.model");
    check_refused("arms.pre.training.steps=13", "the same training.steps");
}

#[test]
fn a_claim_about_what_is_not_measured_is_refused() {
    let (mut experiment, body) = experiment(&[]).unwrap();
    let mut check = |series: &str, at: f64, reason: &str| {
        experiment.claims[0].a.series = series.to_owned();
        experiment.claims[0].a.at = at;
        let error = format!("{:#}", body.validate(&experiment).unwrap_err());
        assert!(error.contains(reason) && error.contains("claim `post-ln-fails`"), "{error}");
    };
    check("loss", 1.0, "it measures the series `loss`; there are: largest-lr, best-loss");
    check("best-loss", 0.3, "not among grid.depths");
    check("update-slope/sgd", 1.0, "`at` must be 0");
}

/// Curves of a text and of one training for each loss: arm, depth, losses by learning rate.
fn curves(body: &MagnetoConfig, seed: u64, losses: &[(&str, i64, [f64; 3])]) -> Vec<Curve> {
    let curve =
        |arm: String, series: &str, points| Curve { arm, seed, series: series.to_owned(), points };
    let mut curves = vec![curve(TEXT.to_owned(), UNIGRAM, vec![(0.0, 3.0)])];
    for (arm, depth, losses) in losses {
        for (&lr, &loss) in body.grid.learning_rates.iter().zip(losses) {
            let place = Place { arm: (*arm).to_owned(), depth: *depth, lr };
            // One that diverges has no loss at the end, but perhaps one before it.
            let mut points = vec![(6.0, 3.5)];
            points.extend(loss.is_finite().then_some((12.0, loss)));
            curves.push(curve(place.to_string(), "validation-loss", points));
        }
    }
    curves
}

/// At 4 layers: Post-LN on its plateau, Pre-LN up to 1e-2, the others with a lower loss.
fn example(body: &MagnetoConfig) -> Vec<Curve> {
    let losses = [
        ("post", 4, [3.3, 3.01, NAN]),
        ("pre", 4, [2.6, 2.2, 2.8]),
        ("deep", 4, [2.1, 2.9, 3.0]),
        ("sub", 4, [2.4, 2.0, 2.3]),
        ("sub-torchscale", 4, [2.4, 2.1, 2.7]),
    ];
    curves(body, 0, &losses)
}

#[test]
fn what_trains_is_measured_between_letter_frequencies_and_the_best_of_the_depth() {
    let (_, body) = experiment(&[]).unwrap();
    let curves = example(&body);
    let grid = Grid::new(&body, &curves);
    assert_eq!(grid.threshold(4, 0), 2.5); // half way from 3.0 to 2.0
    assert_eq!(grid.largest("post", 4, 0), Largest::None);
    assert_eq!(grid.largest("pre", 4, 0), Largest::At(1e-2));
    assert_eq!(grid.largest("deep", 4, 0), Largest::At(1e-3));
    assert_eq!(grid.largest("sub", 4, 0), Largest::AtLeast(1e-1));
    assert_eq!(grid.best_rate("sub", 4, 0), Some(1e-2));
    assert_eq!(grid.share_that_trains("sub", 4, 0), 1.0);
    assert!((grid.miss("post", 4, 0) - 0.51).abs() < 1e-12);
    let ends = grid.losses("post", 4, 0).into_iter().map(|loss| grid.end(loss, 4, 0));
    assert_eq!(ends.collect::<Vec<_>>(), [End::Worse(3.3), End::Plateau(3.01), End::Diverged]);
    assert_eq!(grid.end(3.0 - 2.0 * PLATEAU, 4, 0), End::Lags(3.0 - 2.0 * PLATEAU));
    // At 2 layers nothing was run, so nothing trains.
    assert!(grid.threshold(2, 0).is_nan());
    assert_eq!(grid.largest("sub", 2, 0), Largest::None);
}

#[test]
fn where_nothing_learns_nothing_trains() {
    let (_, body) = experiment(&[]).unwrap();
    let curves = curves(&body, 0, &[("post", 4, [3.0, 3.1, NAN]), ("sub", 4, [3.05, 3.0, 3.2])]);
    let grid = Grid::new(&body, &curves);
    assert!(grid.threshold(4, 0).is_nan());
    assert_eq!(grid.largest("sub", 4, 0), Largest::None, "the best is not good");
}

fn derived_value(curves: &[Curve], arm: &str, series: &str, x: f64) -> f64 {
    let curve = curves.iter().find(|curve| curve.arm == arm && curve.series == series).unwrap();
    curve.points.iter().find(|point| point.0 == x).unwrap().1
}

#[test]
fn claims_get_their_series() {
    let (experiment, body) = experiment(&[]).unwrap();
    let mut curves = example(&body);
    curves.push(Curve {
        arm: "sub".to_owned(),
        seed: 0,
        series: "update/sgd".to_owned(),
        points: vec![(2.0, 3.0), (4.0, 6.0), (8.0, 12.0)],
    });
    let derived = derived(&experiment, &body, &curves);
    let value = |arm, series, x| derived_value(&derived, arm, series, x);
    assert_eq!(value("pre", "largest-lr", 4.0), 1e-2_f64.log2());
    assert!(value("post", "largest-lr", 4.0).is_nan());
    assert_eq!(value("sub", "best-loss", 4.0), 2.0);
    // Post-LN misses by 0.51, but Pre-LN keeps only 0.3 below the border.
    assert!((value("post", "fails-alone", 4.0) - 0.3).abs() < 1e-12);
    assert!(value("sub", "fails-alone", 4.0) < 0.0, "it trains");
    assert!((value("sub", "update-slope/sgd", 0.0) - 1.0).abs() < 1e-12);
    assert!(value("pre", "update-slope/sgd", 0.0).is_nan(), "not measured");
}

#[test]
fn nobody_fails_alone_where_two_fail() {
    let (experiment, body) = experiment(&[]).unwrap();
    let mut curves = example(&body);
    curves.retain(|curve| !curve.arm.starts_with("pre/"));
    curves.extend(self::curves(&body, 0, &[("pre", 4, [3.0, 3.0, 3.0])]));
    let derived = derived(&experiment, &body, &curves);
    assert!(derived_value(&derived, "post", "fails-alone", 4.0) < 0.0);
}

#[test]
fn a_slope_is_the_exponent_of_depth() {
    let power =
        |exponent: f64| [2.0_f64, 6.0, 24.0, 96.0].map(|depth| (depth, 7.0 * depth.powf(exponent)));
    for exponent in [-0.5, 0.0, 0.34, 1.0] {
        assert!((log_slope(&power(exponent)) - exponent).abs() < 1e-12, "{exponent}");
    }
    assert!(log_slope(&[(2.0, 1.0)]).is_nan());
    assert!(log_slope(&[(2.0, 1.0), (4.0, NAN)]).is_nan());
    assert!(log_slope(&[(2.0, 1.0), (4.0, 0.0)]).is_nan());
}

#[test]
fn a_rate_at_the_end_of_the_grid_is_no_value_unless_that_is_against_the_claim() {
    let (experiment, body) = experiment(&[]).unwrap();
    let claim = experiment
        .claims
        .iter()
        .find(|claim| claim.name == "sub-ln-takes-a-larger-learning-rate")
        .unwrap();
    let judge = |verdict, curves: &[Curve]| {
        let interval = Some(Interval { low: 0.1, high: 2.0 });
        let reason = "as measured".to_owned();
        let judgement = Judgement { verdict, effect: Some(1.0), interval, n_seeds: 4, reason };
        reconsider(&body, claim, curves, judgement).unwrap()
    };
    // Sub-LN at the end: its true value is larger still, which is what the claim says.
    let curves = example(&body);
    assert_eq!(judge(Verdict::Reproduced, &curves).verdict, Verdict::Reproduced);
    let other = judge(Verdict::NotReproduced, &curves);
    assert_eq!(other.verdict, Verdict::Inconclusive);
    assert!(other.reason.contains("larger one") && other.reason.contains("as measured"));
    // Pre-LN at the end as well: then it may have a larger value than Sub-LN.
    let both =
        [("post", 4, [3.0, 3.1, NAN]), ("pre", 4, [2.6, 2.2, 2.3]), ("sub", 4, [2.4, 2.0, 2.3])];
    let curves = self::curves(&body, 0, &both);
    assert_eq!(judge(Verdict::Reproduced, &curves).verdict, Verdict::Inconclusive);
    // Neither: nothing to reconsider.
    let neither = [("pre", 4, [2.2, 2.9, 3.0]), ("sub", 4, [2.4, 2.0, 2.9])];
    let curves = self::curves(&body, 0, &neither);
    assert_eq!(judge(Verdict::NotReproduced, &curves).verdict, Verdict::NotReproduced);
}

#[test]
fn the_grid_of_every_scale_reaches_the_depths_that_the_issue_of_depth_is_about() {
    for (scale, deepest) in [(Scale::Small, 24), (Scale::Paper, 72)] {
        let overrides = Overrides { scale, ..Overrides::default() };
        let entry = catalog::find("magneto-stability").unwrap();
        let experiment = Experiment::resolve(&entry, &overrides).unwrap();
        let Body::MagnetoStability(body) = &experiment.body else { panic!("another kind") };
        assert_eq!(body.deepest(), deepest);
        assert_eq!(body.training().clip_norm, None, "the paper does not clip");
    }
}
