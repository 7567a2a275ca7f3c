//! Verdicts on claims: a rule that is written before the run, the arms' metric for each seed, and one
//! of `reproduced`, `not reproduced` and `inconclusive`.
//!
//! The claim says where the effect of an arm against its baseline lies: above, below or around no
//! effect, by a margin. The verdict is `reproduced` if the interval of the effect lies wholly where the
//! claim says, `not reproduced` if wholly elsewhere, `inconclusive` if it is on both sides or if there
//! is no interval to speak of. So a wide interval is inconclusive, and few seeds make it wide.
//!
//! Why the interval is Student's by default: `docs/decisions/0002-verdict-intervals.md`.

mod effect;
mod power;

use std::fmt;

use rand::Rng;
use serde::{Deserialize, Serialize};

pub use power::{POWER, detectable_effect, power};

use crate::error::{Result, ensure};
use crate::stats::Interval;
use effect::{Estimate, Samples, estimate};

/// What decides about one claim; part of an experiment's config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Column of the results that is compared, such as `loss_at_4096`.
    pub metric: String,
    /// Arm that the claim is about.
    pub arm: String,
    /// Arm that it is compared with.
    pub baseline: String,
    /// How the two are compared.
    pub effect: Effect,
    /// On which side of no effect the claim puts it.
    pub direction: Direction,
    /// How far beyond no effect it must be: in the metric's units for a difference, as a fraction for a
    /// ratio (0.02 is 2 %). Below 0 it allows that much in the other direction (`no worse than`). With
    /// [`Direction::Same`] it is the distance within which two arms count as equal, and above 0.
    pub margin: f64,
    /// Confidence of the two-sided interval, between 0 and 1. Of identical arms, half of the rest is
    /// judged `reproduced`: 2.5 % for 0.95.
    #[serde(default = "default_confidence")]
    pub confidence: f64,
    /// Fewer seeds than this are inconclusive; at least 2.
    #[serde(default = "default_min_seeds")]
    pub min_seeds: usize,
    /// Whether seed i of both arms shares data and initialisation, so that differences are taken first.
    #[serde(default = "default_paired")]
    pub paired: bool,
    /// How the interval is made.
    #[serde(default)]
    pub interval: Method,
    /// What becomes of seeds without a finite value.
    #[serde(default)]
    pub diverged: Diverged,
    /// Step in which the metric can change, such as the spacing of a grid of learning rates, in the
    /// units of `margin`; 0 for a metric that is continuous. Seeds that agree exactly are then known
    /// to agree within it.
    #[serde(default)]
    pub resolution: f64,
    /// What one value of the metric belongs to, where that is no seed.
    #[serde(default, skip_serializing_if = "Replicate::is_seed")]
    pub replicate: Replicate,
}

/// What one value of a metric belongs to, as people call it: a seed unless a rule says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replicate {
    /// The noun for one, `piece of text`.
    pub one: String,
    /// The noun for several, `pieces of text`.
    pub many: String,
}

impl Default for Replicate {
    fn default() -> Self {
        Self { one: "seed".to_owned(), many: "seeds".to_owned() }
    }
}

impl Replicate {
    pub(crate) fn is_seed(&self) -> bool {
        *self == Self::default()
    }

    /// `1 seed`, `3 seeds`.
    pub fn counted(&self, n: usize) -> String {
        format!("{n} {}", if n == 1 { &self.one } else { &self.many })
    }
}

fn default_confidence() -> f64 {
    0.95
}

fn default_min_seeds() -> usize {
    3
}

fn default_paired() -> bool {
    true
}

/// How arm and baseline are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Mean of the arm − mean of the baseline; no effect is 0.
    Difference,
    /// Geometric mean of the arm / geometric mean of the baseline; no effect is 1. Values must be positive.
    Ratio,
}

/// Where the claim puts the effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The arm is higher by more than the margin.
    Higher,
    /// The arm is lower by more than the margin.
    Lower,
    /// The arms differ by less than the margin.
    Same,
}

/// How the interval of the effect is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Student's t on paired differences, Welch's without pairs.
    #[default]
    Student,
    /// Each end the wider one of Student's and of the studentised bootstrap over seeds: for metrics
    /// whose noise is skewed. Needs 5 seeds or more.
    Bootstrap,
}

