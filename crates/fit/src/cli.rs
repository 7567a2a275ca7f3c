//! The command line.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use forerun_scaling::Error;

use crate::audit::AuditArguments;
use crate::fitting::FitArguments;
use crate::import::ImportArguments;
use crate::recommend::RecommendArguments;
use crate::retrospective::RetrospectiveArguments;
use crate::{audit, fitting, import, recommend, retrospective};

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

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match run(std::env::args_os()) {
        Ok(text) => {
            let mut out = std::io::stdout();
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                // A pipe that was closed early is no failure.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    let _ = writeln!(std::io::stderr(), "error: cannot write the answer: {error}");
                    ExitCode::FAILURE
                }
                _ => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}{}", message(&error), hint(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes in one line; a cause that is part of what was said is not said again.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The way out, where the error does not say it.
fn hint(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Error>() {
        Some(Error::Data { row: Some(_), column, reason, .. }) => {
            let is_share = column == "p" || column.starts_with("p_");
            if is_share && reason.starts_with("must be positive") {
                return "\nshares of 0: fit (p + epsilon)^-gamma with --offset, or leave such rows out with --filter"
                    .into();
            }
            if reason.ends_with("is no number") {
                return "\nrepair the table".into();
            }
            if reason.contains("cells, the header") {
                return "\nrepair the table: cells with commas in them need quotes".into();
            }
            format!("\nrepair the table, or leave such rows out: --filter \"{column} > 0\"")
        }
        Some(Error::TooFewPoints { law, .. }) if law.starts_with("lr-horizon") => {
            "\na point is a cell of runs (one size, horizon and batch) that shows a best learning rate: add horizons"
                .into()
        }
        Some(Error::TooFewPoints { law, parameters: 5, .. }) if law == "chinchilla" => {
            "\nadd runs, or take a law with fewer parameters (chinchilla-tied has one less)".into()
        }
        Some(Error::TooFewPoints { .. }) => "\nadd runs, or take a law with fewer parameters".into(),
        _ => String::new(),
    }
}

/// As [`main`], with arguments of one's own (the first is the program's name); what the terminal shows.
///
/// # Errors
/// What went wrong, in one line; for a help text or a wrong argument the process ends here, as clap has it.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<String> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match Cli::parse_from(&arguments).command {
        Command::Fit(fit) => fitting::run(&fit, &arguments),
        Command::Recommend(arguments) => recommend::run(&arguments),
        Command::AuditLr(arguments) => audit::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Retrospective(arguments) => retrospective::run(&arguments),
    }
}
