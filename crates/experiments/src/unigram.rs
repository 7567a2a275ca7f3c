//! The cell that says how well the frequencies of tokens alone predict a text: the loss of a model that has learnt
//! which tokens are common, and nothing of what stands before them. A training that ends there has failed.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cell::CellResult;
use crate::data::open_packed;
use crate::training_log::series;
use crate::worker::{End, Work};

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnigramLoss {
    /// Token ids are below this.
    pub vocab_size: i64,
    /// Tokens in a row of text.
    pub seq_len: i64,
    /// Rows of held-out text that are predicted, from its beginning: those on which trainings are watched.
    pub held_out_rows: u64,
}

/// Counts the training text and predicts the held-out one.
pub(crate) fn run(task: &UnigramLoss, work: &Work<'_>) -> Result<End> {
    let seq_len = usize::try_from(task.seq_len).context("seq_len is negative")?;
    let text = open_packed(&work.cell.inputs, "train", seq_len)?;
    let held_out = open_packed(&work.cell.inputs, "validation", seq_len)?;
    let mut counts = vec![0_u64; usize::try_from(task.vocab_size).context("vocab_size")?];
    for row in 0..text.len() {
        if work.stopped() {
            return Ok(End::Stopped { resumable: false });
        }
        count(&text.row(row)?[1..], &mut counts)?;
    }
    let mut targets = vec![0_u64; counts.len()];
    for row in 0..held_out.len().min(task.held_out_rows) {
        count(&held_out.row(row)?[1..], &mut targets)?;
    }
    let loss = cross_entropy(&counts, &targets);
    let row = BTreeMap::from([
        ("outcome".to_owned(), json!("finished")),
        ("unigram_loss".to_owned(), json!(loss)),
    ]);
    let series = vec![series("unigram-loss", vec![(0.0, loss)])];
    Ok(End::Result(CellResult { row, series, ..CellResult::default() }))
}

fn count(ids: &[i64], counts: &mut [u64]) -> Result<()> {
    for &id in ids {
        let slot = usize::try_from(id).ok().and_then(|id| counts.get_mut(id));
        *slot.with_context(|| format!("token {id} is not below the vocabulary's size"))? += 1;
    }
    Ok(())
}

/// Mean loss of `targets` under the frequencies of `counts`, nats per token; one is added to every count, so that no
/// token is impossible.
fn cross_entropy(counts: &[u64], targets: &[u64]) -> f64 {
    let total = (counts.iter().sum::<u64>() + counts.len() as u64) as f64;
    let n_targets = targets.iter().sum::<u64>() as f64;
    let nats = |(&count, &n): (&u64, &u64)| n as f64 * (total / (count + 1) as f64).ln();
    counts.iter().zip(targets).map(nats).sum::<f64>() / n_targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_frequencies_cost_the_logarithm_of_their_number() {
        let loss = cross_entropy(&[99, 99, 99, 99], &[1, 0, 7, 2]);
        assert!((loss - 4_f64.ln()).abs() < 1e-12, "{loss}");
    }

    #[test]
    fn a_text_like_the_counted_one_costs_its_entropy() {
        let counts = [3_000_000, 1_000_000];
        let entropy = -(0.75 * 0.75_f64.ln() + 0.25 * 0.25_f64.ln());
        assert!((cross_entropy(&counts, &[3, 1]) - entropy).abs() < 1e-6);
        assert!(cross_entropy(&counts, &[1, 3]) > entropy + 0.3, "another text costs more");
    }

    #[test]
    fn what_was_never_seen_is_dear_but_possible() {
        let loss = cross_entropy(&[1_000, 0], &[0, 1]);
        assert!((loss - 1_002_f64.ln()).abs() < 1e-12, "{loss}");
    }

    #[test]
    fn a_token_beyond_the_vocabulary_is_refused_by_number() {
        let error = count(&[2], &mut [0, 0]).unwrap_err().to_string();
        assert!(error.contains("token 2"), "{error}");
    }
}
