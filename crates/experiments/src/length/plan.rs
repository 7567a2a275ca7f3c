//! The cells of a length experiment: for every seed and arm one training and one evaluation of its result. With
//! tuning, an arm's seeds are trained as stacks, after a stack of its learning rates.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use forerun_arch::{DecoderConfig, flops_per_token, n_params};
use forerun_runs::seed::Seed;
use forerun_train::{OptimiserConfig, TrainConfig};
use serde_json::{Value, json};

use super::{Arm, LengthConfig, TuningConfig};
use crate::cell::{Cell, Cost, Machine, Task};
use crate::config::Experiment;
use crate::data::{Input, Part, Prepared};
use crate::evaluate::{EvaluateLm, ResolutionTask, SampleTask};
use crate::plan::{LIBTORCH_BYTES, PlannedCell};
use crate::train_lm::TrainLm;
use crate::train_stack::{self, LearningRate, StackMember, TrainStack};

/// Seeds that are trained as one stack: `--seeds` that is a multiple of it finds the stacks of a smaller one again.
const SEEDS_A_STACK: u64 = 3;
/// Rows of validation text that the loss of a training without tuning is watched on.
const WATCHED_ROWS: u64 = 64;

/// Trainings first, so that with several jobs no core waits for the last one's evaluation.
pub(crate) fn cells(
    experiment: &Experiment,
    body: &LengthConfig,
    data: &Prepared,
) -> Result<Vec<PlannedCell>> {
    let layout = Layout::new(experiment, body, data)?;
    let Some(tuning) = &body.tuning else { return layout.one_by_one() };
    let tries: Vec<PlannedCell> =
        body.arms.iter().map(|arm| layout.tries(arm, tuning)).collect::<Result<_>>()?;
    let (mut trainings, mut evaluations) = (Vec::new(), Vec::new());
    let subjects = body.arms.iter().zip(&tries).flat_map(|(arm, tries)| {
        let own = Subject {
            name: arm.name.clone(),
            arm,
            model: arm.model.clone(),
            seeds: experiment.seeds,
        };
        let points = layout.points(arm).into_iter();
        std::iter::once(own).chain(points).map(move |subject| (subject, tries))
    });
    for (subject, tries) in subjects {
        layout.train_and_evaluate(&subject, Some(tries), &mut trainings, &mut evaluations)?;
    }
    Ok(tries.into_iter().chain(trainings).chain(evaluations).collect())
}

/// Something that is trained for some seeds and read at every length: an arm, or an arm with other constants.
struct Subject<'a> {
    name: String,
    arm: &'a Arm,
    model: DecoderConfig,
    seeds: u64,
}

struct Layout<'a> {
    experiment: &'a Experiment,
    body: &'a LengthConfig,
    data: &'a Prepared,
    /// Validation text that evaluations read.
    evaluated: Part,
    /// Validation text that trainings are watched on; with tuning it is not evaluated.
    watched: Part,
}

impl<'a> Layout<'a> {
    fn new(experiment: &'a Experiment, body: &'a LengthConfig, data: &'a Prepared) -> Result<Self> {
        let (evaluated, watched) = match &body.tuning {
            Some(tuning) => apart(&data.validation, tuning.n_tokens)?,
            None => (data.validation.clone(), data.validation.clone()),
        };
        let layout = Self { experiment, body, data, evaluated, watched };
        layout.check()?;
        Ok(layout)
    }

