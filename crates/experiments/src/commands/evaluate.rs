//! `evaluate`: multiple-choice questions by likelihood, and MT-Bench with a judge.

mod choices;
mod judge;
mod mt_bench;

use anyhow::Result;
use clap::{Args, Subcommand};

/// The command line of `evaluate`.
#[derive(Args, Debug)]
pub(crate) struct EvaluateArgs {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Multiple-choice questions: which choice is the likeliest to follow?
    Choices(choices::ChoicesArgs),
    /// The 80 questions of MT-Bench, answered in two turns and graded by a judge.
    MtBench(mt_bench::MtBenchArgs),
}

/// Runs the command; the exit status is 130 after Ctrl-C.
pub(crate) fn evaluate(args: &EvaluateArgs) -> Result<i32> {
    match &args.kind {
        Kind::Choices(args) => choices::choices(args),
        Kind::MtBench(args) => mt_bench::mt_bench(args),
    }
}
