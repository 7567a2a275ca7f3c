//! How far the optimal shares move with the errors of the fitted parameters.
//!
//! First order: with `q = p + offset` and `w = q / (1 + gamma)`, a change `u_i = d ln a_i + (1 / gamma_i - ln q_i)
//! d gamma_i` of family `i` moves share `j` by `w_j (u_j - Σ w u / Σ w)`. Families without a share, or at their cap, stay
//! there. Families are independent of each other, as they are fitted to different losses.

use ndarray::Array1;

use super::{Component, Weighing};
use crate::distribution::student_quantile;
use crate::fit::Fit;
use crate::interval::Interval;
use crate::law::{Family, Scale};
use crate::quantity::Quantity;

/// The covariance of `(ln amplitude, gamma)` of a fitted family, whose amplitude is that of [`Component::fitted`] with
/// the same arguments; `None` where the fit has no covariance.
pub fn amplitude_covariance(
    law: &Family,
    fit: &Fit,
    weighing: Weighing,
    scale: (f64, f64),
) -> Option<[[f64; 2]; 2]> {
    let covariance = fit.covariance.as_ref()?;
    let ln_amplitude = |theta: &[f64]| {
        let component = Component::fitted("", law, theta, weighing, 1., scale);
        component.map_or(f64::NAN, |component| component.amplitude.ln())
    };
    let of_amplitude = Quantity::new("amplitude", Scale::Linear, ln_amplitude).gradient(&fit.theta);
    let of_amplitude = Array1::from(of_amplitude);
    let gamma = law.gamma_index();
    let reach = covariance.dot(&of_amplitude);
    let (aa, ag) = (of_amplitude.dot(&reach), reach[gamma]);
    Some([[aa, ag], [ag, covariance[[gamma, gamma]]]])
}

/// What each family contributes to the errors of the shares.
struct Errors {
    /// How far a share moves with its own `u`; 0 for shares that stay.
    weights: Vec<f64>,
    total: f64,
    /// Variances of the `u`.
    variances: Vec<f64>,
}

impl Errors {
    fn new(components: &[Component], shares: &[f64], covariances: &[[[f64; 2]; 2]]) -> Self {
        let pairs = || components.iter().zip(shares);
        let weight = |(c, &p): (&Component, &f64)| match c.is_interior(p) {
            true => (p + c.offset) / (1. + c.gamma),
            false => 0.,
        };
        let variance = |((c, p), [[aa, ag], [_, gg]]): ((&Component, &f64), &[[f64; 2]; 2])| {
            let by_gamma = 1. / c.gamma - (p + c.offset).ln();
            aa + 2. * by_gamma * ag + by_gamma * by_gamma * gg
        };
        let weights: Vec<f64> = pairs().map(weight).collect();
        let variances = pairs().zip(covariances).map(variance).collect();
        Self { total: weights.iter().sum(), weights, variances }
    }

    /// `Σ (w_i / Σ w)^power of(i)` over the families with a share.
    fn common(&self, power: i32, of: impl Fn(usize) -> f64) -> f64 {
        let moving = (0..self.weights.len()).filter(|&i| self.weights[i] > 0.);
        moving.map(|i| (self.weights[i] / self.total).powi(power) * of(i)).sum()
    }

    /// `Σ_i |∂ share_j / ∂ u_i|^power of(i)` for every share `j`, for an even power.
    fn of_shares(&self, power: i32, of: impl Fn(usize) -> f64) -> Vec<f64> {
        let common = self.common(power, &of);
        let error = |(j, &w): (usize, &f64)| {
            if w <= 0. {
                return 0.;
            }
            let own = w / self.total;
            w.powi(power) * (common + ((1. - own).powi(power) - own.powi(power)) * of(j))
        };
        self.weights.iter().enumerate().map(error).collect()
    }
}

/// Standard errors of the optimal `shares`, from the covariance of `(ln amplitude, gamma)` of each component.
pub fn share_errors(
    components: &[Component],
    shares: &[f64],
    covariances: &[[[f64; 2]; 2]],
) -> Vec<f64> {
    let errors = Errors::new(components, shares, covariances);
    let variances = errors.of_shares(2, |i| errors.variances[i]);
    variances.into_iter().map(|variance| variance.max(0.).sqrt()).collect()
}

/// Intervals of the optimal `shares` with probability `level`: Student's, in the logarithm of the share, with degrees of
/// freedom by Satterthwaite's rule from those of each family's fit (its points less its free parameters).
pub fn share_intervals(
    components: &[Component],
    shares: &[f64],
    covariances: &[[[f64; 2]; 2]],
    freedom: &[f64],
    level: f64,
) -> Vec<Interval> {
    let errors = Errors::new(components, shares, covariances);
    let variances = errors.of_shares(2, |i| errors.variances[i]);
    let squares = errors.of_shares(4, |i| errors.variances[i].powi(2) / freedom[i].max(1.));
    let interval = |((&p, variance), square): ((&f64, f64), f64)| {
        if variance <= 0. {
            return Interval { low: p, high: p };
        }
        let quantile = student_quantile(0.5 + 0.5 * level, (variance * variance / square).max(1.));
        let reach = (quantile * variance.sqrt() / p).exp();
        Interval { low: p / reach, high: (p * reach).min(1.) }
    };
    shares.iter().zip(variances).zip(squares).map(interval).collect()
}
