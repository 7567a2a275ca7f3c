//! From observations to the columns that the solver works on, without the points that the outlier rule drops.

use crate::error::{Error, Result, ensure};
use crate::fit::{Fit, FitConfig, search};
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
    /// The points that are left, as indices of the caller's.
    pub(crate) used: Vec<usize>,
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

    /// Whether residuals are rounding alone.
    pub(crate) fn is_exact(&self, fit: &Fit) -> bool {
        let is_small = |(residual, log_target): (&f64, &f64)| match fit.objective.is_level() {
            true => residual.abs() < EXACT * log_target.exp(),
            false => residual.abs() < EXACT,
        };
        fit.residuals.iter().zip(&self.log_target).all(is_small)
    }

    /// The others than these, which ascend.
    ///
    /// Weights say how exact a point is beside the others, no more: their mean is made 1.
    fn without(self, points: &[usize]) -> Self {
        let mut rest = if points.is_empty() {
            self
        } else {
            let others = (0..self.rows.len()).filter(|point| points.binary_search(point).is_err());
            self.select(&others.collect::<Vec<usize>>())
        };
        rest.weights = relative(rest.weights);
        rest
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
            used: pick_index(&self.used),
            rows: pick_index(&self.rows),
            map: self.map.clone(),
        }
    }
}

/// Relative residuals below this are rounding: sums of powers of counts of some 1e9, in doubles.
const EXACT: f64 = 1e-10;

/// Weights with a mean of 1; equal ones become exactly that.
pub(crate) fn relative(weights: Vec<f64>) -> Vec<f64> {
    let largest = weights.iter().copied().fold(0., f64::max);
    let sum: f64 = weights.iter().map(|weight| weight / largest).sum();
    let mean = sum / weights.len() as f64;
    weights.into_iter().map(|weight| weight / largest / mean).collect()
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
        used: (0..observations.len()).collect(),
        rows: observations.rows().to_vec(),
        map: FreeMap::new(law, &config.constraints)?,
    };
    let weightless: Vec<usize> = (0..all.rows.len()).filter(|&i| all.weights[i] == 0.).collect();
    let all = all.without(&weightless);
    let mut outside = outside(law, &all, config)?;
    let out: Vec<usize> = outside.iter().map(|(point, _)| *point).collect();
    // From here on as the caller numbers them.
    outside.iter_mut().for_each(|(point, _)| *point = all.used[*point]);
    let prepared = all.without(&out);
    let (points, parameters) = (prepared.rows.len(), prepared.map.n_free());
    if points <= parameters {
        return Err(Error::TooFewPoints { law: law.name(), points, parameters });
    }
    outside.extend(weightless.into_iter().map(|point| (point, "its weight is 0".to_owned())));
    outside.sort_by_key(|(point, _)| *point);
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
