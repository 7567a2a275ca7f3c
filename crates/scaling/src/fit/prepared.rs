//! From observations to the columns that the solver works on, without the points that the outlier rule drops.

use crate::error::{Error, Result, ensure};
use crate::fit::{FitConfig, search};
use crate::law::{Design, Law};
use crate::objective::{Dropped, Objective, OutlierRule};
use crate::observations::Observations;
use crate::solve::{FreeMap, Problem};

/// Checked observations in the solver's form.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) design: Design,
    pub(crate) log_target: Vec<f64>,
    pub(crate) weights: Vec<f64>,
    pub(crate) clusters: Option<Vec<usize>>,
    pub(crate) shared_error: Option<Vec<f64>>,
    pub(crate) rows: Vec<usize>,
    pub(crate) map: FreeMap,
}

impl Prepared {
    /// As a fit sees the observations.
    pub(crate) fn new(
        law: &dyn Law,
        observations: &Observations,
        config: &FitConfig,
    ) -> Result<Self> {
        prepare(law, observations, config).map(|(prepared, _)| prepared)
    }

    pub(crate) fn problem<'a>(&'a self, law: &'a dyn Law, objective: Objective) -> Problem<'a> {
        Problem {
            law,
            design: &self.design,
            log_target: &self.log_target,
            weights: &self.weights,
            objective,
            map: &self.map,
            pull: None,
        }
    }

    pub(crate) fn select(&self, points: &[usize]) -> Self {
        let pick = |values: &[f64]| points.iter().map(|&i| values[i]).collect();
        let pick_index =
            |values: &[usize]| -> Vec<usize> { points.iter().map(|&i| values[i]).collect() };
        Self {
            design: self.design.select(points),
            log_target: pick(&self.log_target),
            weights: pick(&self.weights),
            clusters: self.clusters.as_deref().map(pick_index),
            shared_error: self.shared_error.as_deref().map(pick),
            rows: pick_index(&self.rows),
            map: self.map.clone(),
        }
    }
}

/// Checks everything and applies the outlier rule.
pub(crate) fn prepare(
    law: &dyn Law,
    observations: &Observations,
    config: &FitConfig,
) -> Result<(Prepared, Vec<Dropped>)> {
    config.objective.check()?;
    observations.check()?;
    let weights = match observations.weights() {
        Some(weights) => weights.to_vec(),
        None => vec![1.; observations.len()],
    };
    let all = Prepared {
        design: Design::new(law, observations)?,
        log_target: observations.target().iter().map(|target| target.ln()).collect(),
        weights,
        clusters: observations.clusters().map(<[usize]>::to_vec),
        shared_error: observations.shared_error().map(<[f64]>::to_vec),
        rows: observations.rows().to_vec(),
        map: FreeMap::new(law, &config.constraints)?,
    };
    let outside = outside(law, &all, config)?;
    let is_out = |point: usize| outside.iter().any(|(out, _)| *out == point);
    let kept: Vec<usize> = (0..observations.len()).filter(|&point| !is_out(point)).collect();
    let prepared = if outside.is_empty() { all } else { all.select(&kept) };
    let used = prepared.weights.iter().filter(|&&weight| weight > 0.).count();
    let parameters = prepared.map.n_free();
    if used <= parameters {
        return Err(Error::TooFewPoints { law: law.name(), points: used, parameters });
    }
    let dropped = outside.into_iter().map(|(point, reason)| Dropped {
        row: observations.rows()[point],
        target: observations.target()[point],
        reason,
    });
    Ok((prepared, dropped.collect()))
}

/// Points that the rule drops, each with its reason.
fn outside(law: &dyn Law, all: &Prepared, config: &FitConfig) -> Result<Vec<(usize, String)>> {
    match config.outliers {
        OutlierRule::Keep => Ok(vec![]),
        OutlierRule::DropHighest(k) => {
            ensure(
                k < all.rows.len(),
                "outliers",
                format!("fewer than {} points", all.rows.len()),
                k,
            )?;
            let mut order: Vec<usize> = (0..all.rows.len()).collect();
            order.sort_by(|&i, &j| all.log_target[j].total_cmp(&all.log_target[i]));
            let mut points: Vec<usize> = order.into_iter().take(k).collect();
            points.sort_unstable();
            let reason = format!("one of the {k} highest targets");
            Ok(points.into_iter().map(|point| (point, reason.clone())).collect())
        }
        OutlierRule::ResidualBeyond(limit) => {
            ensure(limit > 0. && limit.is_finite(), "outliers", "a positive limit", limit)?;
            let robust = search::fit_prepared(law, all, Objective::Lad, vec![], &[])?;
            let mut sizes: Vec<f64> = robust.residuals.iter().map(|r| r.abs()).collect();
            sizes.sort_by(f64::total_cmp);
            let scale = 1.4826 * crate::interval::quantile(&sizes, 0.5);
            let beyond = robust.residuals.iter().enumerate();
            let beyond = beyond.filter(|(_, r)| scale > 0. && r.abs() > limit * scale);
            let reason =
                |r: &f64| format!("{:.1} robust standard deviations from a LAD fit", r / scale);
            Ok(beyond.map(|(point, r)| (point, reason(r))).collect())
        }
    }
}
