//! The questions that the parts of a report ask of a run.

use forerun_runs::plot::Point;
use forerun_runs::recommendation::RecommendedInterval;
use forerun_runs::stats::{self, Interval, student_quantile};
use forerun_runs::table::Cell;

use super::words::three_digits;
use crate::magneto::grid::{End, Grid, Largest};
use crate::magneto::verdicts::log_slope;
use crate::magneto::{Arm, MagnetoConfig};
use crate::outcome::Outcome;

/// Everything that the report is made of.
pub(super) struct Findings<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) body: &'a MagnetoConfig,
    pub(super) grid: Grid<'a>,
}

/// A mean over seeds, with Student's interval where there are seeds enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mean {
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
}

/// Confidence of every interval of the report.
const CONFIDENCE: f64 = 0.95;

impl Mean {
    pub(super) fn of(values: &[f64]) -> Self {
        let interval = stats::student_interval(values, CONFIDENCE).ok();
        Self { value: stats::mean(values), interval }
    }

    /// Mean and interval of logarithms: the geometric mean.
    pub(super) fn geometric(values: &[f64]) -> Self {
        let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
        let Self { value, interval } = Self::of(&logs);
        let exp = |Interval { low, high }| Interval { low: low.exp(), high: high.exp() };
        Self { value: value.exp(), interval: interval.map(exp) }
    }

    pub(super) fn cell(self, digits: usize) -> Cell {
        match self.interval {
            _ if !self.value.is_finite() => Cell::Empty,
            Some(Interval { low, high }) => Cell::range(self.value, low, high),
            None => Cell::number(self.value, digits),
        }
    }

    pub(super) fn point(self, x: f64) -> Point {
        let (low, high) = (self.interval.map(|i| i.low), self.interval.map(|i| i.high));
        Point { x, y: self.value, low, high }
    }
}

impl<'a> Findings<'a> {
    pub(super) fn new(outcome: &'a Outcome, body: &'a MagnetoConfig) -> Self {
        Self { outcome, body, grid: Grid::new(body, &outcome.curves) }
    }

    pub(super) fn arms(&self) -> &'a [Arm] {
        &self.body.arms
    }

    pub(super) fn seeds(&self) -> std::ops::Range<u64> {
        0..self.outcome.experiment.seeds
    }

    /// Final losses at a learning rate, one a seed; NaN for what diverged.
    pub(super) fn losses(&self, arm: &Arm, depth: i64, rate: usize) -> Vec<f64> {
        let of = |seed| self.grid.losses(&arm.name, depth, seed).get(rate).copied();
        self.seeds().map(|seed| of(seed).unwrap_or(f64::NAN)).collect()
    }

    /// How the trainings at a learning rate ended, one a seed.
    pub(super) fn ends(&self, arm: &Arm, depth: i64, rate: usize) -> Vec<End> {
        let losses = self.losses(arm, depth, rate);
        self.seeds().zip(losses).map(|(seed, loss)| self.grid.end(loss, depth, seed)).collect()
    }

    /// The lowest loss over the learning rates, one a seed; only seeds that have one.
    pub(super) fn best(&self, arm: &Arm, depth: i64) -> Vec<f64> {
        let best = self.seeds().map(|seed| self.grid.best(&arm.name, depth, seed));
        best.filter(|loss| loss.is_finite()).collect()
    }

    /// The learning rates at which those were reached.
    pub(super) fn best_rates(&self, arm: &Arm, depth: i64) -> Vec<f64> {
        self.seeds().filter_map(|seed| self.grid.best_rate(&arm.name, depth, seed)).collect()
    }

    pub(super) fn largest(&self, arm: &Arm, depth: i64) -> Vec<Largest> {
        self.seeds().map(|seed| self.grid.largest(&arm.name, depth, seed)).collect()
    }

    /// The largest learning rate that trains at every seed; none if a seed has none.
    pub(super) fn safe_rate(&self, arm: &Arm, depth: i64) -> Option<f64> {
        let rates: Option<Vec<f64>> =
            self.largest(arm, depth).into_iter().map(Largest::rate).collect();
        rates?.into_iter().min_by(f64::total_cmp)
    }

    /// Whether some seed still trains at the end of the grid.
    pub(super) fn at_the_end(&self, arm: &Arm, depth: i64) -> bool {
        let cut = |largest: &Largest| matches!(largest, Largest::AtLeast(_));
        self.largest(arm, depth).iter().any(cut)
    }

    /// Where the border between training and failing lies.
    pub(super) fn border(&self, arm: &Arm, depth: i64) -> Option<RecommendedInterval> {
        border(&self.body.grid.learning_rates, &self.largest(arm, depth))
    }

    /// The arm with the lowest mean of the best losses at a depth, and the loss.
    pub(super) fn winner(&self, depth: i64) -> Option<(&'a Arm, Vec<f64>)> {
        let n_seeds = self.outcome.experiment.seeds as usize;
        let whole = self.arms().iter().map(|arm| (arm, self.best(arm, depth)));
        let whole = whole.filter(|(_, losses)| losses.len() == n_seeds && n_seeds > 0);
        whole.min_by(|a, b| stats::mean(&a.1).total_cmp(&stats::mean(&b.1)))
    }

    /// The second best arm at a depth, and by how much its loss is higher, paired by seed.
    pub(super) fn runner_up(&self, depth: i64) -> Option<(&'a Arm, Mean)> {
        let (winner, lowest) = self.winner(depth)?;
        let others = self.arms().iter().filter(|arm| arm.name != winner.name);
        let gap = |arm: &'a Arm| {
            let losses = self.best(arm, depth);
            let pairs = losses.iter().zip(&lowest);
            let gaps: Vec<f64> = pairs.map(|(other, best)| other - best).collect();
            (losses.len() == lowest.len()).then(|| (arm, Mean::of(&gaps)))
        };
        others.filter_map(gap).min_by(|a, b| a.1.value.total_cmp(&b.1.value))
    }

    /// Size of an update by depth, geometric means over seeds.
    pub(super) fn update(&self, arm: &Arm, step: &str) -> Vec<(f64, Mean)> {
        let columns = self.outcome.by_x(&arm.name, &format!("update/{step}"));
        columns.into_iter().map(|(x, values)| (x, Mean::geometric(&values))).collect()
    }

    /// Slopes of its logarithm over that of the depth, one a seed.
    pub(super) fn slopes(&self, arm: &Arm, step: &str) -> Vec<f64> {
        let series = format!("update/{step}");
        let curves = self.outcome.of(&arm.name, &series);
        curves.map(|curve| log_slope(&curve.points)).filter(|slope| slope.is_finite()).collect()
    }
}

