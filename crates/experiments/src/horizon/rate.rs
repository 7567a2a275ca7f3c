//! Learning rates that the plan cannot know: a sweep in other cells finds them.

use anyhow::Result;
use forerun_scaling::parabola::ParabolaConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fit::{self, Run};
use crate::cell::CellResult;
use crate::worker::{Work, needed_result};

/// A learning rate that follows from a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepRate {
    /// The cells that were swept.
    pub sweep: Vec<SweptCell>,
    /// How the best learning rate is read off the losses of a horizon.
    pub parabola: ParabolaConfig,
    /// Which learning rate is meant.
    pub ask: Ask,
}

/// A cell with trainings of one horizon and seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweptCell {
    /// Its place among those that are needed.
    pub need: usize,
    /// Number of its seed.
    pub seed: u64,
    /// Its horizon.
    pub n_tokens: f64,
}

/// What a sweep is asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// What the law through the optima of all horizons says of this one.
    Predicted {
        /// The horizon.
        n_tokens: f64,
    },
    /// The optimum of this horizon of the sweep.
    BestAt {
        /// The horizon.
        n_tokens: f64,
    },
}

impl SweepRate {
    /// The learning rate; none where the sweep does not show it.
    pub(crate) fn find(&self, work: &Work<'_>) -> Result<Option<f64>> {
        let mut runs = Vec::new();
        for cell in &self.sweep {
            runs.extend(runs_of(cell, &needed_result(&work.needed(cell.need)?)?));
        }
        Ok(self.answer(&runs))
    }

    fn answer(&self, runs: &[Run]) -> Option<f64> {
        let mut seeds: Vec<u64> = self.sweep.iter().map(|cell| cell.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        match self.ask {
            Ask::Predicted { n_tokens } => predicted(runs, n_tokens, &seeds, &self.parabola),
            Ask::BestAt { n_tokens } => {
                let optimum = fit::optimum(runs, n_tokens, &seeds, &self.parabola);
                optimum.vertex().map(|vertex| vertex.x)
            }
        }
    }
}

/// What the law through the optima of all horizons of `runs` says of another.
pub(super) fn predicted(
    runs: &[Run],
    n_tokens: f64,
    seeds: &[u64],
    parabola: &ParabolaConfig,
) -> Option<f64> {
    let mut horizons: Vec<f64> = runs.iter().map(|run| run.n_tokens).collect();
    horizons.sort_by(f64::total_cmp);
    horizons.dedup();
    let lr = fit::law(runs, &horizons, seeds, parabola)?.at(n_tokens);
    (lr > 0.0 && lr.is_finite()).then_some(lr)
}

/// The trainings of a cell: the members of a stack, or the one that it is.
fn runs_of(cell: &SweptCell, result: &CellResult) -> Vec<Run> {
    let members = result.members.iter().map(|member| &member.row);
    let rows = if result.members.is_empty() { vec![&result.row] } else { members.collect() };
    let run = |row: &std::collections::BTreeMap<String, Value>| {
        let finished = row.get("outcome").and_then(Value::as_str) == Some("finished");
        let loss = row.get("validation_loss").and_then(Value::as_f64).filter(|_| finished);
        Some(Run {
            seed: cell.seed,
            n_tokens: cell.n_tokens,
            lr: row.get("lr")?.as_f64()?,
            loss: loss.unwrap_or(f64::NAN),
        })
    };
    rows.into_iter().filter_map(run).collect()
}

#[cfg(test)]
mod tests;
