//! The cell that trains a decoder language model.
//!
//! Leaves `metrics.jsonl`, `checkpoints/` and, if the training came to its end, the model itself in `model/`.
//! A worker that is stopped or killed goes on from the newest whole checkpoint.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use forerun_arch::{Decoder, DecoderConfig, save_checkpoint};
use forerun_runs::metrics::{JsonlWriter, Record, read_metrics};
use forerun_runs::seed::Seed;
use forerun_tensors::{parse_device, seed_generator};
use forerun_tokens::Sampler;
use forerun_train::{
    BoxError, EvalMetrics, EvalSet, Observer, Outcome, StepMetrics, TrainConfig, train,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cell::{CellResult, Series};
use crate::data::open_packed;
use crate::environment;
use crate::model::{LanguageModel, Rows};
use crate::protocol::Message;
use crate::worker::{End, Work};

/// Points that a loss curve keeps in the result; `metrics.jsonl` has them all.
const CURVE_POINTS: usize = 240;
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

    let mut log = Log::open(task, work)?;
    let checkpoints = work.dir.join("checkpoints");
    let outcome =
        train(&model, &mut rows, Some(evaluation), &task.training, &checkpoints, &mut log)?;
    let name = match outcome {
        Outcome::Stopped { .. } => return Ok(End::Stopped { resumable: log.saved }),
        Outcome::Finished { .. } => "finished",
        Outcome::Diverged { .. } => "diverged",
        Outcome::OutOfMemory { .. } => "out-of-memory",
    };
    if name == "finished" {
        save_checkpoint(&decoder, &work.dir.join("model"))?;
    }
    Ok(End::Result(result(task, work, &decoder, name)?))
}

/// Everything that is told about the training comes from `metrics.jsonl`, so that a resumed run tells the same.
fn result(task: &TrainLm, work: &Work<'_>, decoder: &Decoder, outcome: &str) -> Result<CellResult> {
    let records = read_metrics(&work.dir.join(METRICS))?;
    let column = |name: &str| -> Vec<(f64, f64)> {
        let pair =
            |record: &Record| Some((record.get("step")?.as_f64()?, record.get(name)?.as_f64()?));
        records.iter().filter_map(pair).collect()
    };
    let (losses, watched) = (column("loss"), column("validation_loss"));
    let speed = median(column("tokens_per_sec").into_iter().map(|point| point.1).collect());
    let flops = forerun_arch::flops_per_token(&task.model, task.training.seq_len);
    let last = |points: &[(f64, f64)]| points.last().map_or(Value::Null, |point| json!(point.1));
    let smooth = thin(&losses);
    let row = BTreeMap::from([
        ("outcome", json!(outcome)),
        ("steps", losses.last().map_or(json!(0), |point| json!(point.0 as u64))),
        ("n_params", json!(decoder.parameters().n_elements())),
        (
            "n_tokens",
            json!(losses.len() * task.training.batch_size * task.training.seq_len as usize),
        ),
        ("lr", json!(task.training.optimiser.lr)),
        ("train_loss", last(&smooth)),
        ("validation_loss", last(&watched)),
        ("tokens_per_sec", json!(speed)),
        ("flops_per_sec", json!(speed.map(|speed| speed * flops))),
        ("peak_memory_bytes", json!(environment::peak_memory_bytes())),
    ]);
    let series = vec![series("loss", smooth), series("validation-loss", watched)];
    let row = row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Ok(CellResult { row, series, samples: Vec::new() })
}

pub(crate) fn series(name: &str, points: Vec<(f64, f64)>) -> Series {
    let finite = |y: f64| y.is_finite().then_some(y);
    let (x, y) = points.into_iter().map(|(x, y)| (x, finite(y))).unzip();
    Series { name: name.to_owned(), x, y }
}

/// Means over runs of equal length, each at its last step: a curve that a plot can carry.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let run = points.len().div_ceil(CURVE_POINTS).max(1);
    let mean = |run: &[(f64, f64)]| run.iter().map(|point| point.1).sum::<f64>() / run.len() as f64;
    points.chunks(run).filter_map(|run| Some((run.last()?.0, mean(run)))).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

const METRICS: &str = "metrics.jsonl";

/// Writes `metrics.jsonl`, tells the parent, and listens whether to stop.
struct Log<'a> {
    path: PathBuf,
    writer: JsonlWriter,
    work: &'a Work<'a>,
    steps: u64,
    /// Whether there is a checkpoint to go on from.
    saved: bool,
    told: std::time::Instant,
}

impl<'a> Log<'a> {
    fn open(task: &TrainLm, work: &'a Work<'a>) -> Result<Self> {
        let path = work.dir.join(METRICS);
        let writer = JsonlWriter::append(&path)?;
        Ok(Self {
            path,
            writer,
            work,
            steps: task.training.steps,
            saved: false,
            told: std::time::Instant::now(),
        })
    }
}

impl Observer for Log<'_> {
    fn can_resume(&mut self, _step: u64, offsets: &BTreeMap<String, u64>) -> Result<(), BoxError> {
        let offset = offsets.get(METRICS).copied().unwrap_or(0);
        if offset > self.writer.offset() {
            return Err(
                format!("`{METRICS}` has {} bytes of {offset}", self.writer.offset()).into()
            );
        }
        Ok(())
    }

    fn resumed(&mut self, step: u64, offsets: &BTreeMap<String, u64>) -> Result<(), BoxError> {
        let offset = offsets.get(METRICS).copied().unwrap_or(0);
        self.writer = JsonlWriter::resume(&self.path, offset)?;
        self.saved = step > 0;
        Ok(())
    }

    fn step(&mut self, metrics: &StepMetrics) -> Result<ControlFlow<()>, BoxError> {
        self.writer.write(metrics)?;
        let over = metrics.step == self.steps;
        if over || self.told.elapsed().as_millis() > 250 {
            self.told = std::time::Instant::now();
            let fraction = metrics.step as f64 / self.steps as f64;
            let note = format!("loss {:.3}, {:.0} tokens/s", metrics.loss, metrics.tokens_per_sec);
            Message::Progress { fraction, note }.send();
        }
        Ok(if self.work.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn evaluation(&mut self, metrics: &EvalMetrics) -> Result<ControlFlow<()>, BoxError> {
        let record = json!({
            "step": metrics.step,
            "validation_loss": metrics.loss,
            "validation_tokens": metrics.n_tokens,
            "elapsed_secs": metrics.elapsed_secs,
        });
        self.writer.write(&record)?;
        Ok(ControlFlow::Continue(()))
    }

    fn log_offsets(&mut self) -> Result<BTreeMap<String, u64>, BoxError> {
        self.writer.sync()?;
        Ok(BTreeMap::from([(METRICS.to_owned(), self.writer.offset())]))
    }

    fn checkpoint_written(&mut self, _step: u64, _path: &Path) -> Result<(), BoxError> {
        self.saved = true;
        Ok(())
    }

    fn checkpoint_refused(
        &mut self,
        _path: &Path,
        reason: &forerun_train::Error,
    ) -> Result<(), BoxError> {
        Message::Note {
            text: format!("{reason}; an older one is taken up, or the training starts again"),
        }
        .send();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
