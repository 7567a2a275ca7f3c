//! What a run found, in the form in which words, tables and figures want it.

use std::collections::BTreeMap;

use forerun_runs::results::Row;
use forerun_runs::stats;
use serde_json::Value;

use crate::multilingual::MixtureConfig;
use crate::multilingual::companions::Companions;
use crate::multilingual::place::{SHARE, Stage, Trained, trained};
use crate::multilingual::predictions::{Predictions, Predictor};
use crate::multilingual::verdicts::{
    COMPARED, LAW, OWN_LAW, Objective, TRANSFERRED, best_but, values,
};
use crate::outcome::Outcome;
use crate::report_parts::Mean;

/// What a fit found.
pub(super) struct Found {
    /// By family, as all that follows.
    pub(super) shares: Vec<f64>,
    pub(super) low: Vec<f64>,
    pub(super) high: Vec<f64>,
    pub(super) gamma: Vec<f64>,
    pub(super) gamma_low: Vec<f64>,
    pub(super) gamma_high: Vec<f64>,
    /// Loss at a share of 1, nats per character.
    pub(super) alone: Vec<f64>,
    /// Models that it was fitted to.
    pub(super) n_models: u64,
    pub(super) warnings: Vec<String>,
}

/// One test of independence, by family.
pub(super) struct Test {
    pub(super) f: Vec<f64>,
    pub(super) freedom: Vec<f64>,
    pub(super) p: Vec<f64>,
    pub(super) p_holm: Vec<f64>,
    pub(super) r2_own: Vec<f64>,
    pub(super) r2_all: Vec<f64>,
}

/// Models that no law was fitted to.
pub(super) struct HeldOut<'a> {
    pub(super) label: String,
    pub(super) models: Vec<&'a Trained>,
}

