//! The questions that the parts of a report ask of a run.

use forerun_runs::recommendation::RecommendedInterval;
use forerun_runs::stats::{self, student_quantile};

use super::words::three_digits;
use crate::magneto::grid::{End, Grid, Largest};
use crate::magneto::verdicts::{deeper_half, log_slope};
use crate::magneto::{Arm, MagnetoConfig};
use crate::outcome::Outcome;
use crate::report_parts::{CONFIDENCE, Mean};

/// Sizes of an update by depth.
type Sizes = [(f64, f64)];

/// Everything that the report is made of.
pub(super) struct Findings<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) body: &'a MagnetoConfig,
    pub(super) grid: Grid<'a>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(outcome: &'a Outcome, body: &'a MagnetoConfig) -> Self {
        Self { outcome, body, grid: Grid::new(body, &outcome.rows) }
    }

    pub(super) fn arms(&self) -> &'a [Arm] {
        &self.body.arms
    }

    pub(super) fn seeds(&self) -> std::ops::Range<u64> {
        0..self.outcome.experiment.seeds
    }

    /// Final losses at a learning rate, one a seed; NaN for what diverged, none for what is missing.
    pub(super) fn losses(&self, arm: &Arm, depth: i64, rate: usize) -> Vec<Option<f64>> {
        let of = |seed| self.grid.losses(&arm.name, depth, seed).get(rate).copied().flatten();
        self.seeds().map(of).collect()
    }

    /// How the trainings at a learning rate ended, one a seed.
    pub(super) fn ends(&self, arm: &Arm, depth: i64, rate: usize) -> Vec<End> {
        let losses = self.losses(arm, depth, rate);
        self.seeds().zip(losses).map(|(seed, loss)| self.grid.end(loss, depth, seed)).collect()
    }

    /// How all trainings at a depth ended.
    pub(super) fn all_ends(&self, arm: &Arm, depth: i64) -> Vec<End> {
        let rates = 0..self.body.grid.learning_rates.len();
        rates.flat_map(|rate| self.ends(arm, depth, rate)).collect()
    }

    /// Seed, learning rate and loss at the rate that is best on the other seeds, where that is a number.
    fn best_of_each(&self, arm: &Arm, depth: i64) -> Vec<(u64, f64, f64)> {
        let of = |seed| self.grid.best(&arm.name, depth, seed).map(|(lr, loss)| (seed, lr, loss));
        self.seeds().filter_map(of).filter(|best| best.2.is_finite()).collect()
    }

    /// The loss at the learning rate that is best on the other seeds, one a seed; only seeds that have one.
    pub(super) fn best(&self, arm: &Arm, depth: i64) -> Vec<f64> {
        self.best_of_each(arm, depth).into_iter().map(|best| best.2).collect()
    }

    /// Those learning rates.
    pub(super) fn best_rates(&self, arm: &Arm, depth: i64) -> Vec<f64> {
        self.best_of_each(arm, depth).into_iter().map(|best| best.1).collect()
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
            // Both have every seed, in order.
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
        self.slopes_over(arm, step, |sizes| sizes)
    }

    /// The same over the deeper half of the depths.
    pub(super) fn deep_slopes(&self, arm: &Arm, step: &str) -> Vec<f64> {
        self.slopes_over(arm, step, deeper_half)
    }

    /// The same between the two deepest alone.
    pub(super) fn last_slopes(&self, arm: &Arm, step: &str) -> Vec<f64> {
        self.slopes_over(arm, step, |sizes| &sizes[sizes.len().saturating_sub(2)..])
    }

    fn slopes_over(&self, arm: &Arm, step: &str, part: fn(&Sizes) -> &Sizes) -> Vec<f64> {
        let series = format!("update/{step}");
        let curves = self.outcome.of(&arm.name, &series);
        let slopes = curves.map(|curve| log_slope(part(&curve.points)));
        slopes.filter(|slope| slope.is_finite()).collect()
    }
}

/// Interval of the learning rate at which training ends, from the largest that trains of every seed: for each it lies
/// somewhere between that rate and the next of the grid, which is half a step on either side of the middle, and to that
/// comes Student's interval of the middles. It holds the smallest rate. None where a seed has no such rate or the grid no
/// next one, or from fewer than two seeds.
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
    // Where between two rates of the grid it lies is the same question for every seed: more of them do not answer it.
    let rounding = stats::mean(&steps) / 2.0;
    let n = middles.len() as f64;
    let error = (spread / n).sqrt();
    let half = student_quantile(0.5 + CONFIDENCE / 2.0, n - 1.0) * error + rounding;
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
    fn seeds_that_agree_leave_the_border_between_two_rates_of_the_grid_however_many_they_are() {
        for n_seeds in [2, 3, 100] {
            let found = border(&RATES, &vec![Largest::At(0.02); n_seeds]).unwrap();
            assert_eq!((found.low, found.high), (0.02, 0.04), "{n_seeds}");
        }
    }

    #[test]
    fn the_noise_between_seeds_comes_on_top_of_the_grid() {
        // Middles at 1/2 and -1/2 octaves from 0.02: sd 1/√2, standard error 1/2, Student's quantile 12.71 from two.
        let found = border(&RATES, &[0.01, 0.02].map(Largest::At)).unwrap();
        let half = (12.706_f64 / 2.0 + 0.5).exp2();
        assert!((found.low / (0.02 / half) - 1.0).abs() < 5e-3, "{found:?}"); // three digits
        assert!((found.high / (0.02 * half) - 1.0).abs() < 5e-3, "{found:?}");
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
        assert_eq!(border(&RATES, &[Largest::At(0.02), Largest::Unknown]), None);
        assert_eq!(border(&RATES, &[Largest::At(0.02)]), None);
        assert_eq!(border(&RATES, &[]), None);
    }
}
