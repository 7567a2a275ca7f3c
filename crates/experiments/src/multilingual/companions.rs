//! How much of a family's loss its companions decide, beside its own share.
//!
//! Under the paper's first hypothesis companions decide nothing. A p-value cannot say whether what they do matters, so
//! that it is measured: by the law `ln L = … - gamma ln p - Σ_j d_j (p_j - mean of the companions)`, which leaves none of
//! them out, the gain from a companion's share, taken evenly from the other companions, is `d_j - mean of the other d`.
//! It is told as a part of the gain from the family's own share at the uniform mixture, `gamma` times the number of
//! families: at 0.2 a tenth more of that companion does what a fiftieth more of the family's own text does.

use forerun_runs::stats::Interval;
use forerun_runs::verdict::{Judgement, Verdict};
use forerun_scaling::distribution::{normal_quantile, student_quantile};
use forerun_scaling::interval::percentile_interval;
use forerun_scaling::law::Family;

use super::MixtureConfig;
use super::train::by_family;
use super::verdicts::{LAW, values};
use crate::cell::Series;
use crate::outcome::Curve;

/// Confidence of intervals, of one pair and of all pairs together.
const CONFIDENCE: f64 = 0.95;
const EFFECT: &str = "companion";
const ERROR: &str = "companion-se";
const FREEDOM: &str = "companion-df";

/// What each companion does to one family, by the companion's place; NaN at its own.
pub(super) fn effects(law: &Family, theta: &[f64], family: usize, n: usize) -> Vec<f64> {
    let gamma = theta[law.gamma_index()];
    // Inputs are half the contrasts, and the last companion's coefficient is 0.
    let slopes = theta[law.gamma_index() + 1..].iter().map(|tau| 0.5 * tau);
    let slopes: Vec<f64> = slopes.chain([0.0]).collect();
    let sum: f64 = slopes.iter().sum();
    let others = (slopes.len() - 1) as f64;
    let mut gains = slopes.iter().map(|slope| slope - (sum - slope) / others);
    let own = gamma * n as f64;
    let effect =
        |place| if place == family { f64::NAN } else { gains.next().unwrap_or(f64::NAN) / own };
    (0..n).map(effect).collect()
}

/// One companion of one family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pair {
    /// Place of the family whose loss it is.
    pub(super) family: usize,
    /// Place of the companion.
    pub(super) companion: usize,
    /// Relative to the family's own share; positive where it lowers the loss.
    pub(super) effect: f64,
    pub(super) se: f64,
}

/// All companions of all families.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Companions {
    names: Vec<String>,
    pub(super) pairs: Vec<Pair>,
    /// Degrees of freedom: mixtures less 1.
    freedom: f64,
}

impl Companions {
    /// From estimates and draws, by family and companion.
    pub(super) fn new(
        names: Vec<String>,
        estimates: Vec<Vec<f64>>,
        draws: &[Vec<Vec<f64>>],
        (freedom, widen): (f64, f64),
    ) -> Self {
        let n = names.len();
        let pair = |family: usize, companion: usize| {
            let drawn: Vec<f64> = draws.iter().map(|draw| draw[family][companion]).collect();
            let effect = estimates[family][companion];
            Pair { family, companion, effect, se: widen * scatter(&drawn) }
        };
        let pairs = pairs(n).map(|(family, companion)| pair(family, companion)).collect();
        Self { names, pairs, freedom }
    }

    /// What a run keeps.
    pub(super) fn told(&self) -> Vec<Series> {
        let n = self.names.len();
        let mut told = vec![by_family(FREEDOM, &vec![self.freedom; n])];
        for (family, name) in self.names.iter().enumerate() {
            let column = |of: fn(&Pair) -> f64| -> Vec<f64> {
                let mut column = vec![f64::NAN; n];
                for pair in self.pairs.iter().filter(|pair| pair.family == family) {
                    column[pair.companion] = of(pair);
                }
                column
            };
            told.push(by_family(&format!("{EFFECT}/{name}"), &column(|pair| pair.effect)));
            told.push(by_family(&format!("{ERROR}/{name}"), &column(|pair| pair.se)));
        }
        told
    }

    /// Read back; none if there are none.
    pub(super) fn read(body: &MixtureConfig, curves: &[Curve]) -> Option<Self> {
        let names: Vec<String> = body.families.iter().map(|family| family.name.clone()).collect();
        let of = |what: &str| -> Option<Vec<Vec<f64>>> {
            names.iter().map(|name| values(curves, LAW, &format!("{what}/{name}"))).collect()
        };
        let (effect, se) = (of(EFFECT)?, of(ERROR)?);
        let freedom = *values(curves, LAW, FREEDOM)?.first()?;
        let pair = |(family, companion): (usize, usize)| Pair {
            family,
            companion,
            effect: effect[family][companion],
            se: se[family][companion],
        };
        let pairs: Vec<Pair> = pairs(names.len()).map(pair).collect();
        let known = pairs.iter().all(|pair| pair.effect.is_finite() && pair.se > 0.0);
        known.then_some(Self { names, pairs, freedom })
    }

