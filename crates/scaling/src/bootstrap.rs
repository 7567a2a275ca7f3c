//! The bootstrap: thousands of refits, each warm from the estimate and each carried to convergence.
//!
//! Published intervals came from refits that never re-converged; here a draw counts only where the solver met its
//! tolerance, and every so often a draw is fitted again from cold starts to see whether the warm one missed a better
//! optimum. Both counts are part of the result.

mod sample;

use ndarray::{Array2, ArrayView1};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};
use crate::fit::{Fit, FitConfig, Prepared};
use crate::interval::{Interval, expanded_interval, mean_and_sd, tail_weight};
use crate::law::{Law, Scale};
use crate::observations::Observations;
use crate::quantity::Quantity;
use crate::solve::{Problem, Stop, Workspace, minimise};
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
    /// Every so many draws, one is fitted from cold starts as well.
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
    /// One row a draw that converged, in the solver's scale: `[draws, parameters]`.
    pub theta: Array2<f64>,
    /// The estimate that they surround, in the solver's scale.
    pub estimate: Vec<f64>,
    /// Draws that did not converge, and are left out.
    pub n_failed: usize,
    /// Draws that were fitted from cold starts as well.
    pub n_checked: usize,
    /// Those among them for which a cold start found a lower objective; that one was kept.
    pub n_improved: usize,
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
    ensure(draws.n_draws > 0, "n_draws", "positive", draws.n_draws)?;
    ensure(draws.recheck_every > 0, "recheck_every", "positive", draws.recheck_every)?;
    let prepared = Prepared::new(law, observations, config)?;
    let mut sample = Sample::new(law, &prepared, fit, draws.resampling)?;
    let mut refit = Refit::new(law, &prepared, fit);
    let mut theta = Vec::with_capacity(draws.n_draws * fit.theta.len());
    for draw in 0..draws.n_draws {
        sample.draw(&prepared, rng);
        let problem = Problem {
            design: &sample.design,
            log_target: &sample.log_target,
            weights: &sample.weights,
            ..prepared.problem(law, fit.objective)
        };
        if refit.run(&problem, (draw + 1).is_multiple_of(draws.recheck_every)) {
            theta.extend_from_slice(&refit.ws.theta);
        }
    }
    let (p, kept) = (fit.theta.len(), theta.len() / fit.theta.len());
    let theta = Array2::from_shape_vec((kept, p), theta).unwrap_or_default();
    let (freedom, widen) = sample.few_points(&prepared, fit);
    let Refit { n_failed, n_checked, n_improved, .. } = refit;
    let mut result = Bootstrap {
        theta,
        estimate: fit.theta.clone(),
        n_failed,
        n_checked,
        n_improved,
        warnings: vec![],
        freedom,
        widen,
    };
    result.warn(draws.n_draws);
    Ok(result)
}

/// The solver with what it starts from.
struct Refit<'a> {
    ws: Workspace,
    /// Optima that may win on other draws, best first.
    warm: Vec<Vec<f64>>,
    cold: Vec<Vec<f64>>,
    prepared: &'a Prepared,
    best: Vec<f64>,
    n_failed: usize,
    n_checked: usize,
    n_improved: usize,
}

impl<'a> Refit<'a> {
    fn new(law: &dyn Law, prepared: &'a Prepared, fit: &Fit) -> Self {
        let near = |objective: f64| objective <= 1.1 * fit.objective_value;
        let rivals = fit.optima.iter().filter(|optimum| near(optimum.objective));
        let reduce = |theta: &Vec<f64>| prepared.map.reduce(theta);
        let mut warm: Vec<Vec<f64>> =
            rivals.take(3).map(|optimum| reduce(&optimum.theta)).collect();
        if warm.is_empty() {
            warm.push(reduce(&fit.theta));
        }
        let cold = law.starts(&prepared.design, &prepared.log_target, &prepared.weights);
        let cold = cold.iter().map(reduce).collect();
        let (ws, best) = (Workspace::default(), vec![]);
        Self { ws, warm, cold, prepared, best, n_failed: 0, n_checked: 0, n_improved: 0 }
    }

    /// Solves one draw; its parameters are in the workspace if this is true.
    fn run(&mut self, problem: &Problem, is_checked: bool) -> bool {
        let mut objective = f64::INFINITY;
        for start in 0..self.warm.len() {
            self.ws.free.clone_from(&self.warm[start]);
            let mut outcome = minimise(problem, &mut self.ws, Stop::WARM);
            if !outcome.converged {
                outcome = minimise(problem, &mut self.ws, Stop::COLD);
            }
            if outcome.converged && outcome.objective < objective {
                objective = outcome.objective;
                self.best.clone_from(&self.ws.free);
            }
        }
        if is_checked || !objective.is_finite() {
            self.n_checked += 1;
            let warm = objective;
            for start in 0..self.cold.len() {
                self.ws.free.clone_from(&self.cold[start]);
                let outcome = minimise(problem, &mut self.ws, Stop::COLD);
                if outcome.converged && outcome.objective < objective * (1. - 1e-6) {
                    objective = outcome.objective;
                    self.best.clone_from(&self.ws.free);
                }
            }
            self.n_improved += usize::from(objective < warm && warm.is_finite());
        }
        if !objective.is_finite() {
            self.n_failed += 1;
            return false;
        }
        self.prepared.map.expand(&self.best, &mut self.ws.theta);
        true
    }
}

impl Bootstrap {
    /// Draws that count.
    pub fn n_draws(&self) -> usize {
        self.theta.nrows()
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
