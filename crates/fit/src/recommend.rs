//! `recommend`: a setting with its interval, what following it is expected to cost, and the run worth buying next.

mod lr;
mod mixture;
mod size;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use forerun_runs::recommendation::{Recommendation, RecommendedInterval, write_recommendations};
use forerun_scaling::next_run::{Gain, RunOption};
use forerun_scaling::parabola::ParabolaConfig;
use forerun_scaling::{FitConfig, Objective};

use crate::audit::parse_clap;
use crate::data::{self, Columns};
use crate::mixtures::SamplingArguments;
use crate::number::{positive_pairs, short};
use crate::output::Estimate;
use crate::problem::{LawName, Problem, Reading};
use crate::render::wrap;
use crate::solved::{Draws, solve};

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
    /// What to decide [default: size for a target of flops, mixture if there are shares, lr if there is such a column]
    #[arg(long, value_enum)]
    what: Option<What>,
    /// The run to be made: n=7B,d=1T,batch=2048; for a size, flops=1e23
    #[arg(long, value_name = "NAME=NUMBER,…", default_value = "")]
    target: String,
    /// What the next run may cost, FLOP [default: as much as the dearest run of the table]
    #[arg(long, value_name = "FLOP", value_parser = parse_clap, allow_negative_numbers = true)]
    budget: Option<f64>,
    /// Names of columns where they are not found
    #[arg(long, value_name = "NAME=COLUMN,…")]
    columns: Option<String>,
    /// What one unit of a column counts, where that is not 1: n=1e9,d=1B
    #[arg(long, value_name = "NAME=NUMBER,…")]
    unit: Option<String>,
    /// Rows to keep, or points to leave out, as for `fit`
    #[arg(long, value_name = "RULE")]
    filter: Vec<String>,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// Let shares be 0
    #[arg(long)]
    offset: bool,
    /// Write the recommendations as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a target may say.
const TARGETS: [&str; 4] = ["n", "d", "batch", "flops"];

/// Recommendations, and what a reader should know besides.
struct Advice {
    recommendations: Vec<Recommendation>,
    lines: Vec<String>,
}

/// Does it; the text for the terminal.
pub(crate) fn run(arguments: &RecommendArguments) -> Result<String> {
    let columns = Columns::parse(arguments.columns.as_deref())?;
    let (table, notes) = data::load(&arguments.data, &columns, arguments.unit.as_deref())?;
    let (table, outliers) = data::filter(table, &arguments.filter)?;
    let target = positive_pairs(&arguments.target).context("--target")?;
    if let Some((name, _)) = target.iter().find(|(name, _)| !TARGETS.contains(&name.as_str())) {
        bail!("--target: `{name}` is none of {}", TARGETS.join(", "));
    }
    let what = match arguments.what {
        Some(what) => what,
        None if find(&target, "flops").is_some() => What::Size,
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
    let in_file = data::in_file(&arguments.data);
    let mut problem = Problem::new(law, &table, &reading).map_err(&in_file)?;
    problem.notes.splice(0..0, notes);
    let config = FitConfig { outliers, ..FitConfig::new(objective) };
    let draws = Draws { n: 0, resampling: Default::default(), seed: 0 };
    let solved = solve(&problem, &config, draws).map_err(&in_file)?;
    let advice = match what {
        What::Lr => lr::advise(&problem, &solved[0], &target, arguments)?,
        What::Size => size::advise(&solved[0], &target, arguments)?,
        What::Mixture => mixture::advise(&problem, &solved, &target, arguments)?,
    };
    if let Some(path) = &arguments.json {
        write_recommendations(path, &advice.recommendations)?;
    }
    let mut text = String::new();
    // What several settings have in common is said once, below the last of them.
    let same =
        |a: &Recommendation, b: &Recommendation| (&a.basis, &a.caveats) == (&b.basis, &b.caveats);
    for group in advice.recommendations.chunk_by(same) {
        group.iter().for_each(|one| text += &wrap(&setting(one), ""));
        text += &wrap(&group[0].basis, "  ");
        for caveat in &group[0].caveats {
            text += &wrap(caveat, "  but: ");
        }
    }
    for line in problem.notes.iter().chain(&advice.lines) {
        text += &wrap(line, "");
    }
    let said = |text: &String| advice.recommendations.iter().any(|one| one.caveats.contains(text));
    let of_fits =
        solved.iter().flat_map(|one| one.fit.warnings.iter().cloned().chain(one.far_off()));
    for warning in problem.warnings.iter().cloned().chain(of_fits).filter(|text| !said(text)) {
        text += &wrap(&warning, "warning: ");
    }
    Ok(text)
}

fn setting(one: &Recommendation) -> String {
    let range = one.interval.map(|i| format!(" (95 %: {} .. {})", short(i.low), short(i.high)));
    let value = one.value.as_f64().map_or_else(|| one.value.to_string(), short);
    let unit = one.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
    format!("{} = {value}{unit}{}", one.setting, range.unwrap_or_default())
}

fn find(target: &[(String, f64)], name: &str) -> Option<f64> {
    target.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}

fn require(target: &[(String, f64)], name: &str) -> Result<f64> {
    find(target, name).with_context(|| format!("--target needs {name}=…"))
}

fn interval(value: &Estimate) -> Option<RecommendedInterval> {
    let [low, high] = value.bounded()?;
    Some(RecommendedInterval { low, high, confidence: 0.95 })
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
        interval: interval(value),
        basis,
        caveats: value.problem.iter().cloned().collect(),
    }
}

/// Words for the best run within the budget.
fn next(gains: &[Gain], options: &[RunOption], what: &str) -> String {
    let Some(best) = gains.first() else { return "no run is within the budget".into() };
    let inputs = options[best.option]
        .inputs
        .iter()
        .map(|(name, value)| format!("{name} = {}", short(*value)));
    // Without a size there is no compute.
    let has_size = options[best.option].inputs.iter().any(|(name, _)| name == "n");
    let cost = if has_size { format!(" ({} FLOP)", short(best.cost)) } else { String::new() };
    format!(
        "next, buy {}{cost}: the interval of {what} becomes {:.0} % narrower",
        inputs.collect::<Vec<_>>().join(", "),
        100. * best.shrinkage()
    )
}
