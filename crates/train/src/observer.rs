//! What the loop tells the outside while it runs, and what it asks back.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;

use crate::error::{BoxError, Error};

/// Measurements of one update.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepMetrics {
    /// Updates done, this one included.
    pub step: u64,
    /// Tokens predicted since the start of the run, this update included.
    pub tokens: u64,
    /// Mean loss of this update's batch before the update, nats per token.
    pub loss: f64,
    /// Learning rate of this update, without multipliers.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Sequence positions processed per second of this update; a timing, not reproducible.
    pub tokens_per_sec: f64,
    /// Model FLOP utilisation of this update, in `[0, 1]` if `peak_flops` is honest; a timing, not reproducible.
    pub mfu: Option<f64>,
}

/// Measurements of one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalMetrics {
    /// Updates done.
    pub step: u64,
    /// Tokens predicted in training since the start of the run.
    pub tokens: u64,
    /// Mean loss over the evaluation rows, nats per token.
    pub loss: f64,
    /// Tokens predicted in this evaluation.
    pub n_tokens: u64,
    /// Duration in seconds; a timing, not reproducible.
    pub elapsed_secs: f64,
}

/// Receives what happens, in order. An `Err` ends the run with [`Error::Caller`], unless the method says otherwise.
pub trait Observer {
    /// Whether the logs can be put back to where they were at `offsets`, after `step` updates; asked of every sound
    /// checkpoint, newest first, until one fits. Nothing may be changed yet.
    ///
    /// # Errors
    /// What does not fit, for example a log that is missing or shorter than its offset. It does not end the run: the
    /// checkpoint is passed over like a damaged one, and [`Self::checkpoint_refused`] hears of it.
    fn can_resume(&mut self, step: u64, offsets: &BTreeMap<String, u64>) -> Result<(), BoxError> {
        let _ = (step, offsets);
        Ok(())
    }

    /// Before the first update, always: the run goes on after `step` updates, with the logs as they were at
    /// `offsets`. A log that is longer must be cut back to its offset; one that is not in the map, to nothing. A
    /// fresh start is step 0 with an empty map.
    ///
    /// # Errors
    /// Whatever the observer reports.
    fn resumed(&mut self, step: u64, offsets: &BTreeMap<String, u64>) -> Result<(), BoxError> {
        let _ = (step, offsets);
        Ok(())
    }

    /// After every update. `Break` stops the run after a due evaluation and a checkpoint.
    ///
    /// # Errors
    /// Whatever the observer reports.
    fn step(&mut self, metrics: &StepMetrics) -> Result<ControlFlow<()>, BoxError>;

    /// After every evaluation. `Break` stops the run after a checkpoint.
    ///
    /// # Errors
    /// Whatever the observer reports.
    fn evaluation(&mut self, metrics: &EvalMetrics) -> Result<ControlFlow<()>, BoxError> {
        let _ = metrics;
        Ok(ControlFlow::Continue(()))
    }

    /// Length in bytes of every log, asked before a checkpoint is written. What lies before these offsets must be
    /// on disk when this returns.
    ///
    /// # Errors
    /// Whatever the observer reports.
    fn log_offsets(&mut self) -> Result<BTreeMap<String, u64>, BoxError> {
        Ok(BTreeMap::new())
    }

    /// After a checkpoint is safe on disk in folder `path`.
    ///
    /// # Errors
    /// Whatever the observer reports.
    fn checkpoint_written(&mut self, step: u64, path: &Path) -> Result<(), BoxError> {
        let _ = (step, path);
        Ok(())
    }

    /// When a checkpoint that is damaged or does not fit its logs is passed over in favour of an older one, or of a
    /// fresh start.
    ///
    /// # Errors
    /// Whatever the observer reports.
    fn checkpoint_refused(&mut self, path: &Path, reason: &Error) -> Result<(), BoxError> {
        let _ = (path, reason);
        Ok(())
    }
}
