//! What a design can detect, found before it is run: intervals of simulated seeds without any effect,
//! drawn once; an effect only shifts them.

use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal};

use super::effect::{paired, unpaired};
use super::{Direction, Effect, Method, Rule, Verdict, compare};
use crate::error::{Result, ensure};
use crate::seed::Seed;
use crate::stats::Interval;

/// Share of experiments that find an effect of the size that [`detectable_effect`] states, if the noise
/// is normal and as large as stated. It is above the promised 80 %, because neither is ever quite so.
pub const POWER: f64 = 0.9;

/// Smallest effect that a design finds with probability [`POWER`]; none if it is unpowered, because it
/// has fewer seeds than the rule asks for or because no effect would be found.
///
/// `sd` is the standard deviation between seeds: of the paired differences if the rule is paired, of
/// one arm if not; for a ratio, of natural logarithms. The effect is counted as the margin is: in the
/// claimed direction, as a fraction for a ratio. For [`Direction::Same`] it is the *largest* true
/// difference of arms that are still found to be the same. The answer is the same every time.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for a rule or an `sd` that is out of range.
pub fn detectable_effect(rule: &Rule, n_seeds: usize, sd: f64) -> Result<Option<f64>> {
    let Some(intervals) = null_intervals(rule, n_seeds, sd)? else { return Ok(None) };
    let claimed = rule.claimed();
    let found = |shift: f64| share_found(&intervals, claimed, shift);
    let shift = match rule.direction {
        Direction::Same => {
            let centre = f64::midpoint(claimed.low, claimed.high);
            if found(centre) < POWER {
                return Ok(None);
            }
            // Towards the nearer border, which for a ratio is the upper one.
            last_true(centre, claimed.high, |shift| found(shift) >= POWER)
        }
        Direction::Higher => smallest_shift(&intervals, |i| claimed.low - i.low),
        Direction::Lower => -smallest_shift(&intervals, |i| i.high - claimed.high),
    };
    Ok(Some(in_claimed_direction(rule, shift)).filter(|effect| effect.is_finite()))
}

/// Probability that a true `effect`, counted as in [`detectable_effect`], is judged `reproduced`.
///
/// # Errors
/// As [`detectable_effect`], and for an `effect` that no ratio can have.
pub fn power(rule: &Rule, n_seeds: usize, sd: f64, effect: f64) -> Result<f64> {
    let signed = if rule.direction == Direction::Lower { -effect } else { effect };
    let shift = match rule.effect {
        Effect::Difference => signed,
        Effect::Ratio => signed.ln_1p(),
    };
    ensure(shift.is_finite(), "effect", "finite, and a positive ratio", effect)?;
    let intervals = null_intervals(rule, n_seeds, sd)?;
    Ok(intervals.map_or(0.0, |intervals| share_found(&intervals, rule.claimed(), shift)))
}

fn in_claimed_direction(rule: &Rule, shift: f64) -> f64 {
    let signed = match rule.effect {
        Effect::Difference => shift,
        Effect::Ratio => shift.exp_m1(),
    };
    if rule.direction == Direction::Lower { -signed } else { signed }
}

fn share_found(intervals: &[Interval], claimed: Interval, shift: f64) -> f64 {
    let found = |interval: &&Interval| {
        compare(interval.map(|end| end + shift), claimed) == Verdict::Reproduced
    };
    intervals.iter().filter(found).count() as f64 / intervals.len() as f64
}

/// Shift that takes a share of [`POWER`] of the intervals across the border, if `missing` is what each lacks.
fn smallest_shift(intervals: &[Interval], missing: impl Fn(&Interval) -> f64) -> f64 {
    let mut shifts: Vec<f64> = intervals.iter().map(missing).collect();
    shifts.sort_by(f64::total_cmp);
    let rank = (POWER * shifts.len() as f64).ceil() as usize;
    shifts[rank.min(shifts.len() - 1)]
}

/// Last point between `low`, where `holds` is true, and `high`, by halving.
fn last_true(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// Intervals of simulated experiments whose arms do not differ; none for too few seeds.
fn null_intervals(rule: &Rule, n_seeds: usize, sd: f64) -> Result<Option<Vec<Interval>>> {
    rule.validate()?;
    ensure(sd > 0.0 && sd.is_finite(), "sd", "finite and above 0", sd)?;
    if n_seeds < rule.min_seeds {
        return Ok(None);
    }
    let mut rng = Seed::new(0).stream("verdict/power");
    let n_experiments = match rule.interval {
        Method::Student => 10_000,
        Method::Bootstrap => 500, // each costs thousands of resamples
    };
    let mut intervals = Vec::with_capacity(n_experiments);
    for _ in 0..n_experiments {
        intervals.extend(null_interval(rule, n_seeds, sd, &mut rng)?);
    }
    Ok(Some(intervals).filter(|intervals| !intervals.is_empty()))
}

fn null_interval(
    rule: &Rule,
    n_seeds: usize,
    sd: f64,
    rng: &mut ChaCha20Rng,
) -> Result<Option<Interval>> {
    let mut draw = || -> Vec<f64> {
        let normal = (0..n_seeds).map(|_| StandardNormal.sample(&mut *rng));
        normal.map(|z: f64| sd * z).collect()
    };
    let arm = draw();
    if rule.paired {
        return paired(rule, &arm, 0.0, rng);
    }
    let baseline = draw();
    unpaired(rule, &arm, &baseline, 0.0, rng)
}
