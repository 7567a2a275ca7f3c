//! The numbers that claims are about, one a seed, and what their rules cannot see.

use anyhow::Result;
use forerun_runs::seed::Seed;
use forerun_runs::stats;
use forerun_runs::verdict::{Judgement, Verdict, judge};
use forerun_scaling::mixture::Weighing;

use super::MixtureConfig;
use super::companions::Companions;
use super::place::{Stage, Trained, trained};
use super::predictions::{Predictions, Predictor};
use crate::config::{Claim, Experiment};
use crate::outcome::Curve;

/// The fit to small models, and the law that it found.
pub(super) const LAW: &str = "law";
/// What the shares of the others do to a family's loss.
const COMPANIONS: &str = "companions";
/// The fit to the larger size alone.
pub(super) const OWN_LAW: &str = "own-law";
pub(super) const TRANSFERRED: &str = "transferred";
pub(super) const OWN: &str = "own";
pub(super) const UNIFORM: &str = "uniform";
pub(super) const PROPORTIONAL: &str = "proportional";
pub(super) const TEMPERATURE: &str = "temperature";
/// Of the mixtures beside the transferred one that which the other seeds find best.
const BEST_OTHER: &str = "best-other";
/// The same beside the uniform one.
const BEST_BUT_UNIFORM: &str = "best-but-uniform";

/// The mixtures that are compared, and how a report calls them.
pub(super) const COMPARED: [(&str, &str); 5] = [
    (TRANSFERRED, "small models' optimum"),
    (OWN, "own optimum"),
    (UNIFORM, "uniform"),
    (PROPORTIONAL, "proportional"),
    (TEMPERATURE, "temperature"),
];

/// Mean size of the relative error on small models that no law has seen, per cent.
pub(super) const HELD_OUT: &str = "held-out-error";
/// The same on the larger models of the compared mixtures.
pub(super) const LARGER: &str = "larger-size-error";
/// The weighted objective of a mixture at the larger size.
pub(super) const OBJECTIVE: &str = "objective";
/// The strongest companion's effect, relative to that of the own share.
pub(super) const RELATIVE: &str = "relative-effect";

/// Level of the tests of independence, over all families together.
pub(super) const LEVEL: f64 = 0.05;

/// What claims may measure: arms, and the series of each.
pub(super) const MEASURED: [(&str, &[&str]); 13] = [
    (LAW, &[HELD_OUT, LARGER]),
    ("law-with-others", &[HELD_OUT, LARGER]),
    ("law-without-shares", &[HELD_OUT, LARGER]),
    ("nearest-mixture", &[HELD_OUT, LARGER]),
    ("largest-small-size", &[HELD_OUT, LARGER]),
    (COMPANIONS, &[RELATIVE]),
    (TRANSFERRED, &[OBJECTIVE]),
    (OWN, &[OBJECTIVE]),
    (UNIFORM, &[OBJECTIVE]),
    (PROPORTIONAL, &[OBJECTIVE]),
    (TEMPERATURE, &[OBJECTIVE]),
    (BEST_OTHER, &[OBJECTIVE]),
    (BEST_BUT_UNIFORM, &[OBJECTIVE]),
];

/// Every number that a claim may be about, at 0; see [`MEASURED`].
pub(crate) fn derived(
    experiment: &Experiment,
    body: &MixtureConfig,
    curves: &[Curve],
) -> Vec<Curve> {
    let models = trained(curves);
    let mut derived = Vec::new();
    let mut add = |arm: &str, series: &str, seed: u64, value: f64| {
        let (arm, series) = (arm.to_owned(), series.to_owned());
        derived.push(Curve { arm, seed, series, points: vec![(0.0, value)] });
    };
    let predictions = Predictions::read(body, curves, &models);
    for by in Predictor::ALL {
        for (series, stage) in [(HELD_OUT, Stage::Check), (LARGER, Stage::Transfer)] {
            for seed in 0..experiment.seeds {
                let here = models.iter().filter(|m| (m.place.stage, m.seed) == (stage, seed));
                add(by.arm(), series, seed, predictions.mean_error(by, here));
            }
        }
    }
    let objectives = Objective::read(body, curves).by_mixture(&models, experiment.seeds);
    for ((name, _), values) in COMPARED.iter().zip(&objectives) {
        (0..).zip(values).for_each(|(seed, &value)| add(name, OBJECTIVE, seed, value));
    }
    for (arm, but) in [(BEST_OTHER, TRANSFERRED), (BEST_BUT_UNIFORM, UNIFORM)] {
        let best = best_but(but, &objectives);
        (0..).zip(best).for_each(|(seed, value)| add(arm, OBJECTIVE, seed, value));
    }
    derived
}

/// The best of the compared mixtures but one, see [`best_other`].
pub(super) fn best_but(mixture: &str, objectives: &[Vec<f64>]) -> Vec<f64> {
    let others = COMPARED.iter().zip(objectives).filter(|((name, _), _)| *name != mixture);
    best_other(&others.map(|(_, values)| values.clone()).collect::<Vec<Vec<f64>>>())
}

/// For every seed the value of the mixture that is best by the mean of the other seeds: what one would have chosen
/// without having seen this one. With one seed, the best of that.
pub(super) fn best_other(values: &[Vec<f64>]) -> Vec<f64> {
    let n = values.first().map_or(0, Vec::len);
    let best = |seed: usize| {
        let score = |values: &Vec<f64>| {
            let others = values.iter().enumerate().filter(|(index, _)| n == 1 || *index != seed);
            stats::mean(&others.map(|(_, value)| *value).collect::<Vec<f64>>())
        };
        let finite = values.iter().filter(|values| score(values).is_finite());
        let best = finite.min_by(|a, b| score(a).total_cmp(&score(b)));
        best.map_or(f64::NAN, |values| values[seed])
    };
    (0..n).map(best).collect()
}

