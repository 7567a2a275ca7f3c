//! What the loop tells the outside while it runs, and what it asks back.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;

use crate::error::{BoxError, Error};

/// Measurements of one update, of one model: of a stack each member has its own.
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
    /// Sequence positions of this model processed per second of this update; a timing, not reproducible. Those of the
    /// members of a stack add up to what the stack processes.
    pub tokens_per_sec: f64,
    /// Model FLOP utilisation of this update, in `[0, 1]` if `peak_flops` is honest; a timing, not reproducible. Those
    /// of the members of a stack add up.
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

    /// After every update of a stack, once for each member that has not diverged, in order; of a single model, which is
    /// member 0, it is [`Self::step`]. `Break` of any member stops the whole run.
    ///
    /// # Errors
    /// Whatever the observer reports.
    fn member_step(
        &mut self,
        member: usize,
        metrics: &StepMetrics,
    ) -> Result<ControlFlow<()>, BoxError> {
        let _ = member;
        self.step(metrics)
    }

    /// After every evaluation of a stack, once for each member that has not diverged, in order; of a single model it is
    /// [`Self::evaluation`]. `Break` of any member stops the whole run.
    ///
    /// # Errors
    /// Whatever the observer reports.
    fn member_evaluation(
        &mut self,
        member: usize,
        metrics: &EvalMetrics,
    ) -> Result<ControlFlow<()>, BoxError> {
        let _ = member;
        self.evaluation(metrics)
    }

    /// When a member diverges in update or evaluation `step`, counted from 1, before the others' metrics of the same
    /// step. It is not heard of again; a single model's run ends with it.
    ///
    /// # Errors
    /// Whatever the observer reports.
    fn member_diverged(&mut self, member: usize, step: u64, loss: f64) -> Result<(), BoxError> {
        let _ = (member, step, loss);
        Ok(())
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
