//! The command line of the binary: `cargo xtask` passes its experiment commands on to it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use forerun_runs::table::{Cell, Column, Table};
use forerun_tensors::parse_device;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::commands::{self, EvaluateArgs, GenerateArgs, PerplexityArgs, QuantizeArgs};
use crate::config::{Experiment, Overrides, Scale};
use crate::plan::{Plan, measured_rate};
use crate::run::{self, Resume};
use crate::store::Store;
use crate::{catalog, compare, data, environment, outcome, worker};

/// Rerun a paper's central claim on this machine, and learn what to set.
#[derive(Debug, Parser)]
#[command(name = "forerun-experiments", bin_name = "cargo xtask", version, max_term_width = 80)]
struct Cli {
    /// Where runs, cells and prepared data are kept.
    #[arg(long, global = true, env = "FORERUN_RUNS", default_value = "runs", value_name = "DIR")]
    runs_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Experiments, one line each.
    List,
    /// What a run will do, cost and be able to show, without doing it.
    Plan(Selection),
    /// Run a whole experiment.
    #[command(name = "run-experiment", alias = "run")]
    Run {
        #[command(flatten)]
        selection: Selection,
        /// Go on with the newest unfinished run of this configuration, or the one in DIR.
        #[arg(long, value_name = "DIR", num_args = 0..=1)]
        resume: Option<Option<PathBuf>>,
    },
    /// Render the report of a finished run again, from its files alone.
    Report {
        /// The run directory.
        dir: PathBuf,
    },
    /// Put runs side by side.
    Compare {
        /// Two or more run directories.
        #[arg(required = true, num_args = 2..)]
        dirs: Vec<PathBuf>,
    },
    /// Continue prompts, or answer them, and show the text as it is written.
    Generate(GenerateArgs),
    /// How well a model predicts texts, for each token and each byte.
    Perplexity(PerplexityArgs),
    /// Write a model anew with weights of 8 or 4 bits.
    Quantize(QuantizeArgs),
    /// Ask a model multiple-choice questions, or have a judge grade its answers to MT-Bench.
    Evaluate(EvaluateArgs),
    /// Compute one cell (started by `run`).
    #[command(hide = true)]
    Worker {
        /// The cell's folder.
        dir: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Selection {
    /// An experiment of `list`.
    name: String,
    /// smoke ends within a minute, small fits two cores, paper is the paper's size [default: small].
    #[arg(long, value_enum)]
    scale: Option<Scale>,
    /// Change one setting; repeat for more. `arms.NAME.training.optimiser.lr=3e-4`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Your own text, a file or a glob: .parquet, .jsonl, .txt or .md, the last three also .gz or .zst. Repeat for more.
    #[arg(long, value_name = "PATH")]
    data: Vec<String>,
    /// Seeds of every arm.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// cpu or cuda:N.
    #[arg(long)]
    device: Option<String>,
    /// Worker processes at a time; what is timed runs alone [default: one a core; one on a GPU and in phi3-quantize].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Where the cells are computed.
    #[arg(long, value_enum, default_value_t, hide = true)] // until there is a choice
    on: Executor,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Executor {
    /// Worker processes of this machine.
    #[default]
    Local,
}

impl Selection {
    fn resolve(&self) -> Result<Experiment> {
        let overrides = Overrides {
            scale: self.scale.unwrap_or_default(),
            set: self.set.clone(),
            data: self.data.clone(),
            seeds: self.seeds,
            device: self.device.clone(),
        };
        let experiment = Experiment::resolve(&catalog::find(&self.name)?, &overrides)?;
        parse_device(&experiment.device)?;
        Ok(experiment)
    }

    /// Whether any option says what to run; without one it is the experiment as the catalog has it.
    fn asks_for_a_configuration(&self) -> bool {
        self.scale.is_some()
            || !self.set.is_empty()
            || !self.data.is_empty()
            || self.seeds.is_some()
            || self.device.is_some()
    }

    fn jobs(&self, experiment: &Experiment) -> Result<usize> {
        let Executor::Local = self.on;
        match self.jobs {
            Some(0) => bail!("--jobs must be at least 1, got 0"),
            Some(jobs) => Ok(jobs),
            None if experiment.device.starts_with("cuda")
                || experiment.body.holds_whole_models() =>
            {
                Ok(1)
            }
            None => Ok((environment::cores() / experiment.threads as usize).max(1)),
        }
    }
}

/// Runs the command that `std::env::args` names and returns the exit status.
pub fn main() -> i32 {
    let cli = Cli::parse();
    log_to_stderr();
    match dispatch(&cli) {
        Ok(status) => status,
        Err(error) => {
            tell(&format!("error: {}", explain(&error)));
            1
        }
    }
}

/// What libraries warn of, on standard error; a worker's goes to its cell's `log.txt`. `RUST_LOG` asks for more.
fn log_to_stderr() {
    let filter =
        EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false) // that there is no reader would be told, in vain, with a panic
        .compact()
        .init();
}

fn dispatch(cli: &Cli) -> Result<i32> {
    match &cli.command {
        Command::List => list(),
        Command::Plan(selection) => plan(&cli.runs_dir, selection),
        Command::Run { selection, resume } => {
            let experiment = selection.resolve()?;
            let resume = match resume {
                None => Resume::No,
                Some(None) => Resume::Newest,
                Some(Some(dir)) => {
                    Resume::Dir { dir: dir.clone(), asked: selection.asks_for_a_configuration() }
                }
            };
            run::run(experiment, &cli.runs_dir, |experiment| selection.jobs(experiment), &resume)
        }
        Command::Report { dir } => {
            outcome::render(dir)?;
            say(&format!(
                "{}\n{}",
                dir.join("report.html").display(),
                dir.join("report.md").display()
            ));
            Ok(0)
        }
        Command::Compare { dirs } => {
            say(&compare::compare(dirs)?);
            Ok(0)
        }
        Command::Generate(args) => commands::generate(args),
        Command::Perplexity(args) => commands::perplexity(args),
        Command::Quantize(args) => commands::quantize(args),
        Command::Evaluate(args) => commands::evaluate(args),
        Command::Worker { dir } => Ok(worker::work(dir)),
    }
}

fn list() -> Result<i32> {
    let columns = vec![Column::text("experiment"), Column::text("asks")];
    let rows = catalog::CATALOG
        .iter()
        .map(|entry| vec![Cell::from(entry.name), Cell::from(entry.summary())]);
    say(&Table { caption: String::new(), columns, rows: rows.collect() }.to_terminal(80));
    say(
        "cargo xtask plan NAME            what a run does and costs\ncargo xtask run-experiment NAME  run it",
    );
    Ok(0)
}

fn plan(runs_dir: &Path, selection: &Selection) -> Result<i32> {
    let experiment = selection.resolve()?;
    let jobs = selection.jobs(&experiment)?;
    let prepared = data::prepare(&experiment, runs_dir)?;
    let plan = Plan::new(&experiment, &prepared)?;
    let cells = runs_dir.join("cells");
    let text =
        plan.describe(&experiment, &Store::new(&cells), jobs, measured_rate(&cells, &plan))?;
    say(&format!("{text}\ndata\n{}", prepared.describe()));
    Ok(0)
}

/// The chain of causes in one line, without those that the error before has told already.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// The answer of a command. A reader that has gone away (`| head`) has what it wanted.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// A message to the person at the terminal.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
