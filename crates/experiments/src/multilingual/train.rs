//! The cell that trains several decoders of one shape at once, each on a mixture of families, and measures the loss per
//! character of each family.
//!
//! Members differ in their shares and, if they say so, in their seeds. Members of one seed begin with the same weights
//! and read each family's rows in the same order, one further than the other.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use forerun_arch::{Decoder, DecoderConfig, n_non_embedding_params};
use forerun_runs::seed::Seed;
use forerun_tensors::{parse_device, seed_generator};
use forerun_tokens::{Packed, Sampler};
use forerun_train::{
    EvalSet, Member, Outcome, Sequences, StackData, TrainConfig, evaluate_stack, train_stack,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::data::{held_out_input, train_input};
use super::fit::best_shares;
use super::place::{LOSS, SHARE};
use super::rows::{MixedRows, Schedule, Spread};
use crate::cell::{CellResult, MemberResult};
use crate::data::open_packed;
use crate::model::LanguageModel;
use crate::store;
use crate::train_stack::{courses, member_result, stack_row};
use crate::training_log::{Course, Log, series};
use crate::worker::{End, Work, needed_result};

/// What is trained, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainMixture {
    /// The model that all members are.
    pub model: DecoderConfig,
    /// The training of each.
    pub training: TrainConfig,
    /// Names of the families, whose texts are the inputs `train/NAME` and `validation/NAME`.
    pub families: Vec<String>,
    /// Characters for each held-out token, by family: what turns a loss per token into one per character.
    pub characters_per_token: Vec<f64>,
    /// What the members differ in; at least one.
    pub members: Vec<MixtureMember>,
    /// Rows of held-out text of each family, at most.
    pub held_out_rows: u64,
}

/// One member of a stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureMember {
    /// What it is trained on.
    pub shares: Shares,
    /// Root of its initialisation and of the order of its data.
    pub seed: u64,
}

/// Shares that are known, or that another cell finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Shares {
    /// Known when the plan is made, by family.
    Fixed {
        /// The shares; 1 in sum.
        shares: Vec<f64>,
    },
    /// The best that a cell which this one needs has found.
    BestOf {
        /// Place of that cell among those that this one needs.
        need: usize,
    },
}

/// Trains, or goes on with a training.
pub(crate) fn run(task: &TrainMixture, work: &Work<'_>) -> Result<End> {
    let shares: Vec<Option<Vec<f64>>> =
        task.members.iter().map(|member| known(&member.shares, work)).collect::<Result<_>>()?;
    if shares.iter().all(Option::is_none) {
        return Ok(End::Result(without_shares(task)));
    }
    // A member without a mixture keeps its place in the stack, on equal shares, and has no result.
    let equal = vec![1.0 / task.families.len() as f64; task.families.len()];
    let used: Vec<&Vec<f64>> =
        shares.iter().map(|shares| shares.as_ref().unwrap_or(&equal)).collect();

    let first = task.members.first().context("a stack without members")?;
    // libtorch's generator serves dropout alone; weights and order have streams of their own.
    seed_generator(Seed::new(first.seed).child("dropout").root() as i64);
    let decoder = stack(task, work)?;
    let model = LanguageModel(&decoder);
    let texts = open(task, work, train_input)?;
    let mut sources: Vec<MixedRows<'_>> = task
        .members
        .iter()
        .zip(&used)
        .map(|(member, shares)| source(task, &texts, member.seed, shares))
        .collect::<Result<_>>()?;
    let totals: Vec<Vec<u64>> =
        sources.iter().map(|rows| rows.schedule.totals(texts.len())).collect();
    let sources = sources.iter_mut().map(|rows| rows as &mut dyn Sequences).collect();
    let members = vec![Member { lr: task.training.optimiser.lr }; task.members.len()];
    let mut log = Log::open(work, task.training.steps, Some(members.len()))?;
    let outcome = train_stack(
        &model,
        StackData::Own(sources),
        None,
        &task.training,
        &members,
        &store::checkpoints(work.dir),
        &mut log,
    )?;
    if outcome.is_stopped() {
        return Ok(End::Stopped { resumable: log.saved });
    }
    let losses = held_out(task, work, &model)?;
    let found = Found { shares, totals, texts: &texts, losses, outcomes: outcome.members };
    Ok(End::Result(result(task, work.dir, &found)?))
}

/// The shares of a member; none if the cell that was to find them has not.
fn known(shares: &Shares, work: &Work<'_>) -> Result<Option<Vec<f64>>> {
    match shares {
        Shares::Fixed { shares } => Ok(Some(shares.clone())),
        Shares::BestOf { need } => Ok(best_shares(&needed_result(&work.needed(*need)?)?)),
    }
}

/// Every member as it would be drawn alone, joined.
fn stack(task: &TrainMixture, work: &Work<'_>) -> Result<Decoder> {
    let device = parse_device(&work.cell.machine.device)?;
    let draw = |member: &MixtureMember| {
        Decoder::new(&task.model, &mut Seed::new(member.seed).stream("init"), device)
    };
    let models: Vec<Decoder> = task.members.iter().map(draw).collect::<Result<_, _>>()?;
    Ok(Decoder::stack(&models)?)
}

