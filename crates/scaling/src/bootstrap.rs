//! The bootstrap: thousands of refits, each warm from the estimate and each carried to convergence.
//!
//! Published intervals came from refits that never re-converged; here a draw counts only where the solver met its
//! tolerance, and every so often a draw is searched as a fit of its own would be, to see whether the warm start missed a
//! better optimum. Both counts are part of the result.

mod refit;
mod sample;

use std::borrow::Borrow;

use ndarray::{Array2, ArrayView1};
use rand::{Rng, RngCore};
use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};
use crate::fit::{Fit, FitConfig, Prepared};
use crate::interval::{Interval, expanded_interval, mean_and_sd, tail_weight};
use crate::law::{Law, Scale};
use crate::observations::Observations;
use crate::quantity::Quantity;
use crate::solve::Problem;
use refit::Refit;
use sample::Sample;

/// What is drawn again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resampling {
    /// Points, with replacement; each keeps its weight.
    #[default]
    Pairs,
    /// Residuals, centred and scaled for the degrees of freedom, onto the fitted values.
    Residual,
    /// Whole groups of points ([`Observations::with_clusters`]), with replacement.
    Cluster,
}

/// How many draws, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapConfig {
    /// Draws.
    pub n_draws: usize,
    /// What is drawn.
    #[serde(default)]
    pub resampling: Resampling,
    /// Every so many draws, one is searched from cold starts of its own as well.
    pub recheck_every: usize,
}

impl Default for BootstrapConfig {
    /// 4,000 pairs, as Besiroglu et al. 2024; one draw in a hundred is checked.
    fn default() -> Self {
        Self { n_draws: 4000, resampling: Resampling::Pairs, recheck_every: 100 }
    }
}

/// Refitted parameters, and how far to trust them.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// One row a draw that counts, in the solver's scale: `[draws, parameters]`.
    pub theta: Array2<f64>,
    /// Which draw each row is, counted from 0, ascending: draws that failed are missing. Laws that are fitted to the same
    /// draws apart from each other go together by these numbers ([`common_draws`]).
    pub draws: Vec<usize>,
    /// The estimate that they surround, in the solver's scale.
    pub estimate: Vec<f64>,
    /// Draws that did not converge, and are left out.
    pub n_failed: usize,
    /// Draws with no more distinct points than there are free parameters, which fit exactly in many ways; left out.
    pub n_too_few: usize,
    /// Draws that converged and were searched from cold starts as well.
    pub n_checked: usize,
    /// Those among them for which a cold start found a lower objective; that one was kept.
    pub n_improved: usize,
    /// Times that the law was evaluated at all points of a draw.
    pub n_evaluations: usize,
    /// What a reader must know.
    pub warnings: Vec<String>,
    /// Degrees of freedom that intervals have: points less free parameters, or groups less 1 for the cluster bootstrap;
    /// as good as infinite for robust objectives.
    pub freedom: f64,
    /// By how much intervals are widened, as resampled data scatter less than data do: `√(n / (n - p))` for pairs under
    /// least squares.
    pub widen: f64,
}

/// A quantity's bootstrap distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The quantity.
    pub name: String,
    /// From the estimate itself.
    pub estimate: f64,
    /// Standard deviation of the draws.
    pub se: f64,
    /// 95 % interval: percentiles of the draws at a level that allows for few points ([`expanded_interval`]).
    pub ci95: Interval,
    /// [`tail_weight`]; beyond 1.5 the percentile interval is what counts, not the standard error.
    pub tail_weight: f64,
}

/// Refits `law` to resampled observations, from the optimum of `fit`.
///
/// # Errors
/// As [`crate::fit()`]; [`crate::Error::Config`] where the cluster bootstrap lacks groups.
pub fn bootstrap(
    law: &dyn Law,
    observations: &Observations,
    config: &FitConfig,
    fit: &Fit,
    draws: &BootstrapConfig,
    rng: &mut impl Rng,
) -> Result<Bootstrap> {
    // Behind a pointer, so that the loop is compiled with this crate and not with each caller.
    refit_all(law, observations, config, fit, draws, rng)
}

