//! The learning rate of every arm: which ones are tried, and what the tries found.

use anyhow::{Result, bail};
use forerun_runs::results::Row;
use serde::{Deserialize, Serialize};

use super::{Arm, LengthConfig};
use crate::outcome::Outcome;

/// How each arm finds its learning rate. All tries of an arm are one stack: same initialisation, same data, another
/// learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningConfig {
    /// Peak learning rates to try, ascending.
    pub learning_rates: Vec<f64>,
    /// Updates of a try; as many as the training has if absent. The best learning rate falls as the training gets
    /// longer, so fewer find one that is too high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Tokens of held-out text that decide. They are taken from the end of the validation text, and no evaluation
    /// reads them.
    pub n_tokens: u64,
}

impl TuningConfig {
    pub(super) fn validate(&self, body: &LengthConfig) -> Result<()> {
        let rates = &self.learning_rates;
        if rates.is_empty() {
            bail!("tuning.learning_rates is empty; leave `[tuning]` away to train without tuning");
        }
        if rates.iter().any(|rate| !(*rate > 0.0 && rate.is_finite()))
            || !rates.is_sorted_by(|a, b| a < b)
        {
            bail!("tuning.learning_rates must be positive and ascend, got {rates:?}");
        }
        let seq_len = body.training_length();
        if self.n_tokens < seq_len.unsigned_abs() + 1 {
            bail!(
                "tuning.n_tokens must hold a sequence of {seq_len} tokens and its target, got {}",
                self.n_tokens
            );
        }
        for arm in &body.arms {
            let warmup = arm.training.warmup_steps;
            if self.steps.is_some_and(|steps| steps <= warmup) {
                bail!(
                    "tuning.steps must be above the {warmup} warm-up steps of `{}`, got {}",
                    arm.name,
                    self.steps.unwrap_or_default()
                );
            }
        }
        Ok(())
    }

    /// Updates of a try of this arm.
    pub(super) fn steps(&self, arm: &Arm) -> u64 {
        self.steps.unwrap_or(arm.training.steps)
    }

    /// Rows of `seq_len` tokens that decide.
    pub(super) fn watched_rows(&self, seq_len: i64) -> u64 {
        (self.n_tokens - 1) / seq_len.unsigned_abs().max(1)
    }
}

/// What the tries of one arm found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tuned {
    /// Learning rate and validation loss at the end, ascending; NaN where the training diverged.
    pub(super) tries: Vec<(f64, f64)>,
    /// The learning rate that was taken; none if no try came to its end.
    pub(super) chosen: Option<f64>,
    /// Whether it is the lowest or the highest that was tried: a better one may lie beyond.
    pub(super) at_edge: bool,
}

/// The tries of an arm, from the rows of the run.
pub(super) fn tuned(outcome: &Outcome, arm: &str) -> Tuned {
    let word =
        |row: &Row, name: &str| row.get(name).and_then(|value| value.as_str().map(str::to_owned));
    let number =
        |row: &Row, name: &str| row.get(name).and_then(|value| value.as_f64()).unwrap_or(f64::NAN);
    let mut tries: Vec<(f64, f64)> = outcome
        .rows
        .iter()
        .filter(|row| word(row, "tries_for").as_deref() == Some(arm))
        .map(|row| {
            let finished = word(row, "outcome").as_deref() == Some("finished");
            let loss = if finished { number(row, "validation_loss") } else { f64::NAN };
            (number(row, "lr"), loss)
        })
        .collect();
    tries.sort_by(|a, b| a.0.total_cmp(&b.0));
    let chosen = outcome.training(arm, "lr").first().copied();
    let at = |place: Option<&(f64, f64)>| place.map(|point| point.0) == chosen;
    let at_edge = chosen.is_some() && tries.len() > 1 && (at(tries.first()) || at(tries.last()));
    Tuned { tries, chosen, at_edge }
}
