//! The sampling ratios that minimise `Σ k_i p_i^-gamma_i` over shares that sum to 1.

use crate::error::{Result, ensure};

/// The optimal shares: `p_i = (gamma_i k_i / λ)^(1 / (1 + gamma_i))`, with the one `λ` for which they sum to 1.
///
/// `factors` are weights times what each family's loss would be alone ([`crate::law::Family::scale_factor`]); weights
/// alone for the normalised objective, whose optimum depends on neither `N` nor `D`. The problem is strictly convex and
/// its optimum lies inside. Solved in `ln λ` by bisection on a monotone function.
///
/// # Errors
/// [`crate::Error::Config`] names a factor or `gamma` that is not positive, or columns of different lengths.
pub fn optimal_shares(factors: &[f64], gammas: &[f64]) -> Result<Vec<f64>> {
    ensure(!factors.is_empty(), "factors", "at least one", 0)?;
    ensure(factors.len() == gammas.len(), "gammas", "one for each factor", gammas.len())?;
    for (i, (&factor, &gamma)) in factors.iter().zip(gammas).enumerate() {
        let ok = |value: f64| value > 0. && value.is_finite();
        ensure(ok(factor), format!("factors[{i}]"), "positive", factor)?;
        ensure(ok(gamma), format!("gammas[{i}]"), "positive", gamma)?;
    }
    let log_force: Vec<f64> = factors.iter().zip(gammas).map(|(k, g)| (k * g).ln()).collect();
    let share = |i: usize, ln_lambda: f64| ((log_force[i] - ln_lambda) / (1. + gammas[i])).exp();
    let total = |ln_lambda: f64| (0..factors.len()).map(|i| share(i, ln_lambda)).sum::<f64>();
    // At `low` the largest share alone is 1 or more, at `high` none exceeds 1 / n.
    let mut low = log_force.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ln_n = (factors.len() as f64).ln();
    let mut high = (0..factors.len())
        .map(|i| log_force[i] + (1. + gammas[i]) * ln_n)
        .fold(low, f64::max);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if total(middle) > 1. { low = middle } else { high = middle }
    }
    let shares: Vec<f64> = (0..factors.len()).map(|i| share(i, high)).collect();
    let sum: f64 = shares.iter().sum();
    Ok(shares.into_iter().map(|p| p / sum).collect())
}

#[cfg(test)]
mod tests;
