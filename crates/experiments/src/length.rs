//! `length-extrapolation`: train models that differ in positions and norm, then read them far beyond the length
//! they were trained at, with ordinary and with blockwise causal attention.
//!
//! Sun et al. 2022, *A Length-Extrapolatable Transformer*, arXiv:2212.10554. Blockwise causal attention exists at
//! inference only, so one trained model serves both masks. Lengths are multiples of the training length, and the
//! same validation tokens are read at each of them.
//!
//! With `[tuning]` every arm first tries some learning rates on a seed of its own, judged by a part of the validation
//! text that no evaluation reads; its models are then trained at the best one, as a stack. With `[sweep]` one arm's
//! xPos is trained again with other constants.

mod correlation;
mod plan;
mod report;
mod sweep;
mod tuning;

use anyhow::{Context, Result, bail};
use forerun_arch::{DecoderConfig, Generation};
use forerun_train::TrainConfig;
use serde::{Deserialize, Serialize};

use crate::config::{Experiment, Measure};
use crate::names::check_names;

pub(crate) use correlation::{derived, reconsider};
pub(crate) use plan::cells;
pub(crate) use report::{recommendation, report};
pub(crate) use sweep::SweepConfig;
pub(crate) use tuning::TuningConfig;

/// What is measured at several lengths on every arm, and what a claim may name.
const SERIES: [&str; 4] = ["nll/causal", "nll/bca", "resolution/causal", "resolution/bca"];

/// The part of the configuration that is this kind's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthConfig {
    /// The models to compare.
    pub arms: Vec<Arm>,
    /// What is measured on each.
    pub evaluation: EvaluationConfig,
    /// What each model writes.
    pub samples: SamplesConfig,
    /// How each arm finds its learning rate; without it, every arm is trained at the one that it states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<TuningConfig>,
    /// Other constants of one arm's xPos.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepConfig>,
}

/// One model, trained once a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Short and stable, `xpos`.
    pub name: String,
    /// How a report calls it, `Magneto + xPos`.
    pub label: String,
    /// The model; `vocab_size` comes from the tokenizer.
    pub model: DecoderConfig,
    /// How it is trained.
    pub training: TrainConfig,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Lengths in multiples of the training length, ascending, the first 1.
    pub ratios: Vec<i64>,
    /// Validation tokens read at each length.
    pub n_tokens: u64,
    /// Lengths, as above, at which attention resolution is measured; may be empty.
    pub resolution_ratios: Vec<i64>,
    /// Sequences that the attention resolution is averaged over.
    pub resolution_sequences: i64,
}

/// What each model writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// Prompts cut from the validation text.
    pub n_prompts: u64,
    /// Tokens of each.
    pub prompt_tokens: i64,
    /// Tokens written after it.
    pub new_tokens: usize,
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// The smallest set of tokens with this probability is drawn from.
    pub top_p: f64,
}

impl SamplesConfig {
    /// How a token is drawn.
    fn generation(&self) -> Generation {
        let (temperature, top_p) = (self.temperature, Some(self.top_p));
        Generation { max_new_tokens: self.new_tokens, temperature, top_p, ..Generation::default() }
    }
}

impl LengthConfig {
    /// Checks what no single field can know.
    pub(crate) fn validate(&self, experiment: &Experiment) -> Result<()> {
        self.validate_arms()?;
        self.validate_samples()?;
        let ratios = &self.evaluation.ratios;
        if ratios.first() != Some(&1) || !ratios.is_sorted_by(|a, b| a < b) {
            bail!("evaluation.ratios must begin with 1 and ascend, got {ratios:?}");
        }
        if let Some(ratio) =
            self.evaluation.resolution_ratios.iter().find(|ratio| !ratios.contains(ratio))
        {
            bail!("evaluation.resolution_ratios: {ratio} is not among evaluation.ratios");
        }
        for claim in &experiment.claims {
            for measure in claim.measures() {
                self.validate_measure(measure)
                    .with_context(|| format!("claim `{}`", claim.name))?;
            }
        }
        let seq_len = self.training_length();
        if self.arms.iter().any(|arm| arm.training.seq_len != seq_len) {
            bail!("every arm must have the same training.seq_len");
        }
        if seq_len % 2 != 0 {
            bail!("training.seq_len must be even (blocks are half of it), got {seq_len}");
        }
        if let Some(tuning) = &self.tuning {
            tuning.validate(self)?;
        }
        self.sweep.as_ref().map_or(Ok(()), |sweep| sweep.validate(self))
    }

    fn validate_measure(&self, measure: &Measure) -> Result<()> {
        let Measure { arm, series, at, .. } = measure;
        if arm == correlation::ALL_ARMS {
            return correlation::validate(self, measure);
        }
        if !self.arms.iter().any(|known| known.name == *arm) {
            bail!("it measures the arm `{arm}`, which does not exist");
        }
        if !SERIES.contains(&series.as_str()) {
            bail!("it measures the series `{series}`; there are: {}", SERIES.join(", "));
        }
        let (ratios, name) = match series.starts_with("nll") {
            true => (&self.evaluation.ratios, "evaluation.ratios"),
            false => (&self.evaluation.resolution_ratios, "evaluation.resolution_ratios"),
        };
        if !ratios.iter().any(|&ratio| ratio as f64 == *at) {
            bail!("it measures at {at}, which is not among {name}");
        }
        Ok(())
    }

    fn validate_arms(&self) -> Result<()> {
        if self.arms.is_empty() {
            bail!("`arms` is empty");
        }
        check_names("an arm", "arms", self.arms.iter().map(|arm| &arm.name))?;
        for arm in &self.arms {
            let name = &arm.name;
            if *name == correlation::ALL_ARMS {
                bail!("an arm cannot be called `{name}`: that is what claims call all of them");
            }
            // The vocabulary is known once the tokenizer is.
            let model =
                DecoderConfig { vocab_size: arm.model.vocab_size.max(1), ..arm.model.clone() };
            model.validate().with_context(|| format!("arms.{name}.model"))?;
            arm.training.validate().with_context(|| format!("arms.{name}.training"))?;
        }
        Ok(())
    }

    fn validate_samples(&self) -> Result<()> {
        let samples = &self.samples;
        if samples.n_prompts > 0 && samples.prompt_tokens < 1 {
            bail!("samples.prompt_tokens must be positive, got {}", samples.prompt_tokens);
        }
        samples.generation().validate().context("samples")
    }

    /// The arm of this name.
    fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// The length that every arm is trained at, in tokens.
    pub(crate) fn training_length(&self) -> i64 {
        self.arms.first().map_or(0, |arm| arm.training.seq_len)
    }
}
