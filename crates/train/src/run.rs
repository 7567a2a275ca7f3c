//! The loop: updates, evaluations and checkpoints, from wherever the newest checkpoint left off. A single model is the
//! case of one member.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use forerun_tensors::load_into;
use serde_json::Value;
use tch::Device;

use crate::batch::{Batch, StackData};
use crate::checkpoint::state::{Divergence, Progress, State, generator_states, restore_generators};
use crate::checkpoint::{self, Checkpoint};
use crate::clock::{elapsed_secs, speed};
use crate::config::TrainConfig;
use crate::error::{BoxError, Error, Result};
use crate::evaluate::{EvalSet, evaluate_stack};
use crate::members::{Members, read};
use crate::model::Model;
use crate::observer::{EvalMetrics, Observer, StepMetrics};
use crate::optimiser::Optimiser;
use crate::stack::Member;
use crate::step::{accumulate_gradients, clip_members};
use crate::train::Outcome;

/// What decides the course of a run.
pub(crate) struct Settings<'a> {
    pub(crate) config: &'a TrainConfig,
    /// One for each member of the model.
    pub(crate) members: &'a [Member],
    /// All of the above that a checkpoint must agree with.
    pub(crate) fields: BTreeMap<String, Value>,
}

/// A run, before or between updates.
pub(crate) struct Run<'a, 'd, 'e> {
    model: &'a dyn Model,
    data: StackData<'d>,
    eval: Option<EvalSet<'e>>,
    settings: Settings<'a>,
    folder: &'a Path,
    observer: &'a mut dyn Observer,
    members: Members,
    /// Progress; hashes, generators and offsets are filled in when it is written.
    state: State,
}

/// What one update or evaluation says about going on; the later one overrules the earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Continue,
    Stop,
    /// No member is left.
    End,
}

impl<'a, 'd, 'e> Run<'a, 'd, 'e> {
    pub(crate) fn new(
        model: &'a dyn Model,
        data: StackData<'d>,
        eval: Option<EvalSet<'e>>,
        settings: Settings<'a>,
        folder: &'a Path,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let members = Members::of(model);
        let state = State::of_config(settings.fields.clone(), settings.members.len());
        Self { model, data, eval, settings, folder, observer, members, state }
    }

    /// Resumes, trains to the end, and says how it was for each member.
    pub(crate) fn end(mut self) -> Result<Vec<Outcome>> {
        match self.resume().and_then(|mut optimiser| self.finish(&mut optimiser)) {
            Err(error) if error.is_out_of_memory() => {
                tracing::debug!(step = self.state.step, %error, "out of memory");
                self.model.parameters().zero_grad();
                let step = self.state.step;
                Ok(self.outcomes(|_| Outcome::OutOfMemory { step }))
            }
            other => other,
        }
    }

    /// Of each member: how it diverged, or what `otherwise` says.
    fn outcomes(&self, otherwise: impl Fn(&Progress) -> Outcome) -> Vec<Outcome> {
        let outcome = |progress: &Progress| match progress.diverged {
            Some(Divergence { step, loss }) => Outcome::Diverged { step, loss },
            None => otherwise(progress),
        };
        self.state.members.iter().map(outcome).collect()
    }

