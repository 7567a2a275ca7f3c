//! The series that claims are about, made from what was measured, and what their rules cannot see.

use std::collections::BTreeSet;

use anyhow::Result;
use forerun_runs::results::Row;
use forerun_runs::verdict::{Judgement, Verdict};

use super::valley::{Valleys, reason_in_words};
use super::{Arm, HELD_OUT, HorizonConfig};
use crate::config::{Claim, Measure};
use crate::outcome::Curve;
use crate::plan::quantity;

/// A series that a claim may name.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) name: &'static str,
    /// Where it has values.
    pub(super) at: At,
    /// Whether only the first arm has it.
    pub(super) first_arm_alone: bool,
}

/// Where a series has values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// One value, which belongs to no horizon.
    Nowhere,
    /// One value, at the held-out horizon.
    HeldOut,
    /// One at every horizon of the arm.
    Horizon,
}

const OPTIMUM: &str = "optimum";
const EXPONENT: &str = "exponent";
const PREDICTION_ERROR: &str = "prediction-error";
const PREDICTION_DISTANCE: &str = "prediction-distance";
const CARRIED_DISTANCE: &str = "carried-distance";
const LOSS_PREDICTED: &str = "loss/predicted";
const LOSS_CARRIED: &str = "loss/carried";
const LOSS_BEST: &str = "loss/best";

/// How a series begins that compares an arm with the one that is named after it.
pub(super) const MOVED_FROM: &str = "moved-from/";

/// What a claim may name; of [`MOVED_FROM`] there is one for every other arm.
pub(super) const SERIES: [Known; 9] = [
    Known { name: OPTIMUM, at: At::Horizon, first_arm_alone: false },
    Known { name: MOVED_FROM, at: At::Horizon, first_arm_alone: false },
    Known { name: EXPONENT, at: At::Nowhere, first_arm_alone: true },
    Known { name: PREDICTION_ERROR, at: At::HeldOut, first_arm_alone: true },
    Known { name: PREDICTION_DISTANCE, at: At::HeldOut, first_arm_alone: true },
    Known { name: CARRIED_DISTANCE, at: At::HeldOut, first_arm_alone: true },
    Known { name: LOSS_PREDICTED, at: At::HeldOut, first_arm_alone: true },
    Known { name: LOSS_CARRIED, at: At::HeldOut, first_arm_alone: true },
    Known { name: LOSS_BEST, at: At::HeldOut, first_arm_alone: true },
];

/// The series that this name means.
pub(super) fn known(name: &str) -> Option<Known> {
    let family = if name.starts_with(MOVED_FROM) { MOVED_FROM } else { name };
    SERIES.into_iter().find(|known| known.name == family)
}

/// Of every arm and seed, by horizon:
///
/// - `optimum`: the best learning rate by the parabola of that seed, in octaves above 1; no value if there is none;
/// - `moved-from/ARM`: how many octaves it lies from that of another arm, to whichever side.
///
/// Of the first arm and every seed:
///
/// - `exponent`, at 0: beta of the law through that seed's own optima of the fitted horizons;
/// - `prediction-error`: by how many octaves what that law says of the held-out horizon lies above that seed's optimum
///   there; `prediction-distance`: the same to whichever side; `carried-distance`: how far that seed's optimum of the
///   horizon that is carried from lies from it;
/// - `loss/…`: loss at the held-out horizon with the learning rate that the law of all seeds predicts, with the one that
///   is carried over, and with the one of lowest mean loss over the other seeds among all others than the predicted one.
pub(crate) fn derived(body: &HorizonConfig, rows: &[Row], curves: &[Curve]) -> Vec<Curve> {
    let valleys = Valleys::new(body, rows, curves);
    let optima = body.arms.iter().flat_map(|arm| optima(&valleys, arm));
    let moved = body.arms.iter().flat_map(|arm| moved(&valleys, arm));
    let of_subject = body.subject().into_iter().flat_map(|arm| of_subject(&valleys, arm));
    optima.chain(moved).chain(of_subject).collect()
}

fn optima(valleys: &Valleys<'_>, arm: &Arm) -> Vec<Curve> {
    let parts = valleys.body.parts(arm);
    let by_part: Vec<(f64, Vec<f64>)> =
        parts.into_iter().map(|part| (part, valleys.optima_by_seed(arm, part))).collect();
    let of_seed = |(index, &seed): (usize, &u64)| {
        let points = by_part.iter().map(|(part, optima)| {
            (valleys.body.nominal(*part), optima.get(index).map_or(f64::NAN, |lr| lr.log2()))
        });
        curve(arm, seed, OPTIMUM, points.collect())
    };
    valleys.seeds.iter().enumerate().map(of_seed).collect()
}

/// How far the optima of an arm lie from those of each other one, where both are trained.
fn moved(valleys: &Valleys<'_>, arm: &Arm) -> Vec<Curve> {
    let body = valleys.body;
    let mut curves = Vec::new();
    for other in body.arms.iter().filter(|other| other.name != arm.name) {
        let theirs = body.parts(other);
        let parts: Vec<f64> =
            body.parts(arm).into_iter().filter(|part| theirs.contains(part)).collect();
        for &seed in &valleys.seeds {
            let points = parts.iter().map(|&part| {
                let [a, b] = [arm, other].map(|arm| valleys.optimum_of(arm, part, seed));
                (body.nominal(part), octaves(a, b).abs())
            });
            let series = format!("{MOVED_FROM}{}", other.name);
            curves.push(curve(arm, seed, &series, points.collect()));
        }
    }
    curves
}

