//! Learning rate as a pure function of the number of updates already done.
//!
//! Every schedule rises linearly for `warmup_steps` updates and is at its peak for the next one. The curve reaches
//! its floor at `step = steps`, which is one past the last update: neither the first update nor the last is wasted
//! on a rate of zero.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};

/// How the learning rate falls from its peak after the warm-up.
///
/// In a file: `schedule = "constant"` or `schedule = { cosine = { final_fraction = 0.1 } }`. Fractions are of the peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Stays at the peak.
    #[default]
    Constant,
    /// Falls on a straight line.
    Linear {
        /// Where it ends; 0 unless given (Bergsma et al. 2025, arXiv:2502.15938).
        #[serde(default)]
        final_fraction: f64,
    },
    /// Falls on half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts).
    Cosine {
        /// Where it ends; 0.1 unless given (Hoffmann et al. 2022, arXiv:2203.15556).
        #[serde(default = "a_tenth")]
        final_fraction: f64,
    },
    /// Falls as `(1 − progress)^power`.
    Polynomial {
        /// Exponent, positive; 1 is [`Schedule::Linear`].
        power: f64,
        /// Where it ends; 0 unless given.
        #[serde(default)]
        final_fraction: f64,
    },
    /// Stays at the peak and falls over the last `decay_steps` only (Hu et al. 2024, arXiv:2404.06395).
    WarmupStableDecay {
        /// Updates of the fall.
        decay_steps: u64,
        /// Where it ends; 0 unless given.
        #[serde(default)]
        final_fraction: f64,
        /// Form of the fall.
        #[serde(default)]
        shape: DecayShape,
    },
}

/// Form of the fall in [`Schedule::WarmupStableDecay`]. The paper's own is exponential; these two did better in
/// Hägele et al. 2024, arXiv:2405.18392.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayShape {
    /// `1 − √progress`.
    #[default]
    OneMinusSqrt,
    /// `1 − progress`.
    Linear,
}

fn a_tenth() -> f64 {
    0.1
}

impl Schedule {
    /// Fraction of the peak learning rate once `step` updates are done, in `(0, 1]`, or `[0, 1]` at `step = steps`.
    ///
    /// Past `steps` it stays at the floor. `warmup_steps` below `steps` is assumed (`TrainConfig::validate` sees to it).
    pub fn fraction(&self, step: u64, warmup_steps: u64, steps: u64) -> f64 {
        if step < warmup_steps {
            return (step + 1) as f64 / (warmup_steps + 1) as f64;
        }
        let floor = self.final_fraction();
        let remaining = match *self {
            Self::Constant => 1.0,
            Self::Linear { .. } => 1.0 - progress(step, warmup_steps, steps),
            Self::Cosine { .. } => 0.5 * (1.0 + (PI * progress(step, warmup_steps, steps)).cos()),
            Self::Polynomial { power, .. } => {
                (1.0 - progress(step, warmup_steps, steps)).powf(power)
            }
            Self::WarmupStableDecay { decay_steps, shape, .. } => {
                shape.remaining(progress(step, steps.saturating_sub(decay_steps), steps))
            }
        };
        floor + (1.0 - floor) * remaining
    }

    /// The floor as a fraction of the peak.
    pub fn final_fraction(&self) -> f64 {
        match *self {
            Self::Constant => 1.0,
            Self::Linear { final_fraction }
            | Self::Cosine { final_fraction }
            | Self::Polynomial { final_fraction, .. }
            | Self::WarmupStableDecay { final_fraction, .. } => final_fraction,
        }
    }

    pub(crate) fn validate(&self, warmup_steps: u64, steps: u64) -> Result<()> {
        ensure(
            warmup_steps < steps,
            "warmup_steps",
            format!("below steps ({steps})"),
            warmup_steps,
        )?;
        let floor = self.final_fraction();
        ensure((0.0..=1.0).contains(&floor), "schedule.final_fraction", "within 0 and 1", floor)?;
        match *self {
            Self::Polynomial { power, .. } => {
                let sound = power > 0.0 && power.is_finite();
                ensure(sound, "schedule.power", "finite and above 0", power)
            }
            Self::WarmupStableDecay { decay_steps, .. } => {
                let most = steps - warmup_steps;
                let want = format!("within 1 and steps - warmup_steps ({most})");
                ensure((1..=most).contains(&decay_steps), "schedule.decay_steps", want, decay_steps)
            }
            _ => Ok(()),
        }
    }
}

impl DecayShape {
    fn remaining(self, progress: f64) -> f64 {
        match self {
            Self::OneMinusSqrt => 1.0 - progress.sqrt(),
            Self::Linear => 1.0 - progress,
        }
    }
}

/// Position of `step` within `from..to`, clamped to `[0, 1]`.
fn progress(step: u64, from: u64, to: u64) -> f64 {
    let passed = step.clamp(from, to.max(from)) - from;
    passed as f64 / to.saturating_sub(from).max(1) as f64
}

#[cfg(test)]
mod tests;
