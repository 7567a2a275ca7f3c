//! `multilingual-mixture`: how much of each language family a training should see, and whether small models know it.
//!
//! He et al. 2024, *Scaling laws for multilingual language models*, arXiv:2410.12883. Small models of several sizes and
//! horizons are trained on mixtures in which every family's share takes every level beside different companions. From
//! their losses per character follow the law of each family, a test of whether its loss depends on its own share alone,
//! and the best mixture, with intervals. A larger model is then trained with that mixture, with the best one that its own
//! size shows, and with those that people use without a law, all compared on one weighted objective.
//!
//! The design has blocks of mixtures (`mixtures.rs`); a seed is one training of every mixture that is compared, and of the
//! models that laws are held against, so that more seeds change no law. An arm of the configuration is a size of model.

mod assess;
mod companions;
mod data;
mod fit;
mod laws;
mod mixtures;
mod place;
mod plan;
mod predictions;
mod report;
mod rows;
mod train;
mod verdicts;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use forerun_arch::{DecoderConfig, n_non_embedding_params};
use forerun_scaling::Objective;
use forerun_scaling::mixture::Weighing;
use forerun_train::TrainConfig;
use serde::{Deserialize, Serialize};

use crate::config::{Experiment, Measure};
use crate::names::check_names;

pub(crate) use assess::AssessMixture;
pub(crate) use data::prepare;
pub(crate) use fit::FitMixture;
pub(crate) use plan::cells;
pub(crate) use report::{recommendation, report};
pub(crate) use train::TrainMixture;
pub(crate) use verdicts::{derived, n_mixtures, reconsider};

pub(crate) use assess::run as run_assessment;
pub(crate) use fit::run as run_fit;
pub(crate) use train::run as run_training;

/// The part of the configuration that is this kind's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureConfig {
    /// The sizes of models.
    pub arms: Vec<Arm>,
    /// What is mixed.
    pub families: Vec<FamilyConfig>,
    /// What decides, and how laws are fitted.
    pub mixing: MixingConfig,
    /// The small models that laws are fitted to.
    pub design: DesignConfig,
    /// Small models that no law has seen.
    pub checks: Vec<CheckConfig>,
    /// The larger models.
    pub transfer: TransferConfig,
}

/// One size of model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Short and stable, `w64`.
    pub name: String,
    /// How a report calls it, `width 64`.
    pub label: String,
    /// The model; `vocab_size` comes from the tokenizer.
    pub model: DecoderConfig,
    /// How it is trained; `steps` come from the tokens of a design.
    pub training: TrainConfig,
}

/// One family of languages, or one domain of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyConfig {
    /// What the texts' column `family` calls it.
    pub name: String,
    /// How a report calls it.
    pub label: String,
    /// Characters of each of its languages in the embedded text, for the report.
    #[serde(default)]
    pub languages: BTreeMap<String, u64>,
    /// The same by where the text comes from.
    #[serde(default)]
    pub sources: BTreeMap<String, u64>,
    /// Weight of its loss in the objective.
    #[serde(default = "one")]
    pub weight: f64,
    /// Characters that there are of it, for the mixtures that go by size; what the training text has if absent. To be
    /// stated where the text is a sample of a larger one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<u64>,
}

fn one() -> f64 {
    1.0
}

/// What decides, and how laws are fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixingConfig {
    /// Whether a family counts relative to what it would reach alone, or by its loss itself.
    pub weighing: Weighing,
    /// What a fit minimises.
    pub objective: Objective,
    /// Draws of the bootstrap.
    pub draws: usize,
    /// No family's training text is read more often than this.
    pub max_epochs: f64,
    /// Tokens of held-out text that losses are measured on, of each family.
    pub held_out_tokens: u64,
}

/// Small models: every size and horizon with every mixture of every block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesignConfig {
    /// Names of the sizes.
    pub arms: Vec<String>,
    /// Horizons, tokens, ascending.
    pub tokens: Vec<u64>,
    /// Shares that every family takes in turn, as many as there are families, positive and 1 in sum.
    pub levels: Vec<f64>,
    /// Blocks of mixtures.
    pub blocks: u64,
}

/// A size, a horizon and shares that the design does not have together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckConfig {
    /// Short and stable, `longer`.
    pub name: String,
    /// How a report calls what it has that the design has not, `a horizon twice the longest`.
    pub label: String,
    /// Name of the size.
    pub arm: String,
    /// The horizon, tokens.
    pub tokens: u64,
    /// Shares, as in the design.
    pub levels: Vec<f64>,
}

/// The larger models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferConfig {
    /// Name of the size.
    pub arm: String,
    /// The horizon, tokens.
    pub tokens: u64,
    /// Blocks of the design's mixtures that this size is trained on, for an optimum of its own.
    pub blocks: u64,
    /// Exponent of the sampling with a temperature, p ∝ size^exponent.
    pub exponent: f64,
}

impl MixtureConfig {
    /// Checks what no single field can know.
    pub(crate) fn validate(&self, experiment: &Experiment) -> Result<()> {
        self.validate_families()?;
        self.validate_mixing()?;
        let Self { design, transfer, .. } = self;
        ensure!(!design.arms.is_empty(), "design.arms is empty");
        let ascending = design.tokens.is_sorted_by(|a, b| a < b);
        ensure!(
            !design.tokens.is_empty() && ascending,
            "design.tokens must ascend, got {:?}",
            design.tokens
        );
        for name in &design.arms {
            ensure!(
                design.arms.iter().filter(|other| *other == name).count() == 1,
                "design.arms names `{name}` twice"
            );
            for &tokens in &design.tokens {
                self.validate_training("design", name, tokens)?;
            }
        }
        self.validate_training("transfer", &transfer.arm, transfer.tokens)?;
        self.validate_levels("design.levels", &design.levels)?;
        ensure!(design.blocks > 0, "design.blocks must be positive, got 0");
        ensure!(transfer.blocks > 0, "transfer.blocks must be positive, got 0");
        self.validate_checks()?;
        ensure!(
            transfer.exponent.is_finite(),
            "transfer.exponent must be finite, got {}",
            transfer.exponent
        );
        for claim in &experiment.claims {
            for measure in claim.measures() {
                validate_measure(measure).with_context(|| format!("claim `{}`", claim.name))?;
            }
        }
        self.validate_arms()
    }

