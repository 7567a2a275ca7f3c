//! Profile likelihood: how far a quantity can be moved before the best fit under that condition is too bad.
//!
//! A spring pulls the quantity away from its estimate, everything else is refitted: at each pull the solution is a point
//! of the profile, whatever the spring's stiffness, so there is no constraint to solve for and no multiplier to guess.
//! The ends of the interval are where the deviance meets the cut.

use serde::{Deserialize, Serialize};

use crate::distribution::normal_quantile;
use crate::error::{Error, Result, ensure};
use crate::fit::{Fit, FitConfig, Prepared, density_at_zero, huber_moments};
use crate::interval::Interval;
use crate::law::Law;
use crate::linalg;
use crate::objective::Objective;
use crate::observations::Observations;
use crate::quantity::Quantity;
use crate::solve::{Problem, Pull, Slot, Stop, Workspace, information, minimise};

/// A quantity's profile-likelihood interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The quantity.
    pub name: String,
    /// At the optimum, natural value.
    pub estimate: f64,
    /// The interval, natural values; an end that the data leave open is infinite, or 0 for a positive quantity.
    pub interval: Interval,
    /// The deviance at the ends.
    pub cut: f64,
    /// Points of the profile that were visited: natural value and deviance, ascending in value.
    pub points: Vec<(f64, f64)>,
    /// Whether the lower end is open.
    pub open_low: bool,
    /// Whether the upper end is open.
    pub open_high: bool,
}

/// How deviance follows from the objective.
#[derive(Clone, Copy, Debug)]
enum Deviance {
    /// `n ln(S / S_min)`: least squares with unknown variance.
    Log { n: f64 },
    /// `factor · (S - S_min)`: the likelihood-ratio type test of a robust objective.
    Linear { factor: f64 },
}

impl Deviance {
    fn new(fit: &Fit, weights: &[f64]) -> Self {
        let n: f64 = weights.iter().sum();
        match fit.objective {
            Objective::NlsLog | Objective::Nls => Self::Log { n },
            Objective::Huber { delta } => {
                let (square, inside) = huber_moments(delta, &fit.residuals, weights);
                Self::Linear { factor: 2. * inside.max(1.) / n * (n - fit.n_free as f64) / square }
            }
            Objective::Lad => {
                Self::Linear { factor: 4. * density_at_zero(&fit.residuals, weights) }
            }
        }
    }

    fn of(self, objective: f64, best: f64) -> f64 {
        match self {
            Self::Log { n } => n * (objective / best).ln(),
            Self::Linear { factor } => factor * (objective - best),
        }
    }

    /// By how much the objective may rise.
    fn allowance(self, cut: f64, best: f64) -> f64 {
        match self {
            Self::Log { n } => best * ((cut / n).exp() - 1.),
            Self::Linear { factor } => cut / factor,
        }
    }
}

/// The profile-likelihood interval of `quantity` with probability `level` (0.95), around `fit`.
///
/// Least squares: the deviance `n ln(S / S_min)` is compared with a chi-squared quantile. Huber and absolute
/// deviations: the objective's rise is scaled to the same distribution (Heritier and Ronchetti 1994).
///
/// # Errors
/// As [`crate::fit()`]; [`Error::NotIdentified`] where the data leave the quantity open in both directions or it does
/// not move with the parameters.
pub fn profile(
    law: &dyn Law,
    observations: &Observations,
    config: &FitConfig,
    fit: &Fit,
    quantity: &Quantity,
    level: f64,
) -> Result<Profile> {
    ensure(0. < level && level < 1., "level", "between 0 and 1", level)?;
    let prepared = Prepared::new(law, observations, config)?;
    let problem = prepared.problem(law, fit.objective);
    let cut = normal_quantile(0.5 + 0.5 * level).powi(2);
    let mut ws = Workspace::from(&prepared.map.reduce(&fit.theta));
    let deviance = Deviance::new(fit, &prepared.weights);
    let curvature = curvature(&problem, &mut ws, fit, quantity)?;
    let mut walk = Walk {
        problem,
        deviance,
        quantity,
        curvature,
        cut,
        best: fit.objective_value,
        centre: quantity.value(&fit.theta),
        start: prepared.map.reduce(&fit.theta),
        ws,
        points: vec![(quantity.value(&fit.theta), 0.)],
        hessian: quantity.hessian(&fit.theta),
    };
    let [low, high] = [-1., 1.].map(|side| walk.end(side));
    if low.is_none() && high.is_none() {
        return Err(Error::not_identified(quantity.name(), "its profile never reaches the cut"));
    }
    walk.points.sort_by(|left, right| left.0.total_cmp(&right.0));
    let natural = |value: f64| quantity.to_natural(value);
    Ok(Profile {
        name: quantity.name().to_owned(),
        estimate: natural(walk.centre),
        interval: Interval {
            low: natural(low.unwrap_or(f64::NEG_INFINITY)),
            high: natural(high.unwrap_or(f64::INFINITY)),
        },
        cut,
        points: walk.points.iter().map(|&(value, deviance)| (natural(value), deviance)).collect(),
        open_low: low.is_none(),
        open_high: high.is_none(),
    })
}

