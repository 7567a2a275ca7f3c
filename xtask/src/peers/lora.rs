//! `peers lora`: adapters of ours in PEFT, and PEFT's in ours, on the same checkpoints.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use super::comparison::{Answers, models, on_each, read};
use super::environment::Environment;
use super::train;
use crate::program::Program;
use crate::workspace::Workspace;

/// What may be chosen.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// A folder with a checkpoint; without it, two tiny ones of the reference vectors, a Llama and a Phi-3
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// Compares and prints a line for each comparison.
///
/// # Errors
/// If a program cannot be built, installed or started.
pub(crate) fn compare(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let environment = Environment::ensure(workspace, train::NEEDS)?;
    let models = models(workspace, options.model.as_deref(), &MODELS);
    on_each(&models, COMPARISONS, |model| one(workspace, &environment, model))
}

/// Of the second, queries, keys and values are one linear map, and so are gate and input of the MLP.
const MODELS: [&str; 2] = ["llama_tiny", "phi3_tiny"];
/// For a model, three of PEFT's program and one of ours.
const COMPARISONS: usize = 4;

fn one(workspace: &Workspace, environment: &Environment, model: &Path) -> Result<Answers> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let ours = |task: &str| -> Result<Command> {
        let mut program = Program::LoraAdapters.built(workspace)?;
        program.arg(task).arg(model).arg(folder.path());
        Ok(program)
    };
    read(&mut ours("write")?)?;
    let theirs = read(environment.program("lora.py").arg(model).arg(folder.path()))?;
    let back = read(&mut ours("read")?)?;
    Answers::parse(&format!("{theirs}\n{back}"))
}
