//! Training one model.

use std::path::Path;

use serde::Serialize;

use crate::batch::StackData;
use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::evaluate::EvalSet;
use crate::members::Members;
use crate::model::{Model, Sequences};
use crate::observer::Observer;
use crate::run::{Run, Settings};
use crate::stack::Member;

/// How a run ended. Running out of memory and diverging are results, not errors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// All updates are done.
    Finished {
        /// Updates done.
        step: u64,
        /// Tokens predicted in training.
        tokens: u64,
        /// Loss of the last update's batch, nats per token.
        loss: f64,
        /// Loss of the last evaluation, nats per token; absent without an evaluation set.
        eval_loss: Option<f64>,
    },
    /// A loss was not a number or above `max_loss`, or a gradient was not finite.
    Diverged {
        /// The update in which it showed, counted from 1.
        step: u64,
        /// The loss then.
        loss: f64,
    },
    /// libtorch could not get the memory that it asked for.
    OutOfMemory {
        /// Updates done before.
        step: u64,
    },
    /// The observer asked for the end; with checkpoints on, the run can be resumed here.
    Stopped {
        /// Updates done.
        step: u64,
    },
}

/// Trains `model` on `data` until `config.steps` updates are done, or until one of the other [`Outcome`]s.
///
/// If `checkpoints_dir` holds checkpoints, the newest sound one is taken up: parameters, moments, libtorch's
/// generators and the global row index are put back, and what follows is bit for bit what an undisturbed run gives
/// (same machine, thread count and libtorch), provided that `model` and `data` are the same: of the model, names and
/// shapes are checked, no more. Checkpoints that are damaged, or whose logs the observer cannot put back, are passed
/// over, and the observer hears of each. Without a sound
/// one the run starts with the parameters and the generator as they are. The folder is made when the first
/// checkpoint is written.
///
/// # Errors
/// [`Error::Config`] if a field is out of range or the model is a stack; [`Error::OtherConfig`] if the newest checkpoint belongs to another
/// configuration; otherwise what the model, the data, the observer, the disk or libtorch report.
pub fn train(
    model: &dyn Model,
    data: &mut dyn Sequences,
    eval: Option<EvalSet<'_>>,
    config: &TrainConfig,
    checkpoints_dir: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    config.validate()?;
    Members::of(model).ensure_single()?;
    let members = [Member { lr: config.optimiser.lr }];
    let settings = Settings { config, members: &members, fields: config.fields()? };
    let data = StackData::Shared(data);
    let outcomes = Run::new(model, data, eval, settings, checkpoints_dir, observer).end()?;
    outcomes.into_iter().next().ok_or_else(|| Error::model("a model without members".into()))
}
