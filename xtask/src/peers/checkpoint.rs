//! `peers checkpoint`: checkpoints that we saved, opened by transformers, and the other way round in several files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

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
    /// A folder with a checkpoint; without it, the tiny ones of the reference vectors
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// A Llama, one with Llama 3's rotary positions, a Phi-3 with all keys in sight, one with a window, one with LongRoPE.
const MODELS: [&str; 5] =
    ["llama_tiny", "llama_tiny_llama3rope", "phi3_tiny", "phi3_tiny_sliding", "phi3_tiny_longrope"];
/// Two texts in each direction.
const COMPARISONS: usize = 4;

/// Compares and prints a line for each comparison.
///
/// # Errors
/// If a program cannot be built, installed or started, or one cannot open what the other saved.
pub(crate) fn compare(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let environment = Environment::ensure(workspace, train::NEEDS)?;
    let models = models(workspace, options.model.as_deref(), &MODELS);
    on_each(&models, COMPARISONS, |model| one(workspace, &environment, model))
}

fn one(workspace: &Workspace, environment: &Environment, model: &Path) -> Result<Answers> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut ours = Program::Checkpoints.built(workspace)?;
    read(ours.arg("write").arg(model).arg(folder.path()))?;
    let theirs = read(environment.program("checkpoint.py").arg(folder.path()))?;
    let mut ours = Program::Checkpoints.built(workspace)?;
    let back = read(ours.arg("read").arg(folder.path()))?;
    Answers::parse(&format!("{theirs}\n{back}"))
}
