//! The cell that fits the law of every family to trained models and finds the best mixture.
//!
//! Larger models are trained on what it finds, so that its task holds nothing that does not move that mixture: how far
//! the laws are to be trusted is for another cell (`assess.rs`), which nothing waits for.

use std::collections::BTreeMap;

use anyhow::Result;
use forerun_scaling::mixture::Mixture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::laws::{FamilyFit, Fitted, Form, Model};
use super::place::{LOSS, SHARE};
use super::train::{by_family, owned};
use crate::cell::{CellResult, MemberResult, Series};
use crate::training_log::series;
use crate::worker::{End, Work, needed_result};

/// What is said of a family whose share is at its cap.
pub(super) const CAPPED: &str = "the share is what the text lasts for, not what would be best";

/// Laws to fit to the models of the cells that are needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitMixture {
    /// What is fitted.
    pub fitted: Fitted,
}

/// All that a fit finds.
pub(super) struct Found {
    pub(super) families: Vec<FamilyFit>,
    pub(super) best: Mixture,
}

/// Fits; one that is stopped starts again.
pub(crate) fn run(task: &FitMixture, work: &Work<'_>) -> Result<End> {
    let models = models(work)?;
    Ok(End::Result(match find(&task.fitted, &models) {
        Ok(found) => tell(&task.fitted, &models, &found),
        // Too few models came to their end, or no loss falls with its share: that is a result.
        Err(error) => unidentified(&error),
    }))
}

/// Every model that the needed cells trained to its end.
pub(super) fn models(work: &Work<'_>) -> Result<Vec<Model>> {
    let mut models = Vec::new();
    for need in 0..work.cell.needs.len() {
        let trained = needed_result(&work.needed(need)?)?;
        models.extend(trained.members.iter().filter_map(|member| model(need, &trained, member)));
    }
    Ok(models)
}

/// A member with its losses; none if it did not come to its end.
fn model(stack: usize, trained: &CellResult, member: &MemberResult) -> Option<Model> {
    let number = |row: &BTreeMap<String, Value>, name: &str| row.get(name)?.as_f64();
    let curve = |name: &str| -> Option<Vec<f64>> {
        let series = member.series.iter().find(|series| series.name == name)?;
        series.y.iter().copied().collect()
    };
    Some(Model {
        stack,
        n_params: number(&trained.row, "n_non_embedding_params")?,
        n_tokens: number(&member.row, "n_tokens")?,
        shares: curve(SHARE)?,
        losses: curve(LOSS)?,
    })
}

/// The law of every family, and the best mixture.
pub(super) fn find(fitted: &Fitted, models: &[Model]) -> Result<Found> {
    let families = fitted.laws(models)?;
    let thetas: Vec<&[f64]> = families.iter().map(|family| family.fit.theta.as_slice()).collect();
    let best = fitted.mixture(&families, &thetas)?;
    Ok(Found { families, best })
}

fn warnings(fitted: &Fitted, found: &Found) -> Vec<String> {
    let mut by_text: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (index, family) in fitted.families.iter().enumerate() {
        let mut add = |text: String| by_text.entry(text).or_default().push(&family.name);
        found.families[index].fit.warnings.iter().cloned().for_each(&mut add);
        if found.best.shares[index] == 0.0 {
            add("the loss does not fall with the share".to_owned());
        }
        if found.best.shares[index] >= family.cap * (1.0 - 1e-9) {
            add(format!("{CAPPED}, {:.3}", family.cap));
        }
    }
    let warnings = by_text.into_iter().map(|(text, names)| format!("{}: {text}", names.join(", ")));
    warnings.collect()
}

/// What a run keeps of it.
pub(super) fn tell(fitted: &Fitted, models: &[Model], found: &Found) -> CellResult {
    let at = (fitted.at_params, fitted.at_tokens);
    let of = |value: &dyn Fn(&FamilyFit) -> f64| -> Vec<f64> {
        found.families.iter().map(value).collect()
    };
    let mut curves = vec![
        by_family(SHARE, &found.best.shares),
        by_family("gamma", &of(&|family| family.fit.theta[family.law.gamma_index()])),
        by_family("loss-alone", &of(&|f| f.law.scale_factor(&f.fit.theta, at.0, at.1))),
    ];
    for (family, law) in fitted.families.iter().zip(&found.families) {
        curves.push(parameters(Form::OwnShare, &family.name, &law.fit.theta));
    }
    let row = BTreeMap::from([
        ("outcome", json!("finished")),
        ("n_models", json!(models.len())),
        ("objective", json!(found.best.objective)),
        ("warnings", json!(warnings(fitted, found).join("; "))),
    ]);
    CellResult { row: owned(row), series: curves, ..CellResult::default() }
}

/// A law's parameters in the solver's scale, over their places.
pub(super) fn parameters(form: Form, family: &str, theta: &[f64]) -> Series {
    let points = theta.iter().enumerate().map(|(index, &value)| (index as f64, value));
    series(&format!("{}/{family}", form.series()), points.collect())
}

pub(super) fn unidentified(error: &anyhow::Error) -> CellResult {
    let row = BTreeMap::from([("outcome", json!(format!("no mixture: {error:#}")))]);
    CellResult { row: owned(row), ..CellResult::default() }
}

/// The mixture that a cell of this kind found; none if it found none.
pub(super) fn best_shares(fitted: &CellResult) -> Option<Vec<f64>> {
    let series = fitted.series.iter().find(|series| series.name == SHARE)?;
    series.y.iter().copied().collect()
}
