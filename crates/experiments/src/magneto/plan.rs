//! The cells of a stability experiment: for every seed, arm and depth one stack of all learning rates; for every seed
//! and arm one measurement of update sizes; and one count of the text's tokens.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use forerun_arch::{DecoderConfig, flops_per_token, n_params};
use forerun_runs::seed::Seed;
use serde_json::{Value, json};

use super::grid::TEXT;
use super::{Arm, MagnetoConfig, Place};
use crate::cell::{Cell, Cost, Task};
use crate::config::Experiment;
use crate::data::Prepared;
use crate::plan::{LIBTORCH_BYTES, PlannedCell, cell};
use crate::train_stack::{LearningRate, StackMember, TrainStack, activation_bytes, cost};
use crate::unigram::UnigramLoss;
use crate::update_size::UpdateSize;

/// The deepest trainings first, so that no core waits for one of them at the end.
pub(crate) fn cells(
    experiment: &Experiment,
    body: &MagnetoConfig,
    data: &Prepared,
) -> Result<Vec<PlannedCell>> {
    check(body, data)?;
    let layout = Layout { experiment, body, data };
    let mut cells = Vec::new();
    for &depth in body.grid.depths.iter().rev() {
        for seed in 0..experiment.seeds {
            cells.extend(body.arms.iter().map(|arm| layout.training(arm, depth, seed)));
        }
    }
    for seed in 0..experiment.seeds {
        cells.extend(body.arms.iter().map(|arm| layout.update(arm, seed)));
    }
    cells.push(layout.text());
    Ok(cells.into_iter().map(PlannedCell::new).collect())
}

fn check(body: &MagnetoConfig, data: &Prepared) -> Result<()> {
    let seq_len = body.training().seq_len.max(body.update.seq_len);
    for (name, part) in [("training", &data.train), ("validation", &data.validation)] {
        if part.n_tokens < seq_len as u64 + 1 {
            bail!("the {name} text has {} tokens, fewer than one sequence", part.n_tokens);
        }
    }
    for arm in &body.arms {
        let length = arm.model.check_length(seq_len);
        length.with_context(|| format!("arms.{}.model", arm.name))?;
    }
    Ok(())
}

struct Layout<'a> {
    experiment: &'a Experiment,
    body: &'a MagnetoConfig,
    data: &'a Prepared,
}

impl Layout<'_> {
    fn training(&self, arm: &Arm, depth: i64, seed: u64) -> Cell {
        let rates = &self.body.grid.learning_rates;
        let model = self.model(arm, depth);
        let member = |&lr: &f64| StackMember {
            lr: LearningRate::Fixed { lr },
            seed: self.stream("training", seed),
            init: None,
        };
        let cost = cost(&model, &arm.training, rates.len());
        let task = TrainStack {
            model,
            training: arm.training.clone(),
            members: rates.iter().map(member).collect(),
            watched_rows: self.body.grid.loss_rows,
        };
        let place = |&lr: &f64| {
            let place = Place { arm: arm.name.clone(), depth, lr };
            BTreeMap::from([("arm".to_owned(), json!(place.to_string()))])
        };
        let tags =
            [("variant", json!(arm.name)), ("depth", json!(depth)), ("step", json!("train"))];
        let label = format!("train {}, {depth} layers, seed {seed}", arm.name);
        let members = rates.iter().map(place).collect();
        Cell { members, ..self.cell(Task::TrainStack(task), label, &tags, seed, cost) }
    }

    fn update(&self, arm: &Arm, seed: u64) -> Cell {
        let update = &self.body.update;
        let deepest = update.depths.last().copied().unwrap_or(1);
        let model = self.model(arm, deepest);
        let adamw = forerun_train::OptimiserConfig {
            lr: update.adamw_lr,
            ..arm.training.optimiser.clone()
        };
        let n_tokens = update.draws as f64 * update.seq_len as f64 * update.batch_size as f64;
        // Forward and backward once, forward three times more: twice the cost of a training step.
        let flops = |&depth: &i64| {
            2.0 * n_tokens * flops_per_token(&self.model(arm, depth), update.seq_len)
        };
        let batch_tokens = update.seq_len as f64 * update.batch_size as f64;
        let weights = 20.0 * n_params(&model) as f64;
        let cost = Cost {
            n_params: n_params(&model),
            n_tokens: (n_tokens * update.depths.len() as f64) as u64,
            flops: update.depths.iter().map(flops).sum(),
            memory_bytes: (LIBTORCH_BYTES + weights + batch_tokens * activation_bytes(&model))
                as u64,
            disk_bytes: 10_000,
        };
        let task = UpdateSize {
            model,
            depths: update.depths.clone(),
            draws: update.draws,
            sgd_lr: update.sgd_lr,
            adamw,
            seq_len: update.seq_len,
            batch_size: update.batch_size,
            seed: self.stream("update", seed),
        };
        let tags =
            [("arm", json!(arm.name)), ("variant", json!(arm.name)), ("step", json!("update"))];
        let label = format!("update size of {}, seed {seed}", arm.name);
        self.cell(Task::UpdateSize(task), label, &tags, seed, cost)
    }

    fn text(&self) -> Cell {
        let task = UnigramLoss {
            vocab_size: self.data.vocab_size,
            seq_len: self.body.training().seq_len,
            held_out_rows: self.body.grid.loss_rows,
        };
        let cost =
            Cost { memory_bytes: LIBTORCH_BYTES as u64, disk_bytes: 1_000, ..Cost::default() };
        let tags = [("arm", json!(TEXT)), ("step", json!("count"))];
        let label = "frequencies of tokens".to_owned();
        self.cell(Task::UnigramLoss(task), label, &tags, 0, cost)
    }

    fn model(&self, arm: &Arm, depth: i64) -> DecoderConfig {
        let vocab_size = self.data.vocab_size;
        DecoderConfig { vocab_size, n_layers: depth, ..arm.model.clone() }
    }

    /// The same seed gives every arm, depth and learning rate the same order of data: all are paired.
    fn stream(&self, label: &str, seed: u64) -> u64 {
        Seed::new(self.experiment.root_seed).child(&format!("{label}/seed-{seed}")).root()
    }

    fn cell(
        &self,
        task: Task,
        label: String,
        tags: &[(&str, Value)],
        seed: u64,
        cost: Cost,
    ) -> Cell {
        let mut tags = tags.to_vec();
        tags.push(("seed", json!(seed)));
        Cell { inputs: self.data.inputs(), ..cell(self.experiment, task, label, &tags, cost) }
    }
}