/// Everything that a report speaks of.
pub(super) struct Findings<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) body: &'a MixtureConfig,
    pub(super) models: Vec<Trained>,
    /// The fit to small models, and to the larger size; none where it failed.
    pub(super) small: Option<Found>,
    pub(super) own: Option<Found>,
    pub(super) predictions: Predictions<'a>,
    pub(super) companions: Option<Companions>,
    /// By compared mixture and seed; NaN where it was not trained to the end.
    objectives: Vec<Vec<f64>>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(outcome: &'a Outcome, body: &'a MixtureConfig) -> Self {
        let curves = &outcome.curves;
        let models = trained(curves);
        Self {
            outcome,
            body,
            small: found(outcome, LAW),
            own: found(outcome, OWN_LAW),
            predictions: Predictions::read(body, curves, &models),
            companions: Companions::read(body, curves),
            objectives: Objective::read(body, curves).by_mixture(&models, outcome.experiment.seeds),
            models,
        }
    }

    pub(super) fn of(&self, stage: Stage) -> impl Iterator<Item = &Trained> {
        self.models.iter().filter(move |model| model.place.stage == stage)
    }

    /// The test of the small models: `line` or `levels`.
    pub(super) fn test(&self, kind: &str) -> Option<Test> {
        let of =
            |what: &str| values(&self.outcome.curves, LAW, &format!("independence/{kind}/{what}"));
        Some(Test {
            f: of("f")?,
            freedom: of("df-2")?,
            p: of("p")?,
            p_holm: of("p-holm")?,
            r2_own: of("r2-own")?,
            r2_all: of("r2-all")?,
        })
    }

    /// The objective of a compared mixture, one value a seed; NaN where it was not trained to the end.
    pub(super) fn objectives(&self, mixture: &str) -> &[f64] {
        let place = COMPARED.iter().position(|(name, _)| *name == mixture);
        place.and_then(|place| self.objectives.get(place)).map_or(&[], Vec::as_slice)
    }

    /// Everything that laws are held against.
    pub(super) fn held_out(&self) -> Vec<HeldOut<'_>> {
        let body = self.body;
        let arm = |name: &str| body.arm(name).map_or("", |arm| arm.label.as_str());
        let mut sets = Vec::new();
        for check in &body.checks {
            let is = |model: &&Trained| {
                (&model.place.arm, model.place.tokens) == (&check.arm, check.tokens)
            };
            let label = format!("{}, {}", check.label, arm(&check.arm));
            sets.push(HeldOut { label, models: self.of(Stage::Check).filter(is).collect() });
        }
        let larger = arm(&body.transfer.arm);
        for (stage, what) in
            [(Stage::Transfer, "compared mixtures"), (Stage::Own, "the design's mixtures")]
        {
            let label = format!("{what}, {larger}");
            sets.push(HeldOut { label, models: self.of(stage).collect() });
        }
        sets
    }

    /// Losses of a compared mixture and a family, one a seed.
    pub(super) fn losses(&self, mixture: &str, family: usize) -> Vec<f64> {
        self.of(Stage::Transfer)
            .filter(|model| model.place.mixture == mixture)
            .map(|model| model.losses[family])
            .collect()
    }

    /// The shares of a compared mixture, as it was trained; none if it was not.
    pub(super) fn shares(&self, mixture: &str) -> Option<&[f64]> {
        let is = |model: &&Trained| model.place.mixture == mixture;
        Some(self.of(Stage::Transfer).find(is)?.shares.as_slice())
    }

    /// By how much a mixture's objective lies above the transferred one's, per cent, paired by seed.
    pub(super) fn above_transferred(&self, mixture: &str) -> Mean {
        ratio(self.objectives(mixture), self.objectives(TRANSFERRED))
    }

    /// By how much a mixture's objective lies above that of the best other, per cent. For each seed the best is chosen by
    /// the other seeds.
    pub(super) fn regret_of(&self, mixture: &str) -> Mean {
        ratio(self.objectives(mixture), &best_but(mixture, &self.objectives))
    }

    /// That of the transferred mixture.
    pub(super) fn regret(&self) -> Option<Mean> {
        let regret = self.regret_of(TRANSFERRED);
        regret.value.is_finite().then_some(regret)
    }

    /// The compared mixture with the lowest mean objective.
    pub(super) fn winner(&self) -> Option<(&'static str, f64)> {
        let means =
            COMPARED.iter().map(|(name, label)| (*label, stats::mean(self.objectives(name))));
        means.filter(|found| found.1.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Mean relative error of the law for a family, with its sign, per cent.
    pub(super) fn bias(&self, models: &[&Trained], family: usize) -> f64 {
        let error = |model: &&Trained| self.predictions.error(Predictor::Law, model, family);
        let errors = models.iter().map(error).filter(|error| error.is_finite());
        stats::mean(&errors.collect::<Vec<f64>>())
    }

    /// Non-embedding parameters of a size, and tokens of a horizon in whole updates.
    pub(super) fn size(&self, arm: &str, tokens: u64) -> (f64, f64) {
        let Some(arm) = self.body.arm(arm) else { return (f64::NAN, f64::NAN) };
        (arm.n_params(), arm.n_tokens(tokens))
    }

    /// How often the text of a family was read in the training that read it most.
    pub(super) fn most_epochs(&self, family: usize) -> f64 {
        let column = format!("epochs_{}", self.body.families[family].name);
        let epochs = self.outcome.rows.iter().filter_map(|row| row.get(&column)?.as_f64());
        epochs.fold(f64::NAN, f64::max)
    }
}

fn ratio(a: &[f64], b: &[f64]) -> Mean {
    Mean::of(&a.iter().zip(b).map(|(a, b)| 100.0 * (a / b - 1.0)).collect::<Vec<f64>>())
}

fn found(outcome: &Outcome, arm: &str) -> Option<Found> {
    let of = |series: &str| values(&outcome.curves, arm, series);
    let fit: BTreeMap<String, Value> = outcome.rows_of(arm, "fit").next().cloned()?;
    let steps = ["fit", "assess"].into_iter().flat_map(|step| outcome.rows_of(arm, step));
    let warnings: Vec<String> = steps.map(|row| word(row, "warnings")).collect();
    let warnings = warnings.iter().flat_map(|text| text.split("; "));
    Some(Found {
        shares: of(SHARE)?,
        low: of("share-low")?,
        high: of("share-high")?,
        gamma: of("gamma")?,
        gamma_low: of("gamma-low")?,
        gamma_high: of("gamma-high")?,
        alone: of("loss-alone")?,
        n_models: fit.get("n_models").and_then(Value::as_u64).unwrap_or(0),
        warnings: warnings.filter(|text| !text.is_empty()).map(str::to_owned).collect(),
    })
}

fn word(row: &Row, name: &str) -> String {
    row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
