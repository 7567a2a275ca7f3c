//! The cells of a mixture experiment: stacks of small models on the mixtures of each seed's block, the same at the larger
//! size, two fits, the larger models on the mixtures that are compared, and small models that no fit has seen.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use forerun_arch::n_non_embedding_params;
use forerun_runs::seed::Seed;
use forerun_scaling::mixture::{temperature, uniform};
use serde_json::{Value, json};

use super::data::inputs;
use super::fit::{FitMixture, FittedFamily, FittedScale};
use super::mixtures::block;
use super::place::{Place, Stage};
use super::train::{MixtureMember, Shares, TrainMixture};
use super::verdicts::{COMPARED, OWN, PROPORTIONAL, TEMPERATURE, TRANSFERRED, UNIFORM};
use super::{Arm, MixtureConfig};
use crate::cell::{Cell, Cost, Machine, Task};
use crate::config::Experiment;
use crate::data::{Group, Prepared};
use crate::plan::{LIBTORCH_BYTES, PlannedCell};
use crate::train_stack::cost;

/// The trainings that others wait for come first, those that nothing waits for last.
pub(crate) fn cells(
    experiment: &Experiment,
    body: &MixtureConfig,
    data: &Prepared,
) -> Result<Vec<PlannedCell>> {
    let layout = Layout::new(experiment, body, data)?;
    let own = layout.blocks(Stage::Own, &body.transfer.arm, body.transfer.tokens)?;
    let mut design = Vec::new();
    for &tokens in body.design.tokens.iter().rev() {
        for arm in body.design.arms.iter().rev() {
            design.extend(layout.blocks(Stage::Design, arm, tokens)?);
        }
    }
    let fits = [
        layout.fit(FittedScale::Many, "small models", &design)?,
        layout.fit(FittedScale::One, "the larger size", &own)?,
    ];
    let needs: Vec<String> = fits.iter().map(|fit| fit.key.clone()).collect();
    let mut transfer = Vec::new();
    for seed in 0..experiment.seeds {
        transfer.push(PlannedCell::new(layout.transfer(seed, needs.clone())?));
    }
    let check = layout.blocks(Stage::Check, &body.check.arm, body.check.tokens)?;
    Ok([own, design, fits.into(), transfer, check].concat())
}

struct Layout<'a> {
    experiment: &'a Experiment,
    body: &'a MixtureConfig,
    data: &'a Prepared,
}

impl<'a> Layout<'a> {
    fn new(
        experiment: &'a Experiment,
        body: &'a MixtureConfig,
        data: &'a Prepared,
    ) -> Result<Self> {
        let layout = Self { experiment, body, data };
        for arm in &body.arms {
            arm.model.check_length(arm.training.seq_len)?;
        }
        let seq_len = body.arms.first().map_or(0, |arm| arm.training.seq_len.unsigned_abs());
        for group in &data.groups {
            let shortest = group.train.n_tokens.min(group.validation.n_tokens);
            if shortest < seq_len + 1 {
                bail!(
                    "families.{}: a text has {shortest} tokens, fewer than one sequence",
                    group.name
                );
            }
        }
        Ok(layout)
    }

    /// One stack for each seed: a block of mixtures.
    fn blocks(&self, stage: Stage, arm: &str, tokens: u64) -> Result<Vec<PlannedCell>> {
        let arm = self.arm(arm)?;
        let levels = match stage {
            Stage::Check => &self.body.check.levels,
            _ => &self.body.design.levels,
        };
        let most = levels.iter().copied().fold(0.0, f64::max);
        self.ensure_lasts(&vec![most; self.data.groups.len()], tokens, stage.name())?;
        let cell = |seed: u64| {
            let name = |index: usize| index.to_string();
            let mixtures = block(levels, seed).into_iter().enumerate();
            let mixtures =
                mixtures.map(|(index, shares)| (name(index), Shares::Fixed { shares })).collect();
            PlannedCell::new(self.training(stage, arm, tokens, seed, mixtures, Vec::new()))
        };
        Ok((0..self.experiment.seeds).map(cell).collect())
    }