/// From `b` up to `a`.
fn octaves(a: f64, b: f64) -> f64 {
    (a / b).log2()
}

fn of_subject(valleys: &Valleys<'_>, arm: &Arm) -> Vec<Curve> {
    let held_out = valleys.body.nominal(HELD_OUT);
    let mut curves = Vec::new();
    for &seed in &valleys.seeds {
        let exponent = valleys.fitted_law(&[seed]).map_or(f64::NAN, |law| law.exponent());
        curves.push(curve(arm, seed, EXPONENT, vec![(0.0, exponent)]));
        let mut add =
            |series, value| curves.push(curve(arm, seed, series, vec![(held_out, value)]));
        let [law, carried] = errors(valleys, arm, seed);
        add(PREDICTION_ERROR, law);
        add(PREDICTION_DISTANCE, law.abs());
        add(CARRIED_DISTANCE, carried.abs());
        add(LOSS_PREDICTED, valleys.held_out_loss(valleys.predicted, seed));
        add(LOSS_CARRIED, valleys.held_out_loss(valleys.carried, seed));
        add(LOSS_BEST, valleys.held_out_loss(valleys.best_for(seed), seed));
    }
    curves
}

/// Octaves from a seed's optimum at the held-out horizon up to what its fitted horizons predict, and to its optimum of
/// the horizon that is carried from; NaN without either.
pub(super) fn errors(valleys: &Valleys<'_>, arm: &Arm, seed: u64) -> [f64; 2] {
    let measured = valleys.optimum_of(arm, HELD_OUT, seed);
    [valleys.prediction(&[seed]), valleys.carried_over(&[seed])]
        .map(|lr| octaves(lr.unwrap_or(f64::NAN), measured))
}

fn curve(arm: &Arm, seed: u64, series: &str, points: Vec<(f64, f64)>) -> Curve {
    Curve { arm: arm.name.clone(), seed, series: series.to_owned(), points }
}

/// A best learning rate at the end of what was tried may not be the best, so that nothing is known about how far a loss
/// lies above that of the best. And where a value is missing, the reason says which valley shows no optimum.
pub(crate) fn reconsider(
    body: &HorizonConfig,
    claim: &Claim,
    rows: &[Row],
    curves: &[Curve],
    judgement: Judgement,
) -> Result<Judgement> {
    let valleys = Valleys::new(body, rows, curves);
    let is_about = |series: &str| claim.measures().any(|measure| measure.series == series);
    if is_about(LOSS_BEST)
        && judgement.verdict == Verdict::Reproduced
        && valleys.best().is_some_and(|best| best.at_edge)
    {
        let reason = format!(
            "the best learning rate of the held-out horizon is the lowest or the highest that was tried, so a better one \
             may lie beyond; give sweep.held_out_learning_rates more (without regard to that: {})",
            judgement.reason
        );
        return Ok(Judgement { verdict: Verdict::Inconclusive, reason, ..judgement });
    }
    if judgement.effect.is_some() {
        return Ok(judgement);
    }
    let mut missing: Vec<String> =
        claim.measures().flat_map(|measure| not_identified(&valleys, measure)).collect();
    let mut told = BTreeSet::new();
    missing.retain(|text| told.insert(text.clone()));
    if missing.is_empty() {
        return Ok(judgement);
    }
    let reason = format!("not identified: {} ({})", missing.join("; "), judgement.reason);
    Ok(Judgement { reason, ..judgement })
}

/// The valleys behind a measure that show no optimum: of single seeds, but for losses, whose learning rates come from
/// all seeds.
fn not_identified(valleys: &Valleys<'_>, measure: &Measure) -> Vec<String> {
    let body = valleys.body;
    let other = measure.series.strip_prefix(MOVED_FROM);
    let arms: Vec<&Arm> = body
        .arms
        .iter()
        .filter(|arm| arm.name == measure.arm || Some(&*arm.name) == other)
        .collect();
    let mut parts = match measure.series.as_str() {
        OPTIMUM => vec![measure.at],
        CARRIED_DISTANCE => vec![body.horizons.carried_from],
        _ if other.is_some() => vec![measure.at],
        _ => body.horizons.fitted.clone(),
    };
    if [PREDICTION_ERROR, PREDICTION_DISTANCE, CARRIED_DISTANCE].contains(&&*measure.series) {
        parts.push(HELD_OUT);
    }
    let groups: Vec<Vec<u64>> = match measure.series.as_str() {
        LOSS_PREDICTED | LOSS_CARRIED | LOSS_BEST => vec![valleys.seeds.clone()],
        _ => valleys.seeds.iter().map(|&seed| vec![seed]).collect(),
    };
    let mut found = Vec::new();
    for arm in arms {
        for &part in &parts {
            found.extend(groups.iter().filter_map(|seeds| unseen(valleys, arm, part, seeds)));
        }
    }
    found
}

/// Whose valley at a horizon shows no optimum, and why.
fn unseen(valleys: &Valleys<'_>, arm: &Arm, part: f64, seeds: &[u64]) -> Option<String> {
    let reason = reason_in_words(&valleys.optimum(arm, part, seeds))?;
    let mut who = match seeds {
        [seed] => format!("seed {seed}"),
        _ => "all seeds".to_owned(),
    };
    if !valleys.body.is_subject(arm) {
        who = format!("`{}`, {who}", arm.name);
    }
    let tokens = quantity(valleys.body.n_tokens(part));
    Some(format!("{who} at {} tokens: {reason}", tokens.trim_end()))
}
