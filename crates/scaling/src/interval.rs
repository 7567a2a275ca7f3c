//! Intervals, quantiles and the few numbers that say whether a sample of draws has heavy tails.

use serde::{Deserialize, Serialize};

use crate::distribution::{student_quantile, student_two_sided};

/// Two ends, `low` at most `high`; an end that the data leave open is infinite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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

    /// Whether both ends are finite.
    pub fn is_finite(self) -> bool {
        self.low.is_finite() && self.high.is_finite()
    }
}

/// The `q`-quantile of ascending values, linear between order statistics; `NaN` of nothing.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = q.clamp(0., 1.) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// Mean and standard deviation (denominator `n - 1`); `NaN` where too few.
pub fn mean_and_sd(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, (square / (n - 1.)).sqrt())
}

/// The central interval with `level` (0.95) of a sample.
pub fn percentile_interval(values: &[f64], level: f64) -> Interval {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let tail = 0.5 * (1. - level);
    Interval { low: quantile(&sorted, tail), high: quantile(&sorted, 1. - tail) }
}

/// The percentile interval of bootstrap draws with the level at which it covers what it says for few points: tails are
/// taken at `Φ(-widen · t)` with Student's quantile `t` of `freedom` degrees (Hesterberg 2015, *What teachers should know
/// about the bootstrap*, section 5.3). `widen` makes up for draws that scatter less than samples do: `√(n / (n - p))` for
/// pairs, 1 for residuals that were scaled already.
pub fn expanded_interval(values: &[f64], level: f64, freedom: f64, widen: f64) -> Interval {
    let reach = widen * student_quantile(0.5 + 0.5 * level, freedom.max(1.));
    percentile_interval(values, 1. - student_two_sided(reach, NORMAL))
}

/// Degrees of freedom with which Student's distribution is as good as normal.
const NORMAL: f64 = 1e6;

/// How much wider a sample's standard deviation is than its middle says: the ratio to the spread of the central 80 %
/// in units of a normal distribution. 1 for a normal sample; beyond 1.5 the tails are heavy, and a standard error says
/// little.
pub fn tail_weight(values: &[f64]) -> f64 {
    let spread = percentile_interval(values, 0.8).width() / 2.563_103;
    let (_, sd) = mean_and_sd(values);
    sd / spread
}

#[cfg(test)]
mod tests;