    /// One stack: the larger model on every mixture that is compared.
    fn transfer(&self, seed: u64, needs: Vec<String>) -> Result<Cell> {
        let transfer = &self.body.transfer;
        let sizes = available(self.body, self.data);
        let fixed = |shares: Vec<f64>| -> Result<Shares> {
            self.ensure_lasts(&shares, transfer.tokens, "transfer")?;
            Ok(Shares::Fixed { shares })
        };
        let shares = |name: &str| match name {
            TRANSFERRED => Ok(Shares::BestOf { need: 0 }),
            OWN => Ok(Shares::BestOf { need: 1 }),
            UNIFORM => fixed(uniform(sizes.len())?),
            PROPORTIONAL => fixed(temperature(&sizes, 1.0)?),
            TEMPERATURE => fixed(temperature(&sizes, transfer.exponent)?),
            other => bail!("no mixture is called `{other}`"),
        };
        let mixtures: Vec<(String, Shares)> = COMPARED
            .iter()
            .map(|(name, _)| Ok(((*name).to_owned(), shares(name)?)))
            .collect::<Result<_>>()?;
        let arm = self.arm(&transfer.arm)?;
        Ok(self.training(Stage::Transfer, arm, transfer.tokens, seed, mixtures, needs))
    }

    fn training(
        &self,
        stage: Stage,
        arm: &Arm,
        tokens: u64,
        seed: u64,
        mixtures: Vec<(String, Shares)>,
        needs: Vec<String>,
    ) -> Cell {
        let model = self.model(arm);
        let training = arm.training(tokens);
        let groups = &self.data.groups;
        // One seed for all members: they differ in their mixtures alone.
        let root = self.stream(&format!("{}/{}/{tokens}/seed-{seed}", stage.name(), arm.name));
        let place = |name: &String| {
            let (arm, mixture) = (arm.name.clone(), name.clone());
            let place = Place { stage, arm, tokens, mixture };
            let tags = [("arm", json!(place.to_string())), ("mixture", json!(name))];
            tags.map(|(name, value)| (name.to_owned(), value)).into()
        };
        let tags: Vec<BTreeMap<String, Value>> =
            mixtures.iter().map(|(name, _)| place(name)).collect();
        let members: Vec<MixtureMember> =
            mixtures.into_iter().map(|(_, shares)| MixtureMember { shares, seed: root }).collect();
        let cost = self.cost(arm, tokens, members.len());
        let seq_len = training.seq_len.unsigned_abs();
        let task = TrainMixture {
            model,
            held_out_rows: self.body.mixing.held_out_tokens.div_ceil(seq_len),
            training,
            families: groups.iter().map(|group| group.name.clone()).collect(),
            characters_per_token: groups.iter().map(|group| group.characters_per_token).collect(),
            members,
        };
        let label = format!("{}, {}, {tokens} tokens, seed {seed}", stage.name(), arm.label);
        let step = [("step", json!(stage.name())), ("size", json!(arm.name))];
        let cell = self.cell(Task::TrainMixture(task), label, &step, seed, cost);
        Cell { inputs: inputs(groups), needs, members: tags, ..cell }
    }

    /// The training, and a forward pass over the held-out text of every family.
    fn cost(&self, arm: &Arm, tokens: u64, n_members: usize) -> Cost {
        let trained = cost(&self.model(arm), &arm.training(tokens), n_members);
        let held_out = self.body.mixing.held_out_tokens as f64 * self.data.groups.len() as f64;
        let more = n_members as f64 * held_out / 3.0 / trained.n_tokens.max(1) as f64;
        Cost { flops: trained.flops * (1.0 + more), ..trained }
    }

