//! What a training cell writes down while it goes on, and what its log tells afterwards.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use forerun_runs::metrics::{JsonlWriter, Record};
use forerun_train::{BoxError, EvalMetrics, Observer, StepMetrics, TrainConfig};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cell::Series;
use crate::protocol::Message;
use crate::worker::Work;

/// Every update and evaluation, a line each.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// Points that a loss curve keeps in the result; `metrics.jsonl` has them all.
const CURVE_POINTS: usize = 240;

/// Writes `metrics.jsonl`, tells the parent, and listens whether to stop.
pub(crate) struct Log<'a> {
    path: PathBuf,
    writer: JsonlWriter,
    work: &'a Work<'a>,
    steps: u64,
    /// Members of the stack that is trained; none for a single model, whose records do not name one.
    members: Option<usize>,
    /// Whether there is a checkpoint to go on from.
    pub(crate) saved: bool,
    told: Instant,
}

/// A record of a stack: whose it is, and what any training writes.
#[derive(Serialize)]
struct OfMember<'a, T> {
    member: usize,
    #[serde(flatten)]
    metrics: &'a T,
}

impl<'a> Log<'a> {
    /// Opens the log of a cell that trains for `steps` updates.
    pub(crate) fn open(work: &'a Work<'a>, steps: u64, members: Option<usize>) -> Result<Self> {
        let path = work.dir.join(METRICS);
        let writer = JsonlWriter::append(&path)?;
        Ok(Self { path, writer, work, steps, members, saved: false, told: Instant::now() })
    }

    fn write<T: Serialize>(&mut self, member: usize, metrics: &T) -> Result<(), BoxError> {
        match self.members {
            Some(_) => self.writer.write(&OfMember { member, metrics })?,
            None => self.writer.write(metrics)?,
        }
        Ok(())
    }

    fn tell(&mut self, metrics: &StepMetrics) {
        if metrics.step < self.steps && self.told.elapsed().as_millis() <= 250 {
            return;
        }
        self.told = Instant::now();
        let fraction = metrics.step as f64 / self.steps as f64;
        let speed = metrics.tokens_per_sec * self.members.unwrap_or(1) as f64;
        let note = format!("loss {:.3}, {speed:.0} tokens/s", metrics.loss);
        Message::Progress { fraction, note }.send();
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
        self.member_step(0, metrics)
    }

    fn evaluation(&mut self, metrics: &EvalMetrics) -> Result<ControlFlow<()>, BoxError> {
        self.member_evaluation(0, metrics)
    }

    fn member_step(
        &mut self,
        member: usize,
        metrics: &StepMetrics,
    ) -> Result<ControlFlow<()>, BoxError> {
        self.write(member, metrics)?;
        self.tell(metrics);
        Ok(if self.work.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn member_evaluation(
        &mut self,
        member: usize,
        metrics: &EvalMetrics,
    ) -> Result<ControlFlow<()>, BoxError> {
        let record = json!({
            "step": metrics.step,
            "validation_loss": metrics.loss,
            "validation_tokens": metrics.n_tokens,
            "elapsed_secs": metrics.elapsed_secs,
        });
        self.write(member, &record)?;
        Ok(ControlFlow::Continue(()))
    }

    fn member_diverged(&mut self, member: usize, step: u64, loss: f64) -> Result<(), BoxError> {
        if self.members.is_some() {
            let loss = loss.is_finite().then_some(loss);
            self.write(member, &json!({ "diverged_at_step": step, "diverged_loss": loss }))?;
        }
        Ok(())
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

/// What `metrics.jsonl` holds of one training, of one member if it is a stack's.
#[derive(Debug)]
pub(crate) struct Course {
    /// Update and its loss.
    losses: Vec<(f64, f64)>,
    /// Update and the loss on watched text after it.
    watched: Vec<(f64, f64)>,
    /// The median over updates.
    pub(crate) tokens_per_sec: Option<f64>,
}

impl Course {
    /// The records of `member`; all if none is named.
    pub(crate) fn of(records: &[Record], member: Option<usize>) -> Self {
        let mine = |record: &&Record| match member {
            None => true,
            Some(member) => record.get("member").and_then(Value::as_u64) == Some(member as u64),
        };
        let column = |name: &str| -> Vec<(f64, f64)> {
            let pair = |record: &Record| {
                Some((record.get("step")?.as_f64()?, record.get(name)?.as_f64()?))
            };
            records.iter().filter(mine).filter_map(pair).collect()
        };
        Self {
            losses: column("loss"),
            watched: column("validation_loss"),
            tokens_per_sec: median(column("tokens_per_sec").into_iter().map(|at| at.1).collect()),
        }
    }

    /// The part of a result that any training has: scalars and curves.
    pub(crate) fn told(&self, training: &TrainConfig) -> (BTreeMap<String, Value>, Vec<Series>) {
        let last =
            |points: &[(f64, f64)]| points.last().map_or(Value::Null, |point| json!(point.1));
        let smooth = thin(&self.losses);
        let row = BTreeMap::from([
            ("steps", self.losses.last().map_or(json!(0), |point| json!(point.0 as u64))),
            (
                "n_tokens",
                json!(self.losses.len() * training.batch_size * training.seq_len as usize),
            ),
            ("train_loss", last(&smooth)),
            ("validation_loss", last(&self.watched)),
            ("tokens_per_sec", json!(self.tokens_per_sec)),
        ]);
        let series = vec![series("loss", smooth), series("validation-loss", self.watched.clone())];
        (row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(), series)
    }
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

#[cfg(test)]
mod tests;
