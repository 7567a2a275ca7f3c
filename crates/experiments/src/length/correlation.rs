//! Whether attention resolution predicts what reading further costs: rank correlations, one a seed.
//!
//! What is correlated: attention resolution at a length under a mask, and the loss at that length under that mask
//! minus the causal loss at the training length, for every length beyond the training length. Two questions are asked:
//!
//! - pooled, over arms, masks and lengths together: do the two go together at all? Both follow length and mask, so they
//!   may do so though resolution says nothing about an arm;
//! - within one length and one mask, the mean over those: does the arm with the lower resolution pay more?
//!
//! The seeds of an arm are alike, so that noise between seeds says little about other arms; a claim on a correlation
//! therefore has to hold over arms as well: its interval is the wider of Student's over seeds and the jackknife over
//! arms.

use anyhow::{Result, bail};
use forerun_runs::stats::{self, Interval, jackknife_correlation, spearman};
use forerun_runs::verdict::{Direction, Judgement, Verdict};

use super::{LengthConfig, SERIES};
use crate::config::{Claim, Experiment, Measure};
use crate::outcome::Curve;

/// What a measure calls all arms together.
pub(super) const ALL_ARMS: &str = "all-arms";
/// Spearman's rank correlations, one number a seed each.
const CORRELATIONS: [(&str, Ranked); 2] = [
    ("spearman/resolution-added-loss", Ranked::Pooled),
    ("spearman/resolution-added-loss-within-length", Ranked::WithinLength),
];
/// Fewer observations have no rank correlation to speak of.
const LEAST: usize = 4;
/// Fewer arms cannot be left out in turn.
const LEAST_ARMS: usize = 3;

/// What is ranked together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ranked {
    /// All arms, masks and lengths.
    Pooled,
    /// The arms at one length under one mask; the mean of all such correlations.
    WithinLength,
}

/// The correlation of this name.
fn ranked(series: &str) -> Option<Ranked> {
    CORRELATIONS.iter().find(|(name, _)| *name == series).map(|found| found.1)
}

/// One arm, mask, length and seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Observation {
    /// Place of the arm in the configuration.
    pub(super) arm: usize,
    pub(super) seed: u64,
    /// Place of the mask: causal, blockwise causal.
    pub(super) mask: usize,
    /// Tokens read at a time.
    pub(super) length: f64,
    /// Attention resolution.
    pub(super) resolution: f64,
    /// Nats per token above the causal loss at the training length.
    pub(super) added_loss: f64,
}

/// A claim that names [`ALL_ARMS`].
pub(super) fn validate(body: &LengthConfig, measure: &Measure) -> Result<()> {
    let Measure { arm, series, at, .. } = measure;
    if ranked(series).is_none() {
        let [(pooled, _), (within, _)] = CORRELATIONS;
        bail!("`{arm}` has the series `{pooled}` and `{within}`, got `{series}`");
    }
    if *at != 1.0 {
        bail!("`{arm}` is measured at 1 (all lengths are in it), got {at}");
    }
    let beyond = body.evaluation.resolution_ratios.iter().filter(|ratio| **ratio > 1).count();
    if beyond * SERIES.len() / 2 * body.arms.len() < LEAST {
        bail!("`{arm}` needs evaluation.resolution_ratios above 1");
    }
    if body.arms.len() < LEAST_ARMS {
        bail!("`{arm}` needs {LEAST_ARMS} arms or more, got {}", body.arms.len());
    }
    Ok(())
}

/// Every observation whose numbers are finite.
pub(super) fn observations(body: &LengthConfig, curves: &[Curve]) -> Vec<Observation> {
    let mut found = Vec::new();
    for (arm, name) in body.arms.iter().map(|arm| &arm.name).enumerate() {
        let of = |series: &str, seed: u64, x: f64| {
            curves
                .iter()
                .find(|curve| curve.arm == *name && curve.seed == seed && curve.series == series)
                .and_then(|curve| curve.points.iter().find(|point| point.0 == x))
                .map(|point| point.1)
                .filter(|value| value.is_finite())
        };
        let seeds = curves
            .iter()
            .filter(|curve| curve.arm == *name && curve.series == SERIES[0])
            .map(|curve| curve.seed);
        for seed in seeds {
            let Some(near) = of(SERIES[0], seed, body.training_length() as f64) else { continue };
            for (mask, label) in ["causal", "bca"].into_iter().enumerate() {
                for ratio in body.evaluation.resolution_ratios.iter().filter(|ratio| **ratio > 1) {
                    let length = (ratio * body.training_length()) as f64;
                    if let (Some(resolution), Some(far)) = (
                        of(&format!("resolution/{label}"), seed, length),
                        of(&format!("nll/{label}"), seed, length),
                    ) {
                        let added_loss = far - near;
                        found.push(Observation { arm, seed, mask, length, resolution, added_loss });
                    }
                }
            }
        }
    }
    found
}

