//! Profile likelihood: how far a quantity can be moved before the best fit under that condition is too bad.
//!
//! A spring pulls the quantity away from its estimate, everything else is refitted: at each pull the solution is a point
//! of the profile, whatever the spring's stiffness, so there is no constraint to solve for and no multiplier to guess.
//! The ends of the interval are where the deviance meets the cut.

use serde::{Deserialize, Serialize};

use crate::distribution::student_quantile;
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
    /// What a reader must know: ends whose refit did not converge, or that lie at a jump, or a better optimum than the
    /// fit's.
    pub warnings: Vec<String>,
}

/// What a rise of the objective is multiplied by to become the square of a Student's t: `(n - p) / S_min` for least
/// squares, which is an F-test; for robust objectives the factor of their likelihood-ratio type test.
fn deviance_factor(fit: &Fit, weights: &[f64]) -> f64 {
    match fit.objective {
        Objective::NlsLog | Objective::Nls => fit.freedom() / fit.objective_value,
        Objective::Huber { delta } => {
            let (square, share) = huber_moments(delta, &fit.residuals, weights, fit.n_free);
            2. * share * fit.freedom() / square
        }
        Objective::Lad => 4. * density_at_zero(&fit.residuals, weights),
    }
}

/// The profile-likelihood interval of `quantity` with probability `level` (0.95), around `fit`.
///
/// Least squares: the deviance `(n - p) (S - S_min) / S_min` is compared with the square of Student's quantile, an F-test
/// (Bates and Watts 1988, *Nonlinear regression analysis*, section 6.1). Huber and absolute deviations: the objective's
/// rise is scaled to the same distribution (Heritier and Ronchetti 1994).
///
/// Where the law goes through every point there is no scatter to take an interval from: it has no width then, and the fit
/// says so among its warnings. An end whose refit does not converge, one at which the profile jumps across the cut (the
/// interval then reaches beyond the jump), and refits that end below the fit's objective are warned of here: the end may
/// be off, or the fit is no global optimum.
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
    let stop = Stop { tolerance: 1e-12, ..Stop::COLD };
    profile_until(law, observations, config, fit, quantity, level, stop)
}

/// As [`profile`], with an end to each refit.
fn profile_until(
    law: &dyn Law,
    observations: &Observations,
    config: &FitConfig,
    fit: &Fit,
    quantity: &Quantity,
    level: f64,
    stop: Stop,
) -> Result<Profile> {
    ensure(0. < level && level < 1., "level", "between 0 and 1", level)?;
    let prepared = Prepared::new(law, observations, config)?;
    if prepared.is_exact(fit) {
        return Ok(without_width(fit, quantity));
    }
    let problem = prepared.problem(law, fit.objective);
    let mut ws = Workspace::from(&prepared.map.reduce(&fit.theta));
    let curvature = curvature(&problem, &mut ws, fit, quantity)?;
    let cut = cut(fit, quantity, level, fit.freedom());
    let mut walk = Walk {
        problem,
        factor: deviance_factor(fit, &prepared.weights),
        quantity,
        curvature,
        cut,
        best: fit.objective_value,
        centre: quantity.value(&fit.theta),
        start: prepared.map.reduce(&fit.theta),
        ws,
        points: vec![(quantity.value(&fit.theta), 0.)],
        stop,
        ends: vec![],
        lowest: fit.objective_value,
        hessian: quantity.hessian(&fit.theta),
    };
    let [low, high] = [-1., 1.].map(|side| walk.end(side));
    // Rounding may put an end of a tiny interval on the wrong side of the estimate.
    let (low, high) = (low.map(|end| end.min(walk.centre)), high.map(|end| end.max(walk.centre)));
    if low.is_none() && high.is_none() {
        return Err(Error::not_identified(quantity.name(), "its profile never reaches the cut"));
    }
    walk.points.sort_by(|left, right| left.0.total_cmp(&right.0));
    let natural = |value: f64| quantity.to_natural(value);
    let warnings = walk.warnings();
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
        warnings,
    })
}

/// What exact data give.
fn without_width(fit: &Fit, quantity: &Quantity) -> Profile {
    let estimate = quantity.natural(&fit.theta);
    Profile {
        name: quantity.name().to_owned(),
        estimate,
        interval: Interval { low: estimate, high: estimate },
        cut: 0.,
        points: vec![(estimate, 0.)],
        open_low: false,
        open_high: false,
        warnings: vec![],
    }
}

/// The deviance at the ends: the square of Student's quantile, times the factor by which an error that all targets share
/// raises the quantity's variance above what their scatter says.
fn cut(fit: &Fit, quantity: &Quantity, level: f64, freedom: f64) -> f64 {
    let (excess, freedom) = match fit.variance(quantity) {
        // Degrees of freedom grow with the square of that factor.
        Some((_, shared)) if shared > fit.freedom() => {
            let excess = (shared / fit.freedom()).sqrt();
            (excess, freedom * excess * excess)
        }
        _ => (1., freedom),
    };
    excess * student_quantile(0.5 + 0.5 * level, freedom).powi(2)
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
    let per_point = match fit.objective {
        Objective::NlsLog | Objective::Nls => 1.,
        Objective::Huber { delta } => {
            huber_moments(delta, &fit.residuals, problem.weights, fit.n_free).1
        }
        Objective::Lad => 2. * density_at_zero(&fit.residuals, problem.weights),
    };
    Ok(per_point / variance)
}

