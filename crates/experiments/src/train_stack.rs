//! The cell that trains several decoders of one shape at once.
//!
//! Leaves `metrics.jsonl`, whose records name the member, `checkpoints/` of the whole stack, and the model of each
//! member that came to its end in `members/INDEX/`. A worker that is stopped or killed goes on from the newest whole
//! checkpoint. A member that diverges is a result of its own; the others go on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use forerun_arch::{Decoder, DecoderConfig, Init, flops_per_token, n_params, save_checkpoint};
use forerun_runs::metrics::read_metrics;
use forerun_runs::seed::Seed;
use forerun_tensors::{parse_device, seed_generator};
use forerun_tokens::{Packed, Sampler};
use forerun_train::{EvalSet, Outcome, Sequences, StackData, TrainConfig, train_stack};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Device;

use crate::cell::{CellResult, Cost, MemberResult};
use crate::data::open_packed;
use crate::environment;
use crate::horizon::SweepRate;
use crate::model::{LanguageModel, Rows};
use crate::plan::LIBTORCH_BYTES;
use crate::protocol::Message;
use crate::store;
use crate::training_log::{Course, Log, METRICS};
use crate::worker::{End, Work, needed_result};

/// What is trained, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainStack {
    /// The model that all members are, but for what they say themselves.
    pub model: DecoderConfig,
    /// The training of each; its learning rate is not used, members have their own.
    pub training: TrainConfig,
    /// What the members differ in; at least one.
    pub members: Vec<StackMember>,
    /// Rows of validation text that the loss is watched on, at most.
    pub watched_rows: u64,
}

/// One member of a stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackMember {
    /// Its peak learning rate.
    pub lr: LearningRate,
    /// Root of its initialisation and of the order of its data.
    pub seed: u64,
    /// How its weights are drawn, if not as the model says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

/// A learning rate that is known, or that another cell finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LearningRate {
    /// Known when the plan is made.
    Fixed {
        /// The rate.
        lr: f64,
    },
    /// That of the member with the lowest validation loss in a stack which this cell needs; of equal ones the lowest
    /// rate.
    BestOf {
        /// Place of that cell among those that this one needs.
        need: usize,
    },
    /// What a sweep over horizons in other cells says.
    FromSweep(SweepRate),
}

impl LearningRate {
    /// The rate; none if the needed cells do not show it.
    pub(crate) fn find(&self, work: &Work<'_>) -> Result<Option<f64>> {
        match self {
            Self::Fixed { lr } => Ok(Some(*lr)),
            Self::BestOf { need } => Ok(best(&needed_result(&work.needed(*need)?)?)),
            Self::FromSweep(rate) => rate.find(work),
        }
    }
}

/// The folder of one member's model in the folder of its stack.
pub(crate) fn model_folder(stack: &Path, member: usize) -> PathBuf {
    stack.join("members").join(member.to_string())
}

/// What training such a stack is expected to cost.
pub(crate) fn cost(model: &DecoderConfig, training: &TrainConfig, n_members: usize) -> Cost {
    let n_members = n_members as f64;
    // In floating point, which cannot overflow; a plan of absurd size is still a plan.
    let n_tokens =
        n_members * training.steps as f64 * training.batch_size as f64 * training.seq_len as f64;
    let n_params = n_params(model);
    let weights = n_members * n_params as f64;
    let step_tokens = n_members * training.micro_batch_size as f64 * training.seq_len as f64;
    Cost {
        n_params,
        n_tokens: n_tokens as u64,
        flops: n_tokens * flops_per_token(model, training.seq_len),
        memory_bytes: (LIBTORCH_BYTES + 16.0 * weights + step_tokens * activation_bytes(model))
            as u64,
        disk_bytes: (4.0 * weights) as u64, // checkpoints go when it is done
    }
}

/// Activations kept for the backward pass, bytes a token: some 14 vectors of the width and 4 of the MLP a layer, the
/// scores aside, which fused attention does not keep.
pub(crate) fn activation_bytes(model: &DecoderConfig) -> f64 {
    let layer = 14.0 * model.d_model as f64 + 4.0 * model.d_ff as f64;
    4.0 * model.n_layers as f64 * layer
}

