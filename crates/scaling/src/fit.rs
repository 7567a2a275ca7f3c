//! Fitting a law: check, leave out, start many times, keep every optimum that was found.

mod covariance;
mod prepared;
mod search;

use ndarray::{Array1, Array2, ArrayView1};
use serde::{Deserialize, Serialize};

pub(crate) use covariance::{density_at_zero, huber_moments};
pub(crate) use prepared::{Prepared, relative};
pub(crate) use search::search;

use crate::distribution::student_quantile;
use crate::error::Result;
use crate::interval::Interval;
use crate::law::{Law, Parameter};
use crate::objective::{Constraint, Dropped, Objective, OutlierRule};
use crate::observations::Observations;
use crate::quantity::Quantity;

/// What to minimise, over which points, under which constraints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// The objective.
    pub objective: Objective,
    /// Points to leave out.
    #[serde(default)]
    pub outliers: OutlierRule,
    /// Ties and fixed values.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
}

impl Default for FitConfig {
    /// Hoffmann et al. 2022, approach 3: Huber with delta 1e-3 on the log loss, all points.
    fn default() -> Self {
        Self::new(Objective::HUBER)
    }
}

impl FitConfig {
    /// All points, no constraints.
    pub fn new(objective: Objective) -> Self {
        Self { objective, outliers: OutlierRule::Keep, constraints: vec![] }
    }
}

/// A local optimum that was found, and how many starts led there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// The objective there.
    pub objective: f64,
    /// Parameters in the solver's scale.
    pub theta: Vec<f64>,
    /// Starts that led there: those searched from, and those in one valley with them ([`Law::valleys`]). None where it was
    /// found by walking on from another optimum.
    pub starts: usize,
}

/// A fitted law.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The law's name.
    pub law: String,
    /// What was minimised.
    pub objective: Objective,
    /// The law's parameters; values in [`Fit::theta`] and [`Fit::natural`].
    pub parameters: Vec<Parameter>,
    /// The best parameters in the solver's scale: logarithms where a parameter's scale says so.
    pub theta: Vec<f64>,
    /// The objective there, a sum over points.
    pub objective_value: f64,
    /// Points that were fitted.
    pub n_points: usize,
    /// Free parameters.
    pub n_free: usize,
    /// Points that the outlier rule left out, or that have no weight.
    pub dropped: Vec<Dropped>,
    /// Starts that were considered.
    pub n_starts: usize,
    /// Searches that were made: where all starts lie in one valley of the projected problem they share one, and robust
    /// objectives make further ones from where large residuals count for less.
    pub n_searches: usize,
    /// Starts whose search did not end at a stationary point.
    pub n_failed: usize,
    /// Times that the law was evaluated at all points; the projected problem, which is cheaper, is not counted.
    pub n_evaluations: usize,
    /// The distinct optima that these searches ended at, best first. Others may exist where no start led.
    pub optima: Vec<Optimum>,
    /// Residuals `ln prediction - ln target` (`prediction - target` for least squares on the level), point by point.
    pub residuals: Vec<f64>,
    /// The points that were fitted, as indices of the caller's.
    pub used: Vec<usize>,
    /// Their row numbers.
    pub rows: Vec<usize>,
    /// Covariance of `theta`, asymptotic; zero for fixed parameters. `None` where the data leave a direction open.
    pub covariance: Option<Array2<f64>>,
    /// By how much `theta` moves with one standard error of what all targets share
    /// ([`Observations::with_shared_error`]), which is part of the covariance; zero where there is no such thing.
    pub shared_shift: Vec<f64>,
    /// Condition number of the information matrix scaled to a unit diagonal, at the optimum.
    pub condition: f64,
    /// Names of the parameters that ended on a bound.
    pub at_bounds: Vec<String>,
    /// What a reader must know before using the numbers.
    pub warnings: Vec<String>,
}

impl Fit {
    /// Natural values, in the order of [`Fit::parameters`].
    pub fn natural(&self) -> Vec<f64> {
        self.parameters.iter().zip(&self.theta).map(|(p, &theta)| p.natural(theta)).collect()
    }

    /// A parameter's natural value by its name.
    pub fn value(&self, name: &str) -> Option<f64> {
        let index = self.parameters.iter().position(|parameter| parameter.name == name)?;
        Some(self.parameters[index].natural(self.theta[index]))
    }

    /// Asymptotic standard errors of `theta`; `NaN` where there is no covariance.
    pub fn standard_errors(&self) -> Vec<f64> {
        match &self.covariance {
            Some(covariance) => covariance.diag().iter().map(|v| v.max(0.).sqrt()).collect(),
            None => vec![f64::NAN; self.theta.len()],
        }
    }
}

impl Fit {
    /// Degrees of freedom of the residuals, at least 1.
    pub fn freedom(&self) -> f64 {
        self.n_points.saturating_sub(self.n_free).max(1) as f64
    }

    /// Variance of a quantity in its scale by the delta method, and the degrees of freedom with which it is known
    /// (Satterthwaite's rule: what targets share is not learnt from their scatter). `None` without a covariance.
    pub fn variance(&self, quantity: &Quantity) -> Option<(f64, f64)> {
        let covariance = self.covariance.as_ref()?;
        let gradient = Array1::from(quantity.gradient(&self.theta));
        let total = gradient.dot(&covariance.dot(&gradient));
        let shared = gradient.dot(&ArrayView1::from(&self.shared_shift)).powi(2);
        let scatter = (total - shared).max(1e-9 * total);
        Some((total, self.freedom() * (total / scatter).powi(2)))
    }

    /// The interval of a quantity with probability `level` by the delta method and Student's t, natural values. `None`
    /// without a covariance.
    pub fn interval(&self, quantity: &Quantity, level: f64) -> Option<Interval> {
        let (variance, freedom) = self.variance(quantity)?;
        let half = student_quantile(0.5 + 0.5 * level, freedom) * variance.max(0.).sqrt();
        let centre = quantity.value(&self.theta);
        let [low, high] = [centre - half, centre + half].map(|end| quantity.to_natural(end));
        Some(Interval { low, high })
    }
}

/// Fits `law` to `observations`.
///
/// Starts come from the law ([`Law::starts`]). Where all of them lie in one valley ([`Law::valleys`]) whose lowest point
/// explains the data, they are one search, else one each; every search is carried to convergence, and the distinct ends
/// are in [`Fit::optima`].
///
/// # Errors
/// [`crate::Error::Data`] names file, row and column of a value that cannot be used; [`crate::Error::Config`] a
/// constraint that names no parameter; [`crate::Error::TooFewPoints`] where there are no degrees of freedom;
/// [`crate::Error::NotIdentified`] where no start converged.
pub fn fit(law: &dyn Law, observations: &Observations, config: &FitConfig) -> Result<Fit> {
    fit_from(law, observations, config, &[])
}

/// As [`fit`], with further starting points of one's own in the solver's scale.
///
/// # Errors
/// As [`fit`].
pub fn fit_from(
    law: &dyn Law,
    observations: &Observations,
    config: &FitConfig,
    starts: &[Vec<f64>],
) -> Result<Fit> {
    let (prepared, dropped) = prepared::prepare(law, observations, config)?;
    let mut fit = search::fit_prepared(law, &prepared, config.objective, dropped, starts)?;
    if prepared.is_exact(&fit) {
        let text = "the law goes through every point to the last digits: intervals have no width, as there is no scatter \
                    to take them from";
        fit.warnings.push(text.into());
    }
    Ok(fit)
}

#[cfg(test)]
mod tests;
