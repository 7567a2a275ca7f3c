//! The numbers that claims are about, one a seed, and what their rules cannot see.

use anyhow::Result;
use forerun_runs::stats;
use forerun_runs::verdict::{Judgement, Verdict};
use forerun_scaling::Observations;
use forerun_scaling::law::{Design, Law, predict_all};
use forerun_scaling::mixture::Weighing;

use super::MixtureConfig;
use super::fit::{FittedScale, others, share_input};
use super::place::{Stage, Trained, trained};
use crate::config::{Claim, Experiment};
use crate::outcome::Curve;

/// The fit to small models, and the law that it found.
pub(super) const LAW: &str = "law";
/// The same with the shares of the other families in it.
pub(super) const LAW_WITH_OTHERS: &str = "law-with-others";
/// The fit to the larger size alone.
pub(super) const OWN_LAW: &str = "own-law";
pub(super) const TRANSFERRED: &str = "transferred";
pub(super) const OWN: &str = "own";
pub(super) const UNIFORM: &str = "uniform";
pub(super) const PROPORTIONAL: &str = "proportional";
pub(super) const TEMPERATURE: &str = "temperature";
/// Of the mixtures beside the transferred one that which the other seeds find best.
const BEST_OTHER: &str = "best-other";

/// The mixtures that are compared, and how a report calls them.
pub(super) const COMPARED: [(&str, &str); 5] = [
    (TRANSFERRED, "small models' optimum"),
    (OWN, "own optimum"),
    (UNIFORM, "uniform"),
    (PROPORTIONAL, "proportional"),
    (TEMPERATURE, "temperature"),
];

/// Mean relative error of a law on small models that it has not seen, per cent.
pub(super) const HELD_OUT: &str = "held-out-error";
/// The same on the design of the larger size.
pub(super) const LARGER: &str = "larger-size-error";
/// The weighted objective of a mixture at the larger size.
pub(super) const OBJECTIVE: &str = "objective";

/// What claims may measure: arms, and the series of each.
pub(super) const MEASURED: [(&str, &[&str]); 8] = [
    (LAW, &[HELD_OUT, LARGER]),
    (LAW_WITH_OTHERS, &[HELD_OUT, LARGER]),
    (TRANSFERRED, &[OBJECTIVE]),
    (OWN, &[OBJECTIVE]),
    (UNIFORM, &[OBJECTIVE]),
    (PROPORTIONAL, &[OBJECTIVE]),
    (TEMPERATURE, &[OBJECTIVE]),
    (BEST_OTHER, &[OBJECTIVE]),
];

/// Level of the tests of independence, over all families together.
pub(super) const LEVEL: f64 = 0.05;

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
    for arm in [LAW, LAW_WITH_OTHERS] {
        let laws = Laws::read(body, curves, arm);
        for (series, stage) in [(HELD_OUT, Stage::Check), (LARGER, Stage::Own)] {
            for seed in 0..experiment.seeds {
                add(arm, series, seed, laws.error(&models, stage, seed));
            }
        }
    }
    let objective = Objective::read(body, curves);
    let seeds: Vec<u64> = (0..experiment.seeds).collect();
    let of = |name: &str| -> Vec<f64> {
        seeds.iter().map(|&seed| objective.of(&models, name, seed)).collect()
    };
    let values: Vec<Vec<f64>> = COMPARED.iter().map(|(name, _)| of(name)).collect();
    for ((name, _), values) in COMPARED.iter().zip(&values) {
        seeds.iter().zip(values).for_each(|(&seed, &value)| add(name, OBJECTIVE, seed, value));
    }
    for (&seed, value) in seeds.iter().zip(best_other(&values[1..])) {
        add(BEST_OTHER, OBJECTIVE, seed, value);
    }
    derived
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

/// The law of every family, read back from a run.
pub(super) struct Laws<'a> {
    body: &'a MixtureConfig,
    with_others: bool,
    /// By family; empty where there is none.
    thetas: Vec<Vec<f64>>,
}

impl<'a> Laws<'a> {
    pub(super) fn read(body: &'a MixtureConfig, curves: &[Curve], arm: &str) -> Self {
        let with_others = arm == LAW_WITH_OTHERS;
        let kind = if with_others { "theta-with-others" } else { "theta" };
        let theta = |family: &super::FamilyConfig| {
            values(curves, LAW, &format!("{kind}/{}", family.name)).unwrap_or_default()
        };
        Self { body, with_others, thetas: body.families.iter().map(theta).collect() }
    }

