//! The asymptotic covariance of an estimate, for each objective.

use ndarray::Array2;

use crate::linalg;
use crate::objective::Objective;
use crate::solve::{Problem, Slot, Workspace, information};

/// The factor between the inverse information `(Jᵀ W J)⁻¹` and the covariance. Weights have a mean of 1, so that their sum
/// is the number of points.
///
/// Squares: the residual variance. Huber: `E ψ² / (E ψ')²` (Huber 1981, *Robust statistics*, section 7.6). Absolute
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
            let (square, share) = huber_moments(delta, residuals, weights, n_free);
            square / freedom / share.powi(2)
        }
        Objective::Lad => (0.5 / density_at_zero(residuals, weights)).powi(2) * n / freedom,
    }
}

/// `Σ w ψ²`, and the mean of `ψ'`, which is the share of residuals within delta.
///
/// A fit makes about as many residuals zero as it has parameters, so that a count within a small delta says too much:
/// below the bandwidth of the density at zero, delta takes its part of what lies within that, and residuals lie closer
/// together than errors do by `√((n - p) / n)`.
pub(crate) fn huber_moments(
    delta: f64,
    residuals: &[f64],
    weights: &[f64],
    n_free: usize,
) -> (f64, f64) {
    let square = |(r, w): (&f64, &f64)| w * r.clamp(-delta, delta).powi(2);
    let inside = |(r, w): (&f64, &f64)| if r.abs() <= delta { *w } else { 0. };
    let pairs = || residuals.iter().zip(weights);
    let n: f64 = weights.iter().sum();
    let (share, width) = centre(residuals, weights);
    let within = if 2. * delta < width {
        share * 2. * delta / width * ((n - n_free as f64).max(1.) / n).sqrt()
    } else {
        pairs().map(inside).sum::<f64>() / n
    };
    (pairs().map(square).sum(), within.max(1. / n))
}

/// The density of residuals at zero, from the distance between two central quantiles.
pub(crate) fn density_at_zero(residuals: &[f64], weights: &[f64]) -> f64 {
    let (share, width) = centre(residuals, weights);
    share / width
}

/// The share of residuals in Bofinger's bandwidth around their middle, and how wide they lie. A weight of 2 is twice the
/// share.
fn centre(residuals: &[f64], weights: &[f64]) -> (f64, f64) {
    let mut sorted: Vec<(f64, f64)> =
        residuals.iter().copied().zip(weights.iter().copied()).collect();
    sorted.sort_by(|left, right| left.0.total_cmp(&right.0));
    let half = (0.6477 * (sorted.len() as f64).powf(-0.2)).min(0.45);
    let [low, high] = [0.5 - half, 0.5 + half].map(|q| weighted_quantile(&sorted, q));
    (2. * half, (high - low).max(1e-300))
}

/// The `q`-quantile of ascending values with weights, linear between them; that of [`crate::interval::quantile`] where
/// weights are equal.
fn weighted_quantile(sorted: &[(f64, f64)], q: f64) -> f64 {
    let total: f64 = sorted.iter().map(|(_, weight)| weight).sum();
    let unit = total / sorted.len() as f64;
    let wanted = q * (total - unit);
    let (mut before, mut known) = (0., None);
    for &(value, weight) in sorted {
        let at = before + 0.5 * (weight - unit);
        match known {
            _ if at < wanted => known = Some((at, value)),
            Some((from, low)) => return low + (value - low) * (wanted - from) / (at - from),
            None => return value,
        }
        before += weight;
    }
    known.map_or(f64::NAN, |(_, value)| value)
}

/// What an optimum says about its errors.
pub(crate) struct Errors {
    /// The covariance of all parameters.
    pub(crate) covariance: Option<Array2<f64>>,
    /// By how much they move with what all targets share; part of the covariance.
    pub(crate) shared_shift: Vec<f64>,
    /// The condition number of the scaled information.
    pub(crate) condition: f64,
}

/// The errors at an optimum whose objective is `value`. `shared_error` moves all targets together
/// ([`crate::Observations::with_shared_error`]) and is added to what the scatter says.
pub(crate) fn errors(
    problem: &Problem,
    ws: &mut Workspace,
    value: f64,
    shared_error: Option<&[f64]>,
) -> Errors {
    let q = problem.map.n_free();
    let slots = &problem.map.slots;
    let lower = information(problem, ws);
    let Some((inverse, condition)) = linalg::inverse(&lower, q) else {
        let shared_shift = vec![0.; slots.len()];
        return Errors { covariance: None, shared_shift, condition: f64::INFINITY };
    };
    let factor = variance_factor(problem.objective, &ws.residuals, problem.weights, q, value);
    let shift = shared_shift(problem, ws, &inverse, shared_error);
    let element = |(i, j): (usize, usize)| match (slots[i], slots[j]) {
        (Slot::Free(k), Slot::Free(l)) => factor * inverse[k * q + l] + shift[k] * shift[l],
        _ => 0.,
    };
    let covariance = Some(Array2::from_shape_fn((slots.len(), slots.len()), element));
    let of = |slot: &Slot| match *slot {
        Slot::Free(k) => shift[k],
        Slot::Fixed(_) => 0.,
    };
    Errors { covariance, shared_shift: slots.iter().map(of).collect(), condition }
}

/// By how much the free parameters move with one standard error of what all targets share; after [`information`], whose
/// inverse is given.
fn shared_shift(
    problem: &Problem,
    ws: &mut Workspace,
    inverse: &[f64],
    shared_error: Option<&[f64]>,
) -> Vec<f64> {
    let q = problem.map.n_free();
    let Some(shifts) = shared_error else { return vec![0.; q] };
    let push = ws.pushed_by(problem, shifts);
    let moved = |k: usize| (0..q).map(|l| inverse[k * q + l] * push[l]).sum();
    (0..q).map(moved).collect()
}

#[cfg(test)]
mod tests;
