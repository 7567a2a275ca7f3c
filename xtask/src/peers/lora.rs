//! `peers lora`: adapters of ours in PEFT, and PEFT's in ours, on the same checkpoint.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use super::environment::Environment;
use super::train;
use crate::program::Program;
use crate::workspace::Workspace;
use crate::{output, process};

/// What may be chosen.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// A folder with a checkpoint of the Llama family; without it, the tiny one of the reference vectors
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// Compares and prints a line for each comparison.
///
/// # Errors
/// If a program cannot be built, installed or started.
pub(crate) fn compare(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let environment = Environment::ensure(workspace, train::NEEDS)?;
    let model = options.model.clone();
    let model = model.unwrap_or_else(|| workspace.root.join("tests/data/arch/llama_tiny"));
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let ours = |task: &str| -> Result<Command> {
        let mut program = Program::LoraAdapters.built(workspace)?;
        program.arg(task).arg(&model).arg(folder.path());
        Ok(program)
    };
    read(&mut ours("write")?)?;
    let theirs = read(environment.program("lora.py").arg(&model).arg(folder.path()))?;
    let back = read(&mut ours("read")?)?;
    let answers = parse(&format!("{theirs}\n{back}"))?;
    for answer in &answers.comparisons {
        output::line(answer.line(&answers.peft));
    }
    let passed = answers.comparisons.len() == COMPARISONS
        && answers.comparisons.iter().all(Comparison::passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Three of PEFT's program and one of ours.
const COMPARISONS: usize = 4;
/// Of the largest logit: what sums in f32 may differ by in another order.
const TOLERANCE: f64 = 1e-5;

/// What the programs answered.
#[derive(Debug, PartialEq)]
struct Answers {
    peft: String,
    comparisons: Vec<Comparison>,
}

#[derive(Debug, PartialEq)]
struct Comparison {
    what: String,
    /// The largest difference.
    worst: f64,
    /// The largest number.
    size: f64,
}

impl Comparison {
    fn passed(&self) -> bool {
        self.worst <= TOLERANCE * self.size
    }

    fn line(&self, peft: &str) -> String {
        let verdict = if self.passed() { "pass" } else { "fail" };
        let Self { what, worst, size } = self;
        format!(
            "{verdict}  {what}: off by {worst:.1e} where the largest is {size:.3} (PEFT {peft})"
        )
    }
}

/// The answers among what the programs print.
fn parse(lines: &str) -> Result<Answers> {
    let mut peft = None;
    let mut comparisons = vec![];
    for line in lines.lines() {
        let Ok(fields) = serde_json::from_str::<Value>(line) else { continue };
        let number = |name: &str| fields[name].as_f64();
        if let Some(version) = fields["peft"].as_str() {
            peft = Some(version.to_owned());
        }
        if let (Some(what), Some(worst), Some(size)) =
            (fields["what"].as_str(), number("worst"), number("size"))
        {
            comparisons.push(Comparison { what: what.to_owned(), worst, size });
        }
    }
    Ok(Answers { peft: peft.context("PEFT's program did not say its version")?, comparisons })
}

/// What `command` prints.
fn read(command: &mut Command) -> Result<String> {
    let shown = process::show(command);
    let finished = command.output().with_context(|| format!("cannot start `{shown}`"))?;
    if !finished.status.success() {
        let errors = String::from_utf8_lossy(&finished.stderr);
        let last = errors.lines().map(str::trim).rfind(|line| !line.is_empty());
        bail!("`{shown}` failed: {}", last.unwrap_or("it did not say why"));
    }
    Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
}

#[cfg(test)]
mod tests;
