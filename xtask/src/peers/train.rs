//! `peers train`: a training step of ours and of the rivals, in turn, as ratios of speed and of memory.
//!
//! Every program is one process that stays alive and makes a few steps whenever it is its turn, so that all of them see
//! the same machine. Ours runs once for each rival, with the rival's block and as many parameters.

mod measure;
mod setup;
mod table;

use std::fs;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::environment::{Environment, Needs};
use crate::output;
use crate::program::Program;
use crate::workspace::Workspace;
use measure::{Contest, Products};
use setup::{Block, Setup, write_tokens};

/// What may be chosen.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only this precision; both by default
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Only this block: torchscale's, nn.TransformerEncoder's or Llama's; all by default
    #[arg(long, value_enum)]
    block: Option<Block>,
    /// How often every program has its turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Steps in one turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Threads of every program; by default as many as there are cores
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Let the rivals' allocator keep freed memory too, which PyTorch's does not do by itself (glibc only)
    #[arg(long)]
    rivals_keep_memory: bool,
}

/// Precision of forward and backward pass; weights and moments are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// 32-bit floats throughout
    F32,
    /// Matrix products in bfloat16 under autocast
    Bf16,
}

impl Precision {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// PyTorch unpacked takes 3.9 GB, and pip holds the largest files twice for a moment.
pub(super) const NEEDS: Needs = Needs { peer: "train", bytes: 6_000_000_000 };

/// Measures and prints.
///
/// # Errors
/// If a program cannot be built, installed or started, ends by itself, or does not do what the others do.
pub(crate) fn compare(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let environment = Environment::ensure(workspace, NEEDS)?;
    let ours = Program::TrainStep.built(workspace)?;
    let folder = workspace.root.join("target/peers");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let tokens = folder.join("tokens.u16");
    write_tokens(&tokens)?;
    let blocks = options.block.map_or_else(|| Block::ALL.to_vec(), |block| vec![block]);
    let precisions = options.precision.map_or(vec![Precision::F32, Precision::Bf16], |p| vec![p]);
    output::line(table::definitions(options, threads(options)));
    let mut fair = true;
    for precision in precisions {
        let setup = |block| Setup {
            block,
            precision,
            threads: threads(options),
            tokens: &tokens,
            rivals_keep_memory: options.rivals_keep_memory,
        };
        let mut contests = Vec::new();
        for block in &blocks {
            contests.push(Contest::start(&setup(*block), &ours, &environment)?);
        }
        for round in 0..=options.rounds {
            take_turns(&mut contests, round, options.steps)?;
        }
        let products = Products::ask(&mut contests)?;
        output::line(format!("\n{}", table::render(precision, &contests, &products)));
        let complaints: Vec<String> = contests.iter().flat_map(Contest::complaints).collect();
        complaints.iter().for_each(|complaint| output::note(format!("unfair: {complaint}")));
        fair &= complaints.is_empty();
    }
    if !fair {
        bail!("the programs did not all do the same; see above");
    }
    Ok(ExitCode::SUCCESS)
}

/// Every program once; every second time in the opposite order. Round 0 is not counted: first touches of memory,
/// optimisers without moments.
fn take_turns(contests: &mut [Contest], round: u32, steps: u32) -> Result<()> {
    let mut runners: Vec<_> = contests.iter_mut().flat_map(Contest::runners).collect();
    if round % 2 == 1 {
        runners.reverse();
    }
    for runner in runners {
        runner.take_turn(steps, round > 0)?;
    }
    Ok(())
}

fn threads(options: &Options) -> u32 {
    let cores = || thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    options.threads.unwrap_or_else(cores)
}

#[cfg(test)]
mod tests;