    /// Of one pair.
    pub(super) fn interval(&self, pair: &Pair) -> Interval {
        self.within(pair, 1.0 - CONFIDENCE)
    }

    /// So wide that those of all pairs hold together (Bonferroni).
    pub(super) fn joint_interval(&self, pair: &Pair) -> Interval {
        self.within(pair, (1.0 - CONFIDENCE) / self.pairs.len() as f64)
    }

    fn within(&self, pair: &Pair, outside: f64) -> Interval {
        let reach = student_quantile(1.0 - 0.5 * outside, self.freedom.max(1.0)) * pair.se;
        Interval { low: pair.effect - reach, high: pair.effect + reach }
    }

    /// The companion that does most, of all or of one family.
    pub(super) fn strongest(&self, family: Option<usize>) -> Option<&Pair> {
        let of = self.pairs.iter().filter(|pair| family.is_none_or(|family| pair.family == family));
        of.max_by(|a, b| a.effect.abs().total_cmp(&b.effect.abs()))
    }

    /// Reproduced if every companion does less than `margin` of what the own share does, by the interval of each; not
    /// reproduced if one does more, by intervals that hold together.
    pub(super) fn judge(&self, labels: &[&str], margin: f64) -> Judgement {
        let inside = |interval: Interval| interval.low > -margin && interval.high < margin;
        let outside = |interval: Interval| interval.low > margin || interval.high < -margin;
        let n_inside = self.pairs.iter().filter(|pair| inside(self.interval(pair))).count();
        let beyond: Vec<&Pair> =
            self.pairs.iter().filter(|pair| outside(self.joint_interval(pair))).collect();
        let verdict = if !beyond.is_empty() {
            Verdict::NotReproduced
        } else if n_inside == self.pairs.len() {
            Verdict::Reproduced
        } else {
            Verdict::Inconclusive
        };
        let in_words = |pair: &Pair| {
            let Interval { low, high } = self.joint_interval(pair);
            format!(
                "{} on {}: {:+.2} [{low:+.2}, {high:+.2}]",
                labels[pair.companion], labels[pair.family], pair.effect
            )
        };
        let named: Vec<String> = match beyond.as_slice() {
            [] => self.strongest(None).into_iter().map(in_words).collect(),
            beyond => beyond.iter().map(|pair| in_words(pair)).collect(),
        };
        let what = if beyond.is_empty() { "the strongest companion" } else { "beyond it" };
        let reason = format!(
            "relative to the own share, {n_inside} of {} companions have an effect within ±{margin}; {what}: {} (intervals \
             over mixtures that hold for all pairs together)",
            self.pairs.len(),
            named.join("; ")
        );
        let strongest = self.strongest(None);
        Judgement {
            verdict,
            effect: strongest.map(|pair| pair.effect),
            interval: strongest.map(|pair| self.joint_interval(pair)),
            n_seeds: 0,
            reason,
        }
    }
}

/// The standard deviation of a normal distribution whose central 95 % are as wide as the draws'. An effect is a ratio: where
/// a draw's mixtures hardly tell a family's own share from its companions', it has no bounds, and one such draw in a
/// thousand would decide the standard deviation of all.
fn scatter(draws: &[f64]) -> f64 {
    if draws.len() < 2 {
        return f64::NAN;
    }
    percentile_interval(draws, CONFIDENCE).width() / (2.0 * normal_quantile(0.5 + 0.5 * CONFIDENCE))
}

/// Every family with every companion.
fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    let with = move |family| (0..n).filter(move |&other| other != family).map(move |o| (family, o));
    (0..n).flat_map(with)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_without_bounds_do_not_decide_the_scatter() {
        // Evenly spaced quantiles of a normal distribution with a standard deviation of 0.05.
        let draws: Vec<f64> =
            (1..1000).map(|n| 0.1 + 0.05 * normal_quantile(f64::from(n) / 1000.0)).collect();
        let wild: Vec<f64> = draws.iter().copied().chain([40.0, -25.0, 13.0]).collect();
        assert!((scatter(&draws) - 0.05).abs() < 5e-4, "{}", scatter(&draws));
        assert!((scatter(&wild) - 0.05).abs() < 1e-3, "{}", scatter(&wild));
        assert!(scatter(&draws[..1]).is_nan(), "one draw has none");
    }
}
