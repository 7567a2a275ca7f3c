//! Which law describes the runs: information criteria, cross-validation, and the error on the largest scale left out.
//!
//! The last of these is what a user of a scaling law needs. On Gadre's runs the law with tied exponents has the worse fit
//! and the better prediction.

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};
use crate::fit::{Fit, FitConfig, fit, relative};
use crate::law::{Design, Law, predict_all};
use crate::objective::Objective;
use crate::observations::Observations;

/// A law, with the way to fit it.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Its name in the comparison.
    pub name: String,
    /// The law.
    pub law: &'a dyn Law,
    /// Objective, outliers, constraints.
    pub config: FitConfig,
}

/// Runs that are kept from the fit, to be predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The input whose large values are held out: `n`, `d`.
    pub input: String,
    /// Held out are points above this.
    pub above: f64,
}

/// What a candidate achieves; an entry is `None` where it could not be fitted, with the reason in `problems`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The candidate.
    pub name: String,
    /// Points of the whole fit.
    pub n_points: usize,
    /// Free parameters, the scale of the residuals not counted.
    pub n_free: usize,
    /// Log-likelihood of the logarithm of the target: normal residuals for least squares, Laplace's for Huber and LAD.
    pub log_likelihood: Option<f64>,
    /// Akaike's criterion, with the residual scale as a parameter; smaller is better.
    pub aic: Option<f64>,
    /// Schwarz's criterion.
    pub bic: Option<f64>,
    /// Mean relative error of points predicted from the other folds.
    pub fold_error: Option<f64>,
    /// Mean relative error on the points held out.
    pub held_out_error: Option<f64>,
    /// What went wrong.
    pub problems: Vec<String>,
}

/// The held-out set of the largest scale: all points with the largest value of `input`, and further values until there
/// are at least `at_least` points; `None` where that leaves nothing to fit.
pub fn largest_scale(observations: &Observations, input: &str, at_least: usize) -> Option<HeldOut> {
    let values = observations.input(input)?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    let held = |above: f64| values.iter().filter(|value| **value > above).count();
    let above = sorted.iter().rev().skip(1).copied().find(|&above| held(above) >= at_least)?;
    (2 * held(above) <= values.len()).then(|| HeldOut { input: input.to_owned(), above })
}

/// Scores every candidate on the same points and folds; the order is theirs.
///
/// # Errors
/// [`crate::Error::Config`] for fewer than two folds or a held-out input that is not there. A candidate that cannot be
/// fitted is no error: its score says so.
pub fn compare(
    candidates: &[Candidate],
    observations: &Observations,
    n_folds: usize,
    held_out: Option<&HeldOut>,
    rng: &mut impl Rng,
) -> Result<Vec<Score>> {
    let n = observations.len();
    ensure(n_folds >= 2 && n_folds <= n, "n_folds", format!("from 2 to {n}"), n_folds)?;
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(rng);
    let folds: Vec<Vec<usize>> =
        (0..n_folds).map(|k| order.iter().copied().skip(k).step_by(n_folds).collect()).collect();
    let outside = held_out.map(|held| split(observations, held)).transpose()?;
    Ok(candidates.iter().map(|c| score(c, observations, &folds, outside.as_ref())).collect())
}

/// Points to fit and points to predict.
type Split = (Vec<usize>, Vec<usize>);

fn split(observations: &Observations, held: &HeldOut) -> Result<Split> {
    let values = observations.input(&held.input);
    let values =
        values.ok_or_else(|| observations.fault(None, &held.input, "there is no such input"))?;
    let (outside, inside): (Vec<usize>, Vec<usize>) =
        (0..values.len()).partition(|&i| values[i] > held.above);
    let ok = !outside.is_empty() && !inside.is_empty();
    ensure(ok, "held_out", "a threshold with points on both sides", held.above)?;
    Ok((inside, outside))
}