/// Trains, or goes on with a training.
pub(crate) fn run(task: &TrainStack, work: &Work<'_>) -> Result<End> {
    let Some(rates) = learning_rates(task, work)? else {
        return Ok(End::Result(without_a_rate(task)));
    };
    let first = task.members.first().context("a stack without members")?;
    let device = parse_device(&work.cell.machine.device)?;
    // libtorch's generator serves dropout alone; weights and order have streams of their own.
    seed_generator(Seed::new(first.seed).child("dropout").root() as i64);
    let decoder = stack(task, device)?;
    let model = LanguageModel(&decoder);

    let seq_len = usize::try_from(task.training.seq_len).context("training.seq_len is negative")?;
    let text = open_packed(&work.cell.inputs, "train", seq_len)?;
    let held_out = open_packed(&work.cell.inputs, "validation", seq_len)?;
    let mut sources = sources(task, &text)?;
    let sources = sources.iter_mut().map(|rows| rows as &mut dyn Sequences).collect();
    let mut watched = Rows::in_order(&held_out);
    let n_rows = usize::try_from(task.watched_rows.min(held_out.len())).unwrap_or(usize::MAX);
    let evaluation = EvalSet { data: &mut watched, n_rows };
    let members: Vec<_> = rates.iter().map(|&lr| forerun_train::Member { lr }).collect();

    let mut log = Log::open(work, task.training.steps, Some(members.len()))?;
    let checkpoints = store::checkpoints(work.dir);
    let outcome = train_stack(
        &model,
        StackData::Own(sources),
        Some(evaluation),
        &task.training,
        &members,
        &checkpoints,
        &mut log,
    )?;
    if outcome.is_stopped() {
        return Ok(End::Stopped { resumable: log.saved });
    }
    for (index, outcome) in outcome.members.iter().enumerate() {
        if let Outcome::Finished { .. } = outcome {
            save_checkpoint(&decoder.member(index)?, &model_folder(work.dir, index))?;
        }
    }
    Ok(End::Result(result(task, work, &rates, &outcome.members)?))
}

/// Every member as it would be drawn alone, joined.
fn stack(task: &TrainStack, device: Device) -> Result<Decoder> {
    let draw = |member: &StackMember| -> Result<Decoder> {
        let model =
            DecoderConfig { init: member.init.unwrap_or(task.model.init), ..task.model.clone() };
        Ok(Decoder::new(&model, &mut Seed::new(member.seed).stream("init"), device)?)
    };
    let models: Vec<Decoder> = task.members.iter().map(draw).collect::<Result<_>>()?;
    Ok(Decoder::stack(&models)?)
}

fn sources<'a>(task: &TrainStack, text: &'a Packed) -> Result<Vec<Rows<'a>>> {
    let order = |member: &StackMember| {
        let sampler = Sampler::new(text.len(), Seed::new(member.seed).child("data").root(), 0, 1)?;
        Ok(Rows::shuffled(text, sampler))
    };
    task.members.iter().map(order).collect()
}

/// The learning rate of every member; none if a needed cell found none that trains.
fn learning_rates(task: &TrainStack, work: &Work<'_>) -> Result<Option<Vec<f64>>> {
    let rates: Result<Option<Vec<f64>>> =
        task.members.iter().map(|member| member.lr.find(work)).collect();
    if let Ok(Some(rates)) = &rates
        && let Some(text) = in_words(&task.members, rates)
    {
        Message::Note { text }.send();
    }
    rates
}

/// What a person should know of rates that the plan did not have.
fn in_words(members: &[StackMember], rates: &[f64]) -> Option<String> {
    match &members.iter().find(|member| !matches!(member.lr, LearningRate::Fixed { .. }))?.lr {
        LearningRate::FromSweep(_) => {
            let mut rates: Vec<String> = rates.iter().map(f64::to_string).collect();
            rates.dedup();
            Some(format!("learning rates {}, from the sweep", rates.join(", ")))
        }
        _ => rates.first().map(|lr| format!("learning rate {lr}, the best that was tried")),
    }
}