/// The profile's second derivative at the optimum, in units of the objective: `1 / (gᵀ H⁻¹ g)`.
fn curvature(problem: &Problem, ws: &mut Workspace, fit: &Fit, quantity: &Quantity) -> Result<f64> {
    let q = problem.map.n_free();
    ws.resize(problem);
    let lower = information(problem, ws);
    let open = || Error::not_identified(quantity.name(), "the data leave a direction open");
    let (inverse, _) = linalg::inverse(&lower, q).ok_or_else(open)?;
    let mut gradient = vec![0.; q];
    for (slot, value) in problem.map.slots.iter().zip(quantity.gradient(&fit.theta)) {
        if let Slot::Free(k) = *slot {
            gradient[k] += value;
        }
    }
    let pairs = (0..q).flat_map(|k| (0..q).map(move |l| (k, l)));
    let variance: f64 = pairs.map(|(k, l)| gradient[k] * inverse[k * q + l] * gradient[l]).sum();
    let still = || Error::not_identified(quantity.name(), "it does not move with the parameters");
    if !(variance > 0. && variance.is_finite()) {
        return Err(still());
    }
    let n: f64 = problem.weights.iter().sum();
    let per_point = match fit.objective {
        Objective::NlsLog | Objective::Nls => 1.,
        Objective::Huber { delta } => {
            huber_moments(delta, &fit.residuals, problem.weights).1.max(1.) / n
        }
        Objective::Lad => 2. * density_at_zero(&fit.residuals, problem.weights),
    };
    Ok(per_point / variance)
}

/// The search for one end after the other.
struct Walk<'a> {
    problem: Problem<'a>,
    deviance: Deviance,
    quantity: &'a Quantity<'a>,
    curvature: f64,
    cut: f64,
    best: f64,
    centre: f64,
    start: Vec<f64>,
    ws: Workspace,
    points: Vec<(f64, f64)>,
    hessian: Vec<f64>,
}

/// How much stiffer the spring is than the profile.
const STIFFNESS: f64 = 3.;

/// Beyond this many times the expected distance an end counts as open.
const FAR: f64 = 300.;

impl Walk<'_> {
    /// Where the profile meets the cut on one side, in the quantity's scale; `None` where it does not.
    fn end(&mut self, side: f64) -> Option<f64> {
        let expected = (2. * self.deviance.allowance(self.cut, self.best) / self.curvature).sqrt();
        let unit = expected * (1. + 1. / STIFFNESS);
        self.ws.free.clone_from(&self.start);
        // Positions of the spring's far end, and the root of the deviance there relative to the cut's.
        let (mut low, mut high) = ((0., 0., self.centre), None);
        let mut position = 1.;
        for _ in 0..50 {
            let (root, value) = self.visit(side * unit * position);
            if (root - 1.).abs() < 3e-7 {
                return Some(value);
            }
            if root < 1. {
                low = (position, root, value);
            } else {
                high = Some((position, root, value));
            }
            position = match high {
                None if position > FAR => return None,
                None => (position / root.max(0.4)).min(3. * position) * 1.001,
                Some(high) => {
                    if (high.0 - low.0) < 1e-7 * high.0 {
                        return Some(value);
                    }
                    let share = (1. - low.1) / (high.1 - low.1);
                    low.0 + share.clamp(0.02, 0.98) * (high.0 - low.0)
                }
            };
        }
        high.map(|high| high.2)
    }

    /// Refits under the spring; the root of the deviance relative to the cut, and the quantity.
    fn visit(&mut self, distance: f64) -> (f64, f64) {
        let pull = Pull {
            quantity: self.quantity,
            target: self.centre + distance,
            stiffness: STIFFNESS * self.curvature,
            hessian: &self.hessian,
        };
        let problem = Problem { pull: Some(pull), ..self.problem };
        let outcome = minimise(&problem, &mut self.ws, Stop { tolerance: 1e-12, ..Stop::COLD });
        problem.map.expand(&self.ws.free, &mut self.ws.theta);
        let value = self.quantity.value(&self.ws.theta);
        let deviance = self.deviance.of(outcome.objective, self.best).max(0.);
        self.points.push((value, deviance));
        ((deviance / self.cut).sqrt(), value)
    }
}

#[cfg(test)]
mod tests;