    fn check(&self) -> Result<()> {
        let Self { body, data, evaluated, .. } = self;
        let last_ratio = body.evaluation.ratios.last().copied().unwrap_or(1);
        let longest = body.training_length().saturating_mul(last_ratio);
        if evaluated.n_tokens < longest as u64 + 1 {
            bail!(
                "the validation text has {} tokens, but the longest evaluation reads {longest} at a time; \
                 give more text, or fewer ratios with --set evaluation.ratios=[1,2]",
                evaluated.n_tokens
            );
        }
        let prompt = body.samples.prompt_tokens.unsigned_abs();
        if body.samples.n_prompts > 0 && evaluated.n_tokens < prompt {
            bail!(
                "samples.prompt_tokens: the validation text has {} tokens, fewer than {prompt}",
                evaluated.n_tokens
            );
        }
        if data.train.n_tokens < body.training_length() as u64 + 1 {
            bail!("the training text has {} tokens, fewer than one sequence", data.train.n_tokens);
        }
        for arm in &body.arms {
            let long = |model: &DecoderConfig| model.check_length(longest);
            long(&arm.model)
                .with_context(|| format!("arms.{}.model, read beyond its length", arm.name))?;
            for point in self.points(arm) {
                long(&point.model)
                    .with_context(|| format!("sweep, `{}` read beyond its length", point.name))?;
            }
        }
        Ok(())
    }

    /// Every seed and arm at the learning rate that the arm states, one training each.
    fn one_by_one(&self) -> Result<Vec<PlannedCell>> {
        let (mut trainings, mut evaluations) = (Vec::new(), Vec::new());
        for seed in 0..self.experiment.seeds {
            for arm in &self.body.arms {
                let subject = Subject {
                    name: arm.name.clone(),
                    arm,
                    model: arm.model.clone(),
                    seeds: self.experiment.seeds,
                };
                let training = PlannedCell::new(self.single(&subject, seed));
                evaluations.push(self.evaluation(&subject, seed, &training.key, None));
                trainings.push(training);
            }
        }
        let points = self.body.arms.iter().flat_map(|arm| self.points(arm));
        for subject in points {
            self.train_and_evaluate(&subject, None, &mut trainings, &mut evaluations)?;
        }
        Ok(trainings.into_iter().chain(evaluations).collect())
    }

