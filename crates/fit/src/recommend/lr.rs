//! A peak learning rate for a size and a horizon, from a sweep.

use anyhow::{Context, Result, bail};
use forerun_scaling::Quantity;
use forerun_scaling::audit::{Target, expected_regret, predict_fitted, rule_of_thumb};
use forerun_scaling::next_run::{self, RunOption};
use forerun_scaling::sweep::{self, SweepCell};
use forerun_scaling::units::{Params, Tokens};

use super::{Advice, RecommendArguments, find, next, recommendation, require};
use crate::derived::{far_away, unheard};
use crate::number::short;
use crate::output::Estimate;
use crate::problem::Problem;
use crate::solved::Solved;

pub(super) fn advise(
    problem: &Problem,
    solved: &Solved,
    target: &[(String, f64)],
    arguments: &RecommendArguments,
) -> Result<Advice> {
    let law = solved.part.horizon.as_ref().context("the table is no sweep")?;
    let d = require(target, "d")?;
    let points = &solved.part.observations;
    let n = match (find(target, "n"), points.input("n")) {
        (Some(n), _) => n,
        (None, Some(n)) if n.iter().all(|value| *value == n[0]) => n[0],
        (None, None) => f64::NAN,
        (None, Some(_)) => bail!("--target needs n=…: the table has runs of several sizes"),
    };
    let batch = match (find(target, "batch"), points.input("batch")) {
        (None, Some(batch)) if batch.iter().any(|value| *value != batch[0]) => {
            bail!("--target needs batch=…: the table has runs of several batches")
        }
        (given, known) => given.or_else(|| known.map(|batch| batch[0])),
    };
    let best = predict_fitted(law, &solved.fit, &Target { n: Params(n), d: Tokens(d), batch })?;
    let estimate = Estimate::new(best.lr, None, best.interval.map(|i| [i.low, i.high]));
    let mut advice = Advice {
        recommendations: vec![recommendation(
            "lr",
            &estimate,
            None,
            format!("A horizon law {}.", best.basis),
        )],
        lines: vec![],
    };
    advice.recommendations[0].caveats.extend(problem.doubt.clone());
    let horizons = points.input("d").unwrap_or_default();
    let longest = horizons.iter().copied().fold(0., f64::max);
    let caveats = &mut advice.recommendations[0].caveats;
    caveats.extend(unheard(law, points, target));
    caveats.extend(far_away(points, target));
    let curvature = sweep::curvature(problem.cells());
    if let (Some(curvature), Some(se)) = (curvature, best.se_ln) {
        regrets(problem.cells(), curvature, se, best.lr, (n, d), &mut advice.lines);
    }
    next_cell(
        solved,
        arguments,
        (batch, longest),
        target_quantity(law, n, d, batch)?,
        &mut advice.lines,
    )?;
    Ok(advice)
}

fn target_quantity(
    law: &forerun_scaling::law::LrHorizon,
    n: f64,
    d: f64,
    batch: Option<f64>,
) -> Result<Quantity<'_>> {
    let inputs: Vec<(&str, f64)> =
        [("n", n), ("d", d)].into_iter().chain(batch.map(|batch| ("batch", batch))).collect();
    Ok(Quantity::prediction(law, &inputs)?)
}

/// Expected loss above the best for following the law, and for the usual alternatives.
fn regrets(
    cells: &[SweepCell],
    curvature: f64,
    se: f64,
    lr: f64,
    (n, d): (f64, f64),
    lines: &mut Vec<String>,
) {
    let mut choices = vec![("this".to_owned(), lr)];
    if let Some((from, short_lr)) = longest_of_nearest_size(cells, n) {
        choices.push((format!("the best of {} tokens unchanged", short(from)), short_lr));
        let thumb = rule_of_thumb(short_lr, Tokens(from), Tokens(d));
        choices.push(("the rule of thumb D^-0.32 from there".into(), thumb));
    }
    for (name, choice) in choices {
        let regret = expected_regret(curvature, choice / lr, se);
        let compute = slope(cells)
            .map(|slope| format!(", worth {:.2} % of the tokens", 100. * regret / slope));
        lines.push(format!(
            "expected loss above the best with {name}: lr {}, {} nats{}",
            short(choice),
            short(regret),
            compute.unwrap_or_default()
        ));
    }
}

/// The longest horizon that shows an optimum, of the size nearest to `n`, and its best learning rate.
fn longest_of_nearest_size(cells: &[SweepCell], n: f64) -> Option<(f64, f64)> {
    let distance = |cell: &SweepCell| match cell.n {
        Some(size) if !n.is_nan() => (size / n).ln().abs(),
        _ => 0.,
    };
    let found =
        || cells.iter().filter_map(|cell| Some((distance(cell), cell.d, cell.optimum.vertex()?.x)));
    let nearest = found().map(|cell| cell.0).fold(f64::INFINITY, f64::min);
    let of_size = found().filter(|cell| cell.0 <= nearest + 1e-9);
    of_size.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(_, d, lr)| (d, lr))
}

/// How fast the best loss falls with `ln D` between the two longest horizons of one size.
fn slope(cells: &[SweepCell]) -> Option<f64> {
    let found: Vec<(Option<f64>, f64, f64)> = cells
        .iter()
        .filter_map(|cell| Some((cell.n, cell.d, cell.optimum.vertex()?.loss)))
        .collect();
    let last = found.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let before = found.iter().filter(|cell| cell.0 == last.0 && cell.1 < last.1);
    let before = before.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let slope = (before.2 - last.2) / (last.1 / before.1).ln();
    (slope > 0.).then_some(slope)
}

/// Learning rates that a cell of a sweep needs.
const RUNS_PER_CELL: f64 = 5.;

/// Which cell of the sweep to add.
fn next_cell(
    solved: &Solved,
    arguments: &RecommendArguments,
    (batch, longest): (Option<f64>, f64),
    quantity: Quantity,
    lines: &mut Vec<String>,
) -> Result<()> {
    let points = &solved.part.observations;
    let sizes = points.input("n").map_or_else(|| vec![f64::NAN], <[f64]>::to_vec);
    let size = |n: f64| if n.is_nan() { 1. } else { n };
    let dearest =
        sizes.iter().copied().fold(0., |a, n| f64::max(a, size(n))) * 6. * longest * RUNS_PER_CELL;
    let budget = arguments.budget.unwrap_or(dearest);
    let mut options = vec![];
    for n in distinct(&sizes) {
        for d in distinct(points.input("d").unwrap_or_default())
            .into_iter()
            .chain([2. * longest, 4. * longest])
        {
            let mut inputs = vec![("d".to_owned(), d)];
            if !n.is_nan() {
                inputs.insert(0, ("n".to_owned(), n));
            }
            inputs.extend(batch.map(|batch| ("batch".to_owned(), batch)));
            options.push(RunOption { inputs, cost: RUNS_PER_CELL * 6. * size(n) * d });
        }
    }
    let law = solved.part.law.as_ref();
    match next_run::rank(law, &solved.fit, points, &quantity, &options, budget) {
        Ok(gains) => {
            lines.push(format!("{} ({RUNS_PER_CELL} learning rates)", next(&gains, &options, "lr")))
        }
        Err(error) => lines.push(error.to_string()),
    }
    Ok(())
}

fn distinct(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    sorted
}
