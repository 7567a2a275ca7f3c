//! Does a family's loss depend on its own share alone? The hypothesis of He et al. 2024, as a test.

use serde::{Deserialize, Serialize};

use crate::distribution::f_tail;
use crate::error::{Error, Result};
use crate::fit::{FitConfig, fit};
use crate::law::Family;
use crate::objective::Objective;
use crate::observations::Observations;

/// The F-test of `ln L = ln C - gamma ln p` against the same with the shares of others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Independence {
    /// The F statistic.
    pub f: f64,
    /// Cross terms that were added.
    pub df1: f64,
    /// Degrees of freedom that are left.
    pub df2: f64,
    /// The probability of such an F where the hypothesis holds.
    pub p: f64,
    /// `gamma` without cross terms.
    pub gamma: f64,
    /// Explained share of the variance of `ln L` without cross terms.
    pub r2: f64,
    /// … and with them.
    pub r2_with_others: f64,
}

/// Tests runs at **one** scale (equal `N` and `D`): inputs `p` and the shares named. Leave one share out, as shares sum
/// to 1.
///
/// # Errors
/// As [`fit()`]; [`Error::NotIdentified`] where the shares do not vary independently.
pub fn independence(observations: &Observations, others: &[&str]) -> Result<Independence> {
    let config = FitConfig::new(Objective::NlsLog);
    let own = fit(&Family::at_one_scale(""), observations, &config)?;
    let with = fit(&Family::at_one_scale("").with_cross_terms(others), observations, &config)?;
    if with.covariance.is_none() {
        let reason = "the shares do not vary independently of each other";
        return Err(Error::not_identified("a cross term", reason));
    }
    let n: f64 = match observations.weights() {
        Some(weights) => weights.iter().sum(),
        None => observations.len() as f64,
    };
    let (df1, df2) = (others.len() as f64, n - with.n_free as f64);
    let f = (own.objective_value - with.objective_value) / df1 / (with.objective_value / df2);
    let total = total_square(observations);
    Ok(Independence {
        f,
        df1,
        df2,
        p: f_tail(f, df1, df2),
        gamma: own.theta[1],
        r2: 1. - 2. * own.objective_value / total,
        r2_with_others: 1. - 2. * with.objective_value / total,
    })
}

/// Weighted square of `ln L` around its mean.
fn total_square(observations: &Observations) -> f64 {
    let ones = vec![1.; observations.len()];
    let weights = observations.weights().unwrap_or(&ones);
    let pairs = || observations.target().iter().map(|y| y.ln()).zip(weights);
    let mean = pairs().map(|(y, w)| y * w).sum::<f64>() / weights.iter().sum::<f64>();
    pairs().map(|(y, w)| w * (y - mean).powi(2)).sum()
}

#[cfg(test)]
mod tests;
