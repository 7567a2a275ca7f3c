//! `peers tensorboard`: event files of ours, read back with TensorBoard itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use super::comparison::{exit_code, read};
use super::environment::{Environment, Needs};
use crate::program::Program;
use crate::workspace::Workspace;
use crate::{output, process};

/// What may be chosen.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The folder `tensorboard` of a run, or one below it; without it, events are written that are as odd as may be
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// TensorBoard unpacked, and what pip holds meanwhile.
const NEEDS: Needs = Needs { peer: "tensorboard", bytes: 400_000_000 };

/// Compares and prints a line for each folder of events.
///
/// # Errors
/// If a program cannot be built, installed or started.
pub(crate) fn compare(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let environment = Environment::ensure(workspace, NEEDS)?;
    let program = || Program::TensorboardEvents.built(workspace);
    let written = tempfile::tempdir().context("cannot make a temporary folder")?;
    let root = match &options.dir {
        Some(dir) => dir.clone(),
        None => {
            process::run(program()?.arg("write").arg(written.path()))?;
            written.path().to_path_buf()
        }
    };
    let folders = folders_with_events(&root);
    if folders.is_empty() {
        bail!("there are no event files in `{}`", root.display());
    }
    let ours = program()?;
    let mut passed = true;
    for folder in folders {
        let mut show = Command::new(ours.get_program());
        show.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let expected = read(show.arg("show").arg(&folder))?;
        let got = read(environment.program("read.py").arg(&folder))?;
        let comparison = Comparison::of(&parse(&expected), &parse(&got));
        output::line(comparison.line(&folder, &version(&got)));
        comparison.differences.iter().take(10).for_each(output::note);
        passed &= comparison.passed();
    }
    Ok(exit_code(passed))
}

/// `root` and all below it that hold event files, in order.
fn folders_with_events(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = folder.read_dir().into_iter().flatten().flatten();
        let mut holds_events = false;
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            holds_events |= name.contains("tfevents");
            if path.is_dir() {
                folders.push(path);
            }
        }
        if holds_events {
            found.push(folder);
        }
    }
    found.sort();
    found
}

/// One point: the bits of a scalar, or a text; and its time, as text, so that equal means equal.
type Point = (String, String);

/// The points by series and step. A series that says two things of one step keeps both, in order.
type Series = BTreeMap<(String, i64), Vec<Point>>;

fn parse(lines: &str) -> Series {
    let mut series = Series::new();
    for line in lines.lines() {
        let Ok(fields) = serde_json::from_str::<Value>(line) else { continue };
        let (Some(tag), Some(step)) = (fields["tag"].as_str(), fields["step"].as_i64()) else {
            continue;
        };
        let content = match (fields["scalar"].as_str(), fields["text"].as_str()) {
            (Some(bits), _) => bits.to_owned(),
            (_, Some(text)) => format!("text {text:?}"),
            _ => continue,
        };
        // TensorBoard moves texts to a series of its own.
        let tag = tag.strip_suffix("/text_summary").unwrap_or(tag).to_owned();
        series.entry((tag, step)).or_default().push((content, fields["wall_time"].to_string()));
    }
    series
}

fn version(lines: &str) -> String {
    let first = lines.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let version = first.and_then(|fields| fields["tensorboard"].as_str().map(str::to_owned));
    format!("TensorBoard {}", version.as_deref().unwrap_or("(of unknown version)"))
}

/// What was written against what was read.
#[derive(Debug, PartialEq, Eq)]
struct Comparison {
    points: usize,
    tags: usize,
    differences: Vec<String>,
}

impl Comparison {
    fn of(expected: &Series, got: &Series) -> Self {
        let mut differences = vec![];
        for (at @ (tag, step), points) in expected {
            match got.get(at) {
                Some(read) if read == points => {}
                Some(read) => differences.push(format!(
                    "{tag}, step {step}: wrote {points:?}, TensorBoard reads {read:?}"
                )),
                None => differences.push(format!("{tag}, step {step}: TensorBoard reads nothing")),
            }
        }
        for (tag, step) in got.keys().filter(|at| !expected.contains_key(at)) {
            differences.push(format!("{tag}, step {step}: nothing was written"));
        }
        let mut tags: Vec<&String> = expected.keys().map(|(tag, _)| tag).collect();
        tags.dedup();
        Self { points: expected.values().map(Vec::len).sum(), tags: tags.len(), differences }
    }

    fn passed(&self) -> bool {
        self.points > 0 && self.differences.is_empty()
    }

    fn line(&self, folder: &Path, reader: &str) -> String {
        let verdict = if self.passed() { "pass" } else { "fail" };
        let Self { points, tags, differences } = self;
        format!(
            "{verdict}  {}: {points} points of {tags} series, {} differ as {reader} reads them",
            folder.display(),
            differences.len()
        )
    }
}

#[cfg(test)]
mod tests;
