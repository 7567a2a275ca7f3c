//! Means, quantiles, intervals and rank correlation of small samples: a handful of seeds.
//!
//! Functions of a whole sample give `NaN` where it is too small to say anything, and never panic.

mod bootstrap;
mod cluster;
pub(crate) mod student;

use serde::{Deserialize, Serialize};

pub use bootstrap::{
    percentile_bootstrap, studentised_bootstrap, studentised_bootstrap_difference,
};
pub use cluster::jackknife_correlation;
pub use student::{student_cdf, student_interval, student_quantile, welch_interval};

use crate::error::{Result, ensure};

/// Two ends, `low` at most `high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in it; the ends do.
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Distance between its ends.
    pub fn width(self) -> f64 {
        self.high - self.low
    }

    /// Whether both ends are numbers.
    pub fn is_finite(self) -> bool {
        self.low.is_finite() && self.high.is_finite()
    }

    /// The smallest interval that holds both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Both ends through a function that never falls.
    #[must_use]
    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self { low: f(self.low), high: f(self.high) }
    }
}

/// Arithmetic mean; `NaN` of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Variance of the population that the sample comes from (divided by n − 1); `NaN` of fewer than two,
/// and exactly 0 of equal values.
pub fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return f64::NAN;
    }
    if values.iter().all(|value| *value == values[0]) {
        return 0.0; // the mean of equal values may differ from them in its last digit
    }
    let centre = mean(values);
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    squares / (values.len() - 1) as f64
}

/// Standard deviation of the population that the sample comes from; `NaN` of fewer than two.
pub fn sd(values: &[f64]) -> f64 {
    variance(values).sqrt()
}

/// Quantile `p` between 0 and 1, with straight lines between the sorted values (type 7 of Hyndman and
/// Fan 1996, the default of R and NumPy); `NaN` of nothing or if a value is `NaN`.
pub fn quantile(values: &[f64], p: f64) -> f64 {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) || !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = p * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    if below == above { below } else { below + place.fract() * (above - below) }
}

/// The middle value; `NaN` of nothing.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Spearman's rank correlation, between −1 and 1; equal values share their mean rank. None where one
/// side does not vary or has a `NaN`.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the sides differ in length.
pub fn spearman(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    ensure(x.len() == y.len(), "y", &format!("as long as `x`, {}", x.len()), y.len())?;
    if x.iter().chain(y).any(|value| value.is_nan()) {
        return Ok(None);
    }
    let (x, y) = (ranks(x), ranks(y));
    let centre = (x.len() + 1) as f64 / 2.0; // mean of the ranks 1..=n
    let moment = |a: &[f64], b: &[f64]| {
        a.iter().zip(b).map(|(a, b)| (a - centre) * (b - centre)).sum::<f64>()
    };
    let correlation = moment(&x, &y) / (moment(&x, &x) * moment(&y, &y)).sqrt();
    Ok(correlation.is_finite().then(|| correlation.clamp(-1.0, 1.0)))
}

/// Ranks from 1; equal values share their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |value: f64| values.iter().filter(|other| **other < value).count();
    let equal = |value: f64| values.iter().filter(|other| **other == value).count();
    values.iter().map(|value| below(*value) as f64 + (equal(*value) + 1) as f64 / 2.0).collect()
}

/// Checks what every interval needs.
fn check(name: &str, values: &[f64], least: usize, confidence: f64) -> Result<()> {
    let share = confidence > 0.0 && confidence < 1.0;
    ensure(share, "confidence", "between 0 and 1", confidence)?;
    ensure(values.len() >= least, name, &format!("{least} values or more"), values.len())?;
    let odd = values.iter().find(|value| !value.is_finite()).copied();
    ensure(odd.is_none(), name, "finite numbers", odd.unwrap_or_default())
}

#[cfg(test)]
mod tests;