/// The texts of all families, by the name that `input` gives each.
fn open(task: &TrainMixture, work: &Work<'_>, input: fn(&str) -> String) -> Result<Vec<Packed>> {
    let seq_len = usize::try_from(task.training.seq_len).context("training.seq_len is negative")?;
    let open = |family: &String| open_packed(&work.cell.inputs, &input(family), seq_len);
    task.families.iter().map(open).collect()
}

fn source<'a>(
    task: &TrainMixture,
    texts: &'a [Packed],
    seed: u64,
    shares: &[f64],
) -> Result<MixedRows<'a>> {
    let n_rows = task.training.steps * task.training.batch_size as u64;
    let order = |(family, text): (&String, &Packed)| {
        let seed = Seed::new(seed).child(&format!("data/{family}")).root();
        Sampler::new(text.len(), seed, 0, 1)
    };
    let order = task.families.iter().zip(texts).map(order).collect::<Result<_, _>>()?;
    Ok(MixedRows { texts, order, schedule: Schedule::new(shares, n_rows) })
}

/// Loss by member and family, nats per character.
fn held_out(
    task: &TrainMixture,
    work: &Work<'_>,
    model: &LanguageModel<'_>,
) -> Result<Vec<Vec<f64>>> {
    let mut losses = vec![Vec::new(); task.members.len()];
    let texts = open(task, work, held_out_input)?;
    for (text, characters) in texts.iter().zip(&task.characters_per_token) {
        let n_rows = task.held_out_rows.min(text.len());
        let mut rows = Spread { text, n_rows };
        let n_rows = usize::try_from(n_rows).unwrap_or(usize::MAX);
        let mut set = EvalSet { data: &mut rows, n_rows };
        let evaluated = evaluate_stack(model, &mut set, &task.training)?;
        for (losses, evaluated) in losses.iter_mut().zip(evaluated) {
            losses.push(evaluated.loss / characters);
        }
    }
    Ok(losses)
}

/// What training and measuring gave, by member.
struct Found<'a> {
    shares: Vec<Option<Vec<f64>>>,
    /// Rows of each family that it read.
    totals: Vec<Vec<u64>>,
    texts: &'a [Packed],
    losses: Vec<Vec<f64>>,
    outcomes: Vec<Outcome>,
}

/// Everything that is told about the training comes from `metrics.jsonl`, so that a resumed run tells the same.
fn result(task: &TrainMixture, dir: &Path, found: &Found<'_>) -> Result<CellResult> {
    let courses = courses(dir, task.members.len())?;
    let members =
        courses.iter().enumerate().map(|(index, course)| member(task, found, index, course));
    let mut row = stack_row(&task.model, &task.training, &courses, &found.outcomes);
    let size = json!(n_non_embedding_params(&task.model));
    row.insert("n_non_embedding_params".to_owned(), size);
    Ok(CellResult { row, members: members.collect(), ..CellResult::default() })
}

fn member(task: &TrainMixture, found: &Found<'_>, index: usize, course: &Course) -> MemberResult {
    let Some(shares) = &found.shares[index] else { return no_mixture() };
    let outcome = &found.outcomes[index];
    let lr = task.training.optimiser.lr;
    let mut told = member_result(course, &task.training, index, lr, outcome);
    let finished = matches!(outcome, Outcome::Finished { .. });
    let losses: Vec<f64> = match finished {
        true => found.losses[index].clone(),
        false => vec![f64::NAN; shares.len()],
    };
    for (family, name) in task.families.iter().enumerate() {
        let loss = losses.get(family).filter(|loss| loss.is_finite());
        let epochs = found.totals[index][family] as f64 / found.texts[family].len() as f64;
        told.row.insert(format!("share_{name}"), json!(shares[family]));
        told.row.insert(format!("loss_{name}"), json!(loss));
        told.row.insert(format!("epochs_{name}"), json!(epochs));
    }
    told.series.extend([by_family(SHARE, shares), by_family(LOSS, &losses)]);
    told
}

/// Values over the families' places.
pub(super) fn by_family(name: &str, values: &[f64]) -> crate::cell::Series {
    series(name, values.iter().enumerate().map(|(family, &value)| (family as f64, value)).collect())
}

/// No mixture was found: nothing is told of its training, which is a result.
fn no_mixture() -> MemberResult {
    let row = owned(BTreeMap::from([("outcome", json!("no mixture was found"))]));
    MemberResult { row, series: Vec::new() }
}

fn without_shares(task: &TrainMixture) -> CellResult {
    let members = task.members.iter().map(|_| no_mixture()).collect();
    CellResult { row: no_mixture().row, members, ..CellResult::default() }
}

pub(super) fn owned(row: BTreeMap<&str, Value>) -> BTreeMap<String, Value> {
    row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
