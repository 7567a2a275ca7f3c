//! The loop: updates, evaluations and checkpoints, from wherever the newest checkpoint left off.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use forerun_tensors::load_into;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::batch::Batch;
use crate::checkpoint::state::{State, generator_states, restore_generators};
use crate::checkpoint::{self, Checkpoint};
use crate::clock::{elapsed_secs, speed};
use crate::config::TrainConfig;
use crate::error::{BoxError, Error, Result};
use crate::evaluate::{EvalSet, evaluate};
use crate::model::{Model, Sequences};
use crate::observer::{EvalMetrics, Observer, StepMetrics};
use crate::optimiser::Optimiser;
use crate::step::{accumulate_gradients, clip_gradients};

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
/// [`Error::Config`] if a field is out of range; [`Error::OtherConfig`] if the newest checkpoint belongs to another
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
    let optimiser = match Optimiser::new(model.parameters(), &config.optimiser) {
        Err(error) if error.is_out_of_memory() => return Ok(Outcome::OutOfMemory { step: 0 }),
        other => other?,
    };
    let fields = config.fingerprint().map_err(|error| Error::Config {
        field: "config",
        want: "representable as JSON".to_owned(),
        got: error.to_string(),
    })?;
    let state = State::of_config(fields);
    let mut run =
        Run { model, data, eval, config, folder: checkpoints_dir, observer, optimiser, state };
    match run.resume().and_then(|()| run.finish()) {
        Err(error) if error.is_out_of_memory() => {
            tracing::debug!(step = run.state.step, %error, "out of memory");
            model.parameters().zero_grad();
            Ok(Outcome::OutOfMemory { step: run.state.step })
        }
        other => other,
    }
}

struct Run<'a, 'e> {
    model: &'a dyn Model,
    data: &'a mut dyn Sequences,
    eval: Option<EvalSet<'e>>,
    config: &'a TrainConfig,
    folder: &'a Path,
    observer: &'a mut dyn Observer,
    optimiser: Optimiser,
    /// Progress; hashes, generators and offsets are filled in when it is written.
    state: State,
}

/// What one update or evaluation says about going on.
enum Next {
    Continue,
    Stop,
    End(Outcome),
}

impl Run<'_, '_> {
    fn resume(&mut self) -> Result<()> {
        checkpoint::sweep(self.folder)?;
        let mut offsets = BTreeMap::new();
        if let Some(checkpoint) = self.newest_that_fits()? {
            offsets = self.take_up(checkpoint)?;
        }
        tracing::debug!(step = self.state.step, "training starts");
        self.observer.resumed(self.state.step, &offsets).map_err(Error::observer)
    }

