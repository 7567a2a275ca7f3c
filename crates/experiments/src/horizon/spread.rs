//! How well a law is known: from single seeds, and from a bootstrap over seeds.

use forerun_runs::stats::{Interval, mean, quantile, student_interval};
use rand::Rng;

use super::Arm;
use super::fit::Law;
use super::valley::Valleys;
use crate::report_parts::CONFIDENCE;

/// Fewer seeds than this have no interval.
const MIN_SEEDS: usize = 3;

/// A law with what other seeds would have made of it.
pub(super) struct Spread {
    /// Of the mean losses of all seeds: it is what predicts.
    pub(super) law: Law,
    /// Of single seeds, where their valleys show optima enough.
    by_seed: Vec<Law>,
    /// Of seeds drawn with replacement.
    draws: Vec<Law>,
    /// Draws that show no law.
    pub(super) n_failed: usize,
    /// Seeds whose own law lacks a horizon or is not there at all, as their valleys do not show every optimum.
    pub(super) n_partial: usize,
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
        let mut spread = Self::of_seeds(valleys, arm, parts)?;
        let seeds = &valleys.seeds;
        let n_draws = valleys.body.sweep.bootstrap;
        let draw = |_| {
            let drawn: Vec<u64> =
                seeds.iter().map(|_| seeds[rng.random_range(0..seeds.len())]).collect();
            valleys.law(arm, parts, &drawn)
        };
        spread.draws = (0..n_draws).filter_map(draw).collect();
        spread.n_failed = n_draws - spread.draws.len();
        Some(spread)
    }

    /// As [`Spread::new`], without the bootstrap.
    pub(super) fn of_seeds(valleys: &Valleys<'_>, arm: &Arm, parts: &[f64]) -> Option<Self> {
        let seeds = &valleys.seeds;
        let law = valleys.law(arm, parts, seeds)?;
        let by_seed = seeds.iter().filter_map(|&seed| valleys.law(arm, parts, &[seed])).collect();
        let is_partial = |&&seed: &&u64| valleys.n_optima(arm, parts, &[seed]) < parts.len();
        let n_partial = seeds.iter().filter(is_partial).count();
        Some(Self { law, by_seed, draws: Vec::new(), n_failed: 0, n_partial })
    }

    /// A number that follows from the law of all seeds, with the wider of Student's interval over seeds and of the
    /// percentiles of the bootstrap: a percentile never leaves the range of a handful of seeds, and is too narrow alone.
    pub(super) fn known(&self, of: impl Fn(&Law) -> f64) -> Known {
        let all = |laws: &[Law]| laws.iter().map(&of).collect::<Vec<f64>>();
        known(of(&self.law), &all(&self.by_seed), &all(&self.draws))
    }

    /// The best learning rate at a horizon; its interval is made of logarithms.
    pub(super) fn rate_at(&self, n_tokens: f64) -> Known {
        self.known(|law| law.at(n_tokens).ln()).exp()
    }

    /// `beta`: the mean over the laws of single seeds with Student's interval, which is what claims about it are judged by.
    /// Where no seed shows a law by itself, that of all seeds.
    pub(super) fn exponent(&self) -> Known {
        let by_seed: Vec<f64> = self.by_seed.iter().map(Law::exponent).collect();
        let value = if by_seed.is_empty() { self.law.exponent() } else { mean(&by_seed) };
        known(value, &by_seed, &[])
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