    /// Loss of a family, nats per character, for a size, a horizon and a mixture; NaN where there is no law.
    pub(super) fn predict(&self, family: usize, (n, d): (f64, f64), shares: &[f64]) -> f64 {
        let names: Vec<String> =
            self.body.families.iter().map(|family| share_input(&family.name)).collect();
        let others = others(&names, family);
        let cross = if self.with_others { &others[..others.len() - 1] } else { &[] };
        let law = FittedScale::Many.law(&self.body.families[family].name, cross);
        let mut point = Observations::new("loss", vec![1.0])
            .with_input("n", vec![n])
            .with_input("d", vec![d])
            .with_input("p", vec![shares[family]]);
        for (name, &share) in names.iter().zip(shares) {
            point = point.with_input(name, vec![share]);
        }
        let theta = &self.thetas[family];
        match Design::new(&law, &point) {
            Ok(design) if theta.len() == law.parameters().len() => {
                predict_all(&law, theta, &design)[0]
            }
            _ => f64::NAN,
        }
    }

    /// Relative error of a family's prediction for one model, per cent.
    pub(super) fn error_of(&self, model: &Trained, family: usize) -> f64 {
        let Some(arm) = self.body.arm(&model.place.arm) else { return f64::NAN };
        let n = forerun_arch::n_non_embedding_params(&arm.model) as f64;
        let training = arm.training(model.place.tokens);
        let d = training.steps as f64 * training.batch_size as f64 * training.seq_len as f64;
        let predicted = self.predict(family, (n, d), &model.shares);
        100.0 * (predicted / model.losses[family] - 1.0)
    }

    /// Mean over models of a stage and seed, and over families, of the size of the error.
    fn error(&self, models: &[Trained], stage: Stage, seed: u64) -> f64 {
        let of = models.iter().filter(|model| (model.place.stage, model.seed) == (stage, seed));
        let families = 0..self.body.families.len();
        let errors: Vec<f64> = of
            .flat_map(|model| families.clone().map(|family| self.error_of(model, family).abs()))
            .collect();
        stats::mean(&errors)
    }
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
    pub(super) fn value(&self, losses: &[f64]) -> f64 {
        self.weights.iter().zip(losses).map(|(weight, loss)| weight * loss).sum()
    }

    /// Of a mixture that was carried to the larger size; NaN if it was not.
    pub(super) fn of(&self, models: &[Trained], mixture: &str, seed: u64) -> f64 {
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

/// The claim that a family's loss depends on its own share alone also has to stand the test of it.
pub(crate) fn reconsider(
    body: &MixtureConfig,
    claim: &Claim,
    curves: &[Curve],
    judgement: Judgement,
) -> Result<Judgement> {
    let of = |arm: &str| claim.measures().any(|measure| measure.arm == arm);
    if !(of(LAW) && of(LAW_WITH_OTHERS)) {
        return Ok(judgement);
    }
    let seen = &judgement.reason;
    let adjusted = values(curves, LAW, "independence/levels/p-holm").unwrap_or_default();
    let rejected: Vec<String> = body
        .families
        .iter()
        .zip(&adjusted)
        .filter(|(_, p)| **p < LEVEL)
        .map(|(family, p)| format!("{} (p = {p:.2e})", family.label))
        .collect();
    if !rejected.is_empty() {
        let reason = format!(
            "at equal own share the others' shares move the loss of {} (F-tests at {LEVEL} over all families, Holm); \
             for prediction: {seen}",
            rejected.join(", ")
        );
        return Ok(Judgement { verdict: Verdict::NotReproduced, reason, ..judgement });
    }
    if adjusted.is_empty() || adjusted.iter().any(|p| p.is_nan()) {
        let reason = format!(
            "the test of independence needs mixtures of two seeds or more; for prediction: {seen}"
        );
        return Ok(Judgement { verdict: Verdict::Inconclusive, reason, ..judgement });
    }
    let least = adjusted.iter().copied().fold(1.0, f64::min);
    let reason =
        format!("no F-test finds companions at equal own share (least p {least:.2}); {seen}");
    Ok(Judgement { reason, ..judgement })
}
