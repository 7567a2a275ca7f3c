//! The cells of a length experiment: for every seed and arm one training and one evaluation of its result.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use forerun_arch::{DecoderConfig, flops_per_token, n_params};
use forerun_runs::seed::Seed;
use serde_json::{Value, json};

use super::{Arm, LengthConfig};
use crate::cell::{Cell, Cost, Machine, Task};
use crate::config::Experiment;
use crate::data::Prepared;
use crate::evaluate::{EvaluateLm, ResolutionTask, SampleTask};
use crate::plan::PlannedCell;
use crate::train_lm::TrainLm;

/// libtorch with nothing in it, in bytes of resident memory.
const LIBTORCH_BYTES: f64 = 260e6;

/// Trainings first, so that with several jobs no core waits for the last one's evaluation.
pub(crate) fn cells(
    experiment: &Experiment,
    body: &LengthConfig,
    data: &Prepared,
) -> Result<Vec<PlannedCell>> {
    check(body, data)?;
    let mut trainings = Vec::new();
    let mut evaluations = Vec::new();
    for seed in 0..experiment.seeds {
        for arm in &body.arms {
            let model = DecoderConfig { vocab_size: data.vocab_size, ..arm.model.clone() };
            let plan = Layout { experiment, body, data, arm, seed, model };
            let training = PlannedCell::new(plan.training());
            evaluations.push(PlannedCell::new(plan.evaluation(&training.key)));
            trainings.push(training);
        }
    }
    trainings.append(&mut evaluations);
    Ok(trainings)
}

fn check(body: &LengthConfig, data: &Prepared) -> Result<()> {
    let last_ratio = body.evaluation.ratios.last().copied().unwrap_or(1);
    let longest = body.training_length().saturating_mul(last_ratio);
    if data.validation.n_tokens < longest as u64 + 1 {
        bail!(
            "the validation text has {} tokens, but the longest evaluation reads {longest} at a time; \
             give more text, or fewer ratios with --set evaluation.ratios=[1,2]",
            data.validation.n_tokens
        );
    }
    let prompt = body.samples.prompt_tokens.unsigned_abs();
    if body.samples.n_prompts > 0 && data.validation.n_tokens < prompt {
        bail!(
            "samples.prompt_tokens: the validation text has {} tokens, fewer than {prompt}",
            data.validation.n_tokens
        );
    }
    if data.train.n_tokens < body.training_length() as u64 + 1 {
        bail!("the training text has {} tokens, fewer than one sequence", data.train.n_tokens);
    }
    for arm in &body.arms {
        arm.model
            .check_length(longest)
            .with_context(|| format!("arms.{}.model, read beyond its length", arm.name))?;
    }
    Ok(())
}

struct Layout<'a> {
    experiment: &'a Experiment,
    body: &'a LengthConfig,
    data: &'a Prepared,
    arm: &'a Arm,
    seed: u64,
    model: DecoderConfig,
}

impl Layout<'_> {
    fn training(&self) -> Cell {
        let training = &self.arm.training;
        // In floating point, which cannot overflow; a plan of absurd size is still a plan.
        let n_tokens = training.steps as f64 * training.batch_size as f64 * training.seq_len as f64;
        let task = TrainLm {
            model: self.model.clone(),
            training: training.clone(),
            seed: self.stream("training"),
        };
        let n_params = n_params(&self.model) as f64;
        let step_tokens = training.micro_batch_size as f64 * training.seq_len as f64;
        let cost = Cost {
            n_params: n_params as i64,
            n_tokens: n_tokens as u64,
            flops: n_tokens * flops_per_token(&self.model, training.seq_len),
            memory_bytes: (LIBTORCH_BYTES + 16.0 * n_params + step_tokens * self.activation_bytes())
                as u64,
            disk_bytes: (12.0 * n_params * training.keep_checkpoints as f64 + 4.0 * n_params)
                as u64,
        };
        self.cell(Task::TrainLm(task), "train", Vec::new(), cost)
    }

    fn evaluation(&self, training: &str) -> Cell {
        let evaluation = &self.body.evaluation;
        let samples = &self.body.samples;
        let seq_len = self.body.training_length();
        let task = EvaluateLm {
            lengths: evaluation.ratios.iter().map(|ratio| ratio * seq_len).collect(),
            block_size: seq_len / 2,
            n_tokens: evaluation.n_tokens,
            resolution: ResolutionTask {
                lengths: evaluation.resolution_ratios.iter().map(|ratio| ratio * seq_len).collect(),
                n_sequences: evaluation.resolution_sequences,
            },
            samples: SampleTask {
                n_prompts: samples.n_prompts,
                prompt_tokens: samples.prompt_tokens,
                new_tokens: samples.new_tokens,
                temperature: samples.temperature,
                top_p: samples.top_p,
            },
            seed: self.stream("evaluation"),
        };
        let n_tokens = 2.0 * evaluation.n_tokens as f64 * evaluation.ratios.len() as f64;
        let scored =
            evaluation.resolution_ratios.last().map_or(0.0, |ratio| (ratio * seq_len) as f64);
        // Attention resolution holds the scores of a layer, and their like while it works on them.
        let scores = 3.0
            * 4.0
            * scored
            * scored
            * (self.model.n_heads * evaluation.resolution_sequences) as f64;
        let forward = |&length: &i64| {
            flops_per_token(&self.model, length) / 3.0 * 2.0 * evaluation.n_tokens as f64
        };
        let cost = Cost {
            n_params: n_params(&self.model),
            n_tokens: n_tokens as u64,
            flops: task.lengths.iter().map(forward).sum(),
            memory_bytes: (LIBTORCH_BYTES + 4.0 * n_params(&self.model) as f64 + 200e6 + scores)
                as u64,
            disk_bytes: 100_000,
        };
        self.cell(Task::EvaluateLm(task), "evaluate", vec![training.to_owned()], cost)
    }

    /// The same seed gives every arm the same order of data and the same prompts: arms are paired.
    fn stream(&self, label: &str) -> u64 {
        Seed::new(self.experiment.root_seed).child(&format!("{label}/seed-{}", self.seed)).root()
    }

    /// Activations kept for the backward pass, bytes a token: some 14 vectors of the width and 4 of the MLP a
    /// layer, the scores aside, which fused attention does not keep.
    fn activation_bytes(&self) -> f64 {
        let layer = 14.0 * self.model.d_model as f64 + 4.0 * self.model.d_ff as f64;
        4.0 * self.model.n_layers as f64 * layer
    }

    fn cell(&self, task: Task, step: &str, needs: Vec<String>, cost: Cost) -> Cell {
        let tags: [(&str, Value); 4] = [
            ("arm", json!(self.arm.name)),
            ("step", json!(step)),
            ("seed", json!(self.seed)),
            ("experiment", json!(self.experiment.name)),
        ];
        Cell {
            task,
            machine: Machine {
                device: self.experiment.device.clone(),
                threads: self.experiment.threads,
            },
            inputs: self.data.inputs(),
            needs,
            label: format!("{} {}, seed {}", step, self.arm.name, self.seed),
            tags: BTreeMap::from(tags.map(|(name, value)| (name.to_owned(), value))),
            cost,
        }
    }
}
