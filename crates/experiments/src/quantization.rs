//! `phi3-quantize`: what weights of 8 and 4 bits cost in quality, and bring in memory and speed.
//!
//! Abdin et al. 2024, *Phi-3 technical report*, arXiv:2404.14219, section 2: at 4 bits phi-3-mini takes about 1.8 GB and writes more
//! than 12 tokens a second on a phone. It says neither how the weights were rounded nor what that costs in quality. Here one model's
//! weights are written in every format, and each is measured in a process of its own on the same pieces of held-out text: the
//! pieces take the place of seeds. Speeds are taken in turns, each format in a process of its own again, beside which nothing runs:
//! for them turns take the place of seeds.

mod make;
mod measure;
mod plan;
mod report;
mod stored;
mod timing;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use forerun_arch::{Gptq, LmConfig, Method, QuantizeConfig};
use forerun_runs::manifest;
use forerun_tensors::kernels::WeightFormat;
use forerun_tokens::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::config::{Claim, Experiment, Measure};
use crate::data::{Input, input_as};
use crate::names::check_names;
use crate::pretrained::{KNOWN, Place, Precision, drawn};

pub(crate) use make::{MakeWeights, run as run_making};
pub(crate) use measure::{MeasureWeights, run as run_measuring};
pub(crate) use plan::cells;
pub(crate) use report::{recommendation, report};
pub(crate) use timing::{TimeWeights, run as run_timing};

/// The model that has learnt nothing.
const DRAWN: &str = "drawn";

/// The part of the configuration that is this kind's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizationConfig {
    /// A folder in the layout of Hugging Face, a `.gguf` file, a name that `cargo xtask model` lists, or `drawn`: a tiny model with
    /// drawn weights.
    pub model: String,
    /// The formats to compare.
    pub arms: Vec<Arm>,
    /// What GPTQ calibrates on.
    pub calibration: CalibrationConfig,
    /// What is read to measure.
    pub reading: ReadingConfig,
    /// How speeds are measured.
    pub timing: TimingConfig,
}

/// One format of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Short and stable, `int4-g64-gptq`.
    pub name: String,
    /// How a report calls it.
    pub label: String,
    /// The format.
    pub weights: Weights,
}

/// A format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Weights {
    /// Floating-point numbers.
    Plain {
        /// Which.
        precision: PlainPrecision,
    },
    /// Codes with scales.
    Packed {
        /// Of the linear maps in the blocks: `int8`, `int4-g32`, `int4-g64` or `int4-g128`.
        blocks: WeightFormat,
        /// Of the embedding table and the head.
        tables: WeightFormat,
        /// How the blocks' weights are rounded.
        method: Rounding,
    },
}

/// A format of floating-point numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlainPrecision {
    /// 32 bits.
    F32,
    /// 16 bits.
    Bf16,
}

impl PlainPrecision {
    fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
        }
    }
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Each to its nearest number.
    Nearest,
    /// So that outputs on the calibration text change least.
    Gptq,
}

/// What GPTQ calibrates on: pieces of the training text, spread evenly over it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationConfig {
    /// Pieces.
    pub n_pieces: u64,
    /// Tokens of each.
    pub piece_tokens: usize,
}

/// What is read to measure: pieces of the held-out text, as many as there are seeds, spread evenly over it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingConfig {
    /// Tokens of a piece, all but the first of which are predicted.
    pub piece_tokens: usize,
    /// Tokens of the piece that are read at once, to measure the speed of reading a prompt.
    pub prompt_tokens: usize,
    /// Tokens that follow one by one, to measure the speed of writing.
    pub decode_tokens: usize,
}

/// How speeds are measured: on the beginnings of some pieces, in processes that do nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingConfig {
    /// Times that each format is measured, each in a process of its own.
    pub turns: u64,
    /// Pieces that a turn reads.
    pub n_pieces: u64,
}

/// What a claim may name: speeds are measured in each turn, all others on each piece.
const SERIES: [&str; 5] = [PERPLEXITY, PROMPT_SPEED, DECODE_SPEED, WEIGHT_BYTES, MEMORY_BYTES];
const PERPLEXITY: &str = "perplexity";
const PROMPT_SPEED: &str = "prompt-speed";
const DECODE_SPEED: &str = "decode-speed";
const WEIGHT_BYTES: &str = "weight-bytes";
const MEMORY_BYTES: &str = "memory-bytes";

/// What a rule about speeds calls one of its values.
const TURN: &str = "turn";

impl QuantizationConfig {
    /// Checks what no single field can know.
    pub(crate) fn validate(&self, experiment: &Experiment) -> Result<()> {
        ensure!(!self.arms.is_empty(), "`arms` is empty");
        check_names("an arm", "arms", self.arms.iter().map(|arm| &arm.name))?;
        let CalibrationConfig { n_pieces, piece_tokens } = self.calibration;
        ensure!(n_pieces > 0, "calibration.n_pieces must be positive, got 0");
        ensure!(
            piece_tokens > 1,
            "calibration.piece_tokens must be at least 2, got {piece_tokens}"
        );
        let ReadingConfig { piece_tokens, prompt_tokens, decode_tokens } = self.reading;
        let TimingConfig { turns, n_pieces } = self.timing;
        for (name, n) in [("turns", turns), ("n_pieces", n_pieces)] {
            ensure!(n > 0, "timing.{name} must be positive, got 0");
        }
        for (name, n) in [("prompt_tokens", prompt_tokens), ("decode_tokens", decode_tokens)] {
            ensure!(n > 0, "reading.{name} must be positive, got 0");
        }
        ensure!(
            prompt_tokens.saturating_add(decode_tokens) <= piece_tokens,
            "reading.piece_tokens must be at least prompt_tokens and decode_tokens together, {}, got {piece_tokens}",
            prompt_tokens.saturating_add(decode_tokens)
        );
        ensure!(
            experiment.device == "cpu",
            "device must be cpu: packed weights are computed on no other, got {}",
            experiment.device
        );
        for claim in &experiment.claims {
            for measure in claim.measures() {
                self.validate_measure(measure)
                    .with_context(|| format!("claim `{}`", claim.name))?;
            }
            validate_replicate(claim).with_context(|| format!("claim `{}`", claim.name))?;
        }
        Ok(())
    }

