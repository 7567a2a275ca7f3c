//! The cells of a horizon experiment. Ours: for every arm, horizon and seed one stack of all learning rates; and for
//! every two seeds one stack at the predicted and the carried learning rate, which needs the fitted horizons. With an
//! external command every training is a cell.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use forerun_arch::DecoderConfig;
use forerun_runs::atomic::sha256_file;
use forerun_runs::seed::Seed;
use forerun_train::{OptimiserConfig, TrainConfig};
use serde_json::{Value, json};

use super::external::{ExternalConfig, Given};
use super::rate::{Ask, SweepRate, SweptCell};
use super::{Arm, CARRIED, HELD_OUT, HorizonConfig, PREDICTED, Place, Rate};
use crate::cell::{Cell, Cost, Task};
use crate::config::Experiment;
use crate::data::{Input, Prepared};
use crate::external::External;
use crate::plan::{LIBTORCH_BYTES, PlannedCell, cell, counted, quantity};
use crate::report_parts::list;
use crate::train_stack::{LearningRate, StackMember, TrainStack, cost};

/// Seeds whose predicted and carried trainings are one stack, so that two workers share them. Their rates come from the
/// sweep of all seeds: with more seeds they are other rates, and these stacks are trained anew.
const SEEDS_A_STACK: usize = 2;

/// What others need first, its longest before its shortest; the short trainings of further arms last, so that no core
/// waits at the end.
pub(crate) fn cells(
    experiment: &Experiment,
    body: &HorizonConfig,
    data: &Prepared,
) -> Result<Vec<PlannedCell>> {
    let layout = Layout { experiment, body, data, files: files(body)? };
    layout.check()?;
    let subject = body.subject().context("`arms` is empty")?;
    let mut cells = Vec::new();
    let mut sweep = Vec::new();
    for &part in body.horizons.fitted.iter().rev() {
        for seed in 0..experiment.seeds {
            let grid = layout.grid(subject, part, seed)?;
            let n_tokens = body.n_tokens(part);
            let swept = (0..grid.len()).map(|index| SweptCell {
                need: cells.len() + index,
                seed,
                n_tokens,
            });
            sweep.extend(swept);
            cells.extend(grid);
        }
    }
    let needs: Vec<String> = cells.iter().map(|planned| planned.key.clone()).collect();
    for seed in 0..experiment.seeds {
        cells.extend(layout.grid(subject, HELD_OUT, seed)?);
    }
    let seeds: Vec<u64> = (0..experiment.seeds).collect();
    for seeds in seeds.chunks(SEEDS_A_STACK) {
        cells.extend(layout.chosen(subject, seeds, &sweep, &needs)?);
    }
    for arm in body.arms.iter().skip(1) {
        for part in body.parts(arm).into_iter().rev() {
            for seed in 0..experiment.seeds {
                cells.extend(layout.grid(arm, part, seed)?);
            }
        }
    }
    Ok(cells)
}

/// The files that an external command's results depend on.
fn files(body: &HorizonConfig) -> Result<BTreeMap<String, Input>> {
    let files = body.external.iter().flat_map(|external| external.files.iter().enumerate());
    let input = |(index, path): (usize, &std::path::PathBuf)| {
        let hash = sha256_file(path).context("external.files")?;
        Ok((format!("file {index}"), Input { path: path.clone(), hash, tokens: None }))
    };
    files.map(input).collect()
}

struct Layout<'a> {
    experiment: &'a Experiment,
    body: &'a HorizonConfig,
    data: &'a Prepared,
    files: BTreeMap<String, Input>,
}

/// A training to be planned.
#[derive(Clone)]
struct Member {
    seed: u64,
    rate: Rate,
    lr: LearningRate,
}

