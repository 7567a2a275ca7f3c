//! The cell that trains a decoder language model.
//!
//! Leaves `metrics.jsonl`, `checkpoints/` and, if the training came to its end, the model itself in `model/`.
//! A worker that is stopped or killed goes on from the newest whole checkpoint.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use forerun_arch::{Decoder, DecoderConfig, save_checkpoint};
use forerun_runs::metrics::read_metrics;
use forerun_runs::seed::Seed;
use forerun_tensors::{parse_device, seed_generator};
use forerun_tokens::Sampler;
use forerun_train::{EvalSet, Outcome, TrainConfig, train};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cell::CellResult;
use crate::data::open_packed;
use crate::environment;
use crate::model::{LanguageModel, Rows};
use crate::store;
use crate::train_stack::in_a_word;
use crate::training_log::{Course, Log, METRICS};
use crate::worker::{End, Work};

/// Rows of validation text that the loss is watched on during training.
const WATCHED_ROWS: usize = 64;

/// What is trained, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainLm {
    /// The model.
    pub model: DecoderConfig,
    /// The training.
    pub training: TrainConfig,
    /// Root of initialisation, order of the data and dropout.
    pub seed: u64,
}

/// Trains, or goes on with a training.
pub(crate) fn run(task: &TrainLm, work: &Work<'_>) -> Result<End> {
    let device = parse_device(&work.cell.machine.device)?;
    let seed = Seed::new(task.seed);
    // libtorch's generator serves dropout alone; weights and order have streams of their own.
    seed_generator(seed.child("dropout").root() as i64);
    let decoder = Decoder::new(&task.model, &mut seed.stream("init"), device)?;
    let model = LanguageModel(&decoder);

    let seq_len = usize::try_from(task.training.seq_len).context("training.seq_len is negative")?;
    let text = open_packed(&work.cell.inputs, "train", seq_len)?;
    let held_out = open_packed(&work.cell.inputs, "validation", seq_len)?;
    let sampler = Sampler::new(text.len(), seed.child("data").root(), 0, 1)?;
    let mut rows = Rows::shuffled(&text, sampler);
    let mut watched = Rows::in_order(&held_out);
    let n_rows = WATCHED_ROWS.min(usize::try_from(held_out.len()).unwrap_or(usize::MAX));
    let evaluation = EvalSet { data: &mut watched, n_rows };

    let mut log = Log::open(work, task.training.steps, None)?;
    let checkpoints = store::checkpoints(work.dir);
    let outcome =
        train(&model, &mut rows, Some(evaluation), &task.training, &checkpoints, &mut log)?;
    match outcome {
        Outcome::Stopped { .. } => return Ok(End::Stopped { resumable: log.saved }),
        Outcome::Finished { .. } => {
            save_checkpoint(&decoder, &work.dir.join("model"))?;
        }
        Outcome::Diverged { .. } | Outcome::OutOfMemory { .. } => {}
    }
    Ok(End::Result(result(task, work, &decoder, in_a_word(&outcome))?))
}

/// Everything that is told about the training comes from `metrics.jsonl`, so that a resumed run tells the same.
fn result(task: &TrainLm, work: &Work<'_>, decoder: &Decoder, outcome: &str) -> Result<CellResult> {
    let course = Course::of(&read_metrics(&work.dir.join(METRICS))?, None);
    let flops = forerun_arch::flops_per_token(&task.model, task.training.seq_len);
    let (row, series) = course.told(&task.training);
    let own = BTreeMap::from([
        ("outcome", json!(outcome)),
        ("n_params", json!(decoder.parameters().n_elements())),
        ("lr", json!(task.training.optimiser.lr)),
        ("flops_per_sec", json!(course.tokens_per_sec.map(|speed| speed * flops))),
        ("peak_memory_bytes", json!(environment::peak_memory_bytes())),
    ]);
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    Ok(CellResult { row: row.into_iter().chain(own).collect(), series, ..CellResult::default() })
}