/// The learning rate of the member with the lowest validation loss; of equal ones the lowest rate.
fn best(tries: &CellResult) -> Option<f64> {
    let finished = tries
        .members
        .iter()
        .map(|member| &member.row)
        .filter(|row| row.get("outcome").and_then(Value::as_str) == Some("finished"));
    finished
        .filter_map(|row| Some((row.get("validation_loss")?.as_f64()?, row.get("lr")?.as_f64()?)))
        .filter(|(loss, _)| loss.is_finite())
        .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)))
        .map(|found| found.1)
}

/// No learning rate that was tried came to its end: nothing is trained, which is a result.
fn without_a_rate(task: &TrainStack) -> CellResult {
    let outcome = || BTreeMap::from([("outcome".to_owned(), json!("no learning rate trained"))]);
    let member = |_: &StackMember| MemberResult { row: outcome(), series: Vec::new() };
    CellResult {
        row: outcome(),
        members: task.members.iter().map(member).collect(),
        ..CellResult::default()
    }
}

/// Everything that is told about the training comes from `metrics.jsonl`, so that a resumed run tells the same.
fn result(
    task: &TrainStack,
    work: &Work<'_>,
    rates: &[f64],
    outcomes: &[Outcome],
) -> Result<CellResult> {
    let courses = courses(work.dir, outcomes.len())?;
    let members = courses.iter().zip(rates).zip(outcomes).enumerate();
    let members = members.map(|(index, ((course, &lr), outcome))| {
        member_result(course, &task.training, index, lr, outcome)
    });
    let row = stack_row(&task.model, &task.training, &courses, outcomes);
    Ok(CellResult { row, members: members.collect(), ..CellResult::default() })
}

/// What `metrics.jsonl` in the folder of a stack says of each member.
pub(crate) fn courses(stack: &Path, n_members: usize) -> Result<Vec<Course>> {
    let records = read_metrics(&stack.join(METRICS))?;
    Ok((0..n_members).map(|member| Course::of(&records, Some(member))).collect())
}

/// What any member of a stack tells of its training.
pub(crate) fn member_result(
    course: &Course,
    training: &TrainConfig,
    index: usize,
    lr: f64,
    outcome: &Outcome,
) -> MemberResult {
    let (mut row, series) = course.told(training);
    row.extend([
        ("outcome".to_owned(), json!(in_a_word(outcome))),
        ("lr".to_owned(), json!(lr)),
        ("member".to_owned(), json!(index)),
    ]);
    if let Outcome::Diverged { step, .. } = outcome {
        row.insert("diverged_at_step".to_owned(), json!(step));
    }
    MemberResult { row, series }
}

/// What is said of a stack as a whole.
pub(crate) fn stack_row(
    model: &DecoderConfig,
    training: &TrainConfig,
    courses: &[Course],
    outcomes: &[Outcome],
) -> BTreeMap<String, Value> {
    // Members share each update's time evenly, and the diverged are computed to the end.
    let fastest = courses.iter().filter_map(|course| course.tokens_per_sec).fold(0.0, f64::max);
    let speed = (fastest > 0.0).then_some(fastest * courses.len() as f64);
    let flops = flops_per_token(model, training.seq_len);
    let row = [
        ("outcome", json!(of_all(outcomes))),
        ("n_params", json!(n_params(model))),
        ("n_members", json!(courses.len())),
        ("stack_tokens_per_sec", json!(speed)),
        ("flops_per_sec", json!(speed.map(|speed| speed * flops))),
        ("peak_memory_bytes", json!(environment::peak_memory_bytes())),
    ];
    row.map(|(name, value)| (name.to_owned(), value)).into()
}

pub(crate) fn in_a_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Finished { .. } => "finished",
        Outcome::Diverged { .. } => "diverged",
        Outcome::OutOfMemory { .. } => "out-of-memory",
        Outcome::Stopped { .. } => "stopped",
    }
}

/// What a manifest calls the cell: finished if any member is.
fn of_all(outcomes: &[Outcome]) -> &'static str {
    let finished = outcomes.iter().find(|outcome| matches!(outcome, Outcome::Finished { .. }));
    finished.or(outcomes.first()).map_or("finished", in_a_word)
}

#[cfg(test)]
mod tests;
