//! `recommend`: a setting with its interval, what following it is expected to cost, and the run worth buying next.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use forerun_runs::recommendation::{Recommendation, RecommendedInterval, write_recommendations};
use forerun_scaling::allocation::{optimal_allocation, wasted_compute};
use forerun_scaling::audit::{Target, expected_regret, predict_fitted, rule_of_thumb};
use forerun_scaling::law::predict;
use forerun_scaling::next_run::{self, Gain, RunOption};
use forerun_scaling::parabola::ParabolaConfig;
use forerun_scaling::sweep::{self, SweepCell};
use forerun_scaling::units::{Flops, Params, Tokens};
use forerun_scaling::{FitConfig, Objective, Quantity};

use crate::audit::parse_clap;
use crate::data::{self, Columns};
use crate::derived;
use crate::number::{pairs, short};
use crate::output::{Estimate, FitOutput};
use crate::problem::{LawName, Problem, Reading};
use crate::render::wrap;
use crate::solved::{Draws, Solved, solve};

/// What to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Peak learning rate for a size and a horizon
    Lr,
    /// Parameters and tokens for a budget
    Size,
    /// Shares of a mixture
    Mixture,
}

/// What to set for a target, from a table of smaller runs.
#[derive(Args, Debug)]
pub(crate) struct RecommendArguments {
    /// The table of runs
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// What to decide [default: lr if there is such a column, mixture if there are shares, else size]
    #[arg(long, value_enum)]
    what: Option<What>,
    /// The run to be made: n=7B,d=1T,batch=2048; for a size, flops=1e23
    #[arg(long, value_name = "NAME=NUMBER,…", default_value = "")]
    target: String,
    /// What the next run may cost, FLOP [default: as much as the dearest run of the table]
    #[arg(long, value_name = "FLOP", value_parser = parse_clap)]
    budget: Option<f64>,
    /// Names of columns where they are not found
    #[arg(long, value_name = "NAME=COLUMN,…")]
    columns: Option<String>,
    /// Rows to keep, or points to leave out, as for `fit`
    #[arg(long, value_name = "RULE")]
    filter: Vec<String>,
    /// Let shares be 0
    #[arg(long)]
    offset: bool,
    /// Write the recommendations as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Recommendations, and what a reader should know besides.
struct Advice {
    recommendations: Vec<Recommendation>,
    lines: Vec<String>,
}

/// Does it; the text for the terminal.
pub(crate) fn run(arguments: &RecommendArguments) -> Result<String> {
    let (table, outliers) = data::filter(data::load(&arguments.data)?, &arguments.filter)?;
    let columns = Columns::parse(arguments.columns.as_deref())?;
    let what = match arguments.what {
        Some(what) => what,
        None if !Columns::with_prefix(&table, "p_").is_empty() => What::Mixture,
        None if columns.find(&table, "lr")?.is_some() => What::Lr,
        None => What::Size,
    };
    let (law, objective) = match what {
        What::Lr => (LawName::LrHorizon, Objective::NlsLog),
        What::Size => (LawName::Chinchilla, Objective::HUBER),
        What::Mixture => (LawName::Multilingual, Objective::HUBER),
    };
    let reading =
        Reading { columns, offset: arguments.offset, parabola: ParabolaConfig::default() };
    let problem = Problem::new(law, &table, &reading)?;
    let config = FitConfig { outliers, ..FitConfig::new(objective) };
    let draws = Draws { n: 0, resampling: Default::default(), seed: 0 };
    let solved = solve(&problem, &config, draws)?;
    let target = pairs(&arguments.target).context("--target")?;
    let advice = match what {
        What::Lr => learning_rate(&problem, &solved[0], &target, arguments)?,
        What::Size => size(&solved[0], &target, arguments)?,
        What::Mixture => mixture(&problem, &solved, &target)?,
    };
    if let Some(path) = &arguments.json {
        write_recommendations(path, &advice.recommendations)?;
    }
    let mut text = String::new();
    for one in &advice.recommendations {
        let range = one.interval.map(|i| format!(" (95 %: {} .. {})", short(i.low), short(i.high)));
        let value = one.value.as_f64().map_or_else(|| one.value.to_string(), short);
        let unit = one.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
        text += &wrap(&format!("{} = {value}{unit}{}", one.setting, range.unwrap_or_default()), "");
        text += &wrap(&one.basis, "  ");
        for caveat in &one.caveats {
            text += &wrap(caveat, "  but: ");
        }
    }
    for line in problem.notes.iter().chain(&advice.lines) {
        text += &wrap(line, "");
    }
    for warning in solved.iter().flat_map(|one| &one.fit.warnings) {
        text += &wrap(warning, "warning: ");
    }
    Ok(text)
}

fn find(target: &[(String, f64)], name: &str) -> Option<f64> {
    target.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}

fn require(target: &[(String, f64)], name: &str) -> Result<f64> {
    find(target, name).with_context(|| format!("--target needs {name}=…"))
}

fn interval(ci95: Option<[f64; 2]>) -> Option<RecommendedInterval> {
    let [low, high] = ci95?;
    (low.is_finite() && high.is_finite()).then_some(RecommendedInterval {
        low,
        high,
        confidence: 0.95,
    })
}

fn recommendation(
    setting: &str,
    value: &Estimate,
    unit: Option<&str>,
    basis: String,
) -> Recommendation {
    Recommendation {
        setting: setting.into(),
        value: value.estimate.into(),
        unit: unit.map(str::to_owned),
        interval: interval(value.ci95),
        basis,
        caveats: vec![],
    }
}

/// Words for the best run within the budget.
fn next(gains: &[Gain], options: &[RunOption], what: &str) -> String {
    let Some(best) = gains.first() else { return "no run is within the budget".into() };
    let inputs = options[best.option]
        .inputs
        .iter()
        .map(|(name, value)| format!("{name} = {}", short(*value)));
    format!(
        "next, buy {} ({} FLOP): the interval of {what} becomes {:.0} % narrower",
        inputs.collect::<Vec<_>>().join(", "),
        short(best.cost),
        100. * best.shrinkage()
    )
}

fn learning_rate(
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
    let batch = find(target, "batch").or_else(|| points.input("batch").map(|batch| batch[0]));
    let best = predict_fitted(law, &solved.fit, &Target { n: Params(n), d: Tokens(d), batch })?;
    let estimate =
        Estimate { estimate: best.lr, se: None, ci95: best.interval.map(|i| [i.low, i.high]) };
    let mut advice = Advice {
        recommendations: vec![recommendation(
            "lr",
            &estimate,
            None,
            format!("A horizon law {}.", best.basis),
        )],
        lines: vec![],
    };
    let horizons = points.input("d").unwrap_or_default();
    let longest = horizons.iter().copied().fold(0., f64::max);
    if d > 10. * longest {
        let text = format!("The horizon is {:.0} times the longest of the sweep.", d / longest);
        advice.recommendations[0].caveats.push(text);
    }
    let curvature = sweep::curvature(&problem.cells);
    if let (Some(curvature), Some(se)) = (curvature, best.se_ln) {
        regrets(&problem.cells, curvature, se, best.lr, (n, d), &mut advice.lines);
    }
    next_cell(
        solved,
        arguments,
        (n, batch, longest),
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
    (n, batch, longest): (f64, Option<f64>, f64),
    quantity: Quantity,
    lines: &mut Vec<String>,
) -> Result<()> {
    let points = &solved.part.observations;
    let sizes = points.input("n").map_or_else(|| vec![n], <[f64]>::to_vec);
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
            let mut inputs = vec![("n".to_owned(), n), ("d".to_owned(), d)];
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

fn size(
    solved: &Solved,
    target: &[(String, f64)],
    arguments: &RecommendArguments,
) -> Result<Advice> {
    let flops = Flops(require(target, "flops")?);
    let law = solved.part.law.as_ref();
    let best = optimal_allocation(law, &solved.fit.theta, flops, &[])?;
    let quantity = Quantity::optimal_params(flops);
    let n = solved.estimate(&quantity);
    let d = solved.estimate(&Quantity::optimal_tokens(flops));
    let basis = format!(
        "Lowest predicted loss for {} FLOP, {} nats per token, by a law of {} runs.",
        short(flops.0),
        short(best.loss),
        solved.fit.n_points
    );
    let mut advice = Advice {
        recommendations: vec![
            recommendation("n", &n, Some("parameters"), basis.clone()),
            recommendation("d", &d, Some("tokens"), basis),
        ],
        lines: vec![],
    };
    if let Some([low, high]) = n.ci95.filter(|ends| ends.iter().all(|end| end.is_finite())) {
        let loss = |n: f64| predict(law, &solved.fit.theta, &[("n", n), ("d", flops.0 / 6. / n)]);
        // A normal error of N in logarithms: the ends of its interval lie 1.96 standard errors out.
        let at_ends = 0.5 * (loss(low)? + loss(high)?) - best.loss;
        let regret = (at_ends / 1.96_f64.powi(2)).max(0.);
        let wasted = wasted_compute(law, &solved.fit.theta, flops, regret, &[])?;
        advice.lines.push(format!(
            "expected loss above the best, as N is not known better: {} nats, worth {:.2} % of the compute",
            short(regret),
            100. * wasted
        ));
    }
    let points = &solved.part.observations;
    let (sizes, tokens) =
        (points.input("n").unwrap_or_default(), points.input("d").unwrap_or_default());
    let dearest = sizes.iter().zip(tokens).map(|(n, d)| 6. * n * d).fold(0., f64::max);
    let budget = arguments.budget.unwrap_or(dearest);
    // Far from the shapes that were fitted the law is a guess, and so is the noise.
    let is_kept = |i: &usize| solved.fit.rows.contains(&points.rows()[*i]);
    let shapes = || (0..points.len()).filter(is_kept).map(|i| tokens[i] / sizes[i]);
    let (thin, fat) = (shapes().fold(f64::INFINITY, f64::min), shapes().fold(0., f64::max));
    let mut options = next_run::grid(points, 2., 15, budget);
    options.retain(|option| {
        let [n, d] = [0, 1].map(|i| option.inputs[i].1);
        (thin..=fat).contains(&(d / n))
    });
    let gains = next_run::rank(law, &solved.fit, points, &quantity, &options, budget)?;
    advice.lines.push(next(&gains, &options, "n"));
    Ok(advice)
}

fn mixture(problem: &Problem, solved: &[Solved], target: &[(String, f64)]) -> Result<Advice> {
    let mut output = FitOutput::default();
    derived::mixtures(problem, solved, find(target, "n").zip(find(target, "d")), &mut output)?;
    let found = output.mixtures.last().context("no mixture follows from the fits")?;
    let uniform = found.others.get("uniform").copied().unwrap_or(f64::NAN);
    let basis = format!(
        "Smallest {}: {}, uniform has {} ({:.2} % more).",
        found.objective,
        short(found.value),
        short(uniform),
        100. * (uniform / found.value - 1.)
    );
    let share = |(name, value): &(String, Estimate)| {
        let mut one = recommendation(&format!("mixture.{name}"), value, None, basis.clone());
        one.caveats.clone_from(&output.warnings);
        one
    };
    Ok(Advice { recommendations: found.shares.0.iter().map(share).collect(), lines: vec![] })
}