    /// The points of the sweep, if it is about this arm.
    fn points(&self, arm: &'a Arm) -> Vec<Subject<'a>> {
        let Some(sweep) = self.body.sweep.as_ref().filter(|sweep| sweep.arm == arm.name) else {
            return Vec::new();
        };
        let seeds = sweep.n_seeds(self.experiment.seeds);
        let subject = |point: super::sweep::SweepPoint| Subject {
            name: point.name,
            arm,
            model: point.model,
            seeds,
        };
        sweep.points(arm).into_iter().map(subject).collect()
    }

    /// One stack: the same seed, which no training has, at every learning rate.
    fn tries(&self, arm: &Arm, tuning: &TuningConfig) -> Result<PlannedCell> {
        let seed = self.stream("tuning");
        let member = |&lr: &f64| StackMember { lr: LearningRate::Fixed { lr }, seed, init: None };
        let steps = tuning.steps(arm);
        let task = TrainStack {
            model: self.known(&arm.model),
            training: neutral(&TrainConfig { steps, ..arm.training.clone() }),
            members: tuning.learning_rates.iter().map(member).collect(),
            watched_rows: tuning.watched_rows(arm.training.seq_len),
        };
        // A try has a name of its own, so that its curves do not mix with those of the arm.
        let tags = |lr: &f64| {
            let name = format!("{}-lr-{lr}", arm.name);
            let tags = [("arm", json!(name)), ("tries_for", json!(arm.name)), ("seed", json!(0))];
            BTreeMap::from(tags.map(|(name, value)| (name.to_owned(), value)))
        };
        let members = tuning.learning_rates.iter().map(tags).collect();
        let label = format!("tune {}, {} learning rates", arm.name, tuning.learning_rates.len());
        Ok(PlannedCell::new(self.stack(task, (&arm.name, "tune"), members, Vec::new(), label)))
    }

    /// The stacks of a subject, and an evaluation of every member.
    fn train_and_evaluate(
        &self,
        subject: &Subject<'_>,
        tries: Option<&PlannedCell>,
        trainings: &mut Vec<PlannedCell>,
        evaluations: &mut Vec<PlannedCell>,
    ) -> Result<()> {
        for first in (0..subject.seeds).step_by(SEEDS_A_STACK as usize) {
            let seeds: Vec<u64> = (first..subject.seeds.min(first + SEEDS_A_STACK)).collect();
            let stack = PlannedCell::new(self.seeds(subject, &seeds, tries));
            for (member, &seed) in seeds.iter().enumerate() {
                evaluations.push(self.evaluation(subject, seed, &stack.key, Some(member)));
            }
            trainings.push(stack);
        }
        Ok(())
    }

    fn seeds(&self, subject: &Subject<'_>, seeds: &[u64], tries: Option<&PlannedCell>) -> Cell {
        let lr = match tries {
            Some(_) => LearningRate::BestOf { need: 0 },
            None => LearningRate::Fixed { lr: subject.arm.training.optimiser.lr },
        };
        let member = |&seed: &u64| StackMember {
            lr: lr.clone(),
            seed: self.training_seed(seed),
            init: None,
        };
        let seq_len = subject.arm.training.seq_len;
        let task = TrainStack {
            model: self.known(&subject.model),
            training: neutral(&subject.arm.training),
            members: seeds.iter().map(member).collect(),
            watched_rows: self
                .body
                .tuning
                .as_ref()
                .map_or(WATCHED_ROWS, |tuning| tuning.watched_rows(seq_len)),
        };
        let tags = |seed: &u64| BTreeMap::from([("seed".to_owned(), json!(seed))]);
        let members = seeds.iter().map(tags).collect();
        let label = match seeds {
            [seed] => format!("train {}, seed {seed}", subject.name),
            _ => format!(
                "train {}, seeds {}",
                subject.name,
                seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
            ),
        };
        let needs = tries.iter().map(|tries| tries.key.clone()).collect();
        self.stack(task, (&subject.name, "train"), members, needs, label)
    }

    fn stack(
        &self,
        task: TrainStack,
        (arm, step): (&str, &str),
        members: Vec<BTreeMap<String, Value>>,
        needs: Vec<String>,
        label: String,
    ) -> Cell {
        let cost = train_stack::cost(&task.model, &task.training, task.members.len());
        let inputs = self.inputs(&["train"], &self.watched);
        Cell {
            task: Task::TrainStack(task),
            machine: self.machine(),
            inputs,
            needs,
            label,
            tags: self.tags(arm, step),
            members,
            cost,
        }
    }

    /// A training on its own.
    fn single(&self, subject: &Subject<'_>, seed: u64) -> Cell {
        let training = &subject.arm.training;
        let model = self.known(&subject.model);
        let cost = train_stack::cost(&model, training, 1);
        let task = TrainLm { model, training: training.clone(), seed: self.training_seed(seed) };
        self.with_seed(Task::TrainLm(task), &subject.name, ("train", seed), Vec::new(), cost)
    }

    fn evaluation(
        &self,
        subject: &Subject<'_>,
        seed: u64,
        training: &str,
        member: Option<usize>,
    ) -> PlannedCell {
        let evaluation = &self.body.evaluation;
        let samples = &self.body.samples;
        let seq_len = self.body.training_length();
        // What other constants write is nobody's question.
        let is_arm = subject.name == subject.arm.name;
        let task = EvaluateLm {
            lengths: evaluation.ratios.iter().map(|ratio| ratio * seq_len).collect(),
            block_size: seq_len / 2,
            n_tokens: evaluation.n_tokens,
            resolution: ResolutionTask {
                lengths: evaluation.resolution_ratios.iter().map(|ratio| ratio * seq_len).collect(),
                n_sequences: evaluation.resolution_sequences,
            },
            samples: SampleTask {
                n_prompts: if is_arm { samples.n_prompts } else { 0 },
                prompt_tokens: samples.prompt_tokens,
                new_tokens: samples.new_tokens,
                temperature: samples.temperature,
                top_p: samples.top_p,
            },
            seed: self.stream(&format!("evaluation/seed-{seed}")),
            member,
        };
        let cost = self.evaluation_cost(&self.known(&subject.model));
        let needs = vec![training.to_owned()];
        let cell =
            self.with_seed(Task::EvaluateLm(task), &subject.name, ("evaluate", seed), needs, cost);
        PlannedCell::new(cell)
    }

    fn evaluation_cost(&self, model: &DecoderConfig) -> Cost {
        let evaluation = &self.body.evaluation;
        let seq_len = self.body.training_length();
        let n_tokens = 2.0 * evaluation.n_tokens as f64 * evaluation.ratios.len() as f64;
        let scored =
            evaluation.resolution_ratios.last().map_or(0.0, |ratio| (ratio * seq_len) as f64);
        // Attention resolution holds the scores of a layer, and their like while it works on them.
        let scores =
            3.0 * 4.0 * scored * scored * (model.n_heads * evaluation.resolution_sequences) as f64;
        let forward = |ratio: &i64| {
            flops_per_token(model, ratio * seq_len) / 3.0 * 2.0 * evaluation.n_tokens as f64
        };
        Cost {
            n_params: n_params(model),
            n_tokens: n_tokens as u64,
            flops: evaluation.ratios.iter().map(forward).sum(),
            memory_bytes: (LIBTORCH_BYTES + 4.0 * n_params(model) as f64 + 200e6 + scores) as u64,
            disk_bytes: 100_000,
        }
    }

    fn with_seed(
        &self,
        task: Task,
        arm: &str,
        (step, seed): (&str, u64),
        needs: Vec<String>,
        cost: Cost,
    ) -> Cell {
        let inputs = match &task {
            Task::EvaluateLm(_) => self.inputs(&["train", "tokenizer"], &self.evaluated),
            _ => self.inputs(&["train", "tokenizer"], &self.watched),
        };
        let mut tags = self.tags(arm, step);
        tags.insert("seed".to_owned(), json!(seed));
        Cell {
            task,
            machine: self.machine(),
            inputs,
            needs,
            label: format!("{step} {arm}, seed {seed}"),
            tags,
            members: Vec::new(),
            cost,
        }
    }

    /// The vocabulary is known now.
    fn known(&self, model: &DecoderConfig) -> DecoderConfig {
        DecoderConfig { vocab_size: self.data.vocab_size, ..model.clone() }
    }

    /// The same seed gives every arm the same order of data: arms are paired.
    fn training_seed(&self, seed: u64) -> u64 {
        self.stream(&format!("training/seed-{seed}"))
    }

    fn stream(&self, label: &str) -> u64 {
        Seed::new(self.experiment.root_seed).child(label).root()
    }

    fn machine(&self) -> Machine {
        Machine { device: self.experiment.device.clone(), threads: self.experiment.threads }
    }

    /// The inputs of these names, and a part of the validation text.
    fn inputs(&self, names: &[&str], validation: &Part) -> BTreeMap<String, Input> {
        let mut inputs = self.data.inputs();
        inputs.retain(|name, _| names.contains(&name.as_str()));
        inputs.insert("validation".to_owned(), validation.input.clone());
        inputs
    }

    fn tags(&self, arm: &str, step: &str) -> BTreeMap<String, Value> {
        let tags = [
            ("arm", json!(arm)),
            ("step", json!(step)),
            ("experiment", json!(self.experiment.name)),
        ];
        BTreeMap::from(tags.map(|(name, value)| (name.to_owned(), value)))
    }
}

/// The learning rate that a stack does not use is the same in all, so that equal stacks have equal keys.
fn neutral(training: &TrainConfig) -> TrainConfig {
    let optimiser = OptimiserConfig { lr: 1.0, ..training.optimiser.clone() };
    TrainConfig { optimiser, ..training.clone() }
}

/// Cuts the last `n_tokens` off a text: what is left, and what was cut off.
fn apart(part: &Part, n_tokens: u64) -> Result<(Part, Part)> {
    if n_tokens >= part.n_tokens {
        bail!(
            "tuning.n_tokens: the validation text has {} tokens, of which {n_tokens} are to decide about learning rates",
            part.n_tokens
        );
    }
    let [first, end] = part.input.tokens.unwrap_or([0, part.n_tokens]);
    let border = end - n_tokens;
    let cut = |first: u64, end: u64| Part {
        input: Input { tokens: Some([first, end]), ..part.input.clone() },
        n_tokens: end - first,
    };
    Ok((cut(first, border), cut(border, end)))
}