    fn validate_measure(&self, measure: &Measure) -> Result<()> {
        let Measure { arm, series, at, .. } = measure;
        ensure!(
            self.arms.iter().any(|known| known.name == *arm),
            "it measures the arm `{arm}`, which does not exist"
        );
        if !SERIES.contains(&series.as_str()) {
            bail!("it measures the series `{series}`; there are: {}", SERIES.join(", "));
        }
        ensure!(*at == 0.0, "`{series}` has one value a piece or turn: `at` must be 0, got {at}");
        Ok(())
    }

    /// The turns that a claim on speeds rests on; none for other claims, which rest on pieces.
    pub(crate) fn turns_of(&self, claim: &Claim) -> Option<u64> {
        claim.measures().all(is_speed).then_some(self.timing.turns)
    }

    /// A run directory must mean the same from any working directory.
    pub(crate) fn make_paths_absolute(&mut self) -> Result<()> {
        if self.is_drawn() || KNOWN.contains(&self.model.as_str()) {
            return Ok(());
        }
        let path = std::path::absolute(&self.model).with_context(|| format!("`{}`", self.model))?;
        let path = path.to_str().with_context(|| format!("`{}` is not UTF-8", path.display()))?;
        self.model = path.to_owned();
        Ok(())
    }

    fn is_drawn(&self) -> bool {
        self.model == DRAWN
    }

    /// Where the model lies; nowhere if it is drawn.
    fn place(&self) -> Result<Option<Place>> {
        if self.is_drawn() { Ok(None) } else { Place::find(&self.model).map(Some) }
    }

    fn model_config(&self) -> Result<LmConfig> {
        match self.place()? {
            Some(place) => place.config(),
            None => Ok(drawn::config()),
        }
    }

    /// The model's own tokenizer, as a file in the folder `cache`.
    pub(crate) fn tokenizer(&self, cache: &Path) -> Result<(Tokenizer, Option<Input>)> {
        let own = match self.place()? {
            Some(place) => place.tokenizer(None)?.tokenizer().clone(),
            None => drawn::tokenizer()?,
        };
        let path = cache.join(format!("tokenizer-{}.json", &own.hash()[..16]));
        own.save(&path)?;
        let input = Input { path, hash: own.hash(), tokens: None };
        Ok((own, Some(input)))
    }

    /// The model's files, for the manifest; none if it is drawn.
    pub(crate) fn sources(&self) -> Result<Vec<manifest::Input>> {
        let Some(place) = self.place()? else { return Ok(Vec::new()) };
        place.files()?.iter().map(|file| input_as("model", file)).collect()
    }

    /// The arms that the model's sizes allow: a group must divide the width of every linear map.
    pub(crate) fn possible_arms(&self, model: &LmConfig) -> Vec<&Arm> {
        let widths = [model.d_model, model.n_heads * model.head_dim, model.d_ff];
        let fits = |arm: &&Arm| match arm.weights {
            Weights::Packed { blocks, tables, .. } => {
                [blocks, tables].iter().all(|format| match format {
                    WeightFormat::Int4 { group } => widths.iter().all(|width| width % group == 0),
                    WeightFormat::Int8Grouped => widths.iter().all(|width| width % 32 == 0),
                    WeightFormat::Int8 => true,
                })
            }
            Weights::Plain { .. } => true,
        };
        self.arms.iter().filter(fits).collect()
    }

    fn has_gptq(&self) -> bool {
        self.arms
            .iter()
            .any(|arm| matches!(arm.weights, Weights::Packed { method: Rounding::Gptq, .. }))
    }
}

fn is_speed(measure: &Measure) -> bool {
    [PROMPT_SPEED, DECODE_SPEED].contains(&measure.series.as_str())
}

/// A claim compares turns with turns, or pieces with pieces, and says which.
fn validate_replicate(claim: &Claim) -> Result<()> {
    let of_turns = is_speed(&claim.a);
    if let Some(b) = claim.b.as_ref().filter(|b| is_speed(b) != of_turns) {
        let [speed, other] = if of_turns { [&claim.a, b] } else { [b, &claim.a] };
        bail!(
            "it compares `{}`, which has a value a turn, with `{}`, which has one a piece",
            speed.series,
            other.series
        );
    }
    let one = &claim.rule.replicate.one;
    ensure!(
        (one == TURN) == of_turns,
        "`{}` has a value a {}, but rule.replicate.one is `{one}`",
        claim.a.series,
        if of_turns { TURN } else { "piece" }
    );
    Ok(())
}

impl Weights {
    /// What the library is told; none for plain numbers.
    fn packing(self) -> Option<QuantizeConfig> {
        match self {
            Self::Plain { .. } => None,
            Self::Packed { blocks, tables, method } => {
                let method = match method {
                    Rounding::Nearest => Method::Nearest,
                    Rounding::Gptq => Method::Gptq(Gptq::default()),
                };
                Some(QuantizeConfig { blocks, tables: Some(tables), method })
            }
        }
    }
}

#[cfg(test)]
mod tests;