    fn validate_checks(&self) -> Result<()> {
        check_names("a check", "checks", self.checks.iter().map(|check| &check.name))?;
        for (index, check) in self.checks.iter().enumerate() {
            let CheckConfig { name, arm, tokens, levels, .. } = check;
            self.validate_training(&format!("checks.{name}"), arm, *tokens)?;
            self.validate_levels(&format!("checks.{name}.levels"), levels)?;
            // Results are known by size and horizon.
            let same = |other: &&CheckConfig| (&other.arm, other.tokens) == (arm, *tokens);
            if let Some(other) = self.checks[..index].iter().find(same) {
                bail!("checks.{name} has the size and the horizon of checks.{}", other.name);
            }
        }
        Ok(())
    }

    fn validate_arms(&self) -> Result<()> {
        check_names("an arm", "arms", self.arms.iter().map(|arm| &arm.name))?;
        for arm in &self.arms {
            let name = &arm.name;
            // The vocabulary is known once the tokenizer is.
            let model =
                DecoderConfig { vocab_size: arm.model.vocab_size.max(1), ..arm.model.clone() };
            model.validate().with_context(|| format!("arms.{name}.model"))?;
            ensure!(
                arm.training.seq_len == self.arms[0].training.seq_len,
                "every arm must have the same training.seq_len"
            );
        }
        Ok(())
    }

    fn validate_families(&self) -> Result<()> {
        let n = self.families.len();
        ensure!((3..=MAX_FAMILIES).contains(&n), "families must be 3 to {MAX_FAMILIES}, got {n}");
        check_names("a family", "families", self.families.iter().map(|family| &family.name))?;
        for FamilyConfig { name, weight, available, .. } in &self.families {
            ensure!(
                *weight > 0.0 && weight.is_finite(),
                "families.{name}.weight must be positive, got {weight}"
            );
            ensure!(*available != Some(0), "families.{name}.available must be positive, got 0");
        }
        Ok(())
    }

    fn validate_mixing(&self) -> Result<()> {
        let MixingConfig { draws, max_epochs, held_out_tokens, .. } = &self.mixing;
        ensure!(*draws > 0, "mixing.draws must be positive, got 0");
        ensure!(
            *max_epochs > 0.0 && max_epochs.is_finite(),
            "mixing.max_epochs must be positive, got {max_epochs}"
        );
        ensure!(*held_out_tokens > 0, "mixing.held_out_tokens must be positive, got 0");
        Ok(())
    }

    fn validate_training(&self, of: &str, arm: &str, tokens: u64) -> Result<()> {
        let arm = self.arm(arm).with_context(|| format!("{of}: there is no arm `{arm}`"))?;
        let training = arm.training(tokens);
        training.validate().with_context(|| format!("{of}: {} at {tokens} tokens", arm.name))
    }

    fn validate_levels(&self, name: &str, levels: &[f64]) -> Result<()> {
        let n = self.families.len();
        ensure!(levels.len() == n, "{name} must be {n}, one a family, got {}", levels.len());
        let sum: f64 = levels.iter().sum();
        let sound = levels.iter().all(|&level| level > 0.0) && (sum - 1.0).abs() < 1e-9;
        ensure!(sound, "{name} must be positive and 1 in sum, got {levels:?}");
        Ok(())
    }

    /// The arm of this name.
    fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    fn labels(&self) -> Vec<&str> {
        self.families.iter().map(|family| family.label.as_str()).collect()
    }
}

impl Arm {
    /// The training over a horizon, in whole updates.
    fn training(&self, tokens: u64) -> TrainConfig {
        let TrainConfig { batch_size, seq_len, .. } = self.training;
        let batch = batch_size as f64 * seq_len as f64;
        TrainConfig { steps: (tokens as f64 / batch).round() as u64, ..self.training.clone() }
    }

    /// The tokens of a horizon in whole updates.
    fn n_tokens(&self, tokens: u64) -> f64 {
        let training = self.training(tokens);
        training.steps as f64 * training.batch_size as f64 * training.seq_len as f64
    }

    /// Non-embedding parameters.
    fn n_params(&self) -> f64 {
        n_non_embedding_params(&self.model) as f64
    }
}

/// Names in rows are bytes; a design of so many families is far beyond what this kind is for.
const MAX_FAMILIES: usize = 200;

fn validate_measure(measure: &Measure) -> Result<()> {
    let Measure { arm, series, at, .. } = measure;
    let Some((_, known)) = verdicts::MEASURED.iter().find(|(known, _)| known == arm) else {
        let names: Vec<&str> = verdicts::MEASURED.iter().map(|(name, _)| *name).collect();
        bail!("it measures the arm `{arm}`; there are: {}", names.join(", "));
    };
    ensure!(
        known.contains(&series.as_str()),
        "it measures the series `{series}` of `{arm}`; there are: {}",
        known.join(", ")
    );
    ensure!(*at == 0.0, "`{series}` is one number: `at` must be 0, got {at}");
    Ok(())
}

#[cfg(test)]
mod tests;
