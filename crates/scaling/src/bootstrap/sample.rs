//! One draw: which points, how often, with which targets; all memory is reused.

use std::collections::BTreeMap;

use rand::{Rng, RngCore};

use super::Resampling;
use crate::distribution::normal_quantile;
use crate::error::{Result, ensure};
use crate::fit::{Fit, Prepared};
use crate::law::{Design, Law};

/// Degrees of freedom with which Student's distribution is as good as normal.
const MANY: f64 = 1e6;

/// A resampled data set. A point that was drawn twice is there once, with twice its weight.
pub(super) struct Sample {
    resampling: Resampling,
    pub(super) design: Design,
    pub(super) log_target: Vec<f64>,
    pub(super) weights: Vec<f64>,
    counts: Vec<f64>,
    /// Points that were drawn.
    drawn: Vec<usize>,
    /// Points of each group.
    groups: Vec<Vec<usize>>,
    /// Predictions, and residuals to put onto them, on the scale on which the objective has them.
    fitted: Vec<f64>,
    residuals: Vec<f64>,
    is_level: bool,
    /// What all targets of the draw are moved by, in standard errors.
    shared: f64,
}

impl Sample {
    pub(super) fn new(
        law: &dyn Law,
        prepared: &Prepared,
        fit: &Fit,
        resampling: Resampling,
    ) -> Result<Self> {
        let n = prepared.rows.len();
        let groups = match (&prepared.clusters, resampling) {
            (Some(clusters), Resampling::Cluster) => group(clusters),
            (clusters, _) => {
                let ok = clusters.is_some() || resampling != Resampling::Cluster;
                ensure(ok, "clusters", "given for the cluster bootstrap", "none")?;
                vec![]
            }
        };
        let is_level = fit.objective.is_level();
        let mut fitted = vec![0.; n];
        let mut scratch = vec![0.; law.n_scratch() * n];
        law.log_predict(&fit.theta, &prepared.design, &mut scratch, &mut fitted);
        if is_level {
            fitted.iter_mut().for_each(|value| *value = value.exp());
        }
        Ok(Self {
            resampling,
            design: prepared.design.clone(),
            log_target: prepared.log_target.clone(),
            weights: prepared.weights.clone(),
            counts: vec![0.; n],
            drawn: Vec::with_capacity(n),
            groups,
            fitted,
            residuals: studentised(&fit.residuals, &prepared.weights, fit.n_free),
            is_level,
            shared: 0.,
        })
    }

    /// Draws anew.
    pub(super) fn draw(&mut self, prepared: &Prepared, rng: &mut dyn RngCore) {
        let n = self.counts.len();
        if prepared.shared_error.is_some() {
            self.shared = normal_quantile(rng.random_range(1e-12..1.));
        }
        match self.resampling {
            Resampling::Pairs => {
                self.counts.fill(0.);
                for _ in 0..n {
                    self.counts[rng.random_range(0..n)] += 1.;
                }
                self.gather(prepared);
            }
            Resampling::Cluster => {
                self.counts.fill(0.);
                for _ in 0..self.groups.len() {
                    for &point in &self.groups[rng.random_range(0..self.groups.len())] {
                        self.counts[point] += 1.;
                    }
                }
                self.gather(prepared);
            }
            Resampling::Residual => {
                for point in 0..n {
                    let weight = prepared.weights[point].max(f64::MIN_POSITIVE);
                    let residual = self.residuals[rng.random_range(0..n)] / weight.sqrt();
                    let target = self.fitted[point] - residual;
                    self.log_target[point] = match self.is_level {
                        true => target.max(1e-6 * self.fitted[point]).ln(),
                        false => target,
                    };
                    self.log_target[point] += self.shift(prepared, point);
                }
            }
        }
    }

    /// Degrees of freedom of intervals, and by how much draws scatter less than samples do.
    ///
    /// Robust fits to few points scatter more over draws of points than over samples, as points are repeated: there
    /// nothing is widened. Their residuals are another matter, as many of them are zero.
    pub(super) fn few_points(&self, prepared: &Prepared, fit: &Fit) -> (f64, f64) {
        let p = fit.n_free as f64;
        let points: f64 = prepared.weights.iter().sum();
        let freedom = (points - p).max(1.);
        let is_square = fit.objective.is_square();
        match self.resampling {
            Resampling::Residual if !is_square => (freedom, (points / freedom).sqrt()),
            Resampling::Residual => (freedom, 1.),
            _ if !is_square => (MANY, 1.),
            Resampling::Pairs => (freedom, (points / freedom).sqrt()),
            Resampling::Cluster => {
                let groups = self.groups.len() as f64;
                let of_groups = (groups - 1.).max(1.);
                (of_groups.min(freedom), (groups / of_groups).sqrt())
            }
        }
    }

    /// What the draw's shared error does to the logarithm of a target.
    fn shift(&self, prepared: &Prepared, point: usize) -> f64 {
        prepared.shared_error.as_ref().map_or(0., |shifts| self.shared * shifts[point])
    }

    /// The points that were drawn, side by side.
    fn gather(&mut self, prepared: &Prepared) {
        self.drawn.clear();
        self.drawn.extend((0..self.counts.len()).filter(|&point| self.counts[point] > 0.));
        let drawn = &self.drawn;
        let pick = |from: &[f64], to: &mut Vec<f64>| {
            to.clear();
            to.extend(drawn.iter().map(|&point| from[point]));
        };
        pick(&prepared.weights, &mut self.weights);
        self.weights.iter_mut().zip(drawn).for_each(|(w, &point)| *w *= self.counts[point]);
        pick(&prepared.log_target, &mut self.log_target);
        if let Some(shifts) = &prepared.shared_error {
            let pairs = self.log_target.iter_mut().zip(drawn);
            pairs.for_each(|(y, &point)| *y += self.shared * shifts[point]);
        }
        for (column, all) in self.design.columns.iter_mut().zip(&prepared.design.columns) {
            pick(all, column);
        }
        self.design.n_points = drawn.len();
    }
}

/// Points of each group, in the order in which groups first appear.
fn group(clusters: &[usize]) -> Vec<Vec<usize>> {
    let mut known = BTreeMap::new();
    let mut groups: Vec<Vec<usize>> = vec![];
    for (point, name) in clusters.iter().enumerate() {
        let index = *known.entry(name).or_insert(groups.len());
        if index == groups.len() {
            groups.push(vec![]);
        }
        groups[index].push(point);
    }
    groups
}

/// Residuals of unit weight, centred, with the variance that the lost degrees of freedom took.
fn studentised(residuals: &[f64], weights: &[f64], n_free: usize) -> Vec<f64> {
    let n = residuals.len() as f64;
    let inflate = (n / (n - n_free as f64).max(1.)).sqrt();
    let scaled: Vec<f64> = residuals.iter().zip(weights).map(|(r, w)| r * w.sqrt()).collect();
    let mean = scaled.iter().sum::<f64>() / n;
    scaled.iter().map(|r| inflate * (r - mean)).collect()
}

#[cfg(test)]
mod tests;
