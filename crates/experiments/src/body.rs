//! The kinds of experiment. Everything that differs between kinds is asked here, so that a new kind is a variant, a
//! module beside `length.rs`, and one line in each of these functions.

use anyhow::{Result, bail};
use forerun_runs::recommendation::Recommendation;
use forerun_runs::report::Report;
use forerun_runs::results::Row;
use forerun_runs::verdict::Judgement;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::config::{Claim, Experiment, read};
use crate::data::Prepared;
use crate::horizon::{self, HorizonConfig};
use crate::length::{self, LengthConfig};
use crate::magneto::{self, MagnetoConfig};
use crate::multilingual::{self, MixtureConfig};
use crate::outcome::{Curve, Outcome};
use crate::plan::PlannedCell;
use crate::quantization::{self, QuantizationConfig};

/// The kinds of experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Body {
    /// Trains models that differ in positions and norm, reads them beyond the training length.
    LengthExtrapolation(LengthConfig),
    /// Trains models that differ in where their norms sit, by depth and learning rate, and measures one update's size.
    MagnetoStability(MagnetoConfig),
    /// Trains at many learning rates and horizons, and predicts the best learning rate of a longer one.
    LrHorizon(HorizonConfig),
    /// Trains models on mixtures of language families, and carries the best mixture to a larger model.
    MultilingualMixture(MixtureConfig),
    /// Writes one model's weights in several formats, and measures each.
    Quantization(QuantizationConfig),
}

/// The settings that a kind has beside the common ones.
pub(crate) fn own_settings(kind: &str) -> Result<&'static [&'static str]> {
    match kind {
        "length-extrapolation" => Ok(&["arms", "evaluation", "samples", "tuning", "sweep"]),
        "magneto-stability" => Ok(&["arms", "grid", "update"]),
        "lr-horizon" => Ok(&["arms", "horizons", "sweep", "external"]),
        "multilingual-mixture" => {
            Ok(&["arms", "families", "mixing", "design", "checks", "transfer"])
        }
        "quantization" => Ok(&["model", "arms", "calibration", "reading", "timing"]),
        other => bail!("kind: there is no kind of experiment `{other}`"),
    }
}

/// Reads the settings of a kind alone, for the sake of an error that names the path of the setting.
pub(crate) fn check_own_settings(kind: &str, own: Table) -> Result<()> {
    match kind {
        "length-extrapolation" => read::<LengthConfig>(own).map(drop),
        "magneto-stability" => read::<MagnetoConfig>(own).map(drop),
        "lr-horizon" => read::<HorizonConfig>(own).map(drop),
        "multilingual-mixture" => read::<MixtureConfig>(own).map(drop),
        "quantization" => read::<QuantizationConfig>(own).map(drop),
        other => bail!("kind: there is no kind of experiment `{other}`"),
    }
}

impl Body {
    /// Checks what no single field can know.
    pub(crate) fn validate(&self, experiment: &Experiment) -> Result<()> {
        match self {
            Self::LengthExtrapolation(body) => body.validate(experiment),
            Self::MagnetoStability(body) => body.validate(experiment),
            Self::LrHorizon(body) => body.validate(experiment),
            Self::MultilingualMixture(body) => body.validate(experiment),
            Self::Quantization(body) => body.validate(experiment),
        }
    }

    /// A run directory must mean the same from any working directory.
    pub(crate) fn make_paths_absolute(&mut self) -> Result<()> {
        match self {
            Self::LengthExtrapolation(_)
            | Self::MagnetoStability(_)
            | Self::MultilingualMixture(_) => Ok(()),
            Self::LrHorizon(body) => body.make_paths_absolute(),
            Self::Quantization(body) => body.make_paths_absolute(),
        }
    }

    /// The cells, in the order in which they should run.
    pub(crate) fn cells(
        &self,
        experiment: &Experiment,
        data: &Prepared,
    ) -> Result<Vec<PlannedCell>> {
        match self {
            Self::LengthExtrapolation(body) => length::cells(experiment, body, data),
            Self::MagnetoStability(body) => magneto::cells(experiment, body, data),
            Self::LrHorizon(body) => horizon::cells(experiment, body, data),
            Self::MultilingualMixture(body) => multilingual::cells(experiment, body, data),
            Self::Quantization(body) => quantization::cells(experiment, body, data),
        }
    }