    fn resume(&mut self) -> Result<Optimiser> {
        let (parameters, hyper) = (self.model.parameters(), &self.settings.config.optimiser);
        let mut optimiser = Optimiser::of_members(parameters, hyper, self.members)?;
        checkpoint::sweep(self.folder)?;
        let mut offsets = BTreeMap::new();
        if let Some(checkpoint) = self.newest_that_fits()? {
            offsets = self.take_up(checkpoint, &mut optimiser)?;
        }
        tracing::debug!(step = self.state.step, "training starts");
        self.observer.resumed(self.state.step, &offsets).map_err(Error::observer)?;
        Ok(optimiser)
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
    fn take_up(
        &mut self,
        checkpoint: Checkpoint,
        optimiser: &mut Optimiser,
    ) -> Result<BTreeMap<String, u64>> {
        let Checkpoint { path, state, model, optimizer } = checkpoint;
        if let Some((field, checkpoint, run)) = state.difference(&self.state.config) {
            return Err(Error::OtherConfig { path, field, checkpoint, run });
        }
        load_into(&model, self.model.parameters())?;
        optimiser.load(&optimizer)?;
        restore_generators(&state.generators, self.device())?;
        let offsets = state.log_offsets.clone();
        self.state = state;
        Ok(offsets)
    }

    fn finish(&mut self, optimiser: &mut Optimiser) -> Result<Vec<Outcome>> {
        let TrainConfig { steps, eval_every, checkpoint_every, .. } = *self.settings.config;
        while self.state.step < steps {
            let mut next = self.update(optimiser)?;
            if next != Next::End && self.due(eval_every) {
                next = next.and(self.evaluate()?);
            }
            if next == Next::End {
                break;
            }
            let stop = next == Next::Stop;
            if checkpoint_every > 0 && (stop || self.due(checkpoint_every)) {
                self.write_checkpoint(optimiser)?;
            }
            let step = self.state.step;
            if stop && step < steps {
                return Ok(self.outcomes(|_| Outcome::Stopped { step }));
            }
        }
        let step = self.state.step;
        Ok(self.outcomes(|&Progress { tokens, loss, eval_loss, .. }| Outcome::Finished {
            step,
            tokens,
            loss: loss.unwrap_or(f64::NAN),
            eval_loss,
        }))
    }

    /// Whether something that happens every `every` updates, and at the end, happens now.
    fn due(&self, every: u64) -> bool {
        let step = self.state.step;
        step == self.settings.config.steps || (every > 0 && step.is_multiple_of(every))
    }

    fn update(&mut self, optimiser: &mut Optimiser) -> Result<Next> {
        let since = Instant::now();
        let (config, step) = (self.settings.config, self.state.step + 1);
        let (first_row, n) = (self.state.next_row, config.batch_size);
        let (count, device) = (self.members.count(), self.device());
        let batch =
            Batch::fetch_stack(&mut self.data, count, first_row, n, config.seq_len, device)?;
        self.model.parameters().zero_grad();
        let losses = accumulate_gradients(self.model, &batch, config)?;
        let norms = clip_members(self.members, &mut optimiser.gradients(), config.clip_norm)?;
        let losses = read(&losses)?;
        for (member, (&loss, norm)) in losses.iter().zip(&norms).enumerate() {
            if !(within(config.max_loss, loss) && norm.is_finite()) {
                self.leave_out(member, Divergence { step, loss })?;
            }
        }
        let lrs = self.learning_rates();
        optimiser.step_members(&lrs)?;
        if lrs.iter().all(Option::is_none) {
            return Ok(Next::End);
        }
        self.state.step = step;
        self.state.next_row += config.batch_size as u64;
        let positions = config.batch_size as u64 * config.seq_len as u64;
        let flops = self.model.flops_per_token(config.seq_len);
        let (tokens_per_sec, mfu) = speed(since, positions, flops, config.peak_flops);
        let mut next = Next::Continue;
        for (member, lr) in lrs.into_iter().enumerate() {
            let Some(lr) = lr else { continue };
            let (loss, grad_norm) = (losses[member], norms[member]);
            let progress = &mut self.state.members[member];
            progress.tokens += batch.n_targets[member] as u64;
            progress.loss = Some(loss);
            let tokens = progress.tokens;
            let metrics = StepMetrics { step, tokens, loss, lr, grad_norm, tokens_per_sec, mfu };
            next = next.and(self.observer.member_step(member, &metrics).map_err(Error::observer)?);
        }
        Ok(next)
    }

    /// Learning rate of the next update of each member that is still in the run.
    fn learning_rates(&self) -> Vec<Option<f64>> {
        let TrainConfig { schedule, warmup_steps, steps, .. } = self.settings.config;
        let fraction = schedule.fraction(self.state.step, *warmup_steps, *steps);
        let lr = |(member, progress): (&Member, &Progress)| {
            progress.diverged.is_none().then_some(member.lr * fraction)
        };
        self.settings.members.iter().zip(&self.state.members).map(lr).collect()
    }

    /// Records that a member has diverged, unless it had before.
    fn leave_out(&mut self, member: usize, divergence: Divergence) -> Result<()> {
        let diverged = &mut self.state.members[member].diverged;
        if diverged.is_some() {
            return Ok(());
        }
        *diverged = Some(divergence);
        let Divergence { step, loss } = divergence;
        tracing::debug!(member, step, loss, "diverged");
        self.observer.member_diverged(member, step, loss).map_err(Error::observer)
    }

    fn evaluate(&mut self) -> Result<Next> {
        let Some(set) = &mut self.eval else { return Ok(Next::Continue) };
        let since = Instant::now();
        let (step, max_loss) = (self.state.step, self.settings.config.max_loss);
        let evaluated = evaluate_stack(self.model, set, self.settings.config)?;
        let elapsed_secs = elapsed_secs(since);
        for (member, result) in evaluated.iter().enumerate() {
            if !within(max_loss, result.loss) {
                self.leave_out(member, Divergence { step, loss: result.loss })?;
            }
        }
        if self.state.members.iter().all(|progress| progress.diverged.is_some()) {
            return Ok(Next::End);
        }
        let mut next = Next::Continue;
        for (member, result) in evaluated.into_iter().enumerate() {
            let progress = &mut self.state.members[member];
            if progress.diverged.is_some() {
                continue;
            }
            progress.eval_loss = Some(result.loss);
            let (tokens, loss, n_tokens) = (progress.tokens, result.loss, result.n_tokens);
            let metrics = EvalMetrics { step, tokens, loss, n_tokens, elapsed_secs };
            let answer = self.observer.member_evaluation(member, &metrics);
            next = next.and(answer.map_err(Error::observer)?);
        }
        Ok(next)
    }

    fn write_checkpoint(&mut self, optimiser: &Optimiser) -> Result<()> {
        let state = State {
            log_offsets: self.observer.log_offsets().map_err(Error::observer)?,
            generators: generator_states(self.device())?,
            ..self.state.clone()
        };
        let (model, optimizer) =
            (self.model.parameters().named_tensors(), optimiser.named_tensors());
        let path = Checkpoint::write(self.folder, state, &model, &optimizer)?;
        checkpoint::prune(self.folder, self.state.step, self.settings.config.keep_checkpoints)?;
        tracing::debug!(path = %path.display(), "checkpoint written");
        self.observer.checkpoint_written(self.state.step, &path).map_err(Error::observer)
    }

    fn device(&self) -> Device {
        self.model.head().device()
    }
}

impl Next {
    fn and(self, other: impl Into<Self>) -> Self {
        self.max(other.into())
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