/// What becomes of a seed whose metric is not finite, because its run diverged or is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Diverged {
    /// The claim is inconclusive.
    #[default]
    Inconclusive,
    /// The seed is left out, in both arms if they are paired. What is left is a kinder sample than what
    /// was run; the judgement says how many were left out.
    Drop,
    /// It counts as this value, such as the loss of a uniform guess.
    Value(f64),
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The effect lies where the claim puts it.
    Reproduced,
    /// The effect lies elsewhere.
    NotReproduced,
    /// These data cannot tell.
    Inconclusive,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reproduced => "reproduced",
            Self::NotReproduced => "not reproduced",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// A verdict with what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Difference or ratio of the arms; none where there is no value to compare.
    pub effect: Option<f64>,
    /// Where the effect lies at the rule's confidence; none where the seeds do not tell.
    pub interval: Option<Interval>,
    /// Seeds, or whatever the rule's [`Replicate`] is, that were used: pairs, or those of the smaller arm.
    pub n_seeds: usize,
    /// One sentence for people.
    pub reason: String,
}

impl Rule {
    /// Checks the fields.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        for (field, text) in
            [("metric", &self.metric), ("arm", &self.arm), ("baseline", &self.baseline)]
        {
            ensure(!text.is_empty(), field, "a name", "nothing")?;
        }
        let Replicate { one, many } = &self.replicate;
        for (field, text) in [("replicate.one", one), ("replicate.many", many)] {
            ensure(!text.is_empty(), field, "a noun", "nothing")?;
        }
        ensure(self.arm != self.baseline, "baseline", "another arm than `arm`", &self.baseline)?;
        let (margin, confidence) = (self.margin, self.confidence);
        ensure(margin.is_finite(), "margin", "finite", margin)?;
        if self.direction == Direction::Same {
            ensure(margin > 0.0, "margin", "above 0 for the direction `same`", margin)?;
        }
        if self.effect == Effect::Ratio {
            ensure(margin.abs() < 1.0, "margin", "between -1 and 1 for a ratio", margin)?;
        }
        let share = confidence > 0.5 && confidence < 1.0;
        ensure(share, "confidence", "between 0.5 and 1", confidence)?;
        ensure(self.min_seeds >= 2, "min_seeds", "at least 2", self.min_seeds)?;
        let enough = self.interval != Method::Bootstrap || self.min_seeds >= MIN_BOOTSTRAP_SEEDS;
        let want = format!("at least {MIN_BOOTSTRAP_SEEDS} for the interval `bootstrap`");
        ensure(enough, "min_seeds", &want, self.min_seeds)?;
        let step = self.resolution;
        ensure(step >= 0.0 && step.is_finite(), "resolution", "finite and not below 0", step)?;
        if let Diverged::Value(value) = self.diverged {
            ensure(value.is_finite(), "diverged.value", "finite", value)?;
            let ok = value > 0.0 || self.effect == Effect::Difference;
            ensure(ok, "diverged.value", "positive for a ratio", value)?;
        }
        Ok(())
    }

    /// Where the claim puts the effect: open ends, on the scale on which effects are added.
    fn claimed(&self) -> Interval {
        let (low, high) = match self.direction {
            Direction::Higher => (self.margin, f64::INFINITY),
            Direction::Lower => (f64::NEG_INFINITY, -self.margin),
            Direction::Same => (-self.margin, self.margin),
        };
        let interval = Interval { low, high };
        match self.effect {
            Effect::Difference => interval,
            Effect::Ratio => interval.map(|end| end.max(-1.0).ln_1p()), // no ratio is below 0
        }
    }

    /// From the scale on which effects are added to the one that people read.
    fn readable(&self, value: f64) -> f64 {
        match self.effect {
            Effect::Difference => value,
            Effect::Ratio => value.exp(),
        }
    }
}

/// With 4 seeds one resample in 64 has no spread, and the ends at 95 % are close to infinite.
const MIN_BOOTSTRAP_SEEDS: usize = 5;