    /// What one unit of [`crate::config::Measure::at`] is on the abscissa of a series: the training length in tokens
    /// for lengths, the layers of the deepest models for depths, the held-out horizon for horizons, 1 where series have
    /// abscissae that a configuration can name.
    pub(crate) fn unit_of_at(&self) -> f64 {
        match self {
            Self::LengthExtrapolation(body) => body.training_length() as f64,
            Self::MagnetoStability(body) => body.deepest() as f64,
            Self::LrHorizon(body) => body.held_out_tokens(),
            Self::MultilingualMixture(_) | Self::Quantization(_) => 1.0,
        }
    }

    /// Series that follow from measured ones and that claims may name; they are made anew whenever they are needed.
    pub(crate) fn derived(
        &self,
        experiment: &Experiment,
        rows: &[Row],
        curves: &[Curve],
    ) -> Vec<Curve> {
        match self {
            Self::LengthExtrapolation(body) => length::derived(experiment, body, curves),
            Self::MagnetoStability(body) => magneto::derived(experiment, body, rows, curves),
            Self::LrHorizon(body) => horizon::derived(body, rows, curves),
            Self::MultilingualMixture(body) => multilingual::derived(experiment, body, curves),
            Self::Quantization(_) => Vec::new(),
        }
    }

    /// What a claim's rule, which looks at seeds alone, does not see; most judgements stay as they are.
    pub(crate) fn reconsider(
        &self,
        claim: &Claim,
        rows: &[Row],
        curves: &[Curve],
        judgement: Judgement,
    ) -> Result<Judgement> {
        match self {
            Self::LengthExtrapolation(body) => length::reconsider(body, claim, curves, judgement),
            Self::MagnetoStability(body) => magneto::reconsider(body, claim, rows, judgement),
            Self::LrHorizon(body) => horizon::reconsider(body, claim, rows, curves, judgement),
            Self::MultilingualMixture(body) => {
                multilingual::reconsider(body, claim, curves, judgement)
            }
            Self::Quantization(_) => Ok(judgement),
        }
    }

    /// Whether every cell holds a whole model, which may be as large as the memory, so that they run one at a time unless more are
    /// asked for.
    pub(crate) fn holds_whole_models(&self) -> bool {
        matches!(self, Self::Quantization(_))
    }

    /// How many replicates a claim rests on, if their number is not that of the seeds; what one is called, its rule says.
    pub(crate) fn replicates(&self, claim: &Claim) -> Option<u64> {
        match self {
            Self::Quantization(body) => body.turns_of(claim),
            Self::MultilingualMixture(body) => multilingual::n_mixtures(body, claim),
            _ => None,
        }
    }

    /// Numbers that a claim is judged from: one a seed, or whatever takes the place of seeds.
    pub(crate) fn n_values(&self, experiment: &Experiment, claim: &Claim) -> u64 {
        match self {
            Self::Quantization(body) => body.turns_of(claim).unwrap_or(experiment.seeds),
            _ => experiment.seeds,
        }
    }

    /// What to set, if the run found out.
    pub(crate) fn recommendation(&self, outcome: &Outcome) -> Vec<Recommendation> {
        match self {
            Self::LengthExtrapolation(body) => length::recommendation(outcome, body),
            Self::MagnetoStability(body) => magneto::recommendation(outcome, body),
            Self::LrHorizon(body) => horizon::recommendation(outcome, body),
            Self::MultilingualMixture(body) => multilingual::recommendation(outcome, body),
            Self::Quantization(body) => quantization::recommendation(outcome, body),
        }
    }

    /// The report of a run directory.
    pub(crate) fn report(&self, outcome: &Outcome) -> Result<Report> {
        match self {
            Self::LengthExtrapolation(body) => length::report(outcome, body),
            Self::MagnetoStability(body) => magneto::report(outcome, body),
            Self::LrHorizon(body) => horizon::report(outcome, body),
            Self::MultilingualMixture(body) => multilingual::report(outcome, body),
            Self::Quantization(body) => quantization::report(outcome, body),
        }
    }
}
