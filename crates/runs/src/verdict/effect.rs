//! From values of seeds to an effect and its interval, on the scale on which effects are added: the
//! metric itself for a difference, its logarithm for a ratio.

use rand::Rng;

use super::{Diverged, Effect, Method, Rule};
use crate::error::Result;
use crate::stats::{
    Interval, mean, student, studentised_bootstrap, studentised_bootstrap_difference, variance,
};

/// Values that can be compared.
pub(super) struct Samples {
    arm: Vec<f64>,
    baseline: Vec<f64>,
    paired: bool,
    /// What happened to seeds without a finite value; empty if there are none.
    note: String,
}

/// Effect of the arm and, where there is any noise to judge by, its interval.
pub(super) struct Estimate {
    pub(super) effect: f64,
    pub(super) interval: Option<Interval>,
}

impl Samples {
    /// Deals with seeds that have no finite value and takes logarithms for a ratio; the error is the
    /// reason why nothing can be said.
    pub(super) fn clean(rule: &Rule, arm: &[f64], baseline: &[f64]) -> Result<Self, String> {
        let mut samples = Self {
            arm: arm.to_vec(),
            baseline: baseline.to_vec(),
            paired: rule.paired,
            note: String::new(),
        };
        samples.settle_diverged(rule)?;
        if rule.effect == Effect::Ratio {
            samples.take_logarithms(rule)?;
        }
        Ok(samples)
    }

    /// Pairs, or values of the smaller arm.
    pub(super) fn n_seeds(&self) -> usize {
        self.arm.len().min(self.baseline.len())
    }

    /// A reason, with what happened to seeds without a value.
    pub(super) fn explain(&self, reason: String) -> String {
        if self.note.is_empty() { reason } else { format!("{reason}; {}", self.note) }
    }

    fn settle_diverged(&mut self, rule: &Rule) -> Result<(), String> {
        let broken = |values: &[f64]| values.iter().filter(|value| !value.is_finite()).count();
        let [n_arm, n_baseline] = [broken(&self.arm), broken(&self.baseline)];
        if n_arm + n_baseline == 0 {
            return Ok(());
        }
        let counts = format!(
            "without a finite value (diverged or missing): {n_arm} of {} {} of `{}`, {n_baseline} of {} of `{}`",
            self.arm.len(),
            rule.replicate.many,
            rule.arm,
            self.baseline.len(),
            rule.baseline
        );
        match rule.diverged {
            Diverged::Inconclusive => return Err(counts),
            Diverged::Drop => {
                self.drop_broken();
                self.note = format!("left out {counts}");
            }
            Diverged::Value(value) => {
                for slot in self.arm.iter_mut().chain(&mut self.baseline) {
                    if !slot.is_finite() {
                        *slot = value;
                    }
                }
                self.note = format!("counted as {value} {counts}");
            }
        }
        Ok(())
    }

    fn drop_broken(&mut self) {
        if !self.paired {
            self.arm.retain(|value| value.is_finite());
            self.baseline.retain(|value| value.is_finite());
            return;
        }
        let pairs = self.arm.iter().zip(&self.baseline);
        (self.arm, self.baseline) =
            pairs.filter(|(a, b)| a.is_finite() && b.is_finite()).map(|(a, b)| (*a, *b)).unzip();
    }

    fn take_logarithms(&mut self, rule: &Rule) -> Result<(), String> {
        for (name, values) in [(&rule.arm, &mut self.arm), (&rule.baseline, &mut self.baseline)] {
            for value in values {
                if *value <= 0.0 {
                    return Err(format!("a ratio needs positive values, `{name}` has {value}"));
                }
                *value = value.ln();
            }
        }
        Ok(())
    }

    /// Largest value, against which rounding errors are measured.
    fn scale(&self) -> f64 {
        self.arm.iter().chain(&self.baseline).fold(0.0, |scale, value| value.abs().max(scale))
    }
}

/// Spread that is nothing but rounding, relative to the values.
const ROUNDING: f64 = 1e-12;

pub(super) fn estimate(rule: &Rule, samples: &Samples, rng: &mut impl Rng) -> Result<Estimate> {
    let Samples { arm, baseline, .. } = samples;
    let effect = mean(arm) - mean(baseline);
    if samples.n_seeds() < 2 {
        return Ok(Estimate { effect, interval: None });
    }
    let noise = (ROUNDING * samples.scale()).powi(2);
    let interval = if rule.paired {
        let differences: Vec<_> = arm.iter().zip(baseline).map(|(a, b)| a - b).collect();
        paired(rule, &differences, noise, rng)?
    } else {
        unpaired(rule, arm, baseline, noise, rng)?
    };
    Ok(Estimate { effect, interval })
}

/// Variance of what is rounded to steps: that of a uniform error of one step's width.
fn rounding_variance(resolution: f64) -> f64 {
    resolution.powi(2) / 12.0
}

pub(super) fn paired(
    rule: &Rule,
    differences: &[f64],
    noise: f64,
    rng: &mut impl Rng,
) -> Result<Option<Interval>> {
    let n = differences.len() as f64;
    let seen = variance(differences);
    let spread = seen.max(2.0 * rounding_variance(rule.resolution)); // both values were rounded
    if spread <= noise {
        return Ok(None);
    }
    let error = (spread / n).sqrt();
    let interval = student::around(mean(differences), error, n - 1.0, rule.confidence);
    if rule.interval == Method::Student || seen <= noise {
        return Ok(Some(interval));
    }
    Ok(Some(interval.hull(studentised_bootstrap(differences, rule.confidence, rng)?)))
}

pub(super) fn unpaired(
    rule: &Rule,
    arm: &[f64],
    baseline: &[f64],
    noise: f64,
    rng: &mut impl Rng,
) -> Result<Option<Interval>> {
    let seen = [variance(arm), variance(baseline)];
    let spread = seen.map(|variance| variance.max(rounding_variance(rule.resolution)));
    if spread.iter().all(|variance| *variance <= noise) {
        return Ok(None);
    }
    let (effect, sizes) = (mean(arm) - mean(baseline), [arm.len(), baseline.len()]);
    let interval = student::welch(effect, spread, sizes, rule.confidence);
    if rule.interval == Method::Student || seen.iter().all(|variance| *variance <= noise) {
        return Ok(Some(interval));
    }
    let confidence = rule.confidence;
    Ok(Some(interval.hull(studentised_bootstrap_difference(arm, baseline, confidence, rng)?)))
}
