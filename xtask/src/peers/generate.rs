//! `peers generate`: reading and continuing prompts, ours, transformers' and llama.cpp's, on the same weights in one run.
//!
//! Two programs at a time stay alive and take turns, so that they see the same machine.

mod agreement;
mod runner;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::environment::Environment;
use super::llama::Llama;
use super::train;
use crate::program::Program;
use crate::workspace::Workspace;
use crate::{disk, model, output};
use runner::Runner;

/// What may be chosen.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// A GGUF file, or a folder with a checkpoint of the Llama or Phi-3 family, which is compared with transformers only; without it,
    /// SmolLM2-135M-Instruct, which is fetched
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Only this rival; both by default
    #[arg(long, value_enum)]
    against: Option<Rival>,
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

/// Whom ours is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rival {
    /// Hugging Face's, in f32 and bf16
    Transformers,
    /// With weights of 4 bits
    #[value(name = "llama.cpp")]
    Llama,
}

const PRECISIONS: [&str; 2] = ["f32", "bf16"];
const BATCHES: [u32; 2] = [1, 8];

/// Measures and prints.
///
/// # Errors
/// If a program cannot be built, installed or started, ends by itself, or does not do what the other does. A llama.cpp that cannot be
/// built is left out, unless nothing else is compared.
pub(crate) fn compare(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let cores = || thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let comparison = Comparison {
        workspace,
        options,
        threads: options.threads.unwrap_or_else(cores),
        model: options.model.clone().map_or_else(|| model::smollm2(&workspace.root), Ok)?,
        folder: workspace.root.join("target/peers"),
    };
    fs::create_dir_all(&comparison.folder)
        .map_err(|error| disk::explain(error, &comparison.folder))?;
    output::line(table::definitions(options, comparison.threads));
    let wanted = |rival| options.against.is_none_or(|only| only == rival);
    if wanted(Rival::Transformers) {
        comparison.with_transformers()?;
    }
    if wanted(Rival::Llama) && comparison.is_gguf() {
        match Llama::build(workspace) {
            Ok(llama) => comparison.with_llama(&llama)?,
            Err(error) if options.against.is_some() => return Err(error),
            Err(error) => output::note(format!("llama.cpp is left out: {error:#}")),
        }
    } else if options.against == Some(Rival::Llama) {
        bail!("llama.cpp reads GGUF files only, and `{}` is none", comparison.model.display());
    }
    Ok(ExitCode::SUCCESS)
}

struct Comparison<'a> {
    workspace: &'a Workspace,
    options: &'a Options,
    threads: u32,
    model: PathBuf,
    /// Where files may be made.
    folder: PathBuf,
}

impl Comparison<'_> {
    fn is_gguf(&self) -> bool {
        self.model.extension().is_some_and(|extension| extension == "gguf")
    }

    fn with_transformers(&self) -> Result<()> {
        let environment = Environment::ensure(self.workspace, train::NEEDS)?;
        let folder = if self.is_gguf() { self.converted()? } else { self.model.clone() };
        for precision in PRECISIONS {
            for batch_size in BATCHES {
                let ours = self.ours(&folder, precision, batch_size)?;
                let mut program = environment.program("generate.py");
                let setup = self.setup(&folder, precision, batch_size);
                let theirs = Runner::start("transformers", &mut program, &setup, self.threads)?;
                let runners =
                    self.measure(&format!("{precision}, batch {batch_size}"), ours, theirs)?;
                // With 24 bits two programs that do the same choose the same.
                ensure!(
                    precision != "f32" || runner::same(&runners).0 == 1.0,
                    "in f32 the chosen tokens must be those of transformers, and are not"
                );
            }
        }
        Ok(())
    }

    fn with_llama(&self, llama: &Llama) -> Result<()> {
        let q4_0 = self.folder.join("q4_0.gguf");
        llama.round_to_q4_0(&self.model, &q4_0)?;
        for (name, file) in [("as it is", &self.model), ("rounded to Q4_0", &q4_0)] {
            for batch_size in BATCHES {
                let ours = self.ours(file, "packed", batch_size)?;
                let theirs = self.llama(llama, file, batch_size)?;
                self.measure(&format!("the file {name}, batch {batch_size}"), ours, theirs)?;
            }
        }
        let ours = self.ours(&self.model, "f32", 1)?;
        let packed = self.ours(&self.model, "packed", 1)?;
        let theirs = self.llama(llama, &self.model, 1)?;
        let books = self.workspace.root.join("crates/experiments/assets/english/books.parquet");
        let text = self.folder.join("text.json");
        let found = agreement::compare([ours, packed, theirs], &books, &text)?;
        output::line(format!("\n{found}"));
        Ok(())
    }

    /// A folder with the file's weights as f32.
    fn converted(&self) -> Result<PathBuf> {
        let folder = self.folder.join("checkpoint");
        let mut program = Program::GenerateSpeed.built(self.workspace)?;
        program.arg("--convert").arg(&self.model).arg(&folder);
        let status = program.status().context("cannot start our program")?;
        ensure!(status.success(), "`{}` could not be converted", self.model.display());
        Ok(folder)
    }

    fn ours(&self, model: &Path, precision: &str, batch_size: u32) -> Result<Runner> {
        let mut program = Program::GenerateSpeed.built(self.workspace)?;
        let setup = self.setup(model, precision, batch_size);
        Runner::start("forerun", &mut program, &setup, self.threads)
    }

    fn llama(&self, llama: &Llama, file: &Path, batch_size: u32) -> Result<Runner> {
        let setup = self.setup(file, "packed", batch_size);
        Runner::start("llama.cpp", &mut llama.program(), &setup, self.threads)
    }

    /// The first argument of every program.
    fn setup(&self, model: &Path, precision: &str, batch_size: u32) -> serde_json::Value {
        // A decoding turn goes on where the prompt ended.
        let tokens = (self.options.prompt + self.options.new).max(agreement::TOKENS);
        json!({
            "model": model, "precision": precision, "threads": self.threads, "batch_size": batch_size, "tokens": tokens,
        })
    }

    fn measure(&self, name: &str, ours: Runner, theirs: Runner) -> Result<[Runner; 2]> {
        let mut runners = [ours, theirs];
        let [ours, theirs] = &runners;
        ensure!(
            ours.ready["parameters"] == theirs.ready["parameters"],
            "{} has {} parameters, ours {}",
            theirs.name,
            theirs.ready["parameters"],
            ours.ready["parameters"]
        );
        for round in 0..=self.options.rounds {
            take_turns(&mut runners, round, self.options)?;
        }
        let bandwidth = runners[0].process.ask("bandwidth")?["bytes_per_second"].as_f64();
        output::line(format!("\n{}", table::render(name, &runners, bandwidth)));
        Ok(runners)
    }
}

/// Every second round in the opposite order. Round 0 is not counted: first touches of memory.
fn take_turns(runners: &mut [Runner; 2], round: u32, options: &Options) -> Result<()> {
    let [ours, theirs] = runners;
    let mut order = [ours, theirs];
    if round % 2 == 1 {
        order.reverse();
    }
    for runner in order {
        runner.take_turn(options.prompt, options.new, round > 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
