//! The cell that is somebody else's training: a command that is started, and the file that it writes its loss to.
//!
//! The command runs in a process group of its own, with its output in `command.log`. It ends well, with a loss; or it
//! diverged, which is a result too: its loss is no number, however it ended, or its exit status is one that says so. Or it
//! fails, by its exit status, by a file or a number that is not there, or by the time it takes, and the cell can be tried
//! again. Asked to stop, it is told to end and, some seconds later, killed; it has no checkpoint that we know of, so it
//! starts again.

mod child;
mod metrics;
mod template;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cell::CellResult;
use crate::protocol::Message;
use crate::train_stack::LearningRate;
use crate::training_log::series;
use crate::worker::{End, Work};
use child::{Child, Ended};

pub(crate) use template::{fill, placeholders};

/// What the command prints, in the cell's folder, of the last attempt.
const LOG: &str = "command.log";
/// The folder in the cell's that is the command's own.
const OUT: &str = "out";
/// How often the command is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a command that was told to end may take.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// One run of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// Program and arguments, with placeholders in braces.
    pub command: Vec<String>,
    /// Where it is started. Part of a cell's key only where no file stands for the program.
    pub directory: PathBuf,
    /// The file that it writes, with placeholders.
    pub metrics: String,
    /// The key of the final held-out loss in that file, nats per token.
    pub loss: String,
    /// What the placeholders stand for, beside `lr` and `out`. Part of a cell's key as far as they are used.
    pub values: BTreeMap<String, String>,
    /// Its peak learning rate, `lr`.
    pub lr: LearningRate,
    /// Its horizon.
    pub n_tokens: f64,
    /// Exit statuses that say that the training diverged. Not part of a cell's key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diverged_status: Vec<i32>,
    /// Seconds after which it is stopped, and has failed. Not part of a cell's key.
    pub timeout_secs: f64,
    /// Seconds that it is expected to take, if known. Not part of a cell's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_secs: Option<f64>,
}

impl External {
    /// What the result depends on: the words that the command is told, but for its folder and the number of its device.
    /// Where the program lies does not matter if `files` stand for what it is.
    pub(crate) fn identity(&self, device_kind: &str, has_files: bool) -> Value {
        let mut values = self.values.clone();
        // No word of a configuration holds this character, so that no text is taken for what a run finds out.
        for (name, value) in [("lr", "\0lr"), ("out", "\0out"), ("device", device_kind)] {
            values.insert(name.to_owned(), value.to_owned());
        }
        let told = |template: &String| fill(template, &values).unwrap_or_else(|_| template.clone());
        json!({
            "command": self.command.iter().map(told).collect::<Vec<_>>(),
            "metrics": told(&self.metrics),
            "loss": self.loss,
            "lr": self.lr,
            "n_tokens": self.n_tokens,
            "directory": if has_files { None } else { Some(&self.directory) },
        })
    }
}

/// Starts the command and waits for it.
pub(crate) fn run(task: &External, work: &Work<'_>) -> Result<End> {
    run_within(task, work, GRACE)
}

/// As [`run`], for a command that is killed so long after it was told to end.
fn run_within(task: &External, work: &Work<'_>, grace: Duration) -> Result<End> {
    let Some(lr) = task.lr.find(work)? else {
        return Ok(End::Result(result(
            task,
            "no learning rate trained",
            None,
            &Outcome::default(),
        )));
    };
    let out = fresh(work.dir)?;
    let mut values = task.values.clone();
    values.insert("lr".to_owned(), lr.to_string());
    values.insert("out".to_owned(), out.display().to_string());
    let words: Vec<String> =
        task.command.iter().map(|word| fill(word, &values)).collect::<Result<_>>()?;
    let metrics = task.directory.join(fill(&task.metrics, &values)?);

    let started = Instant::now();
    let log = work.dir.join(LOG);
    let status = match wait(task, work, &words, &log, grace)? {
        Ended::Stopped => return Ok(End::Stopped { resumable: false }),
        Ended::TimedOut => bail!(
            "`{}` was stopped after {} seconds, external.timeout_secs{}",
            words.join(" "),
            task.timeout_secs,
            last_words(&log)
        ),
        Ended::Exited(status) => status,
    };
    let loss =
        loss(task, status, &metrics, &log).with_context(|| format!("`{}`", words.join(" ")))?;
    let seen = Outcome { loss, wall_secs: started.elapsed().as_secs_f64() };
    let word = if loss.is_some() { "finished" } else { "diverged" };
    Ok(End::Result(result(task, word, Some(lr), &seen)))
}

/// The loss of a command that has ended; none if its training diverged, as some programs say with their exit status, and
/// others with a loss that is no number before they give up.
fn loss(task: &External, status: ExitStatus, metrics: &Path, log: &Path) -> Result<Option<f64>> {
    if status.code().is_some_and(|code| task.diverged_status.contains(&code)) {
        return Ok(None);
    }
    match metrics::final_loss(metrics, &task.loss) {
        found if status.success() => found.context("ended well"),
        Ok(None) => Ok(None),
        _ => bail!("ended with {status}{}", last_words(log)),
    }
}

/// An empty folder for the command. What an attempt before left is no longer anybody's.
fn fresh(dir: &Path) -> Result<PathBuf> {
    let out = std::path::absolute(dir.join(OUT))?;
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot empty `{}`", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot make `{}`", out.display()))?;
    Ok(out)
}

fn wait(
    task: &External,
    work: &Work<'_>,
    words: &[String],
    log: &Path,
    grace: Duration,
) -> Result<Ended> {
    let mut child = Child::start(words, &task.directory, log)?;
    Message::Command { group: child.group() }.send();
    let timeout = Duration::from_secs_f64(task.timeout_secs);
    let (started, mut told) = (Instant::now(), Instant::now());
    loop {
        if let Some(status) = child.ended()? {
            return Ok(Ended::Exited(status));
        }
        let early = match (work.stopped(), started.elapsed() >= timeout) {
            (true, _) => Some(Ended::Stopped),
            (false, true) => Some(Ended::TimedOut),
            (false, false) => None,
        };
        if let Some(early) = early {
            child.end(grace)?;
            return Ok(early);
        }
        if told.elapsed().as_secs() >= 1 {
            told = Instant::now();
            tell(task, started.elapsed().as_secs_f64());
        }
        std::thread::sleep(TICK);
    }
}

/// How long it has run, of what the plan reckons with.
fn tell(task: &External, elapsed_secs: f64) {
    let fraction = task.expected_secs.map_or(0.0, |secs| (elapsed_secs / secs).min(0.99));
    Message::Progress { fraction, note: format!("{elapsed_secs:.0} s") }.send();
}

/// The last line that the command printed.
fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.map_or_else(String::new, |line| format!("; it printed last: {line}"))
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    /// Nats per token; none if it is no number.
    loss: Option<f64>,
    wall_secs: f64,
}

fn result(task: &External, word: &str, lr: Option<f64>, seen: &Outcome) -> CellResult {
    let speed = task.n_tokens / seen.wall_secs;
    let row = BTreeMap::from([
        ("outcome", json!(word)),
        ("lr", json!(lr)),
        ("validation_loss", json!(seen.loss)),
        ("n_tokens", json!(task.n_tokens)),
        ("wall_secs", json!(seen.wall_secs)),
        ("tokens_per_sec", json!(speed.is_finite().then_some(speed))),
    ]);
    let points = seen.loss.map(|loss| (task.n_tokens, loss)).into_iter().collect();
    CellResult {
        row: row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        series: vec![series("validation-loss", points)],
        ..CellResult::default()
    }
}

#[cfg(test)]
mod tests;