/// The rank correlation of one seed, without one arm if `left_out` names it.
fn correlation(
    observations: &[Observation],
    ranked: Ranked,
    seed: u64,
    left_out: Option<usize>,
) -> Option<f64> {
    let seen: Vec<&Observation> = observations
        .iter()
        .filter(|seen| seen.seed == seed && Some(seen.arm) != left_out)
        .collect();
    if ranked == Ranked::Pooled {
        return rank_correlation(&seen, LEAST);
    }
    let mut strata: Vec<(usize, f64)> = seen.iter().map(|seen| (seen.mask, seen.length)).collect();
    strata.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    strata.dedup();
    let within = |&stratum: &(usize, f64)| {
        let alike = seen.iter().copied().filter(|seen| (seen.mask, seen.length) == stratum);
        rank_correlation(&alike.collect::<Vec<_>>(), LEAST_ARMS)
    };
    let each: Vec<f64> = strata.iter().map(within).collect::<Option<_>>()?;
    (!each.is_empty()).then(|| stats::mean(&each))
}

fn rank_correlation(seen: &[&Observation], least: usize) -> Option<f64> {
    let (x, y): (Vec<f64>, Vec<f64>) =
        seen.iter().map(|seen| (seen.resolution, seen.added_loss)).unzip();
    if x.len() < least { None } else { spearman(&x, &y).ok().flatten() }
}

/// The correlations as series that claims may name.
pub(crate) fn derived(
    experiment: &Experiment,
    body: &LengthConfig,
    curves: &[Curve],
) -> Vec<Curve> {
    let observations = observations(body, curves);
    let one = |(name, ranked): (&str, Ranked), seed| Curve {
        arm: ALL_ARMS.to_owned(),
        seed,
        series: name.to_owned(),
        points: vec![(
            body.training_length() as f64,
            correlation(&observations, ranked, seed, None).unwrap_or(f64::NAN),
        )],
    };
    let seeds = 0..experiment.seeds;
    seeds.flat_map(|seed| CORRELATIONS.map(|correlation| one(correlation, seed))).collect()
}

/// Arms that have observations, and where the mean correlation over seeds lies, given that they are a sample of arms;
/// no interval if one of them carries it.
fn interval_over_arms(
    observations: &[Observation],
    ranked: Ranked,
    confidence: f64,
) -> Result<(usize, Option<Interval>)> {
    let distinct = |values: Vec<u64>| {
        let set: std::collections::BTreeSet<u64> = values.into_iter().collect();
        set.into_iter().collect::<Vec<_>>()
    };
    let seeds = distinct(observations.iter().map(|seen| seen.seed).collect());
    let arms = distinct(observations.iter().map(|seen| seen.arm as u64).collect());
    let mean = |left_out: Option<usize>| {
        let left_out = left_out.map(|index| arms[index] as usize);
        let each = seeds.iter().map(|&seed| correlation(observations, ranked, seed, left_out));
        let each: Vec<f64> = each.collect::<Option<_>>()?;
        (!each.is_empty()).then(|| stats::mean(&each))
    };
    if arms.len() < LEAST_ARMS {
        return Ok((arms.len(), None));
    }
    Ok((arms.len(), jackknife_correlation(arms.len(), mean, confidence)?))
}

/// A claim on the correlation has to hold over arms as well as over seeds: the wider interval decides.
pub(crate) fn reconsider(
    body: &LengthConfig,
    claim: &Claim,
    curves: &[Curve],
    judgement: Judgement,
) -> Result<Judgement> {
    let ranked = ranked(&claim.a.series).filter(|_| judgement.n_seeds >= claim.rule.min_seeds);
    let (Some(ranked), Some(effect)) = (ranked, judgement.effect) else { return Ok(judgement) };
    // Ranks may agree exactly in all seeds; then the arms alone decide.
    let over_seeds = judgement.interval.unwrap_or(Interval { low: effect, high: effect });
    let seen = observations(body, curves);
    let (n_arms, over_arms) = interval_over_arms(&seen, ranked, claim.rule.confidence)?;
    let Some(over_arms) = over_arms else {
        let reason = format!(
            "{n_arms} arms were measured, and without one of them there is no correlation to speak of; {}",
            judgement.reason
        );
        return Ok(Judgement {
            verdict: Verdict::Inconclusive,
            interval: None,
            reason,
            ..judgement
        });
    };
    let interval = over_seeds.hull(over_arms);
    let (verdict, place) = placed(claim, interval);
    let reason = format!(
        "mean rank correlation {:.2} over {} seeds; interval over seeds [{:.2}, {:.2}], over the {n_arms} arms, each left \
         out in turn, [{:.2}, {:.2}]; {place}",
        effect, judgement.n_seeds, over_seeds.low, over_seeds.high, over_arms.low, over_arms.high,
    );
    Ok(Judgement { verdict, interval: Some(interval), reason, ..judgement })
}

/// The verdict of a rule on a difference, and where the interval lies in words.
fn placed(claim: &Claim, interval: Interval) -> (Verdict, String) {
    let margin = claim.rule.margin;
    let below = 0.0 - margin; // never a negative zero
    let (claimed, words) = match claim.rule.direction {
        Direction::Lower => ((f64::NEG_INFINITY, below), format!("below {below}")),
        Direction::Higher => ((margin, f64::INFINITY), format!("above {margin}")),
        Direction::Same => ((below, margin), format!("between {below} and {margin}")),
    };
    if interval.low > claimed.0 && interval.high < claimed.1 {
        (Verdict::Reproduced, format!("all of it is {words}, as claimed"))
    } else if interval.high < claimed.0 || interval.low > claimed.1 {
        (Verdict::NotReproduced, format!("none of it is {words}, as was claimed"))
    } else {
        (Verdict::Inconclusive, format!("only a part of it is {words}, as was claimed"))
    }
}

#[cfg(test)]
mod tests;
