//! How well a law is known: from single seeds, and from a bootstrap over seeds.

use forerun_runs::stats::{Interval, quantile, student_interval};
use rand::Rng;

use super::Arm;
use super::fit::Law;
use super::valley::Valleys;
use crate::report_parts::CONFIDENCE;

/// Fewer seeds than this have no interval.
const MIN_SEEDS: usize = 3;

/// A law with what other seeds would have made of it.
pub(super) struct Spread {
    /// Of all seeds.
    pub(super) law: Law,
    /// Of single seeds, where their valleys show optima enough.
    by_seed: Vec<Law>,
    /// Of seeds drawn with replacement.
    draws: Vec<Law>,
    /// Draws that show no law.
    pub(super) n_failed: usize,
}

/// A value and where it lies, at the confidence of a report; no interval from fewer than three seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
}

impl Spread {
    /// The law through the optima of an arm at `parts`; none if all seeds together do not show it.
    pub(super) fn new(
        valleys: &Valleys<'_>,
        arm: &Arm,
        parts: &[f64],
        rng: &mut impl Rng,
    ) -> Option<Self> {
        let seeds = &valleys.seeds;
        let law = valleys.law(arm, parts, seeds)?;
        let by_seed = seeds.iter().filter_map(|&seed| valleys.law(arm, parts, &[seed])).collect();
        let n_draws = valleys.body.sweep.bootstrap;
        let draw = |_| {
            let drawn: Vec<u64> =
                seeds.iter().map(|_| seeds[rng.random_range(0..seeds.len())]).collect();
            valleys.law(arm, parts, &drawn)
        };
        let draws: Vec<Law> = (0..n_draws).filter_map(draw).collect();
        let n_failed = n_draws - draws.len();
        Some(Self { law, by_seed, draws, n_failed })
    }

    /// A number that follows from the law, with the wider of Student's interval over seeds and of the percentiles of the
    /// bootstrap: a percentile never leaves the range of a handful of seeds, and is too narrow alone.
    pub(super) fn known(&self, of: impl Fn(&Law) -> f64) -> Known {
        let all = |laws: &[Law]| laws.iter().map(&of).collect::<Vec<f64>>();
        known(of(&self.law), &all(&self.by_seed), &all(&self.draws))
    }

    /// The best learning rate at a horizon; its interval is made of logarithms.
    pub(super) fn rate_at(&self, n_tokens: f64) -> Known {
        self.known(|law| law.at(n_tokens).ln()).exp()
    }

    /// `beta`.
    pub(super) fn exponent(&self) -> Known {
        self.known(Law::exponent)
    }
}

impl Known {
    /// Of positive values, one a seed, NaN where a seed has none: all seeds together say `value`.
    pub(super) fn of_rates(value: f64, by_seed: &[f64]) -> Self {
        let logs: Vec<f64> =
            by_seed.iter().map(|rate| rate.ln()).filter(|log| log.is_finite()).collect();
        known(value.ln(), &logs, &[]).exp()
    }

    fn exp(self) -> Self {
        let exp = |Interval { low, high }| Interval { low: low.exp(), high: high.exp() };
        Self { value: self.value.exp(), interval: self.interval.map(exp) }
    }
}

fn known(value: f64, by_seed: &[f64], draws: &[f64]) -> Known {
    if by_seed.len() < MIN_SEEDS {
        return Known { value, interval: None };
    }
    let point = Interval { low: value, high: value };
    let student = student_interval(by_seed, CONFIDENCE).ok();
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let drawn = Interval { low: quantile(draws, tail), high: quantile(draws, 1.0 - tail) };
    let interval = student.map(|student| student.hull(point));
    let interval =
        interval.map(|student| if drawn.is_finite() { student.hull(drawn) } else { student });
    Known { value, interval: interval.filter(|interval| interval.is_finite()) }
}
