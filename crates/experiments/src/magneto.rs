//! `magneto-stability`: which placement of norms trains deep models, and up to which learning rate.
//!
//! Wang et al. 2022, *Foundation Transformers*, arXiv:2210.06423: Sub-LN and its initialisation take larger learning
//! rates than Pre-LN and train where Post-LN fails, because the size of an update stays bounded with depth. Every arm
//! is trained at every depth, learning rate and seed; all learning rates of an arm, a depth and a seed are one stack.
//! Beside that, the size of one update is measured against depth, without any training.

mod grid;
mod plan;
mod report;
mod verdicts;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use forerun_arch::DecoderConfig;
use forerun_train::TrainConfig;
use serde::{Deserialize, Serialize};

use crate::config::{Experiment, Measure};
use crate::names::check_names;

pub(crate) use plan::cells;
pub(crate) use report::{recommendation, report};
pub(crate) use verdicts::{derived, reconsider};

/// The part of the configuration that is this kind's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MagnetoConfig {
    /// The placements and initialisations to compare.
    pub arms: Vec<Arm>,
    /// What each is trained at.
    pub grid: GridConfig,
    /// How the size of an update is measured.
    pub update: UpdateConfig,
}

/// One placement of norms with its initialisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Short and stable, `sub`.
    pub name: String,
    /// How a report calls it, `Sub-LN`.
    pub label: String,
    /// The model; `vocab_size` comes from the tokenizer, `n_layers` from the depths.
    pub model: DecoderConfig,
    /// How it is trained; the learning rate comes from the grid.
    pub training: TrainConfig,
}

/// What every arm is trained at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridConfig {
    /// Layers, ascending.
    pub depths: Vec<i64>,
    /// Peak learning rates, ascending.
    pub learning_rates: Vec<f64>,
    /// A model *trains* if its final loss has come at least this share of the way from the loss of a guess by token
    /// frequencies to the lowest final loss of any arm and learning rate at the same depth and seed.
    pub trains_share: f64,
    /// Rows of held-out text that the final loss is measured on.
    pub loss_rows: u64,
}

/// How the size of an update is measured; see `update_size.rs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateConfig {
    /// Layers, ascending.
    pub depths: Vec<i64>,
    /// Initialisations of every depth and seed.
    pub draws: u64,
    /// Learning rate of one step of gradient descent.
    pub sgd_lr: f64,
    /// Learning rate of one step of AdamW.
    pub adamw_lr: f64,
    /// Tokens that are predicted in one sequence.
    pub seq_len: i64,
    /// Sequences in a batch.
    pub batch_size: i64,
}

/// One trained model among those of an arm: how the results name it, `sub/24/0.008`.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    arm: String,
    depth: i64,
    lr: f64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.arm, self.depth, self.lr)
    }
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('/');
        let (Some(arm), Some(depth), Some(lr), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            bail!("`{text}` does not name an arm, a depth and a learning rate");
        };
        Ok(Self { arm: arm.to_owned(), depth: depth.parse()?, lr: lr.parse()? })
    }
}

impl MagnetoConfig {
    /// Checks what no single field can know.
    pub(crate) fn validate(&self, experiment: &Experiment) -> Result<()> {
        self.validate_arms()?;
        let GridConfig { depths, learning_rates, trains_share, loss_rows } = &self.grid;
        validate_depths("grid.depths", depths)?;
        let sound = learning_rates.iter().all(|&lr| lr > 0.0 && lr.is_finite());
        ensure!(
            sound && learning_rates.len() > 1 && learning_rates.is_sorted_by(|a, b| a < b),
            "grid.learning_rates must be two or more positive numbers that ascend, got {learning_rates:?}"
        );
        ensure!(
            *trains_share > 0.0 && *trains_share < 1.0,
            "grid.trains_share must lie between 0 and 1, got {trains_share}"
        );
        ensure!(*loss_rows > 0, "grid.loss_rows must be positive, got 0");
        self.validate_update()?;
        for claim in &experiment.claims {
            for measure in claim.measures() {
                self.validate_measure(measure)
                    .with_context(|| format!("claim `{}`", claim.name))?;
            }
        }
        Ok(())
    }

    fn validate_arms(&self) -> Result<()> {
        ensure!(!self.arms.is_empty(), "`arms` is empty");
        check_names("an arm", "arms", self.arms.iter().map(|arm| &arm.name))?;
        for arm in &self.arms {
            let name = &arm.name;
            // The vocabulary is known once the tokenizer is.
            let model =
                DecoderConfig { vocab_size: arm.model.vocab_size.max(1), ..arm.model.clone() };
            model.validate().with_context(|| format!("arms.{name}.model"))?;
            arm.training.validate().with_context(|| format!("arms.{name}.training"))?;
            ensure!(
                arm.training.seq_len == self.training().seq_len,
                "every arm must have the same training.seq_len"
            );
            ensure!(
                arm.training.steps == self.training().steps,
                "every arm must have the same training.steps"
            );
        }
        Ok(())
    }

    fn validate_update(&self) -> Result<()> {
        let UpdateConfig { depths, draws, sgd_lr, adamw_lr, seq_len, batch_size } = &self.update;
        validate_depths("update.depths", depths)?;
        ensure!(depths.len() > 1, "update.depths must be two or more, got {depths:?}");
        ensure!(*draws > 0, "update.draws must be positive, got 0");
        for (name, lr) in [("sgd_lr", sgd_lr), ("adamw_lr", adamw_lr)] {
            ensure!(*lr > 0.0 && lr.is_finite(), "update.{name} must be positive, got {lr}");
        }
        ensure!(*seq_len > 0, "update.seq_len must be positive, got {seq_len}");
        ensure!(*batch_size > 0, "update.batch_size must be positive, got {batch_size}");
        Ok(())
    }

    fn validate_measure(&self, measure: &Measure) -> Result<()> {
        let Measure { arm, series, at, .. } = measure;
        ensure!(
            self.arms.iter().any(|known| known.name == *arm),
            "it measures the arm `{arm}`, which does not exist"
        );
        let known = verdicts::SERIES.iter().find(|(name, _)| name == series);
        let Some((_, by_depth)) = known else {
            let names: Vec<&str> = verdicts::SERIES.iter().map(|(name, _)| *name).collect();
            bail!("it measures the series `{series}`; there are: {}", names.join(", "));
        };
        if *by_depth {
            let layers = at * self.deepest() as f64;
            let known = self.grid.depths.iter().any(|&depth| depth as f64 == layers);
            ensure!(
                known,
                "it measures at {at} of the deepest, {layers} layers, which is not among grid.depths"
            );
        } else {
            ensure!(*at == 0.0, "`{series}` has no depth: `at` must be 0, got {at}");
        }
        Ok(())
    }

    /// What all arms are trained with; there is an arm.
    fn training(&self) -> &TrainConfig {
        &self.arms[0].training
    }

    pub(crate) fn deepest(&self) -> i64 {
        self.grid.depths.last().copied().unwrap_or(0)
    }
}

fn validate_depths(name: &str, depths: &[i64]) -> Result<()> {
    let sound = depths.iter().all(|&depth| depth > 0);
    ensure!(
        sound && !depths.is_empty() && depths.is_sorted_by(|a, b| a < b),
        "{name} must be positive and ascend, got {depths:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
