//! The command line.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use forerun_runs::atomic::{write_atomic, write_json};
use forerun_scaling::parabola::{ParabolaConfig, Window};
use forerun_scaling::{Error, FitConfig, Objective, Quantity, Resampling};

use crate::audit::{AuditArguments, parse_clap};
use crate::data::{self, Columns};
use crate::import::ImportArguments;
use crate::output::{DroppedRow, FitOutput, OptimumFound};
use crate::problem::{LawName, Problem, Reading};
use crate::recommend::RecommendArguments;
use crate::retrospective::RetrospectiveArguments;
use crate::solved::{Draws, Solved, solve};
use crate::{audit, derived, figures, import, number, recommend, render, retrospective};

/// Fit scaling laws to a table of runs, and decide by them.
#[derive(Debug, Parser)]
#[command(name = "forerun-scaling", bin_name = "cargo xtask", version, max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fit a law: parameters with intervals, predictions, a report with pictures
    Fit(Box<FitArguments>),
    /// What to set for a run, how sure that is, and which run to buy next
    Recommend(RecommendArguments),
    /// Was a run's learning rate right, and what did it cost?
    AuditLr(AuditArguments),
    /// Gather other people's logs into one table
    Import(ImportArguments),
    /// What each method would have cost on public sweeps whose outcome is known
    Retrospective(RetrospectiveArguments),
}

#[derive(Args, Debug)]
struct FitArguments {
    /// The law
    #[arg(long, value_enum)]
    law: LawName,
    /// The table: .csv, .parquet, .jsonl, or what `import` reads
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// What is minimised; sums over points. huber has delta 1e-3
    #[arg(long, value_enum)]
    objective: Option<ObjectiveName>,
    /// Names of columns where they are not found: n=params,d=tokens,loss=val_loss
    #[arg(long, value_name = "NAME=COLUMN,…")]
    columns: Option<String>,
    /// Rows to keep ("N<1e9 and val==c4"), or points to leave out: "drop-worst 5", "residual>4"; repeat for more
    #[arg(long, value_name = "RULE")]
    filter: Vec<String>,
    /// Bootstrap draws; without them intervals are by profile likelihood
    #[arg(long, value_name = "N", default_value_t = 0)]
    bootstrap: usize,
    /// What is drawn: points, residuals, or groups of points (cells of one size and horizon)
    #[arg(long, value_enum, default_value = "pairs")]
    resample: ResamplingName,
    /// Predict here: n=7B,d=1T; repeat for more
    #[arg(long, value_name = "NAME=NUMBER,…")]
    predict: Vec<String>,
    /// Show the frontier at this budget, FLOP; repeat for more
    #[arg(long, value_name = "FLOP", value_parser = parse_clap)]
    budget: Vec<f64>,
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

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match run(std::env::args_os()) {
        Ok(text) => {
            // A pipe that was closed early is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}{}", hint(&error));
            ExitCode::FAILURE
        }
    }
}

/// The way out, where the error does not say it.
fn hint(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref::<Error>() {
        Some(Error::Data { row: Some(_), column, .. }) if column == "p" => {
            "\nshares of 0: fit (p + epsilon)^-gamma with --offset, or leave such rows out with --filter"
        }
        Some(Error::Data { row: Some(_), .. }) => {
            "\nrepair the table, or leave such rows out: --filter \"COLUMN > 0\""
        }
        Some(Error::TooFewPoints { .. }) => {
            "\nadd runs, or take a law with fewer parameters (chinchilla-tied has one less)"
        }
        _ => "",
    }
}

/// As [`main`], with arguments of one's own (the first is the program's name); what the terminal shows.
///
/// # Errors
/// What went wrong, in one line; for a help text or a wrong argument the process ends here, as clap has it.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<String> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match Cli::parse_from(&arguments).command {
        Command::Fit(fit) => run_fit(&fit, &arguments),
        Command::Recommend(arguments) => recommend::run(&arguments),
        Command::AuditLr(arguments) => audit::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Retrospective(arguments) => retrospective::run(&arguments),
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

fn run_fit(arguments: &FitArguments, words: &[OsString]) -> Result<String> {
    let (table, outliers) = data::filter(data::load(&arguments.data)?, &arguments.filter)?;
    let window = arguments.window.map_or(Window::All, Window::Around);
    let reading = Reading {
        columns: Columns::parse(arguments.columns.as_deref())?,
        offset: arguments.offset,
        parabola: ParabolaConfig { window, ..ParabolaConfig::default() },
    };
    let problem = Problem::new(arguments.law, &table, &reading)?;
    let config = FitConfig { outliers, ..FitConfig::new(objective(arguments)) };
    let draws = Draws {
        n: arguments.bootstrap,
        resampling: arguments.resample.into(),
        seed: arguments.seed,
    };
    let solved = solve(&problem, &config, draws)?;
    let mut output = answer(&problem, &solved, arguments)?;
    let predict =
        arguments.predict.iter().map(|text| number::pairs(text)).collect::<Result<Vec<_>>>();
    let predict = predict.context("--predict")?;
    derived::derive(&problem, &solved, &predict, &arguments.budget, &mut output)?;
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

/// All but what is derived.
fn answer(problem: &Problem, solved: &[Solved], arguments: &FitArguments) -> Result<FitOutput> {
    let law = arguments.law.to_possible_value().map(|value| value.get_name().to_owned());
    let mut output = FitOutput {
        law: law.unwrap_or_default(),
        objective: objective(arguments).name().to_owned(),
        interval_method: match (arguments.bootstrap, arguments.resample) {
            (0, _) => "profile-likelihood",
            (_, ResamplingName::Pairs) => "bootstrap-pairs",
            (_, ResamplingName::Residual) => "bootstrap-residual",
            (_, ResamplingName::Cluster) => "bootstrap-cluster",
        }
        .to_owned(),
        notes: problem.notes.clone(),
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
            let is_own = part.is_empty()
                || solved.len() == 1
                || parameter.name.ends_with(&format!("_{part}"));
            let name =
                if is_own { parameter.name.clone() } else { format!("{}_{part}", parameter.name) };
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

fn write_report(
    folder: &std::path::Path,
    problem: &Problem,
    solved: &[Solved],
    output: &FitOutput,
    words: &[OsString],
) -> Result<()> {
    let figures_folder = folder.join("figures");
    std::fs::create_dir_all(&figures_folder)
        .with_context(|| format!("cannot create `{}`", figures_folder.display()))?;
    let words = words.iter().skip(1).map(|word| word.to_string_lossy().into_owned());
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