/// The search for one end after the other.
struct Walk<'a> {
    problem: Problem<'a>,
    factor: f64,
    quantity: &'a Quantity<'a>,
    curvature: f64,
    cut: f64,
    best: f64,
    centre: f64,
    start: Vec<f64>,
    ws: Workspace,
    points: Vec<(f64, f64)>,
    stop: Stop,
    /// How the search for each end ended.
    ends: Vec<End>,
    /// The lowest objective that was met.
    lowest: f64,
    hessian: Vec<f64>,
}

/// How the search for an end of the interval ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Settled,
    /// The refit that it rests on did not converge; for an open end, one of them.
    NotConverged,
    /// On either side of it the profile is another one.
    Jumped,
}

impl End {
    fn of(has_converged: bool) -> Self {
        if has_converged { Self::Settled } else { Self::NotConverged }
    }
}

/// How much stiffer the spring is than the profile.
const STIFFNESS: f64 = 3.;

/// Beyond this many times the expected distance an end counts as open.
const FAR: f64 = 300.;

/// Refits on the way to one end, at most.
const MAX_VISITS: usize = 60;

/// A step of the root of the deviance, relative to the cut's, that no smooth profile takes at one place.
const JUMP: f64 = 1e-3;

/// A refit this much below the fit's objective, relative, is another optimum and no rounding.
const BELOW: f64 = 1e-6;

impl Walk<'_> {
    /// Where the profile meets the cut on one side, in the quantity's scale; `None` where it does not.
    fn end(&mut self, side: f64) -> Option<f64> {
        let (place, end) = self.search_end(side);
        self.ends.push(end);
        place
    }

    /// Where the end is, and how far to trust that.
    fn search_end(&mut self, side: f64) -> (Option<f64>, End) {
        let expected = (2. * self.cut / self.factor / self.curvature).sqrt();
        let unit = expected * (1. + 1. / STIFFNESS);
        self.ws.free.clone_from(&self.start);
        // Positions of the spring's far end, and the root of the deviance there relative to the cut's.
        let (mut low, mut high) = ((0., 0., self.centre), None);
        let mut position = 1.;
        let mut have_all_converged = true;
        // Absolute deviations have kinks, at which a pull moves nothing until it is strong enough.
        let mut stretch = 1e-3;
        for _ in 0..MAX_VISITS {
            let (root, value, converged) = self.visit(side * unit * position);
            have_all_converged &= converged;
            if (root - 1.).abs() < 3e-7 {
                return (Some(value), End::of(converged));
            }
            if root < 1. {
                low = (position, root, value);
            } else {
                high = Some((position, root, value));
            }
            position = match high {
                None if position > FAR => return (None, End::of(have_all_converged)),
                None => {
                    stretch *= 1.3;
                    (position / root.max(0.4)).min(3. * position) * (1. + stretch)
                }
                Some(high) => {
                    if (high.0 - low.0) < 1e-7 * high.0 {
                        return match converged && high.1 - low.1 > JUMP {
                            true => (Some(high.2), End::Jumped),
                            false => (Some(value), End::of(converged)),
                        };
                    }
                    let share = (1. - low.1) / (high.1 - low.1);
                    low.0 + share.clamp(0.02, 0.98) * (high.0 - low.0)
                }
            };
        }
        (high.map(|high| high.2), End::NotConverged)
    }

    /// Refits under the spring; the root of the deviance relative to the cut, the quantity, and whether it converged.
    fn visit(&mut self, distance: f64) -> (f64, f64, bool) {
        let pull = Pull {
            quantity: self.quantity,
            target: self.centre + distance,
            stiffness: STIFFNESS * self.curvature,
            hessian: &self.hessian,
        };
        let problem = Problem { pull: Some(pull), ..self.problem };
        let outcome = minimise(&problem, &mut self.ws, self.stop);
        if outcome.converged && outcome.objective < self.lowest {
            self.lowest = outcome.objective;
        }
        problem.map.expand(&self.ws.free, &mut self.ws.theta);
        let value = self.quantity.value(&self.ws.theta);
        let deviance = (self.factor * (outcome.objective - self.best)).max(0.);
        self.points.push((value, deviance));
        ((deviance / self.cut).sqrt(), value, outcome.converged)
    }

    /// What was met on the way.
    fn warnings(&self) -> Vec<String> {
        let at = |kind: End| match self.ends.iter().filter(|end| **end == kind).count() {
            0 => None,
            1 => Some("one of its ends"),
            _ => Some("both of its ends"),
        };
        let failed = at(End::NotConverged)
            .map(|ends| format!("the refit at {ends} did not converge: the interval may be off"));
        let jumped = at(End::Jumped).map(|ends| {
            format!(
                "the profile jumps across the cut at {ends}: the interval reaches beyond the jump"
            )
        });
        let below = (self.lowest < self.best * (1. - BELOW)).then(|| {
            "a better optimum was found on the profile: the fit is not the best one, and its intervals are around the wrong \
             place"
                .to_owned()
        });
        [failed, jumped, below].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests;
