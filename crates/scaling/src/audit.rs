//! Was a run's learning rate right? Its ratio to the best one, and what the difference cost.
//!
//! The best one comes from a law fitted to a sweep, or from a published law; the constants of the latter are second-hand
//! here (read in reviews and other people's code, not in the papers' tables), and say so wherever they are used.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};
use crate::fit::Fit;
use crate::interval::Interval;
use crate::law::LrHorizon;
use crate::quantity::Quantity;
use crate::units::{CountUnit, Params, Tokens};

/// A training run: what a law of the best learning rate asks for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Parameters.
    pub n: Params,
    /// Tokens.
    pub d: Tokens,
    /// Batch in the unit of the sweep, where its law has one.
    pub batch: Option<f64>,
}

/// A published law of the best peak learning rate, `constant · N^-n · D^-d`, with constants that were not read in the
/// paper itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedLr {
    /// How the command line calls it.
    pub name: &'static str,
    /// Where it is from, and what it was fitted to.
    pub source: &'static str,
    /// The unit of `N` and `D` in the constant.
    pub unit: CountUnit,
    /// The constant.
    pub constant: f64,
    /// Exponent of the size.
    pub n: f64,
    /// Exponent of the horizon.
    pub d: f64,
}

/// Laws of the best learning rate, second-hand.
pub const PUBLISHED: [PublishedLr; 3] = [
    PublishedLr {
        name: "bjorck-2024",
        source: "Bjorck et al. 2024, arXiv:2409.19913, joint law: 760M to 2.7B parameters, batch 0.5M tokens",
        unit: CountUnit::Billions,
        constant: 1.55e-3,
        n: 0.23,
        d: 0.32,
    },
    PublishedLr {
        name: "step-law-2025",
        source: "Li et al. 2025, Step Law: the batch grows with the horizon, hence the rise with D",
        unit: CountUnit::Raw,
        constant: 1.79,
        n: 0.713,
        d: -0.307,
    },
    PublishedLr {
        name: "porian-2024",
        source: "Porian et al. 2024, arXiv:2406.19146: compute-optimal horizons only",
        unit: CountUnit::Raw,
        constant: 3.7,
        n: 0.36,
        d: 0.,
    },
];

/// The exponent of the rule of thumb for a longer horizon at the same batch, second-hand from Bjorck et al. 2024; their
/// own fits range from 0.32 to 0.70 below 760M parameters, and the sign turns at large batches.
pub const RULE_OF_THUMB: f64 = 0.32;

impl PublishedLr {
    /// The law with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        PUBLISHED.into_iter().find(|law| law.name == name)
    }

    /// Its best learning rate for `target`; it has no interval.
    pub fn predict(&self, target: &Target) -> BestLr {
        let unit = self.unit.size();
        let [n, d] = [target.n.0 / unit, target.d.0 / unit];
        BestLr {
            lr: self.constant * n.powf(-self.n) * d.powf(-self.d),
            interval: None,
            se_ln: None,
            basis: format!("{} (constants second-hand)", self.source),
        }
    }
}

/// A best learning rate, and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestLr {
    /// The learning rate.
    pub lr: f64,
    /// 95 % interval, where the law was fitted here.
    pub interval: Option<Interval>,
    /// Standard error of its logarithm, where the law was fitted here.
    pub se_ln: Option<f64>,
    /// The law.
    pub basis: String,
}

/// The best learning rate for `target` from a fitted law, with its interval by Student's t.
///
/// # Errors
/// [`crate::Error::Data`] names an input that the law asks for and `target` lacks.
pub fn predict_fitted(law: &LrHorizon, fit: &Fit, target: &Target) -> Result<BestLr> {
    let mut inputs = vec![("n", target.n.0), ("d", target.d.0)];
    inputs.extend(target.batch.map(|batch| ("batch", batch)));
    let quantity = Quantity::prediction(law, &inputs)?;
    Ok(BestLr {
        lr: quantity.natural(&fit.theta),
        interval: fit.interval(&quantity, 0.95),
        se_ln: fit.variance(&quantity).map(|(variance, _)| variance.max(0.).sqrt()),
        basis: format!("fitted to {} optima of the sweep", fit.n_points),
    })
}

/// A learning rate for a longer or shorter horizon at the same size and batch: `lr · (from / to)^0.32`.
pub fn rule_of_thumb(lr: f64, from: Tokens, to: Tokens) -> f64 {
    lr * (from.0 / to.0).powf(RULE_OF_THUMB)
}

/// What an audit finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// The best learning rate.
    pub best: BestLr,
    /// The one that was used.
    pub used: f64,
    /// Used over best: above 1 is too large.
    pub ratio: f64,
    /// 95 % interval of the ratio, where the best has one.
    pub ratio_interval: Option<Interval>,
    /// Loss above the best, nats per token, where the curvature is known.
    pub penalty: Option<f64>,
    /// Its 95 % interval: the smallest and largest over the interval of the best learning rate.
    pub penalty_interval: Option<Interval>,
    /// Why the intervals may hold the truth less often than they say, or why there is none: for the caller to fill in,
    /// who knows what the best learning rate rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Compares `used` with the best learning rate. `curvature` is that of the loss in `ln lr`, nats per square
/// ([`crate::sweep::curvature`]); it is taken to be the same at the target as where it was measured.
///
/// # Errors
/// [`crate::Error::Config`] for a learning rate or curvature that is not positive.
pub fn audit(best: BestLr, used: f64, curvature: Option<f64>) -> Result<Audit> {
    ensure(used > 0. && used.is_finite(), "used", "a positive learning rate", used)?;
    if let Some(curvature) = curvature {
        ensure(curvature > 0. && curvature.is_finite(), "curvature", "positive", curvature)?;
    }
    let ratio = used / best.lr;
    let ratio_interval = best
        .interval
        .map(|interval| Interval { low: used / interval.high, high: used / interval.low });
    let penalty = curvature.map(|k| k * ratio.ln().powi(2));
    let penalty_interval = curvature.zip(ratio_interval).map(|(k, ratio)| {
        let [low, high] = [ratio.low.ln(), ratio.high.ln()].map(|x| k * x * x);
        let smallest = if ratio.contains(1.) { 0. } else { low.min(high) };
        Interval { low: smallest, high: low.max(high) }
    });
    Ok(Audit { best, used, ratio, ratio_interval, penalty, penalty_interval, problem: None })
}

/// The loss above the best that is to be expected when a learning rate is chosen as `ratio` times an estimate of the
/// best, whose logarithm has the standard error `se_ln`: `curvature · (ln² ratio + se²)`.
pub fn expected_regret(curvature: f64, ratio: f64, se_ln: f64) -> f64 {
    curvature * (ratio.ln().powi(2) + se_ln * se_ln)
}

#[cfg(test)]
mod tests;
