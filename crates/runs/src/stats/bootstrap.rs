//! Bootstrap intervals: what the sample itself says about its own noise.
//!
//! With a few seeds the percentile bootstrap is far too narrow: its interval never leaves the range of
//! the sample, which misses the mean of a symmetric population in 2^(1 − n) of all cases, a quarter of
//! them for n = 3. The studentised one corrects for that, and becomes infinite at n = 3.

use rand::Rng;

use super::{Interval, check, mean, quantile, variance};
use crate::error::Result;

/// Resamples behind each interval.
const RESAMPLES: usize = 2000;

/// Percentile bootstrap of any statistic. For large samples, such as the documents of a validation
/// set; not for a handful of seeds.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for fewer than two values, one that is not finite, or a
/// confidence that is not between 0 and 1.
pub fn percentile_bootstrap(
    values: &[f64],
    statistic: impl Fn(&[f64]) -> f64,
    confidence: f64,
    rng: &mut impl Rng,
) -> Result<Interval> {
    check("values", values, 2, confidence)?;
    let mut sample = values.to_vec();
    let mut draws = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        resample(values, &mut sample, rng);
        draws.push(statistic(&sample));
    }
    let tail = (1.0 - confidence) / 2.0;
    Ok(Interval { low: quantile(&draws, tail), high: quantile(&draws, 1.0 - tail) })
}

/// Studentised bootstrap (bootstrap-t, Efron and Tibshirani 1993, ch. 12.5) of the mean. For paired
/// arms, give it their differences. Its ends may be infinite where too many resamples have no spread:
/// always for three values, and never from five at a confidence of 0.95.
///
/// # Errors
/// As [`percentile_bootstrap`].
pub fn studentised_bootstrap(
    values: &[f64],
    confidence: f64,
    rng: &mut impl Rng,
) -> Result<Interval> {
    check("values", values, 2, confidence)?;
    let mut sample = values.to_vec();
    let centre = mean(values);
    let error = |values: &[f64]| (variance(values) / values.len() as f64).sqrt();
    let mut draw = || {
        resample(values, &mut sample, rng);
        (mean(&sample) - centre, error(&sample))
    };
    Ok(studentised(centre, error(values), confidence, &mut draw))
}

/// Studentised bootstrap of mean(`a`) − mean(`b`) of two samples without pairs, each resampled apart.
///
/// # Errors
/// As [`percentile_bootstrap`], for either sample.
pub fn studentised_bootstrap_difference(
    a: &[f64],
    b: &[f64],
    confidence: f64,
    rng: &mut impl Rng,
) -> Result<Interval> {
    check("a", a, 2, confidence)?;
    check("b", b, 2, confidence)?;
    let difference = |a: &[f64], b: &[f64]| mean(a) - mean(b);
    let error =
        |a: &[f64], b: &[f64]| (variance(a) / a.len() as f64 + variance(b) / b.len() as f64).sqrt();
    let (mut left, mut right) = (a.to_vec(), b.to_vec());
    let centre = difference(a, b);
    let mut draw = || {
        resample(a, &mut left, rng);
        resample(b, &mut right, rng);
        (difference(&left, &right) - centre, error(&left, &right))
    };
    Ok(studentised(centre, error(a, b), confidence, &mut draw))
}

/// From draws of (deviation, its standard error) to centre − error · quantiles of their ratio.
fn studentised(
    centre: f64,
    error: f64,
    confidence: f64,
    draw: &mut dyn FnMut() -> (f64, f64),
) -> Interval {
    if error == 0.0 {
        return Interval { low: centre, high: centre };
    }
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| match draw() {
            // Without deviation there is nothing to scale, whatever the spread.
            (0.0, _) => 0.0,
            (deviation, error) => deviation / error,
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    // Whole ranks and no lines between them: a line to infinity is no number.
    let tail = (1.0 - confidence) / 2.0;
    let rank = ((tail * RESAMPLES as f64).ceil() as usize).clamp(1, RESAMPLES);
    let (low, high) = (ratios[rank - 1], ratios[RESAMPLES - rank]);
    Interval { low: centre - high * error, high: centre - low * error }
}

fn resample(values: &[f64], into: &mut [f64], rng: &mut impl Rng) {
    for slot in into {
        *slot = values[rng.random_range(0..values.len())];
    }
}
