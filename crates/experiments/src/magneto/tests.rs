use forerun_runs::results::Row;
use forerun_runs::seed::Seed;
use forerun_runs::stats::Interval;
use forerun_runs::verdict::{Judgement, Verdict};
use rand::Rng;
use serde_json::json;

use super::grid::{End, Grid, Largest, PLATEAU, TEXT, UNIGRAM, largest_that_trains};
use super::verdicts::{deeper_half, log_slope};
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

/// Rows of a text and of one training for each loss: arm, depth, losses by learning rate.
fn rows(body: &MagnetoConfig, seed: u64, losses: &[(&str, i64, [f64; 3])]) -> Vec<Row> {
    let row = |cells: &[(&str, serde_json::Value)]| -> Row {
        cells.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    let mut rows =
        vec![row(&[("arm", json!(TEXT)), ("step", json!("count")), (UNIGRAM, json!(3.0))])];
    for (arm, depth, losses) in losses {
        for (&lr, &loss) in body.grid.learning_rates.iter().zip(losses) {
            let place = Place { arm: (*arm).to_owned(), depth: *depth, lr }.to_string();
            let outcome = if loss.is_finite() { "finished" } else { "diverged" };
            // One that diverges may have been watched before.
            let loss = if loss.is_finite() { loss } else { 2.0 };
            rows.push(row(&[
                ("arm", json!(place)),
                ("seed", json!(seed)),
                ("step", json!("train")),
                ("outcome", json!(outcome)),
                ("validation_loss", json!(loss)),
            ]));
        }
    }
    rows
}

/// At 4 layers: Post-LN on its plateau, Pre-LN up to 1e-2, the others with a lower loss.
fn example(body: &MagnetoConfig) -> Vec<Row> {
    let losses = [
        ("post", 4, [3.3, 3.01, NAN]),
        ("pre", 4, [2.6, 2.2, 2.8]),
        ("deep", 4, [2.1, 2.9, 3.0]),
        ("sub", 4, [2.4, 2.0, 2.3]),
        ("sub-torchscale", 4, [2.4, 2.1, 2.7]),
    ];
    rows(body, 0, &losses)
}

#[test]
fn what_trains_is_measured_between_token_frequencies_and_the_best_of_the_depth() {
    let (_, body) = experiment(&[]).unwrap();
    let rows = example(&body);
    let grid = Grid::new(&body, &rows);
    assert_eq!(grid.threshold(4, 0), 2.5); // half way from 3.0 to 2.0
    assert_eq!(grid.largest("post", 4, 0), Largest::None);
    assert_eq!(grid.largest("pre", 4, 0), Largest::At(1e-2));
    assert_eq!(grid.largest("deep", 4, 0), Largest::At(1e-3));
    assert_eq!(grid.largest("sub", 4, 0), Largest::AtLeast(1e-1));
    assert_eq!(grid.best("sub", 4, 0), Some((1e-2, 2.0)));
    assert_eq!(grid.share_that_trains("sub", 4, 0), 1.0);
    assert!((grid.miss("post", 4, 0) - 0.51).abs() < 1e-12);
    let ends = grid.losses("post", 4, 0).into_iter().map(|loss| grid.end(loss, 4, 0));
    assert_eq!(ends.collect::<Vec<_>>(), [End::Worse(3.3), End::Plateau(3.01), End::Diverged]);
    let slow = 3.0 - 2.0 * PLATEAU;
    assert_eq!(grid.end(Some(slow), 4, 0), End::Lags(slow));
    // At 2 layers nothing was run, so nothing is known.
    assert!(grid.threshold(2, 0).is_nan());
    assert_eq!(grid.largest("sub", 2, 0), Largest::Unknown);
}

#[test]
fn where_nothing_learns_nothing_trains() {
    let (_, body) = experiment(&[]).unwrap();
    let rows = rows(&body, 0, &[("post", 4, [3.0, 3.1, NAN]), ("sub", 4, [3.05, 3.0, 3.2])]);
    let grid = Grid::new(&body, &rows);
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
    let sizes = Curve {
        arm: "sub".to_owned(),
        seed: 0,
        series: "update/sgd".to_owned(),
        points: vec![(2.0, 3.0), (4.0, 6.0), (8.0, 6.0)],
    };
    let derived = derived(&experiment, &body, &example(&body), &[sizes]);
    let value = |arm, series, x| derived_value(&derived, arm, series, x);
    assert_eq!(value("pre", "largest-lr", 4.0), 1e-2_f64.log2());
    assert!(value("post", "largest-lr", 4.0).is_nan());
    assert_eq!(value("sub", "best-loss", 4.0), 2.0);
    // Post-LN misses by 0.51, but Pre-LN keeps only 0.3 below the border.
    assert!((value("post", "fails-alone", 4.0) - 0.3).abs() < 1e-12);
    assert!(value("sub", "fails-alone", 4.0) < 0.0, "it trains");
    assert!((value("sub", "update-slope/sgd", 0.0) - 0.5).abs() < 1e-12);
    assert!(value("sub", "update-slope-deep/sgd", 0.0).abs() < 1e-12, "from 4 to 8 layers");
    assert!(value("pre", "update-slope/sgd", 0.0).is_nan(), "not measured");
}

#[test]
fn nobody_fails_alone_where_two_fail() {
    let (experiment, body) = experiment(&[]).unwrap();
    let mut rows = example(&body);
    drop_arm(&mut rows, "pre/");
    rows.extend(self::rows(&body, 0, &[("pre", 4, [3.0, 3.0, 3.0])]));
    let derived = derived(&experiment, &body, &rows, &[]);
    assert!(derived_value(&derived, "post", "fails-alone", 4.0) < 0.0);
}

fn drop_arm(rows: &mut Vec<Row>, prefix: &str) {
    rows.retain(|row| !row["arm"].as_str().unwrap().starts_with(prefix));
}

/// The verdict on the claim that Post-LN fails, from three seeds.
fn post_ln_fails(change: impl Fn(&mut Vec<Row>)) -> Judgement {
    let (mut experiment, body) = experiment(&[]).unwrap();
    experiment.seeds = 3;
    let mut all = Vec::new();
    for seed in 0..3 {
        let mut of_seed = example(&body);
        for row in &mut of_seed {
            row.insert("seed".to_owned(), json!(seed));
            // Seeds differ a little.
            if let Some(loss) = row.get("validation_loss").and_then(serde_json::Value::as_f64) {
                row.insert("validation_loss".to_owned(), json!(loss + 0.01 * seed as f64));
            }
        }
        all.extend(of_seed);
    }
    change(&mut all);
    let derived = derived(&experiment, &body, &all, &[]);
    let values: Vec<f64> = derived
        .iter()
        .filter(|curve| curve.arm == "post" && curve.series == "fails-alone")
        .map(|curve| curve.points.iter().find(|point| point.0 == 4.0).unwrap().1)
        .collect();
    let claim = experiment.claims.iter().find(|claim| claim.name == "post-ln-fails").unwrap();
    let mut rng = Seed::new(1).stream("test");
    forerun_runs::verdict::judge(&claim.rule, &values, &[0.0; 3], &mut rng).unwrap()
}

#[test]
fn what_was_not_run_or_ran_out_of_memory_has_not_failed() {
    let whole = post_ln_fails(|_| ());
    assert_eq!(whole.verdict, Verdict::Reproduced, "{}", whole.reason);
    let is = |row: &Row, arm: &str| {
        row["arm"].as_str().unwrap().starts_with(arm) && row["seed"] == json!(1)
    };
    for arm in ["post/", "pre/", "deep/", "sub/", "sub-torchscale/4/0.1"] {
        let dropped = post_ln_fails(|rows| rows.retain(|row| !is(row, arm)));
        assert_eq!(dropped.verdict, Verdict::Inconclusive, "without {arm}: {}", dropped.reason);
        assert!(dropped.reason.contains("missing"), "{}", dropped.reason);
        let full = post_ln_fails(|rows| {
            for row in rows.iter_mut().filter(|row| is(row, arm)) {
                row.insert("outcome".to_owned(), json!("out-of-memory"));
            }
        });
        assert_eq!(full.verdict, Verdict::Inconclusive, "{arm} out of memory: {}", full.reason);
    }
    let (_, body) = experiment(&[]).unwrap();
    let mut rows = example(&body);
    drop_arm(&mut rows, "post/4/0.01");
    let grid = Grid::new(&body, &rows);
    assert_eq!(grid.end(grid.losses("post", 4, 0)[1], 4, 0), End::Missing);
    assert_eq!(grid.largest("post", 4, 0), Largest::Unknown);
    assert!(grid.share_that_trains("post", 4, 0).is_nan() && grid.miss("post", 4, 0).is_nan());
    assert_eq!(grid.best("post", 4, 0), None);
}

#[test]
fn the_learning_rate_of_a_loss_is_chosen_on_the_other_seeds() {
    let (_, body) = experiment(&[]).unwrap();
    let of = |seed, losses| rows(&body, seed, &[("sub", 4, losses)]);
    // Seed 0 was lucky at the first rate; the others say that the second is the best.
    let grid_of =
        |third: [f64; 3]| [of(0, [2.0, 2.1, 2.9]), of(1, [2.3, 2.12, 2.9]), of(2, third)].concat();
    let all = grid_of([2.4, 2.08, NAN]);
    let grid = Grid::new(&body, &all);
    assert_eq!(grid.best("sub", 4, 0), Some((1e-2, 2.1)));
    assert_eq!(grid.best("sub", 4, 1), Some((1e-2, 2.12)));
    assert_eq!(grid.threshold(4, 0), 2.5, "what can be reached is the lowest of the seed");
    // A rate that diverges in another seed is not chosen; one that diverges here alone costs the value.
    let all = grid_of([2.4, NAN, 2.9]);
    let grid = Grid::new(&body, &all);
    assert_eq!(grid.best("sub", 4, 0), Some((1e-3, 2.0)));
    assert!(grid.best("sub", 4, 2).unwrap().1.is_nan());
}

#[test]
fn noise_between_rates_does_not_lower_the_reported_loss() {
    // Rates that are all equally good, each loss 2 with noise: the lowest of a seed's own is low, that at the others'
    // best rate is not. Means over 60 draws of
    // four seeds.
    let (_, body) = experiment(&[]).unwrap();
    let (mut chosen, mut lowest) = (Vec::new(), Vec::new());
    for draw in 0..60 {
        let mut rng = Seed::new(draw).stream("noise");
        let losses: [[f64; 3]; 4] =
            std::array::from_fn(|_| std::array::from_fn(|_| rng.random_range(1.9..2.1)));
        let all: Vec<Row> = (0..4)
            .flat_map(|seed| rows(&body, seed, &[("sub", 4, losses[seed as usize])]))
            .collect();
        let grid = Grid::new(&body, &all);
        for seed in 0..4 {
            chosen.push(grid.best("sub", 4, seed).unwrap().1);
            lowest.push(losses[seed as usize].into_iter().fold(f64::INFINITY, f64::min));
        }
    }
    let (chosen, lowest) = (forerun_runs::stats::mean(&chosen), forerun_runs::stats::mean(&lowest));
    assert!((chosen - 2.0).abs() < 0.02 && lowest < 1.97, "{chosen} {lowest}");
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
    assert!(log_slope(&[]).is_nan());
    assert_eq!(deeper_half(&[2, 6, 12, 24, 48, 96]), [24, 48, 96]);
    assert_eq!(deeper_half(&[2, 4, 8]), [4, 8]);
    assert_eq!(deeper_half(&[2, 4]), [2, 4]);
}

#[test]
fn a_rate_at_the_end_of_the_grid_is_no_value_unless_that_is_against_the_claim() {
    let (experiment, body) = experiment(&[]).unwrap();
    let claim = experiment
        .claims
        .iter()
        .find(|claim| claim.name == "sub-ln-takes-a-larger-learning-rate")
        .unwrap();
    let judge = |verdict, rows: &[Row]| {
        let interval = Some(Interval { low: 0.1, high: 2.0 });
        let reason = "as measured".to_owned();
        let judgement = Judgement { verdict, effect: Some(1.0), interval, n_seeds: 4, reason };
        reconsider(&body, claim, rows, judgement).unwrap()
    };
    // Sub-LN at the end: its true value is larger still, which is what the claim says.
    let rows = example(&body);
    assert_eq!(judge(Verdict::Reproduced, &rows).verdict, Verdict::Reproduced);
    let other = judge(Verdict::NotReproduced, &rows);
    assert_eq!(other.verdict, Verdict::Inconclusive);
    assert!(other.reason.contains("larger one") && other.reason.contains("as measured"));
    // Pre-LN at the end as well: then it may have a larger value than Sub-LN.
    let both =
        [("post", 4, [3.0, 3.1, NAN]), ("pre", 4, [2.6, 2.2, 2.3]), ("sub", 4, [2.4, 2.0, 2.3])];
    let rows = self::rows(&body, 0, &both);
    assert_eq!(judge(Verdict::Reproduced, &rows).verdict, Verdict::Inconclusive);
    // Neither: nothing to reconsider.
    let neither = [("pre", 4, [2.2, 2.9, 3.0]), ("sub", 4, [2.4, 2.0, 2.9])];
    let rows = self::rows(&body, 0, &neither);
    assert_eq!(judge(Verdict::NotReproduced, &rows).verdict, Verdict::NotReproduced);
}

#[test]
fn the_grid_of_every_scale_reaches_the_depths_at_which_stability_matters() {
    for (scale, deepest) in [(Scale::Small, 24), (Scale::Paper, 72)] {
        let overrides = Overrides { scale, ..Overrides::default() };
        let entry = catalog::find("magneto-stability").unwrap();
        let experiment = Experiment::resolve(&entry, &overrides).unwrap();
        let Body::MagnetoStability(body) = &experiment.body else { panic!("another kind") };
        assert_eq!(body.deepest(), deepest);
        assert_eq!(body.training().clip_norm, None, "the paper does not clip");
    }
}
