//! `lr-horizon`: how the best learning rate falls with the number of tokens, and whether short runs foretell a longer one.
//!
//! Bjorck et al. 2024, *Scaling optimal LR across token horizons*, arXiv:2409.19913: at a fixed batch the best peak
//! learning rate is a power of the horizon, `LR*(D) = B D^-beta`. The first arm is trained at every fitted horizon,
//! learning rate and seed, each horizon as a run of its own with warm-up and cosine to its end; the law is fitted to the
//! vertices of parabolas; and the held-out horizon, longer than all of them, is run at the learning rate that the law
//! predicts, at that of a short horizon carried over unchanged, and on a grid of its own. Further arms (another width,
//! another parametrisation) are trained at some horizons only.
//!
//! A training is one of ours, in a stack with the other learning rates of its horizon and seed, or an external command.

mod external;
mod fit;
mod plan;
mod rate;
mod report;
mod spread;
mod valley;
mod verdicts;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use forerun_arch::DecoderConfig;
use forerun_scaling::parabola::{ParabolaConfig, Window};
use forerun_train::TrainConfig;
use serde::{Deserialize, Serialize};

use crate::config::{Experiment, Measure};
use crate::names::check_names;

pub(crate) use external::ExternalConfig;
pub(crate) use plan::cells;
pub(crate) use rate::SweepRate;
pub(crate) use report::{recommendation, report};
pub(crate) use verdicts::{derived, reconsider};

/// The part of the configuration that is this kind's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HorizonConfig {
    /// What is trained: the first at all horizons, the others at some.
    pub arms: Vec<Arm>,
    /// For how long.
    pub horizons: HorizonsConfig,
    /// At which learning rates, and how the best is read off them.
    pub sweep: SweepConfig,
    /// The command that trains, if it is not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalConfig>,
}

/// One kind of model. With an external command it has no model and no training: the command knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Short and stable, `mup-wide`.
    pub name: String,
    /// How a report calls it, `muP, width 64`.
    pub label: String,
    /// The model; `vocab_size` comes from the tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<DecoderConfig>,
    /// How it is trained; updates, warm-up and learning rate come from horizon and sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainConfig>,
    /// Horizons as parts of the held-out one; those of `horizons.fitted` if absent. Not for the first arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizons: Option<Vec<f64>>,
    /// Peak learning rates; those of the sweep if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rates: Option<Vec<f64>>,
    /// Placeholders of an external command that are this arm's own, `width = "64"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    /// Parameters of an external model, for the law of size and horizon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_params: Option<u64>,
}

/// For how long models are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HorizonsConfig {
    /// The horizon that is predicted, in tokens; rounded to whole updates, as all are.
    pub held_out: u64,
    /// The horizons that the law is fitted to, as parts of the held-out one, ascending and below 1.
    pub fitted: Vec<f64>,
    /// The fitted horizon whose best learning rate is carried over unchanged.
    pub carried_from: f64,
}

/// At which learning rates models are trained, and how the best is read off their losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// Peak learning rates at the fitted horizons, ascending.
    pub learning_rates: Vec<f64>,
    /// Peak learning rates at the held-out horizon beside the predicted and the carried one, ascending.
    pub held_out_learning_rates: Vec<f64>,
    /// Part of a horizon over which the learning rate rises.
    pub warmup_share: f64,
    /// Rows of held-out text that the final loss is measured on.
    pub loss_rows: u64,
    /// How an optimum is read off the mean losses of a horizon.
    pub parabola: ParabolaConfig,
    /// Draws of the bootstrap over seeds.
    pub bootstrap: usize,
}

/// The held-out horizon as a part of itself.
const HELD_OUT: f64 = 1.0;

/// One training among those of an arm: how the results name it, `base/0.25/0.004`, `base/1/predicted`.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    arm: String,
    /// Of the held-out horizon.
    part: f64,
    rate: Rate,
}

/// The peak learning rate of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    /// One of a grid.
    At(f64),
    /// What the law of the shorter horizons predicts.
    Predicted,
    /// The best of a shorter horizon, unchanged.
    Carried,
}

const PREDICTED: &str = "predicted";
const CARRIED: &str = "carried";

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arm, part, rate } = self;
        match rate {
            Rate::At(lr) => write!(f, "{arm}/{part}/{lr}"),
            Rate::Predicted => write!(f, "{arm}/{part}/{PREDICTED}"),
            Rate::Carried => write!(f, "{arm}/{part}/{CARRIED}"),
        }
    }
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('/');
        let (Some(arm), Some(part), Some(rate), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            bail!("`{text}` does not name an arm, a horizon and a learning rate");
        };
        let rate = match rate {
            PREDICTED => Rate::Predicted,
            CARRIED => Rate::Carried,
            lr => Rate::At(lr.parse()?),
        };
        Ok(Self { arm: arm.to_owned(), part: part.parse()?, rate })
    }
}