fn score(
    candidate: &Candidate,
    observations: &Observations,
    folds: &[Vec<usize>],
    outside: Option<&Split>,
) -> Score {
    let mut score = Score { name: candidate.name.clone(), ..Score::default() };
    match fit(candidate.law, observations, &candidate.config) {
        Err(error) => score.problems.push(error.to_string()),
        Ok(fit) => {
            let likelihood = log_likelihood(candidate.law, &fit, observations);
            let k = fit.n_free as f64 + 1.;
            score.n_points = fit.n_points;
            score.n_free = fit.n_free;
            score.log_likelihood = likelihood;
            score.aic = likelihood.map(|l| 2. * k - 2. * l);
            score.bic = likelihood.map(|l| k * (fit.n_points as f64).ln() - 2. * l);
        }
    }
    let splits: Vec<Split> = folds
        .iter()
        .map(|fold| {
            let inside = (0..observations.len()).filter(|i| !fold.contains(i)).collect();
            (inside, fold.clone())
        })
        .collect();
    score.fold_error =
        error_of("cross-validation", candidate, observations, &splits, &mut score.problems);
    score.held_out_error = outside.and_then(|split| {
        let split = std::slice::from_ref(split);
        error_of("the held-out scale", candidate, observations, split, &mut score.problems)
    });
    score
}

/// Mean relative error over all points that the splits predict; `None` if one of the fits fails.
fn error_of(
    what: &str,
    candidate: &Candidate,
    observations: &Observations,
    splits: &[Split],
    problems: &mut Vec<String>,
) -> Option<f64> {
    let (mut sum, mut weight) = (0., 0.);
    for (inside, outside) in splits {
        let points = observations.select(outside);
        let design = Design::new(candidate.law, &points);
        let fitted = fit(candidate.law, &observations.select(inside), &candidate.config);
        let (fitted, design) = match (fitted, design) {
            (Ok(fitted), Ok(design)) => (fitted, design),
            (Err(error), _) | (_, Err(error)) => {
                problems.push(format!("{what}: {error}"));
                return None;
            }
        };
        let predicted = predict_all(candidate.law, &fitted.theta, &design);
        for (i, (predicted, target)) in predicted.iter().zip(points.target()).enumerate() {
            let w = points.weights().map_or(1., |weights| weights[i]);
            sum += w * (predicted / target - 1.).abs();
            weight += w;
        }
    }
    (weight > 0.).then_some(sum / weight)
}

/// Log-likelihood of the logarithms of the targets that were fitted, at the most likely scale of the residuals.
pub fn log_likelihood(law: &dyn Law, fit: &Fit, observations: &Observations) -> Option<f64> {
    let points = observations.select(&fit.used);
    let design = Design::new(law, &points).ok()?;
    let predicted = predict_all(law, &fit.theta, &design);
    let weights = points.weights().map_or_else(|| vec![1.; points.len()], <[f64]>::to_vec);
    let weights = relative(weights);
    let n = points.len() as f64;
    let pairs = || predicted.iter().zip(points.target()).zip(&weights);
    let value = match fit.objective {
        Objective::NlsLog => {
            let square: f64 = pairs().map(|((f, y), w)| w * (f / y).ln().powi(2)).sum();
            -0.5 * n * ((2. * std::f64::consts::PI * square / n).ln() + 1.)
        }
        Objective::Nls => {
            let square: f64 = pairs().map(|((f, y), w)| w * (f - y).powi(2)).sum();
            // The density of ln y is y times that of y.
            let jacobian: f64 = pairs().map(|((_, y), _)| y.ln()).sum();
            jacobian - 0.5 * n * ((2. * std::f64::consts::PI * square / n).ln() + 1.)
        }
        Objective::Huber { .. } | Objective::Lad => {
            let size: f64 = pairs().map(|((f, y), w)| w * (f / y).ln().abs()).sum();
            -n * ((2. * size / n).ln() + 1.)
        }
    };
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests;
