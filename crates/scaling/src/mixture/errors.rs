//! How far the optimal shares move with the errors of the fitted parameters.

use super::Component;

/// Standard errors of the optimal `shares`, from the covariance of `(ln amplitude, gamma)` of each component, families
/// independent of each other (they are fitted to different losses).
///
/// First order: with `q = p + offset` and `w = q / (1 + gamma)`, a change `u_i = d ln a_i + (1 / gamma_i - ln q_i)
/// d gamma_i` of family `i` moves share `j` by `w_j (u_j - Σ w u / Σ w)`. Families without a share, or at their cap, stay
/// there.
pub fn share_errors(
    components: &[Component],
    shares: &[f64],
    covariances: &[[[f64; 2]; 2]],
) -> Vec<f64> {
    let pairs = components.iter().zip(shares);
    let weights: Vec<f64> = pairs
        .clone()
        .map(|(c, &p)| if c.is_interior(p) { (p + c.offset) / (1. + c.gamma) } else { 0. })
        .collect();
    let total: f64 = weights.iter().sum();
    let variance = |((component, p), [[aa, ag], [_, gg]]): ((&Component, &f64), &[[f64; 2]; 2])| {
        let by_gamma = 1. / component.gamma - (p + component.offset).ln();
        aa + 2. * by_gamma * ag + by_gamma * by_gamma * gg
    };
    let variances: Vec<f64> = pairs.zip(covariances).map(variance).collect();
    let fraction = |w: f64| if total > 0. { w / total } else { 0. };
    let common: f64 = weights
        .iter()
        .zip(&variances)
        .filter(|(w, _)| **w > 0.)
        .map(|(w, v)| fraction(*w).powi(2) * v)
        .sum();
    let error = |(&w, v): (&f64, &f64)| match w > 0. {
        true => w * ((1. - 2. * fraction(w)) * v + common).max(0.).sqrt(),
        false => 0.,
    };
    weights.iter().zip(&variances).map(error).collect()
}