/// Judges a claim from the metric of both arms, one value a seed; in a paired rule value i of both arms
/// is of the same seed. A value that is not finite says that the run diverged or is missing. `rng` is
/// used for the bootstrap alone.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for a rule that is out of range, or paired arms of different lengths.
pub fn judge(rule: &Rule, arm: &[f64], baseline: &[f64], rng: &mut impl Rng) -> Result<Judgement> {
    rule.validate()?;
    let aligned = !rule.paired || arm.len() == baseline.len();
    let want = format!("{} values, as many as the arm has", arm.len());
    ensure(aligned, "baseline", &want, baseline.len())?;
    let samples = match Samples::clean(rule, arm, baseline) {
        Ok(samples) => samples,
        Err(reason) => return Ok(inconclusive(None, 0, reason)),
    };
    let estimate = estimate(rule, &samples, rng)?;
    let n_seeds = samples.n_seeds();
    let effect = Some(rule.readable(estimate.effect)).filter(|effect| effect.is_finite());
    if n_seeds < rule.min_seeds {
        let n_seen = rule.replicate.counted(n_seeds);
        let reason = format!("{n_seen} with a value, the rule asks for {}", rule.min_seeds);
        return Ok(inconclusive(effect, n_seeds, samples.explain(reason)));
    }
    let Estimate { interval: Some(interval), .. } = estimate else {
        let reason = format!(
            "the {} do not differ, so there is no noise to judge by; \
             state `resolution` if the metric is coarse",
            rule.replicate.many
        );
        return Ok(inconclusive(effect, n_seeds, samples.explain(reason)));
    };
    let verdict = compare(interval, rule.claimed());
    let interval = Some(interval.map(|end| rule.readable(end))).filter(|i| i.is_finite());
    let reason = samples.explain(sentence(rule, verdict, effect, interval, n_seeds));
    Ok(Judgement { verdict, effect, interval, n_seeds, reason })
}

fn inconclusive(effect: Option<f64>, n_seeds: usize, reason: String) -> Judgement {
    Judgement { verdict: Verdict::Inconclusive, effect, interval: None, n_seeds, reason }
}

fn compare(interval: Interval, claimed: Interval) -> Verdict {
    if !interval.is_finite() {
        Verdict::Inconclusive
    } else if interval.low > claimed.low && interval.high < claimed.high {
        Verdict::Reproduced
    } else if interval.high < claimed.low || interval.low > claimed.high {
        Verdict::NotReproduced
    } else {
        Verdict::Inconclusive
    }
}

fn sentence(
    rule: &Rule,
    verdict: Verdict,
    effect: Option<f64>,
    interval: Option<Interval>,
    n_seeds: usize,
) -> String {
    let n_seen = rule.replicate.counted(n_seeds);
    let (Some(effect), Some(Interval { low, high })) = (effect, interval) else {
        return format!("the interval of {n_seen} has no finite ends");
    };
    let Rule { metric, arm, baseline, .. } = rule;
    let what = match rule.effect {
        Effect::Difference => "difference",
        Effect::Ratio => "ratio",
    };
    let Interval { low: from, high: to } = rule.claimed().map(|end| rule.readable(end));
    let place = match rule.direction {
        Direction::Higher => format!("above {}", short(from)),
        Direction::Lower => format!("below {}", short(to)),
        Direction::Same => format!("between {} and {}", short(from), short(to)),
    };
    let share = match verdict {
        Verdict::Reproduced => format!("all of it is {place}, as claimed"),
        Verdict::NotReproduced => format!("none of it is {place}, as was claimed"),
        Verdict::Inconclusive => format!("only a part of it is {place}, as was claimed"),
    };
    let confidence = short(rule.confidence * 100.0);
    let [effect, low, high] = [effect, low, high].map(short);
    format!(
        "`{metric}` of `{arm}` against `{baseline}`: {what} {effect}, \
         {confidence} % interval [{low}, {high}] from {n_seen}; {share}"
    )
}

/// Four significant digits, without zeros that say nothing.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..15.0).contains(&magnitude) {
        let text = format!("{value:.3e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", without_zeros(digits));
    }
    let decimals = (3.0 - magnitude).max(0.0) as usize;
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn without_zeros(digits: &str) -> &str {
    if !digits.contains('.') {
        return digits;
    }
    digits.trim_end_matches('0').trim_end_matches('.')
}

#[cfg(test)]
mod tests;
