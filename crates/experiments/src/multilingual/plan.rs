//! The cells of a mixture experiment: stacks of small models on the mixtures of each block, the same at the larger size,
//! two fits, the larger models on the mixtures that are compared, small models that no fit has seen, and what fits are
//! worth.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use forerun_runs::seed::Seed;
use forerun_scaling::mixture::{temperature, uniform};
use serde_json::{Value, json};

use super::assess::AssessMixture;
use super::data::inputs;
use super::fit::FitMixture;
use super::laws::{Fitted, FittedFamily, FittedScale};
use super::mixtures::block;
use super::place::{Place, Stage};
use super::train::{MixtureMember, Shares, TrainMixture};
use super::verdicts::{
    COMPARED, LAW, OWN, OWN_LAW, PROPORTIONAL, TEMPERATURE, TRANSFERRED, UNIFORM,
};
use super::{Arm, CheckConfig, MixtureConfig};
use crate::cell::{Cell, Cost, Task};
use crate::config::Experiment;
use crate::data::{Group, Prepared};
use crate::plan::{LIBTORCH_BYTES, PlannedCell, cell};
use crate::train_stack::cost;

/// The trainings that others wait for come first, those that nothing waits for last.
pub(crate) fn cells(
    experiment: &Experiment,
    body: &MixtureConfig,
    data: &Prepared,
) -> Result<Vec<PlannedCell>> {
    let layout = Layout::new(experiment, body, data)?;
    let MixtureConfig { design, checks, transfer, .. } = body;
    let blocks = |stage: Stage, arm: &str, tokens: u64, n: u64| {
        layout.stacks(stage, arm, tokens, &design.levels, n)
    };
    let own = blocks(Stage::Own, &transfer.arm, transfer.tokens, transfer.blocks)?;
    let mut small = Vec::new();
    for &tokens in design.tokens.iter().rev() {
        for arm in design.arms.iter().rev() {
            small.extend(blocks(Stage::Design, arm, tokens, design.blocks)?);
        }
    }
    let laws = [
        (FittedScale::Many, "small models", small.as_slice()),
        (FittedScale::One, "the larger size", own.as_slice()),
    ];
    let (mut fits, mut assessments) = (Vec::new(), Vec::new());
    for (scale, of, trained) in laws {
        let fitted = layout.fitted(scale)?;
        fits.push(layout.fit(fitted.clone(), of, trained));
        assessments.push(layout.assessment(fitted, of, trained));
    }
    let needs: Vec<String> = fits.iter().map(|fit| fit.key.clone()).collect();
    let mut larger = Vec::new();
    for seed in 0..experiment.seeds {
        larger.push(PlannedCell::new(layout.transfer(seed, needs.clone())?));
    }
    let mut held_out = Vec::new();
    for CheckConfig { arm, tokens, levels, .. } in checks {
        held_out.extend(layout.stacks(Stage::Check, arm, *tokens, levels, experiment.seeds)?);
    }
    Ok([own, small, fits, larger, held_out, assessments].concat())
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

    /// Stacks of a block of mixtures each.
    fn stacks(
        &self,
        stage: Stage,
        arm: &str,
        tokens: u64,
        levels: &[f64],
        n_blocks: u64,
    ) -> Result<Vec<PlannedCell>> {
        let arm = self.arm(arm)?;
        let most = levels.iter().copied().fold(0.0, f64::max);
        self.ensure_lasts(&vec![most; self.data.groups.len()], tokens, stage.name())?;
        let cell = |number: u64| {
            let name = |index: usize| index.to_string();
            let mixtures = block(levels, number).into_iter().enumerate();
            let mixtures =
                mixtures.map(|(index, shares)| (name(index), Shares::Fixed { shares })).collect();
            PlannedCell::new(self.training(stage, arm, tokens, number, mixtures, Vec::new()))
        };
        Ok((0..n_blocks).map(cell).collect())
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
        let number = match stage {
            Stage::Design | Stage::Own => "block",
            Stage::Check | Stage::Transfer => "seed",
        };
        let label = format!("{}, {}, {tokens} tokens, {number} {seed}", stage.name(), arm.label);
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

    fn fitted(&self, scale: FittedScale) -> Result<Fitted> {
        let Self { body, data, .. } = self;
        let family = |(family, group): (&super::FamilyConfig, &Group)| FittedFamily {
            name: family.name.clone(),
            weight: family.weight,
            cap: epochs_left(group, body.mixing.max_epochs, body.transfer.tokens).min(1.0),
        };
        let larger = self.arm(&body.transfer.arm)?;
        Ok(Fitted {
            families: body.families.iter().zip(&data.groups).map(family).collect(),
            scale,
            objective: body.mixing.objective,
            weighing: body.mixing.weighing,
            at_params: larger.n_params(),
            at_tokens: larger.n_tokens(body.transfer.tokens),
        })
    }

    fn fit(&self, fitted: Fitted, of: &str, trained: &[PlannedCell]) -> PlannedCell {
        let scale = fitted.scale;
        self.of_laws(Task::FitMixture(FitMixture { fitted }), scale, ("fit", "laws"), of, trained)
    }

    fn assessment(&self, fitted: Fitted, of: &str, trained: &[PlannedCell]) -> PlannedCell {
        let scale = fitted.scale;
        let (draws, seed) = (self.body.mixing.draws, self.stream("assess"));
        let task = Task::AssessMixture(AssessMixture { fitted, draws, seed });
        self.of_laws(task, scale, ("assess", "intervals and tests"), of, trained)
    }

    /// A cell that reads `trained`; `step` is its tag and how a person calls it.
    fn of_laws(
        &self,
        task: Task,
        scale: FittedScale,
        (step, name): (&str, &str),
        of: &str,
        trained: &[PlannedCell],
    ) -> PlannedCell {
        let arm = match scale {
            FittedScale::Many => LAW,
            FittedScale::One => OWN_LAW,
        };
        let memory_bytes = LIBTORCH_BYTES as u64;
        let cost = Cost { memory_bytes, disk_bytes: 20_000, ..Cost::default() };
        let tags = [("step", json!(step)), ("arm", json!(arm))];
        let cell = self.cell(task, format!("{name} of {of}"), &tags, 0, cost);
        let needs = trained.iter().map(|planned| planned.key.clone()).collect();
        PlannedCell::new(Cell { needs, ..cell })
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
        let mut tags = tags.to_vec();
        tags.push(("seed", json!(seed)));
        cell(self.experiment, task, label, &tags, cost)
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