impl HorizonConfig {
    /// Checks what no single field can know.
    pub(crate) fn validate(&self, experiment: &Experiment) -> Result<()> {
        self.validate_horizons()?;
        self.validate_sweep()?;
        self.validate_arms()?;
        if let Some(external) = &self.external {
            external.validate(self, experiment.seeds).context("external")?;
        }
        for claim in &experiment.claims {
            for measure in claim.measures() {
                self.validate_measure(measure)
                    .with_context(|| format!("claim `{}`", claim.name))?;
            }
        }
        Ok(())
    }

    fn validate_horizons(&self) -> Result<()> {
        let HorizonsConfig { held_out, fitted, carried_from } = &self.horizons;
        ensure!(*held_out > 0, "horizons.held_out must be positive, got 0");
        ensure!(
            fitted.len() > 2 && are_parts(fitted),
            "horizons.fitted must be three or more parts of the held-out horizon, above 0 and below 1, that ascend, \
             got {fitted:?}"
        );
        ensure!(
            fitted.contains(carried_from),
            "horizons.carried_from must be one of horizons.fitted, got {carried_from}"
        );
        Ok(())
    }

    fn validate_sweep(&self) -> Result<()> {
        let SweepConfig { warmup_share, loss_rows, parabola, bootstrap, .. } = &self.sweep;
        validate_rates("sweep.learning_rates", 3, &self.sweep.learning_rates)?;
        validate_rates("sweep.held_out_learning_rates", 1, &self.sweep.held_out_learning_rates)?;
        ensure!(
            (0.0..1.0).contains(warmup_share),
            "sweep.warmup_share must be at least 0 and below 1, got {warmup_share}"
        );
        ensure!(*loss_rows > 0, "sweep.loss_rows must be positive, got 0");
        ensure!(*bootstrap >= 100, "sweep.bootstrap must be at least 100 draws, got {bootstrap}");
        let ParabolaConfig { window, divergence, min_r2 } = parabola;
        ensure!(*divergence > 0.0, "sweep.parabola.divergence must be positive, got {divergence}");
        ensure!(*min_r2 <= 1.0, "sweep.parabola.min_r2 must be at most 1, got {min_r2}");
        match window {
            Window::Around(0) => bail!("sweep.parabola.window.around must be at least 1, got 0"),
            Window::Within(nats) if *nats <= 0.0 || nats.is_nan() => {
                bail!("sweep.parabola.window.within must be positive, got {nats}")
            }
            _ => Ok(()),
        }
    }

    fn validate_arms(&self) -> Result<()> {
        ensure!(!self.arms.is_empty(), "`arms` is empty");
        check_names("an arm", "arms", self.arms.iter().map(|arm| &arm.name))?;
        for (index, arm) in self.arms.iter().enumerate() {
            let name = &arm.name;
            self.validate_arm(arm, index == 0).with_context(|| format!("arms.{name}"))?;
        }
        Ok(())
    }

    fn validate_arm(&self, arm: &Arm, is_first: bool) -> Result<()> {
        if let Some(parts) = &arm.horizons {
            ensure!(!is_first, "horizons: the first arm is trained at all of them");
            ensure!(
                !parts.is_empty() && are_parts(parts),
                "horizons must be parts of the held-out horizon, above 0 and below 1, that ascend, got {parts:?}"
            );
        }
        if let Some(rates) = &arm.learning_rates {
            ensure!(!is_first, "learning_rates: the first arm has those of the sweep");
            validate_rates("learning_rates", 3, rates)?;
        }
        match (&self.external, &arm.model, &arm.training) {
            (Some(_), None, None) => Ok(()),
            (Some(_), ..) => {
                bail!("`model` and `training` are our own models'; an external command has its own")
            }
            (None, Some(model), Some(training)) => self.validate_own(model, training),
            (None, ..) => bail!("`model` and `training` are missing, and there is no `[external]`"),
        }
    }

    fn validate_own(&self, model: &DecoderConfig, training: &TrainConfig) -> Result<()> {
        // The vocabulary is known once the tokenizer is.
        let model = DecoderConfig { vocab_size: model.vocab_size.max(1), ..model.clone() };
        model.validate().context("model")?;
        training.validate().context("training")?;
        let first = self.arms.first().and_then(|arm| arm.training.as_ref());
        ensure!(
            first.is_none_or(|first| batch_tokens(first) == batch_tokens(training)),
            "every arm must have the same tokens in a batch, training.seq_len times training.batch_size"
        );
        Ok(())
    }