fn refit_all(
    law: &dyn Law,
    observations: &Observations,
    config: &FitConfig,
    fit: &Fit,
    settings: &BootstrapConfig,
    rng: &mut dyn RngCore,
) -> Result<Bootstrap> {
    ensure(settings.n_draws > 0, "n_draws", "positive", settings.n_draws)?;
    ensure(settings.recheck_every > 0, "recheck_every", "positive", settings.recheck_every)?;
    let prepared = Prepared::new(law, observations, config)?;
    let mut sample = Sample::new(law, &prepared, fit, settings.resampling)?;
    let mut refit = Refit::new(&prepared, fit);
    let (mut theta, mut draws) = (Vec::with_capacity(settings.n_draws * fit.theta.len()), vec![]);
    for draw in 0..settings.n_draws {
        sample.draw(&prepared, rng);
        let problem = Problem {
            design: &sample.design,
            log_target: &sample.log_target,
            weights: &sample.weights,
            ..prepared.problem(law, fit.objective)
        };
        if let Some(found) = refit.run(&problem, (draw + 1).is_multiple_of(settings.recheck_every))
        {
            theta.extend_from_slice(found);
            draws.push(draw);
        }
    }
    let (freedom, widen) = sample.few_points(&prepared, fit);
    let mut result = Bootstrap {
        theta: Array2::from_shape_vec((draws.len(), fit.theta.len()), theta).unwrap_or_default(),
        draws,
        estimate: fit.theta.clone(),
        n_failed: refit.n_failed,
        n_too_few: refit.n_too_few,
        n_checked: refit.n_checked,
        n_improved: refit.n_improved,
        n_evaluations: refit.n_evaluations(),
        warnings: vec![],
        freedom,
        widen,
    };
    result.warn(settings.n_draws);
    Ok(result)
}

/// The draws that all of these have, as their rows: one entry a draw, one row of each. For laws that were fitted apart
/// from each other to the same draws (one seed, as many points), whose failures may be different draws.
pub fn common_draws<B: Borrow<Bootstrap>>(all: &[B]) -> Vec<Vec<usize>> {
    let Some(first) = all.first() else { return vec![] };
    let rows = |draw: &usize| all.iter().map(|one| one.borrow().row_of(*draw)).collect();
    first.borrow().draws.iter().filter_map(rows).collect()
}

impl Bootstrap {
    /// Draws that count.
    pub fn n_draws(&self) -> usize {
        self.theta.nrows()
    }

    /// The row of [`Bootstrap::theta`] that holds a draw, counted from 0; `None` if that draw does not count.
    pub fn row_of(&self, draw: usize) -> Option<usize> {
        self.draws.binary_search(&draw).ok()
    }

    /// A quantity of each draw, natural values.
    pub fn values(&self, quantity: &Quantity) -> Vec<f64> {
        let of = |row: ArrayView1<f64>| quantity.natural(&row.to_vec());
        self.theta.outer_iter().map(of).collect()
    }

    /// A quantity's standard error and percentile interval.
    pub fn summary(&self, quantity: &Quantity) -> Summary {
        let values = self.values(quantity);
        let scaled: Vec<f64> = match quantity.scale() {
            Scale::Linear => values.clone(),
            Scale::Log => values.iter().map(|value| value.ln()).collect(),
        };
        Summary {
            name: quantity.name().to_owned(),
            estimate: quantity.natural(&self.estimate),
            se: mean_and_sd(&values).1,
            ci95: expanded_interval(&values, 0.95, self.freedom, self.widen),
            tail_weight: tail_weight(&scaled),
        }
    }

    /// Covariance of the draws in the solver's scale.
    pub fn covariance(&self) -> Array2<f64> {
        let n = self.theta.nrows() as f64;
        let columns: Vec<Vec<f64>> = self.theta.columns().into_iter().map(|c| c.to_vec()).collect();
        let means: Vec<f64> = columns.iter().map(|c| c.iter().sum::<f64>() / n).collect();
        Array2::from_shape_fn((columns.len(), columns.len()), |(i, j)| {
            let pairs = columns[i].iter().zip(&columns[j]);
            pairs.map(|(a, b)| (a - means[i]) * (b - means[j])).sum::<f64>() / (n - 1.)
        })
    }

    fn warn(&mut self, n_draws: usize) {
        if self.n_failed > 0 {
            let text =
                format!("{} of {n_draws} draws did not converge and are left out", self.n_failed);
            self.warnings.push(text);
        }
        if self.n_too_few > 0 {
            self.warnings.push(format!(
                "{} of {n_draws} draws have no more distinct points than the law has free parameters and are left out: \
                 intervals leave out what these would have said",
                self.n_too_few
            ));
        }
        if 50 * self.n_improved > self.n_checked {
            self.warnings.push(format!(
                "of {} draws that were fitted from cold starts too, {} ended lower: the law has several optima here, \
                 and intervals may be too narrow",
                self.n_checked, self.n_improved
            ));
        }
    }
}

#[cfg(test)]
mod tests;
