//! `peers generate`: reading and continuing prompts, ours and transformers', on the same weights in one run.
//!
//! Both programs stay alive and take turns, so that they see the same machine.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::environment::Environment;
use super::process::Process;
use super::ratio::Spread;
use super::train;
use crate::output;
use crate::program::Program;
use crate::workspace::Workspace;

/// What may be chosen.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// A folder with a checkpoint of the Llama or Phi-3 family; without it, one of SmolLM2-135M's shape with drawn weights is made
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Tokens of a prompt
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,
    /// New tokens in one turn
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    new: u32,
    /// How often every program has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Threads of every program; by default as many as there are cores
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
}

const PRECISIONS: [&str; 2] = ["f32", "bf16"];
const BATCHES: [u32; 2] = [1, 8];

/// Measures and prints.
///
/// # Errors
/// If a program cannot be built, installed or started, ends by itself, or does not do what the other does.
pub(crate) fn compare(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let environment = Environment::ensure(workspace, train::NEEDS)?;
    let folder = match &options.model {
        Some(folder) => folder.clone(),
        None => made(workspace)?,
    };
    let cores = || thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let threads = options.threads.unwrap_or_else(cores);
    output::line(definitions(options, threads));
    for precision in PRECISIONS {
        for batch_size in BATCHES {
            let setup = json!({
                "folder": folder, "precision": precision, "threads": threads, "batch_size": batch_size,
            });
            let mut ours = Runner::start(
                "forerun",
                Program::GenerateSpeed.built(workspace)?,
                &setup,
                threads,
            )?;
            let theirs = environment.program("generate.py");
            let mut theirs = Runner::start("transformers", theirs, &setup, threads)?;
            ensure!(
                ours.ready["parameters"] == theirs.ready["parameters"],
                "transformers has {} parameters, ours {}",
                theirs.ready["parameters"],
                ours.ready["parameters"]
            );
            for round in 0..=options.rounds {
                take_turns([&mut ours, &mut theirs], round, options)?;
            }
            let bandwidth = ours.process.ask("bandwidth")?["bytes_per_second"].as_f64();
            let name = format!("{precision}, batch {batch_size}");
            output::line(format!("\n{}", render(&name, &ours, &theirs, bandwidth)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A checkpoint of SmolLM2-135M's shape, which our program makes at first use.
fn made(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.root.join("target/peers/smollm2-shape");
    if !folder.join("config.json").exists() {
        output::note(format!("making a checkpoint in `{}`", folder.display()));
        let mut program = Program::GenerateSpeed.built(workspace)?;
        let status = program.arg("--make").arg(&folder).status().context("cannot start it")?;
        ensure!(status.success(), "the checkpoint could not be made");
    }
    Ok(folder)
}

/// Every second round in the opposite order. Round 0 is not counted: first touches of memory.
fn take_turns(mut runners: [&mut Runner; 2], round: u32, options: &Options) -> Result<()> {
    if round % 2 == 1 {
        runners.reverse();
    }
    for runner in runners {
        runner.take_turn(options, round > 0)?;
    }
    Ok(())
}

/// A program that reads and writes.
struct Runner {
    name: &'static str,
    process: Process,
    ready: Value,
    batch_size: f64,
    /// Tokens a second.
    prompt: Vec<f64>,
    decode: Vec<f64>,
    /// The tokens of the first turn.
    ids: Option<Value>,
}

impl Runner {
    fn start(
        name: &'static str,
        mut command: Command,
        setup: &Value,
        threads: u32,
    ) -> Result<Self> {
        command.env("OMP_NUM_THREADS", threads.to_string()).arg(setup.to_string());
        command.env_remove("RUST_BACKTRACE"); // the last line that it says is the reason
        let mut process = Process::start(name, &mut command)?;
        let ready = process.answer()?;
        ensure!(ready["ready"] == json!(true), "{name} did not say that it is ready, but {ready}");
        let batch_size = setup["batch_size"].as_f64().unwrap_or(1.0);
        Ok(Self { name, process, ready, batch_size, prompt: vec![], decode: vec![], ids: None })
    }

    fn take_turn(&mut self, options: &Options, counts: bool) -> Result<()> {
        let prompt = self.process.ask(&format!("prompt {}", options.prompt))?;
        let decode = self.process.ask(&format!("decode {}", options.new))?;
        let rate = |answer: &Value| {
            let rate = answer["tokens"].as_f64()? / answer["seconds"].as_f64()?;
            Some(rate).filter(|rate| rate.is_finite())
        };
        let (prompt_rate, decode_rate) = (rate(&prompt), rate(&decode));
        let said = || format!("{} said {prompt} and {decode}", self.name);
        let rates = prompt_rate.zip(decode_rate).with_context(said)?;
        self.ids.get_or_insert(decode["ids"].clone());
        if counts {
            self.prompt.push(rates.0);
            self.decode.push(rates.1);
        }
        Ok(())
    }
}

fn definitions(options: &Options, threads: u32) -> String {
    let Options { prompt, new, rounds, .. } = options;
    format!(
        "Prompts of {prompt} tokens are read, and continued by {new} tokens each, the likeliest one each time, with a cache; {threads} threads.
Both programs load the same checkpoint, stay alive and take turns: {rounds} rounds, one more before them to warm up, every second round in
the opposite order. Tokens a second (of all texts of a batch together): the median of the rounds. Ratios: ours over theirs in the
same round, the median and the range. Bandwidth: how fast our product of one row reads a matrix larger than any cache."
    )
}

fn render(name: &str, ours: &Runner, theirs: &Runner, bandwidth: Option<f64>) -> String {
    let mut text = format!("{name}\n  {:<14} {:>12} {:>12}\n", "", "prompt", "decode");
    for runner in [ours, theirs] {
        let (prompt, decode) = (median(&runner.prompt), median(&runner.decode));
        let _ = writeln!(text, "  {:<14} {prompt:>12.1} {decode:>12.1}", runner.name);
    }
    let ratio = |ours: &[f64], theirs: &[f64]| {
        Spread::of_ratios(ours, theirs).map_or_else(|| "-".to_owned(), |ratio| ratio.to_string())
    };
    let (prompt, decode) =
        (ratio(&ours.prompt, &theirs.prompt), ratio(&ours.decode, &theirs.decode));
    let _ = writeln!(text, "  ours over theirs: prompt {prompt}; decode {decode}");
    if let (Some(bandwidth), Some(bytes)) = (bandwidth, ours.ready["weight_bytes"].as_f64()) {
        let same = if ours.ids == theirs.ids { "the same" } else { "not the same" };
        let share = share(&ours.decode, ours.batch_size, bytes, bandwidth);
        let _ = writeln!(
            text,
            "  weights {:.0} MB, read at {:.1} GB/s: decoding takes {share:.0} % of that; the tokens are {same}",
            bytes / 1e6,
            bandwidth / 1e9
        );
    }
    text.trim_end().to_owned()
}

/// How much of `bandwidth`, bytes a second, goes into reading `bytes` once for each step of all texts, in per cent.
fn share(decode: &[f64], batch_size: f64, bytes: f64, bandwidth: f64) -> f64 {
    100.0 * median(decode) / batch_size * bytes / bandwidth
}

fn median(rates: &[f64]) -> f64 {
    Spread::of(rates.iter().copied()).map_or(f64::NAN, |spread| spread.median)
}

#[cfg(test)]
mod tests;
