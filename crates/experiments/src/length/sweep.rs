//! xPos with other constants: its gamma, which bounds the decay, and its scale base, over which the decay acts once.

use anyhow::{Result, bail};
use forerun_arch::{DecoderConfig, Positions};
use serde::{Deserialize, Serialize};

use super::{Arm, LengthConfig};

/// Which constants are tried: each gamma at the arm's own scale base, and each scale base at its own gamma.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// The arm, one with xPos; it is the point in the middle, and its learning rate serves all.
    pub arm: String,
    /// Seeds of each point, the first ones of the arm's; at most as many as the arm has.
    pub seeds: u64,
    /// Other values of gamma.
    pub gammas: Vec<f64>,
    /// Other scale bases, in tokens.
    pub scale_bases: Vec<f64>,
}

/// One pair of constants.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SweepPoint {
    /// What its rows are called, `xpos-gamma-0.2`; the arm itself for the pair in the middle.
    pub(super) name: String,
    pub(super) gamma: f64,
    pub(super) scale_base: f64,
    /// The arm's model with these constants.
    pub(super) model: DecoderConfig,
}

impl SweepConfig {
    pub(super) fn validate(&self, body: &LengthConfig) -> Result<()> {
        let Some(arm) = body.arm(&self.arm) else {
            bail!("sweep.arm: there is no arm `{}`", self.arm);
        };
        let Positions::Xpos { .. } = arm.model.positions else {
            bail!("sweep.arm: `{}` has no xPos positions", self.arm);
        };
        if self.seeds == 0 {
            bail!("sweep.seeds must be at least 1, got 0; leave `[sweep]` away to do without");
        }
        for (field, values) in [("gammas", &self.gammas), ("scale_bases", &self.scale_bases)] {
            if let Some(value) = values.iter().find(|value| !(**value > 0.0 && value.is_finite())) {
                bail!("sweep.{field} must be positive, got {value}");
            }
        }
        Ok(())
    }

    /// Seeds of each point in an experiment of `seeds`.
    pub(super) fn n_seeds(&self, seeds: u64) -> u64 {
        self.seeds.min(seeds)
    }

    /// The points beside the arm itself: gammas, then scale bases.
    pub(super) fn points(&self, arm: &Arm) -> Vec<SweepPoint> {
        let Positions::Xpos { gamma, scale_base, .. } = arm.model.positions else {
            return Vec::new();
        };
        let gammas = self
            .gammas
            .iter()
            .filter(|value| **value != gamma)
            .map(|&value| (format!("{}-gamma-{value}", arm.name), value, scale_base));
        let bases = self
            .scale_bases
            .iter()
            .filter(|value| **value != scale_base)
            .map(|&value| (format!("{}-scale-base-{value}", arm.name), gamma, value));
        gammas
            .chain(bases)
            .map(|(name, gamma, scale_base)| point(arm, name, gamma, scale_base))
            .collect()
    }

    /// The arm itself, as a point.
    pub(super) fn middle(&self, arm: &Arm) -> Option<SweepPoint> {
        let Positions::Xpos { gamma, scale_base, .. } = arm.model.positions else { return None };
        Some(point(arm, arm.name.clone(), gamma, scale_base))
    }
}

fn point(arm: &Arm, name: String, gamma: f64, scale_base: f64) -> SweepPoint {
    let base = match arm.model.positions {
        Positions::Xpos { base, .. } | Positions::Rope { base } => base,
        _ => 10_000.0,
    };
    let positions = Positions::Xpos { base, gamma, scale_base };
    let model = DecoderConfig { positions, ..arm.model.clone() };
    SweepPoint { name, gamma, scale_base, model }
}
