//! The series that claims are about, made from what was measured, and what their rules cannot see.

use anyhow::Result;
use forerun_runs::results::Row;
use forerun_runs::verdict::{Direction, Judgement, Verdict};

use super::MagnetoConfig;
use super::grid::{Grid, Largest};
use crate::config::{Claim, Experiment, Measure};
use crate::outcome::Curve;

/// What a claim may name, and whether it has one value for each depth of the grid.
pub(super) const SERIES: [(&str, bool); 8] = [
    (LARGEST, true),
    ("best-loss", true),
    ("share-that-trains", true),
    ("fails-alone", true),
    ("update-slope/sgd", false),
    ("update-slope/adamw", false),
    ("update-slope-deep/sgd", false),
    ("update-slope-deep/adamw", false),
];

/// Logarithm to base 2 of the largest learning rate that trains.
const LARGEST: &str = "largest-lr";

/// Of every arm and seed, by depth:
///
/// - `largest-lr`: see [`Largest`], in octaves above 1; no value if no rate trains;
/// - `best-loss`: final loss at the learning rate that is best on the other seeds, nats per token;
/// - `share-that-trains`: of the learning rates;
/// - `fails-alone`: by how much the arm misses the loss that counts as trained, or, if that is less, by how much the
///   worst of the other arms keeps it: positive if the arm fails at every rate and every other arm trains at one.
///
/// None has a value where a training is missing. And at 0, `update-slope/…`: slope of the logarithm of an update's size
/// over that of the depth; `update-slope-deep/…`: over the deeper half of the depths, where what is peculiar to few
/// layers has died away.
pub(crate) fn derived(
    experiment: &Experiment,
    body: &MagnetoConfig,
    rows: &[Row],
    curves: &[Curve],
) -> Vec<Curve> {
    let grid = Grid::new(body, rows);
    let mut derived = Vec::new();
    for arm in &body.arms {
        for seed in 0..experiment.seeds {
            let name = arm.name.as_str();
            let mut add = |series: &str, points: Vec<(f64, f64)>| {
                derived.push(Curve {
                    arm: name.to_owned(),
                    seed,
                    series: series.to_owned(),
                    points,
                });
            };
            let by_depth = |of: &dyn Fn(i64) -> f64| -> Vec<(f64, f64)> {
                body.grid.depths.iter().map(|&depth| (depth as f64, of(depth))).collect()
            };
            let octaves =
                |depth| grid.largest(name, depth, seed).rate().map_or(f64::NAN, f64::log2);
            add(LARGEST, by_depth(&octaves));
            let best = |depth| grid.best(name, depth, seed).map_or(f64::NAN, |best| best.1);
            add("best-loss", by_depth(&best));
            add("share-that-trains", by_depth(&|depth| grid.share_that_trains(name, depth, seed)));
            add("fails-alone", by_depth(&|depth| fails_alone(body, &grid, name, depth, seed)));
            for step in ["sgd", "adamw"] {
                let sizes = sizes(curves, name, &format!("update/{step}"), seed);
                add(&format!("update-slope/{step}"), vec![(0.0, log_slope(sizes))]);
                add(
                    &format!("update-slope-deep/{step}"),
                    vec![(0.0, log_slope(deeper_half(sizes)))],
                );
            }
        }
    }
    derived
}

fn fails_alone(body: &MagnetoConfig, grid: &Grid<'_>, arm: &str, depth: i64, seed: u64) -> f64 {
    let others = body.arms.iter().filter(|other| other.name != arm);
    others.fold(grid.miss(arm, depth, seed), |least, other| {
        let kept = -grid.miss(&other.name, depth, seed);
        if least.is_nan() || least <= kept { least } else { kept } // NaN on either side stays
    })
}

/// An arm's series over depth; empty if it was not measured.
fn sizes<'a>(curves: &'a [Curve], arm: &str, series: &str, seed: u64) -> &'a [(f64, f64)] {
    let here = |curve: &&Curve| {
        (curve.arm.as_str(), curve.series.as_str(), curve.seed) == (arm, series, seed)
    };
    curves.iter().find(here).map_or(&[], |curve| &curve.points)
}

/// The deeper half of points that ascend in depth, the middle one with it; both of two.
pub(super) fn deeper_half<T>(points: &[T]) -> &[T] {
    let n_left_out = (points.len() / 2).min(points.len().saturating_sub(2));
    &points[n_left_out..]
}

/// Least squares of ln y over ln x; NaN for fewer than two points or a value that has no logarithm.
pub(super) fn log_slope(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|&(x, y)| (x.ln(), y.ln())).collect();
    let n = logs.len() as f64;
    let (x, y) = (
        logs.iter().map(|log| log.0).sum::<f64>() / n,
        logs.iter().map(|log| log.1).sum::<f64>() / n,
    );
    let spread: f64 = logs.iter().map(|log| (log.0 - x).powi(2)).sum();
    let slope = logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum::<f64>() / spread;
    if slope.is_finite() { slope } else { f64::NAN }
}

/// A largest learning rate at the end of the grid is a bound, not a value. It stays in a judgement only where a larger
/// value would make the claim stronger.
pub(crate) fn reconsider(
    body: &MagnetoConfig,
    claim: &Claim,
    rows: &[Row],
    judgement: Judgement,
) -> Result<Judgement> {
    let grid = Grid::new(body, rows);
    let cut = |measure: &Measure| {
        measure.series == LARGEST
            && grid.seeds().into_iter().any(|seed| {
                let depth = (measure.at * body.deepest() as f64) as i64;
                let largest = grid.largest(&measure.arm, depth, seed);
                matches!(largest, Largest::AtLeast(_))
            })
    };
    let (a, b) = (cut(&claim.a), claim.b.as_ref().is_some_and(cut));
    let only_stronger = a
        && !b
        && claim.rule.direction == Direction::Higher
        && judgement.verdict == Verdict::Reproduced;
    if !(a || b) || only_stronger {
        return Ok(judgement);
    }
    let reason = format!(
        "a model still trains at the largest learning rate of the grid, so the largest that trains is not known; \
         give the grid a larger one (without regard to that: {})",
        judgement.reason
    );
    Ok(Judgement { verdict: Verdict::Inconclusive, reason, ..judgement })
}