impl Layout<'_> {
    fn check(&self) -> Result<()> {
        for arm in &self.body.arms {
            let (Some(model), Some(training)) = (&arm.model, &arm.training) else { continue };
            for (name, part) in
                [("training", &self.data.train), ("validation", &self.data.validation)]
            {
                if part.n_tokens < training.seq_len as u64 + 1 {
                    bail!("the {name} text has {} tokens, fewer than one sequence", part.n_tokens);
                }
            }
            let context = || format!("arms.{}", arm.name);
            model.check_length(training.seq_len).with_context(context)?;
            for part in self.body.parts(arm) {
                let training = self.training(training, part);
                training
                    .validate()
                    .with_context(|| format!("arms.{}, at {part} of the horizon", arm.name))?;
            }
        }
        Ok(())
    }

    /// All learning rates of an arm's grid at a horizon, for one seed.
    fn grid(&self, arm: &Arm, part: f64, seed: u64) -> Result<Vec<PlannedCell>> {
        let member =
            |&lr: &f64| Member { seed, rate: Rate::At(lr), lr: LearningRate::Fixed { lr } };
        let members: Vec<Member> = self.body.rates(arm, part).iter().map(member).collect();
        self.trainings(arm, part, &members, &[])
    }

    /// The held-out horizon at the learning rates that the fitted ones say.
    fn chosen(
        &self,
        arm: &Arm,
        seeds: &[u64],
        sweep: &[SweptCell],
        needs: &[String],
    ) -> Result<Vec<PlannedCell>> {
        let body = self.body;
        let rate = |ask| {
            let parabola = body.sweep.parabola;
            LearningRate::FromSweep(SweepRate { sweep: sweep.to_vec(), parabola, ask })
        };
        let predicted = rate(Ask::Predicted { n_tokens: body.n_tokens(HELD_OUT) });
        let carried = rate(Ask::BestAt { n_tokens: body.n_tokens(body.horizons.carried_from) });
        let pair = |&seed: &u64| {
            [(Rate::Predicted, predicted.clone()), (Rate::Carried, carried.clone())]
                .map(|(rate, lr)| Member { seed, rate, lr })
        };
        let members: Vec<Member> = seeds.iter().flat_map(pair).collect();
        self.trainings(arm, HELD_OUT, &members, needs)
    }

    /// One stack, or a command for each.
    fn trainings(
        &self,
        arm: &Arm,
        part: f64,
        members: &[Member],
        needs: &[String],
    ) -> Result<Vec<PlannedCell>> {
        let cells = match &self.body.external {
            Some(external) => {
                members.iter().map(|member| self.command(external, arm, part, member)).collect()
            }
            None => vec![self.stack(arm, part, members)?],
        };
        let needs = |cell| Cell { needs: needs.to_vec(), ..cell };
        Ok(cells.into_iter().map(needs).map(PlannedCell::new).collect())
    }

    fn stack(&self, arm: &Arm, part: f64, members: &[Member]) -> Result<Cell> {
        let (Some(model), Some(training)) = (&arm.model, &arm.training) else {
            bail!("arms.{} has no model", arm.name);
        };
        let model = DecoderConfig { vocab_size: self.data.vocab_size, ..model.clone() };
        let training = self.training(training, part);
        let cost = cost(&model, &training, members.len());
        let member = |member: &Member| StackMember {
            lr: member.lr.clone(),
            seed: self.seed(member.seed).root(),
            init: None,
        };
        let task = TrainStack {
            model,
            training,
            members: members.iter().map(member).collect(),
            watched_rows: self.body.sweep.loss_rows,
        };
        let mut seeds: Vec<String> = members.iter().map(|m| m.seed.to_string()).collect();
        seeds.dedup();
        let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
        let noun = if seeds.len() == 1 { "seed" } else { "seeds" };
        let who = format!("{noun} {}", list(&seeds));
        let rates = match members.first().map(|member| member.rate) {
            Some(Rate::At(_)) | None => counted(members.len() as u64, "rate"),
            Some(_) => "predicted and carried rate".to_owned(),
        };
        let label = self.label(arm, part, &rates, &who);
        let cell = self.cell(Task::TrainStack(task), label, arm, part, cost);
        let members = members.iter().map(|member| self.tags(arm, part, member)).collect();
        Ok(Cell { members, inputs: self.data.inputs(), ..cell })
    }

    fn command(&self, external: &ExternalConfig, arm: &Arm, part: f64, member: &Member) -> Cell {
        let n_tokens = self.body.n_tokens(part);
        let given = Given {
            device: self.experiment.device.clone(),
            seed: self.seed(member.seed).root() >> 33, // 31 bits, which every library takes
            n_tokens,
            steps: self.body.steps(part),
        };
        let task = External {
            command: external.command.clone(),
            directory: external.directory.clone(),
            metrics: external.metrics.clone(),
            loss: external.loss.clone(),
            values: external.values(arm, &given),
            lr: member.lr.clone(),
            n_tokens,
            diverged_status: external.diverged_status.clone(),
            timeout_secs: external.timeout_secs,
            expected_secs: external.tokens_per_sec.map(|speed| n_tokens / speed),
        };
        let cost = Cost {
            n_params: arm.n_params.and_then(|n| i64::try_from(n).ok()).unwrap_or(0),
            n_tokens: n_tokens as u64,
            memory_bytes: LIBTORCH_BYTES as u64,
            ..Cost::default()
        };
        let rate = match member.rate {
            Rate::At(lr) => format!("rate {lr}"),
            Rate::Predicted => "predicted rate".to_owned(),
            Rate::Carried => "carried rate".to_owned(),
        };
        let label = self.label(arm, part, &rate, &format!("seed {}", member.seed));
        let mut cell = self.cell(Task::External(task), label, arm, part, cost);
        cell.tags.extend(self.tags(arm, part, member));
        cell.tags.insert("n_params".to_owned(), json!(arm.n_params));
        Cell { inputs: self.files.clone(), ..cell }
    }

    /// The training of a horizon; its members have their own learning rates.
    fn training(&self, training: &TrainConfig, part: f64) -> TrainConfig {
        let steps = self.body.steps(part).unwrap_or(1);
        let share = self.body.sweep.warmup_share;
        let warmup = (steps as f64 * share).round() as u64;
        let least = u64::from(share > 0.0 && steps > 2);
        let optimiser = OptimiserConfig { lr: 1.0, ..training.optimiser.clone() };
        let warmup_steps = warmup.max(least);
        TrainConfig { steps, warmup_steps, optimiser, eval_every: 0, ..training.clone() }
    }

    /// The same seed gives every arm, horizon and learning rate the same initialisation (where the shapes are the same)
    /// and the same order of data: all are paired.
    fn seed(&self, seed: u64) -> Seed {
        Seed::new(self.experiment.root_seed).child(&format!("training/seed-{seed}"))
    }

    fn label(&self, arm: &Arm, part: f64, rates: &str, who: &str) -> String {
        let tokens = quantity(self.body.n_tokens(part));
        format!("train {}, {} tokens, {rates}, {who}", arm.name, tokens.trim_end())
    }

    /// What a training says of itself.
    fn tags(&self, arm: &Arm, part: f64, member: &Member) -> BTreeMap<String, Value> {
        let place = Place { arm: arm.name.clone(), part, rate: member.rate };
        let chosen_by = match member.rate {
            Rate::At(_) => "grid",
            Rate::Predicted => PREDICTED,
            Rate::Carried => CARRIED,
        };
        let tags = [
            ("arm", json!(place.to_string())),
            ("seed", json!(member.seed)),
            ("rate", json!(chosen_by)),
        ];
        tags.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn cell(&self, task: Task, label: String, arm: &Arm, part: f64, cost: Cost) -> Cell {
        let tags = [
            ("variant", json!(arm.name)),
            ("horizon", json!(part)),
            ("batch_tokens", json!(self.body.batch_tokens())),
            ("text_tokens", json!(self.data.train.n_tokens)),
            ("step", json!("train")),
        ];
        cell(self.experiment, task, label, &tags, cost)
    }
}