/// Interval of the learning rate at which training ends, from the largest that trains of every seed: for each it lies
/// somewhere between that rate and the next of the grid. It holds the smallest of them. None where a seed has no such
/// rate or the grid no next one, or from fewer than two seeds.
pub(super) fn border(rates: &[f64], largest: &[Largest]) -> Option<RecommendedInterval> {
    let (mut steps, mut middles, mut safe) = (Vec::new(), Vec::new(), f64::INFINITY);
    for largest in largest {
        let &Largest::At(rate) = largest else { return None };
        let next = rates.iter().copied().find(|&next| next > rate)?;
        steps.push((next / rate).log2());
        middles.push(f64::midpoint(rate.log2(), next.log2()));
        safe = safe.min(rate);
    }
    let spread = stats::variance(&middles);
    if !spread.is_finite() {
        return None;
    }
    // What lies between two rates of the grid is known to within a uniform error.
    let rounding = stats::mean(&steps).powi(2) / 12.0;
    let n = middles.len() as f64;
    let error = (spread.max(rounding) / n).sqrt();
    let half = student_quantile(0.5 + CONFIDENCE / 2.0, n - 1.0) * error;
    let centre = stats::mean(&middles);
    let (low, high) = ((centre - half).exp2(), (centre + half).exp2());
    let (low, high) = (three_digits(low).min(safe), three_digits(high).max(safe));
    Some(RecommendedInterval { low, high, confidence: CONFIDENCE })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [f64; 4] = [0.01, 0.02, 0.04, 0.08];

    #[test]
    fn the_border_lies_above_the_largest_rate_that_trains() {
        // Half an octave above 0.02, and 4.303 standard errors of 1/6 octave on either side; it holds 0.02 itself.
        let found = border(&RATES, &[Largest::At(0.02); 3]).unwrap();
        let (centre, half) = (0.02 * 2_f64.sqrt(), (4.303_f64 / 6.0).exp2());
        assert!((found.low / (centre / half) - 1.0).abs() < 5e-3, "{found:?}"); // three digits
        assert!((found.high / (centre * half) - 1.0).abs() < 5e-3, "{found:?}");
    }

    #[test]
    fn seeds_that_differ_widen_it_and_it_holds_the_rate_that_is_recommended() {
        let narrow = border(&RATES, &[Largest::At(0.02); 4]).unwrap();
        let mixed = [0.01, 0.02, 0.04, 0.04].map(Largest::At);
        let wide = border(&RATES, &mixed).unwrap();
        assert!(wide.high / wide.low > narrow.high / narrow.low, "{wide:?}");
        assert!(wide.low <= 0.01 && wide.high > 0.04, "{wide:?}");
        let outlier: Vec<Largest> =
            [vec![0.01], vec![0.04; 30]].concat().into_iter().map(Largest::At).collect();
        assert!(border(&RATES, &outlier).unwrap().low <= 0.01);
    }

    #[test]
    fn no_border_without_a_rate_above_and_below_it_or_from_one_seed() {
        assert_eq!(border(&RATES, &[Largest::At(0.02), Largest::None]), None);
        assert_eq!(border(&RATES, &[Largest::At(0.02), Largest::AtLeast(0.08)]), None);
        assert_eq!(border(&RATES, &[Largest::At(0.02)]), None);
        assert_eq!(border(&RATES, &[]), None);
    }

    #[test]
    fn a_geometric_mean_is_one_of_logarithms() {
        let mean = Mean::geometric(&[1.0, 100.0]);
        assert!((mean.value - 10.0).abs() < 1e-9);
        assert!(mean.interval.unwrap().low > 0.0);
    }
}
