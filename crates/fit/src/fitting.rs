//! `fit`: a law, its parameters with intervals, what follows from them, a report with pictures.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use forerun_runs::atomic::{write_atomic, write_json};
use forerun_scaling::distribution::student_quantile;
use forerun_scaling::parabola::{ParabolaConfig, Window};
use forerun_scaling::sweep::{self, Slant, Valleys};
use forerun_scaling::{FitConfig, Objective, Quantity, Resampling};

use crate::audit::parse_clap;
use crate::data::{self, Columns};
use crate::derived::Asked;
use crate::mixtures::SamplingArguments;
use crate::number::positive_pairs;
use crate::output::{DroppedRow, Estimate, FitOutput, OptimumFound, SweepFound};
use crate::problem::{LawName, Problem, Reading};
use crate::solved::{Draws, Solved, solve};
use crate::{compared, derived, figures, render};

/// Fit a law to a table of runs.
#[derive(Args, Debug)]
pub(crate) struct FitArguments {
    /// The law
    #[arg(long, value_enum)]
    law: LawName,
    /// The table: .csv, .tsv, .parquet, .jsonl, or what `import` reads
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// What is minimised; sums over points. huber has delta 1e-3 [default: huber; nls-log for lr-horizon]
    #[arg(long, value_enum)]
    objective: Option<ObjectiveName>,
    /// Names of columns where they are not found: n=params,d=tokens,loss=val_loss
    #[arg(long, value_name = "NAME=COLUMN,…")]
    columns: Option<String>,
    /// What one unit of a column counts, where that is not 1: n=1e9,d=1B
    #[arg(long, value_name = "NAME=NUMBER,…")]
    unit: Option<String>,
    /// Rows to keep ("N<1e9 and val==c4"), or points to leave out: "drop-worst 5", "residual>4"; repeat for more
    #[arg(long, value_name = "RULE")]
    filter: Vec<String>,
    /// Bootstrap draws; without them intervals are by profile likelihood
    #[arg(long, value_name = "N", default_value_t = 0)]
    bootstrap: usize,
    /// What is drawn: points, residuals, or groups of points (those of one size, or of one value of
    /// --columns cluster=COLUMN)
    #[arg(long, value_enum, default_value = "pairs")]
    resample: ResamplingName,
    /// Predict here: n=7B,d=1T; repeat for more
    #[arg(long, value_name = "NAME=NUMBER,…")]
    predict: Vec<String>,
    /// Show the frontier at this budget, FLOP; repeat for more
    #[arg(long, value_name = "FLOP", value_parser = parse_clap, allow_negative_numbers = true)]
    budget: Vec<f64>,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// Let shares be 0: (p + epsilon)^-gamma
    #[arg(long)]
    offset: bool,
    /// Points of a sweep on either side of the best that a parabola is laid through [default: all]
    #[arg(long, value_name = "POINTS")]
    window: Option<usize>,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the answer as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write report.html, report.md and the pictures into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ObjectiveName {
    Huber,
    Lad,
    NlsLog,
    Nls,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ResamplingName {
    Pairs,
    Residual,
    Cluster,
}

impl From<ResamplingName> for Resampling {
    fn from(name: ResamplingName) -> Self {
        match name {
            ResamplingName::Pairs => Self::Pairs,
            ResamplingName::Residual => Self::Residual,
            ResamplingName::Cluster => Self::Cluster,
        }
    }
}

impl From<ObjectiveName> for Objective {
    fn from(name: ObjectiveName) -> Self {
        match name {
            ObjectiveName::Huber => Self::HUBER,
            ObjectiveName::Lad => Self::Lad,
            ObjectiveName::NlsLog => Self::NlsLog,
            ObjectiveName::Nls => Self::Nls,
        }
    }
}

/// The objective that a law's own literature uses.
fn objective(arguments: &FitArguments) -> Objective {
    match (arguments.objective, arguments.law) {
        (Some(name), _) => name.into(),
        (None, LawName::LrHorizon) => Objective::NlsLog,
        (None, _) => Objective::HUBER,
    }
}

/// Does it; the text for the terminal.
pub(crate) fn run(arguments: &FitArguments, words: &[OsString]) -> Result<String> {
    let columns = Columns::parse(arguments.columns.as_deref())?;
    let (table, notes) = data::load(&arguments.data, &columns, arguments.unit.as_deref())?;
    let (table, outliers) = data::filter(table, &arguments.filter)?;
    let window = arguments.window.map_or(Window::All, Window::Around);
    let reading = Reading {
        columns,
        offset: arguments.offset,
        parabola: ParabolaConfig { window, ..ParabolaConfig::default() },
    };
    let in_file = data::in_file(&arguments.data);
    let mut problem = Problem::new(arguments.law, &table, &reading).map_err(&in_file)?;
    problem.notes.splice(0..0, notes);
    let config = FitConfig { outliers, ..FitConfig::new(objective(arguments)) };
    let draws = Draws {
        n: arguments.bootstrap,
        resampling: arguments.resample.into(),
        seed: arguments.seed,
    };
    let predict =
        arguments.predict.iter().map(|text| positive_pairs(text)).collect::<Result<Vec<_>>>();
    let predict = predict.context("--predict")?;
    let solved = solve(&problem, &config, draws).map_err(&in_file)?;
    let mut output = answer(&problem, &solved, arguments)?;
    output.warnings.extend(few_groups(&solved, draws));
    output.warnings.extend(few_draws(&output));
    output.warnings.extend(solved.iter().filter_map(Solved::far_off));
    let asked = Asked {
        predict: &predict,
        budgets: &arguments.budget,
        available: &arguments.sampling.parse()?,
    };
    derived::derive(&problem, &solved, &asked, &mut output)?;
    compared::compare_laws(&problem, &solved, arguments.seed, &mut output)?;
    if let Some(doubt) = &problem.doubt {
        output.doubt(doubt);
    }
    let problems = output.problems();
    output.warnings.extend(problems);
    if let Some(path) = &arguments.json {
        write_json(path, &output)?;
    }
    let mut text = render::terminal(&output);
    if let Some(folder) = &arguments.report {
        write_report(folder, &problem, &solved, &output, words)?;
        text += &render::wrap(&format!("wrote `{}`", folder.join("report.html").display()), "");
    }
    Ok(text)
}

/// Fewer groups than this make rough intervals.
const FEW_GROUPS: usize = 10;

/// A warning where the cluster bootstrap has little to draw from.
fn few_groups(solved: &[Solved], draws: Draws) -> Option<String> {
    let fewest = solved.iter().map(|one| one.part.n_groups()).min()?;
    let is_cluster = draws.n > 0 && draws.resampling == Resampling::Cluster;
    (is_cluster && fewest < FEW_GROUPS).then(|| {
        format!("the bootstrap draws from {fewest} groups: intervals are rough below {FEW_GROUPS} of them")
    })
}

/// Below this many draws the percentiles of a 95 % interval are a matter of luck.
const FEW_DRAWS: usize = 200;

/// A warning where draws are too few for percentiles.
fn few_draws(output: &FitOutput) -> Option<String> {
    let is_few = output.interval_method != PROFILE && output.draws < FEW_DRAWS;
    is_few.then(|| {
        format!(
            "{} bootstrap {}: the ends of 95 % intervals are a matter of luck below {FEW_DRAWS} of them",
            output.draws,
            if output.draws == 1 { "draw" } else { "draws" }
        )
    })
}

/// How intervals are made where nothing is drawn.
const PROFILE: &str = "profile-likelihood";

/// All but what is derived.
fn answer(problem: &Problem, solved: &[Solved], arguments: &FitArguments) -> Result<FitOutput> {
    let law = arguments.law.to_possible_value().map(|value| value.get_name().to_owned());
    let mut output = FitOutput {
        law: law.unwrap_or_default(),
        objective: objective(arguments).name().to_owned(),
        interval_method: match (arguments.bootstrap, arguments.resample) {
            (0, _) => PROFILE,
            (_, ResamplingName::Pairs) => "bootstrap-pairs",
            (_, ResamplingName::Residual) => "bootstrap-residual",
            (_, ResamplingName::Cluster) => "bootstrap-cluster",
        }
        .to_owned(),
        sweep: problem.swept.as_ref().map(swept),
        notes: problem.notes.clone(),
        warnings: problem.warnings.clone(),
        ..FitOutput::default()
    };
    output.draws = solved
        .iter()
        .filter_map(|one| one.bootstrap.as_ref())
        .map(|b| b.n_draws())
        .min()
        .unwrap_or(0);
    for one in solved {
        let part = one.part.name.clone();
        output.objective_value += one.fit.objective_value;
        output.n_points += one.fit.n_points;
        output.starts += one.fit.n_starts;
        for parameter in &one.fit.parameters {
            let quantity = Quantity::parameter(one.part.law.as_ref(), &parameter.name)?;
            let name = match solved.len() {
                1 => parameter.name.clone(),
                _ => one.part.qualified(&parameter.name),
            };
            output.params.push(name, one.estimate(&quantity));
        }
        output.dropped.extend(one.fit.dropped.iter().map(|dropped| DroppedRow {
            part: part.clone(),
            row: dropped.row,
            target: dropped.target,
            reason: dropped.reason.clone(),
        }));
        output.optima.extend(one.fit.optima.iter().map(|optimum| OptimumFound {
            part: part.clone(),
            objective: optimum.objective,
            starts: optimum.starts,
        }));
        let of_draws = one.bootstrap.iter().flat_map(|bootstrap| &bootstrap.warnings);
        let warn = |warning: &String| {
            if part.is_empty() { warning.clone() } else { format!("{part}: {warning}") }
        };
        output.warnings.extend(one.fit.warnings.iter().chain(of_draws).map(warn));
    }
    Ok(output)
}

/// How a sweep was read.
fn swept(found: &sweep::Reading) -> SweepFound {
    let (valleys, reach, slant, tested_with) = match found.valleys {
        Valleys::OneSlant { slant, reach, is_narrowed, tested_with } => {
            ("one-slant", is_narrowed.then_some(reach), Some(slant), Some(tested_with))
        }
        Valleys::Rough { reach } => ("rough", Some(reach), None, None),
        Valleys::Untested => ("untested", None, None, None),
    };
    let estimate = |slant: Slant| {
        let half = student_quantile(0.975, slant.freedom) * slant.se;
        let ends = [slant.coefficient - half, slant.coefficient + half];
        Estimate::new(slant.coefficient, Some(slant.se), Some(ends))
    };
    SweepFound {
        cells: found.cells.len(),
        identified: found.cells.iter().filter(|cell| cell.optimum.vertex().is_some()).count(),
        lost: found.n_lost,
        valleys: valleys.to_owned(),
        reach,
        tested_with,
        slant: slant.map(estimate),
        p_smooth: slant.and_then(|slant| slant.p_smooth),
        curvature: sweep::curvature(&found.cells),
    }
}

/// A word as a POSIX shell wants it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn write_report(
    folder: &Path,
    problem: &Problem,
    solved: &[Solved],
    output: &FitOutput,
    words: &[OsString],
) -> Result<()> {
    let figures_folder = folder.join("figures");
    std::fs::create_dir_all(&figures_folder)
        .with_context(|| format!("cannot create `{}`", figures_folder.display()))?;
    let words = words.iter().skip(1).map(|word| quoted(&word.to_string_lossy()));
    let command: Vec<String> =
        ["cargo".to_owned(), "xtask".to_owned()].into_iter().chain(words).collect();
    let report = render::report(output, figures::all(problem, solved, output), &command);
    write_atomic(&folder.join("report.html"), report.to_html().as_bytes())?;
    let (markdown, files) = report.to_markdown_with_figures("figures");
    for file in files {
        write_atomic(&figures_folder.join(&file.name), file.content.as_bytes())?;
    }
    write_atomic(&folder.join("report.md"), markdown.as_bytes())?;
    write_json(&folder.join("fit.json"), output)?;
    Ok(())
}
