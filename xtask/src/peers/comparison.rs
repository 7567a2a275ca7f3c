//! Numbers of ours beside a peer's, as its programs and ours print them: a JSON object a line.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace::Workspace;
use crate::{output, process};

/// Of the largest number: what sums in f32 may differ by in another order.
const TOLERANCE: f64 = 1e-5;

/// What the programs answered.
#[derive(Debug, PartialEq)]
pub(super) struct Answers {
    /// Name and version.
    pub(super) peer: String,
    pub(super) comparisons: Vec<Comparison>,
}

/// One of the largest differences.
#[derive(Debug, PartialEq)]
pub(super) struct Comparison {
    what: String,
    /// The largest difference.
    worst: f64,
    /// The largest number.
    size: f64,
}

impl Answers {
    /// The answers among what programs print.
    pub(super) fn parse(lines: &str) -> Result<Self> {
        let mut peer = None;
        let mut comparisons = vec![];
        for line in lines.lines() {
            let Ok(fields) = serde_json::from_str::<Value>(line) else { continue };
            let number = |name: &str| fields[name].as_f64();
            if let Some(version) = fields["peer"].as_str() {
                peer = Some(version.to_owned());
            }
            // What is not a number comes as null or not at all.
            if let (Some(what), Some(size)) = (fields["what"].as_str(), number("size")) {
                let worst = number("worst").unwrap_or(f64::NAN);
                comparisons.push(Comparison { what: what.to_owned(), worst, size });
            }
        }
        Ok(Self { peer: peer.context("the peer's program did not say its version")?, comparisons })
    }

    /// Prints a line for each comparison, on `model`.
    pub(super) fn show(&self, model: &str) {
        for comparison in &self.comparisons {
            output::line(comparison.line(model, &self.peer));
        }
    }

    /// Whether there are as many comparisons as `wanted`, and all passed.
    pub(super) fn passed(&self, wanted: usize) -> bool {
        self.comparisons.len() == wanted && self.comparisons.iter().all(Comparison::passed)
    }
}

impl Comparison {
    fn passed(&self) -> bool {
        self.worst <= TOLERANCE * self.size
    }

    fn line(&self, model: &str, peer: &str) -> String {
        let verdict = if self.passed() { "pass" } else { "fail" };
        let Self { what, worst, size } = self;
        format!(
            "{verdict}  {model}: {what}: off by {worst:.1e} where the largest is {size:.3} ({peer})"
        )
    }
}

/// The checkpoint that was asked for, or else those of the reference vectors that are called `tiny`.
pub(super) fn models(workspace: &Workspace, asked: Option<&Path>, tiny: &[&str]) -> Vec<PathBuf> {
    match asked {
        Some(model) => vec![model.to_owned()],
        None => tiny.iter().map(|name| workspace.root.join("tests/data/arch").join(name)).collect(),
    }
}

/// Compares on each of `models`, of which `wanted` comparisons are expected, and prints a line for each.
pub(super) fn on_each(
    models: &[PathBuf],
    wanted: usize,
    mut compare: impl FnMut(&Path) -> Result<Answers>,
) -> Result<ExitCode> {
    let mut passed = true;
    for model in models {
        let answers = compare(model)?;
        answers.show(&model.file_name().unwrap_or_default().to_string_lossy());
        passed &= answers.passed(wanted);
    }
    Ok(exit_code(passed))
}

/// What cargo is told.
pub(super) fn exit_code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What `command` prints.
pub(super) fn read(command: &mut Command) -> Result<String> {
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