    fn fit(&self, scale: FittedScale, of: &str, trained: &[PlannedCell]) -> Result<PlannedCell> {
        let Self { body, data, .. } = self;
        let family = |(family, group): (&super::FamilyConfig, &Group)| FittedFamily {
            name: family.name.clone(),
            weight: family.weight,
            cap: epochs_left(group, body.mixing.max_epochs, body.transfer.tokens).min(1.0),
        };
        let larger = self.arm(&body.transfer.arm)?;
        let training = larger.training(body.transfer.tokens);
        let task = FitMixture {
            families: body.families.iter().zip(&data.groups).map(family).collect(),
            scale,
            objective: body.mixing.objective,
            weighing: body.mixing.weighing,
            at_params: n_non_embedding_params(&self.model(larger)) as f64,
            at_tokens: training.steps as f64 * training.batch_size as f64 * training.seq_len as f64,
            draws: body.mixing.draws,
            seed: self.stream("fit"),
        };
        let cost =
            Cost { memory_bytes: LIBTORCH_BYTES as u64, disk_bytes: 20_000, ..Cost::default() };
        let arm = match scale {
            FittedScale::Many => super::verdicts::LAW,
            FittedScale::One => super::verdicts::OWN_LAW,
        };
        let tags = [("step", json!("fit")), ("arm", json!(arm))];
        let label = format!("laws of {of}");
        let cell = self.cell(Task::FitMixture(task), label, &tags, 0, cost);
        let needs = trained.iter().map(|planned| planned.key.clone()).collect();
        Ok(PlannedCell::new(Cell { needs, ..cell }))
    }

    /// Refuses shares at which a family's text would be read too often.
    fn ensure_lasts(&self, shares: &[f64], tokens: u64, of: &str) -> Result<()> {
        let most = self.body.mixing.max_epochs;
        for (group, share) in self.data.groups.iter().zip(shares) {
            let epochs = share * tokens as f64 / group.train.n_tokens as f64;
            ensure!(
                epochs <= most,
                "{of}: a share of {share:.2} of {tokens} tokens reads the text of `{}` {epochs:.1} times, and \
                 mixing.max_epochs is {most}; give more text, a shorter horizon or a smaller share",
                group.name
            );
        }
        Ok(())
    }

    fn arm(&self, name: &str) -> Result<&'a Arm> {
        let Some(arm) = self.body.arm(name) else { bail!("there is no arm `{name}`") };
        Ok(arm)
    }

    /// The vocabulary is known now.
    fn model(&self, arm: &Arm) -> forerun_arch::DecoderConfig {
        let vocab_size = self.data.vocab_size;
        forerun_arch::DecoderConfig { vocab_size, ..arm.model.clone() }
    }

    fn stream(&self, label: &str) -> u64 {
        Seed::new(self.experiment.root_seed).child(label).root()
    }

    fn cell(
        &self,
        task: Task,
        label: String,
        tags: &[(&str, Value)],
        seed: u64,
        cost: Cost,
    ) -> Cell {
        let common = [("seed", json!(seed)), ("experiment", json!(self.experiment.name))];
        let tags = tags.iter().cloned().chain(common);
        let Experiment { device, threads, .. } = self.experiment;
        Cell {
            task,
            machine: Machine { device: device.clone(), threads: *threads },
            inputs: BTreeMap::new(),
            needs: Vec::new(),
            label,
            tags: tags.map(|(name, value)| (name.to_owned(), value)).collect(),
            members: Vec::new(),
            cost,
        }
    }
}

/// Tokens that there are of each family, of which the training text may be a sample.
pub(super) fn available(body: &MixtureConfig, data: &Prepared) -> Vec<f64> {
    let tokens = |(family, group): (&super::FamilyConfig, &Group)| {
        let characters = group.characters.max(1) as f64;
        let whole = family.available.map_or(characters, |available| available as f64);
        group.train.n_tokens as f64 * whole / characters
    };
    body.families.iter().zip(&data.groups).map(tokens).collect()
}

/// The share of a horizon that a family's text lasts for.
fn epochs_left(group: &Group, max_epochs: f64, tokens: u64) -> f64 {
    max_epochs * group.train.n_tokens as f64 / tokens as f64
}
