//! `[external]`: the trainings are somebody else's command instead of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Arm, HorizonConfig};
use crate::external::{fill, placeholders};

/// A command that trains one model and writes its loss to a file.
///
/// Placeholders stand in braces: `{lr}`, `{seed}`, `{tokens}` and `{steps}` (the horizon; the latter only with
/// `batch_tokens`), `{device}`, `{arm}`, `{out}` (a folder of that run's own), and those of an arm's `values`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalConfig {
    /// Program and arguments, `["python3", "train.py", "--lr", "{lr}", "--out", "{out}"]`; no shell reads it.
    pub command: Vec<String>,
    /// The folder in which the command is started, as seen from the one in which the experiment is; that one, if absent.
    /// Relative paths in `command` and `files` begin here.
    #[serde(default)]
    pub directory: PathBuf,
    /// The file that it writes, in `{out}`: a JSON object, or one a line, of which the last with the key counts.
    pub metrics: String,
    /// The key of the final held-out loss in it, nats per token.
    #[serde(default = "loss")]
    pub loss: String,
    /// Files that the result depends on, its program for one: where they change, runs are made anew. They stand for the
    /// program wherever it lies; without any, a run in another `directory` is another run.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Exit statuses with which the command says that its training diverged, which is a result and no failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diverged_status: Vec<i32>,
    /// Tokens of one update, for `{steps}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<u64>,
    /// Seconds after which a run has failed.
    #[serde(default = "timeout_secs")]
    pub timeout_secs: f64,
    /// How fast it is, for the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_sec: Option<f64>,
}

fn loss() -> String {
    "loss".to_owned()
}

/// A day.
fn timeout_secs() -> f64 {
    86_400.0
}

impl ExternalConfig {
    pub(super) fn validate(&self, body: &HorizonConfig, seeds: u64) -> Result<()> {
        let Self { command, metrics, timeout_secs, batch_tokens, tokens_per_sec, loss, .. } = self;
        ensure!(!command.is_empty(), "command is empty");
        ensure!(!loss.is_empty(), "loss must name a key, got nothing");
        ensure!(
            *timeout_secs > 0.0 && *timeout_secs <= 1e9,
            "timeout_secs must be above 0 and at most 1e9, got {timeout_secs}"
        );
        ensure!(
            !self.diverged_status.contains(&0),
            "diverged_status must not have 0, with which a command ends well"
        );
        ensure!(*batch_tokens != Some(0), "batch_tokens must be positive, got 0");
        if let Some(speed) = tokens_per_sec {
            ensure!(
                *speed > 0.0 && speed.is_finite(),
                "tokens_per_sec must be positive, got {speed}"
            );
        }
        for arm in &body.arms {
            self.validate_arm(arm).with_context(|| format!("for the arm `{}`", arm.name))?;
        }
        let mut used = BTreeSet::new();
        for word in command {
            used.extend(placeholders(word)?);
        }
        let uses = |name: &str| used.contains(name);
        ensure!(uses("lr"), "command lacks {{lr}}: every run would have the same learning rate");
        ensure!(
            uses("tokens") || uses("steps"),
            "command lacks {{tokens}} or {{steps}}: every run would have the same horizon"
        );
        ensure!(
            uses("seed") || seeds == 1,
            "command lacks {{seed}}: {seeds} seeds would be the same run; give it one, or --seeds 1"
        );
        ensure!(
            uses("out") && placeholders(metrics)?.iter().any(|name| name == "out"),
            "command and metrics must both have {{out}}: runs go on side by side, each in a folder of its own"
        );
        Ok(())
    }

    /// Every placeholder has a value.
    fn validate_arm(&self, arm: &Arm) -> Result<()> {
        let mut values = self.values(arm, &Given::default());
        for name in ["lr", "out"] {
            values.insert(name.to_owned(), String::new());
        }
        let own: Vec<&String> = arm.values.keys().collect();
        if let Some(name) = own.iter().find(|name| RESERVED.contains(&name.as_str())) {
            bail!("values.{name}: {{{name}}} has a meaning already");
        }
        for template in self.command.iter().chain([&self.metrics]) {
            if self.batch_tokens.is_none() && placeholders(template)?.iter().any(|n| n == "steps") {
                bail!("`{template}`: {{steps}} needs batch_tokens, the tokens of one update");
            }
            fill(template, &values)?;
        }
        Ok(())
    }

    /// What placeholders stand for, but for `lr` and `out`, which the run itself knows.
    pub(super) fn values(&self, arm: &Arm, given: &Given) -> BTreeMap<String, String> {
        let mut values = arm.values.clone();
        let mut insert = |name: &str, value: String| {
            values.insert(name.to_owned(), value);
        };
        insert("arm", arm.name.clone());
        insert("device", given.device.clone());
        insert("seed", given.seed.to_string());
        insert("tokens", format!("{:.0}", given.n_tokens));
        if let Some(steps) = given.steps {
            insert("steps", steps.to_string());
        } else if self.batch_tokens.is_some() {
            insert("steps", String::new());
        }
        values
    }

    pub(super) fn make_paths_absolute(&mut self) -> Result<()> {
        let here = std::path::absolute(".").context("there is no working directory")?;
        if self.directory.as_os_str().is_empty() {
            self.directory = here;
        } else {
            self.directory = here.join(&self.directory);
        }
        for file in &mut self.files {
            *file = self.directory.join(&*file);
        }
        Ok(())
    }
}

/// Placeholders that an arm cannot give values.
const RESERVED: [&str; 7] = ["lr", "out", "arm", "device", "seed", "tokens", "steps"];

/// What differs between the runs of an arm.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Given {
    pub(super) device: String,
    pub(super) seed: u64,
    pub(super) n_tokens: f64,
    pub(super) steps: Option<u64>,
}