    fn validate_measure(&self, measure: &Measure) -> Result<()> {
        let Measure { arm, series, at, .. } = measure;
        let index = self.arms.iter().position(|known| known.name == *arm);
        let Some(index) = index else {
            bail!("it measures the arm `{arm}`, which does not exist");
        };
        let Some(known) = verdicts::known(series) else {
            let names: Vec<&str> = verdicts::SERIES.iter().map(|known| known.name).collect();
            bail!("it measures the series `{series}`; there are: {}", names.join(", "));
        };
        ensure!(
            index == 0 || !known.first_arm_alone,
            "`{series}` is measured on the first arm alone, not on `{arm}`"
        );
        if let Some(other) = series.strip_prefix(verdicts::MOVED_FROM) {
            let found = self.arms.iter().find(|known| known.name == other && known.name != *arm);
            let Some(found) = found else {
                bail!("`{series}` must name an arm other than `{arm}`");
            };
            ensure!(
                self.parts(found).contains(at),
                "`{series}` is measured at {at} of the held-out horizon, where `{other}` is not trained"
            );
        }
        match known.at {
            verdicts::At::Nowhere => {
                ensure!(*at == 0.0, "`{series}` has no horizon: `at` must be 0, got {at}")
            }
            verdicts::At::HeldOut => ensure!(
                *at == HELD_OUT,
                "`{series}` is measured at the held-out horizon: `at` must be 1, got {at}"
            ),
            verdicts::At::Horizon => ensure!(
                self.parts(&self.arms[index]).contains(at),
                "it measures at {at} of the held-out horizon, where `{arm}` is not trained"
            ),
        }
        Ok(())
    }

    /// The arm that the law is fitted to.
    fn subject(&self) -> Option<&Arm> {
        self.arms.first()
    }

    fn is_subject(&self, arm: &Arm) -> bool {
        self.subject().is_some_and(|subject| subject.name == arm.name)
    }

    /// Every horizon of an arm, as parts of the held-out one, ascending.
    fn parts(&self, arm: &Arm) -> Vec<f64> {
        let mut parts = arm.horizons.clone().unwrap_or_else(|| self.horizons.fitted.clone());
        if self.is_subject(arm) {
            parts.push(HELD_OUT);
        }
        parts
    }

    /// The grid of an arm at a horizon.
    fn rates<'a>(&'a self, arm: &'a Arm, part: f64) -> &'a [f64] {
        match &arm.learning_rates {
            Some(rates) => rates,
            None if part == HELD_OUT => &self.sweep.held_out_learning_rates,
            None => &self.sweep.learning_rates,
        }
    }

    /// The abscissa of a horizon in the series that claims are about, tokens as the configuration has them.
    fn nominal(&self, part: f64) -> f64 {
        part * self.held_out_tokens()
    }

    /// What claims count horizons in.
    pub(crate) fn held_out_tokens(&self) -> f64 {
        self.horizons.held_out as f64
    }

    /// Tokens of one update; none if only an external command knows.
    fn batch_tokens(&self) -> Option<u64> {
        match &self.external {
            Some(external) => external.batch_tokens,
            None => self.subject()?.training.as_ref().map(batch_tokens),
        }
    }

    /// Updates of a horizon, rounded; none if only an external command knows.
    fn steps(&self, part: f64) -> Option<u64> {
        let batch = self.batch_tokens()? as f64;
        Some(((self.nominal(part) / batch).round() as u64).max(1))
    }

    /// Tokens that a model really sees in a horizon.
    fn n_tokens(&self, part: f64) -> f64 {
        match (self.steps(part), self.batch_tokens()) {
            (Some(steps), Some(batch)) => steps as f64 * batch as f64,
            _ => self.nominal(part).round(),
        }
    }

    /// Where in the series of held-out losses a training's last one stands.
    fn end(&self, part: f64) -> f64 {
        match (&self.external, self.steps(part)) {
            (None, Some(steps)) => steps as f64,
            _ => self.n_tokens(part),
        }
    }

    /// Paths that an external command is told mean the same from anywhere.
    pub(crate) fn make_paths_absolute(&mut self) -> Result<()> {
        self.external.as_mut().map_or(Ok(()), ExternalConfig::make_paths_absolute)
    }
}

fn batch_tokens(training: &TrainConfig) -> u64 {
    training.seq_len.unsigned_abs() * training.batch_size as u64
}

fn are_parts(parts: &[f64]) -> bool {
    parts.iter().all(|&part| part > 0.0 && part < HELD_OUT) && parts.is_sorted_by(|a, b| a < b)
}

fn validate_rates(name: &str, least: usize, rates: &[f64]) -> Result<()> {
    let sound = rates.iter().all(|&lr| lr > 0.0 && lr.is_finite());
    ensure!(
        sound && rates.len() >= least && rates.is_sorted_by(|a, b| a < b),
        "{name} must be {least} or more positive numbers that ascend, got {rates:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