    /// The newest sound checkpoint whose logs are still there; the observer hears of the newer ones.
    fn newest_that_fits(&mut self) -> Result<Option<Checkpoint>> {
        let observer = &mut *self.observer;
        Checkpoint::search(self.folder, |path, found| {
            let fitting = found.and_then(|checkpoint| {
                let State { step, log_offsets, .. } = &checkpoint.state;
                let answer = observer.can_resume(*step, log_offsets);
                let refusal = |reason: BoxError| Error::Logs {
                    path: path.to_path_buf(),
                    reason: reason.to_string(),
                };
                answer.map(|()| checkpoint).map_err(refusal)
            });
            match fitting {
                Ok(checkpoint) => Ok(Some(checkpoint)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "checkpoint refused");
                    observer.checkpoint_refused(path, &error).map_err(Error::observer)?;
                    Ok(None)
                }
            }
        })
    }

    /// Puts everything back as it was; nothing is touched before the configuration has been compared.
    fn take_up(&mut self, checkpoint: Checkpoint) -> Result<BTreeMap<String, u64>> {
        let Checkpoint { path, state, model, optimizer } = checkpoint;
        if let Some((field, checkpoint, run)) = state.difference(&self.state.config) {
            return Err(Error::OtherConfig { path, field, checkpoint, run });
        }
        load_into(&model, self.model.parameters())?;
        self.optimiser.load(&optimizer)?;
        restore_generators(&state.generators, self.device())?;
        let offsets = state.log_offsets.clone();
        self.state = state;
        Ok(offsets)
    }

    fn finish(&mut self) -> Result<Outcome> {
        while self.state.step < self.config.steps {
            let mut next = self.update()?;
            if let Next::End(outcome) = next {
                return Ok(outcome);
            }
            if self.due(self.config.eval_every) {
                match self.evaluate()? {
                    Next::Continue => {}
                    Next::Stop => next = Next::Stop,
                    Next::End(outcome) => return Ok(outcome),
                }
            }
            let stop = matches!(next, Next::Stop);
            let checkpoint_every = self.config.checkpoint_every;
            if checkpoint_every > 0 && (stop || self.due(checkpoint_every)) {
                self.write_checkpoint()?;
            }
            if stop && self.state.step < self.config.steps {
                return Ok(Outcome::Stopped { step: self.state.step });
            }
        }
        let State { step, tokens, loss, eval_loss, .. } = self.state;
        Ok(Outcome::Finished { step, tokens, loss: loss.unwrap_or(f64::NAN), eval_loss })
    }

    /// Whether something that happens every `every` updates, and at the end, happens now.
    fn due(&self, every: u64) -> bool {
        let step = self.state.step;
        step == self.config.steps || (every > 0 && step.is_multiple_of(every))
    }

    fn update(&mut self) -> Result<Next> {
        let since = Instant::now();
        let config = self.config;
        let (device, lr) = (self.device(), config.learning_rate(self.state.step));
        let batch = Batch::fetch(
            self.data,
            self.state.next_row,
            config.batch_size,
            config.seq_len,
            device,
        )?;
        self.model.parameters().zero_grad();
        let loss = accumulate_gradients(self.model, &batch, config)?;
        let grad_norm = clip_gradients(&mut self.optimiser.gradients(), config.clip_norm)?;
        self.optimiser.step(lr)?;
        let [loss, grad_norm] = read_both(&loss, &grad_norm)?;

        let step = self.state.step + 1;
        if !(within(config.max_loss, loss) && grad_norm.is_finite()) {
            tracing::debug!(step, loss, grad_norm, "diverged");
            return Ok(Next::End(Outcome::Diverged { step, loss }));
        }
        self.state.step = step;
        self.state.next_row += config.batch_size as u64;
        self.state.tokens += batch.n_targets as u64;
        self.state.loss = Some(loss);
        let positions = config.batch_size as u64 * config.seq_len as u64;
        let flops = self.model.flops_per_token(config.seq_len);
        let (tokens_per_sec, mfu) = speed(since, positions, flops, config.peak_flops);
        let tokens = self.state.tokens;
        let metrics = StepMetrics { step, tokens, loss, lr, grad_norm, tokens_per_sec, mfu };
        self.observer.step(&metrics).map_err(Error::observer).map(Next::from)
    }

    fn evaluate(&mut self) -> Result<Next> {
        let Some(set) = &mut self.eval else { return Ok(Next::Continue) };
        let since = Instant::now();
        let evaluated = evaluate(self.model, set, self.config)?;
        let State { step, tokens, .. } = self.state;
        let loss = evaluated.loss;
        if !within(self.config.max_loss, loss) {
            tracing::debug!(step, loss, "diverged in evaluation");
            return Ok(Next::End(Outcome::Diverged { step, loss }));
        }
        self.state.eval_loss = Some(loss);
        let (n_tokens, elapsed_secs) = (evaluated.n_tokens, elapsed_secs(since));
        let metrics = EvalMetrics { step, tokens, loss, n_tokens, elapsed_secs };
        self.observer.evaluation(&metrics).map_err(Error::observer).map(Next::from)
    }

    fn write_checkpoint(&mut self) -> Result<()> {
        let state = State {
            log_offsets: self.observer.log_offsets().map_err(Error::observer)?,
            generators: generator_states(self.device())?,
            ..self.state.clone()
        };
        let (model, optimizer) =
            (self.model.parameters().named_tensors(), self.optimiser.named_tensors());
        let path = Checkpoint::write(self.folder, state, &model, &optimizer)?;
        checkpoint::prune(self.folder, self.state.step, self.config.keep_checkpoints)?;
        tracing::debug!(path = %path.display(), "checkpoint written");
        self.observer.checkpoint_written(self.state.step, &path).map_err(Error::observer)
    }

    fn device(&self) -> Device {
        self.model.head().device()
    }
}

impl From<ControlFlow<()>> for Next {
    fn from(flow: ControlFlow<()>) -> Self {
        match flow {
            ControlFlow::Continue(()) => Self::Continue,
            ControlFlow::Break(()) => Self::Stop,
        }
    }
}

/// False for NaN too.
fn within(max_loss: f64, loss: f64) -> bool {
    loss <= max_loss
}

/// Two device scalars with one transfer: the only time that an update waits for the device.
fn read_both(loss: &Tensor, grad_norm: &Tensor) -> Result<[f64; 2]> {
    let both = Tensor::f_stack(&[loss, grad_norm], 0)?
        .f_to_kind(Kind::Double)?
        .f_to_device(Device::Cpu)?;
    Ok([both.f_double_value(&[0])?, both.f_double_value(&[1])?])
}
