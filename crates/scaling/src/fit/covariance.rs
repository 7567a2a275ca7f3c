//! The asymptotic covariance of an estimate, for each objective.

use ndarray::Array2;

use crate::interval::quantile;
use crate::linalg;
use crate::objective::Objective;
use crate::solve::{Problem, Slot, Workspace, information};

/// The factor between the inverse information `(Jᵀ W J)⁻¹` and the covariance.
///
/// Squares: the residual variance. Huber: `K² E ψ² / (E ψ')²` with `K = 1 + (p / n) Var ψ' / (E ψ')²`, the correction
/// for few points (Huber 1981, *Robust statistics*, eq. 7.6.5), as a small delta leaves few points inside. Absolute
/// deviations: `1 / (4 f(0)²)`, the density at zero from the central residuals with Bofinger's bandwidth.
pub(crate) fn variance_factor(
    objective: Objective,
    residuals: &[f64],
    weights: &[f64],
    n_free: usize,
    value: f64,
) -> f64 {
    let n: f64 = weights.iter().sum();
    let freedom = (n - n_free as f64).max(1e-9);
    match objective {
        Objective::NlsLog | Objective::Nls => 2. * value / freedom,
        Objective::Huber { delta } => {
            let (square, inside) = huber_moments(delta, residuals, weights);
            let share = (inside / n).max(1. / n);
            let few = 1. + n_free as f64 / n * (1. - share) / share;
            square / freedom * (few / share).powi(2)
        }
        Objective::Lad => (0.5 / density_at_zero(residuals, weights)).powi(2) * n / freedom,
    }
}

/// `Σ w ψ²` and `Σ w ψ'`.
pub(crate) fn huber_moments(delta: f64, residuals: &[f64], weights: &[f64]) -> (f64, f64) {
    let square = |(r, w): (&f64, &f64)| w * r.clamp(-delta, delta).powi(2);
    let inside = |(r, w): (&f64, &f64)| if r.abs() <= delta { *w } else { 0. };
    let pairs = || residuals.iter().zip(weights);
    (pairs().map(square).sum(), pairs().map(inside).sum())
}

/// The density of residuals at zero, from the distance between two central quantiles.
pub(crate) fn density_at_zero(residuals: &[f64], weights: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = residuals
        .iter()
        .zip(weights)
        .filter(|(_, weight)| **weight > 0.)
        .flat_map(|(&r, &weight)| std::iter::repeat_n(r, weight.round().max(1.) as usize))
        .collect();
    sorted.sort_by(f64::total_cmp);
    let half = (0.6477 * (sorted.len() as f64).powf(-0.2)).min(0.45);
    let width = quantile(&sorted, 0.5 + half) - quantile(&sorted, 0.5 - half);
    2. * half / width.max(1e-300)
}

/// The covariance of all parameters, and the condition number of the scaled information.
pub(crate) fn covariance(
    problem: &Problem,
    ws: &mut Workspace,
    value: f64,
) -> (Option<Array2<f64>>, f64) {
    let q = problem.map.n_free();
    let lower = information(problem, ws);
    let Some((inverse, condition)) = linalg::inverse(&lower, q) else {
        return (None, f64::INFINITY);
    };
    let factor = variance_factor(problem.objective, &ws.residuals, problem.weights, q, value);
    let slots = &problem.map.slots;
    let element = |(i, j): (usize, usize)| match (slots[i], slots[j]) {
        (Slot::Free(k), Slot::Free(l)) => factor * inverse[k * q + l],
        _ => 0.,
    };
    (Some(Array2::from_shape_fn((slots.len(), slots.len()), element)), condition)
}