/// The weighted objective by which mixtures are compared, a mean over families.
pub(super) struct Objective {
    /// What a family's loss is multiplied by.
    weights: Vec<f64>,
}

impl Objective {
    /// Normalised losses are relative to what the larger size reaches on a family alone, by the law of that size.
    pub(super) fn read(body: &MixtureConfig, curves: &[Curve]) -> Self {
        let n = body.families.len();
        let total: f64 = body.families.iter().map(|family| family.weight).sum();
        let scale = match body.mixing.weighing {
            Weighing::Normalised => {
                values(curves, OWN_LAW, "loss-alone").unwrap_or_else(|| vec![f64::NAN; n])
            }
            Weighing::Sum => vec![1.0; n],
        };
        let weight = |(family, scale): (&super::FamilyConfig, f64)| family.weight / total / scale;
        Self { weights: body.families.iter().zip(scale).map(weight).collect() }
    }

    /// Of these losses by family.
    fn value(&self, losses: &[f64]) -> f64 {
        self.weights.iter().zip(losses).map(|(weight, loss)| weight * loss).sum()
    }

    /// Of every compared mixture and seed.
    pub(super) fn by_mixture(&self, models: &[Trained], seeds: u64) -> Vec<Vec<f64>> {
        let of = |name: &str| (0..seeds).map(|seed| self.of(models, name, seed)).collect();
        COMPARED.iter().map(|(name, _)| of(name)).collect()
    }

    /// Of a mixture that was carried to the larger size; NaN if it was not.
    fn of(&self, models: &[Trained], mixture: &str, seed: u64) -> f64 {
        let is = |model: &&Trained| {
            let place = &model.place;
            (place.stage, place.mixture.as_str(), model.seed) == (Stage::Transfer, mixture, seed)
        };
        models.iter().find(is).map_or(f64::NAN, |model| self.value(&model.losses))
    }
}

/// The ordinates of a fit's series.
pub(super) fn values(curves: &[Curve], arm: &str, series: &str) -> Option<Vec<f64>> {
    let curve = curves.iter().find(|curve| curve.arm == arm && curve.series == series)?;
    Some(curve.points.iter().map(|point| point.1).collect())
}

/// What companions do is known by mixtures, not by seeds; and a rule that the uniform mixture passes as well says nothing
/// about the one that small models find.
pub(crate) fn reconsider(
    body: &MixtureConfig,
    claim: &Claim,
    curves: &[Curve],
    judgement: Judgement,
) -> Result<Judgement> {
    if measures_companions(claim) {
        let n_mixtures = n_mixtures(body, claim).unwrap_or_default();
        return Ok(about_companions(body, claim, curves, n_mixtures));
    }
    if claim.b.as_ref().is_some_and(|b| b.arm == BEST_OTHER) {
        return beside_uniform(claim, curves, judgement);
    }
    Ok(judgement)
}

fn about_companions(
    body: &MixtureConfig,
    claim: &Claim,
    curves: &[Curve],
    n_mixtures: u64,
) -> Judgement {
    let n_seeds = usize::try_from(n_mixtures).unwrap_or(usize::MAX);
    let inconclusive = |reason: String| {
        let (verdict, effect, interval) = (Verdict::Inconclusive, None, None);
        Judgement { verdict, effect, interval, n_seeds, reason }
    };
    if n_seeds < claim.rule.min_seeds {
        let n_seen = claim.rule.replicate.counted(n_seeds);
        return inconclusive(format!("{n_seen}, the rule asks for {}", claim.rule.min_seeds));
    }
    let Some(companions) = Companions::read(body, curves) else {
        return inconclusive("not every family has a law with its companions".to_owned());
    };
    let judged = companions.judge(&body.labels(), claim.rule.margin);
    Judgement { n_seeds, ..judged }
}

fn beside_uniform(claim: &Claim, curves: &[Curve], judgement: Judgement) -> Result<Judgement> {
    let by_seed = |arm: &str| -> Vec<f64> {
        let curves = curves.iter().filter(|c| c.arm == arm && c.series == OBJECTIVE);
        curves.filter_map(|curve| Some(curve.points.first()?.1)).collect()
    };
    let (uniform, others) = (by_seed(UNIFORM), by_seed(BEST_BUT_UNIFORM));
    let mut rng = Seed::new(0).stream("uniform"); // for bootstraps over seeds
    let passes = judge(&claim.rule, &uniform, &others, &mut rng)?.verdict;
    let seen = &judgement.reason;
    let reason = format!("{seen}; of the uniform mixture the same rule says: {passes}");
    let verdict = match (judgement.verdict, passes) {
        (Verdict::Reproduced, Verdict::Reproduced) => Verdict::Inconclusive,
        (verdict, _) => verdict,
    };
    Ok(Judgement { verdict, reason, ..judgement })
}

/// Mixtures that a claim about companions rests on; none for other claims, which rest on seeds.
pub(crate) fn n_mixtures(body: &MixtureConfig, claim: &Claim) -> Option<u64> {
    let n = body.design.blocks.saturating_mul(body.families.len() as u64);
    measures_companions(claim).then_some(n)
}

fn measures_companions(claim: &Claim) -> bool {
    claim.measures().any(|measure| measure.arm == COMPANIONS)
}
