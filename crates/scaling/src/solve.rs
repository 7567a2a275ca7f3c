//! The solver: damped Newton steps on `Σ w ρ(r)`, with all memory allocated before the first.
//!
//! Three things make it fast and safe on these laws. Second derivatives are exact where the law gives them, so that the
//! last steps converge quadratically. For Huber's loss the weights of the quadratic model are blended between Newton's
//! (points inside delta only: converges in a few steps, may overshoot) and those that majorise the loss (iterated
//! least squares: never overshoots a linear model, crawls); rejected steps move the blend one way, good ones the
//! other. Absolute deviations are the limit of a falling delta, each stage started from the last.

mod free;
mod stationary;
mod vertex;
mod workspace;

pub(crate) use free::{FreeMap, Slot};
pub(crate) use workspace::Workspace;

use crate::kernels;
use crate::law::{Design, Law};
use crate::objective::Objective;
use crate::quantity::Quantity;

/// What is minimised.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a> {
    pub(crate) law: &'a dyn Law,
    pub(crate) design: &'a Design,
    pub(crate) log_target: &'a [f64],
    pub(crate) weights: &'a [f64],
    pub(crate) objective: Objective,
    pub(crate) map: &'a FreeMap,
    /// Adds a spring to the objective: the way to a profile likelihood.
    pub(crate) pull: Option<Pull<'a>>,
}

/// `stiffness / 2 · (quantity - target)²`, in the quantity's scale.
#[derive(Clone, Copy)]
pub(crate) struct Pull<'a> {
    pub(crate) quantity: &'a Quantity<'a>,
    pub(crate) target: f64,
    pub(crate) stiffness: f64,
    /// The quantity's second derivatives near the estimate, lower triangle. They are not followed: a quantity may be
    /// costly, and with its first derivatives exact these only set the pace.
    pub(crate) hessian: &'a [f64],
}

impl Pull<'_> {
    /// Adds the spring's derivatives, times `unit`; those of second order only where asked for, as they may make the
    /// Hessian indefinite.
    fn add_derivatives(
        &self,
        theta: &[f64],
        unit: f64,
        gradient: &mut [f64],
        hessian: &mut [f64],
        is_newton: bool,
    ) {
        let p = theta.len();
        let own = self.quantity.gradient(theta);
        let stiffness = unit * self.stiffness;
        let force = stiffness * (self.quantity.value(theta) - self.target);
        for i in 0..p {
            gradient[i] += force * own[i];
            for j in 0..=i {
                hessian[i * p + j] += stiffness * own[i] * own[j];
            }
        }
        if is_newton {
            hessian.iter_mut().zip(self.hessian).for_each(|(sum, own)| *sum += force * own);
        }
    }
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// Twice the decrease that the next step would bring, relative to the objective.
    pub(crate) tolerance: f64,
    pub(crate) max_steps: usize,
    /// Blend of weights at the start: 1 far away, less near the optimum.
    pub(crate) blend: f64,
}

impl Stop {
    /// From a start of unknown quality, to the last digits.
    pub(crate) const COLD: Self = Self { tolerance: 1e-13, max_steps: 400, blend: 1. };
    /// To the last digits, from the bottom of a valley of almost the same problem.
    pub(crate) const NEAR: Self = Self { tolerance: 1e-13, max_steps: 400, blend: 0.1 };
    /// From the neighbourhood of an optimum.
    pub(crate) const WARM: Self = Self { tolerance: 1e-10, max_steps: 200, blend: 0.1 };
}

/// How a minimisation ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// The objective, without a pull.
    pub(crate) objective: f64,
    pub(crate) steps: usize,
    pub(crate) converged: bool,
}

/// Minimises from `ws.free`, leaves the solution there and in `ws.theta`; residuals and Jacobian belong to it.
pub(crate) fn minimise(problem: &Problem, ws: &mut Workspace, stop: Stop) -> Outcome {
    ws.resize(problem);
    problem.map.clamp(&mut ws.free);
    let outcome = match problem.objective {
        Objective::Huber { delta } => descend(problem, ws, delta, 1., stop),
        Objective::NlsLog | Objective::Nls => descend(problem, ws, f64::INFINITY, 1., stop),
        Objective::Lad => shrink(problem, ws, stop),
    };
    let objective = match problem.objective {
        Objective::Lad => absolute(&ws.residuals, problem.weights),
        _ if problem.pull.is_some() => value(problem, ws),
        _ => outcome.objective,
    };
    Outcome { objective, ..outcome }
}

/// The objective at `ws.free`, without a pull.
pub(crate) fn value(problem: &Problem, ws: &mut Workspace) -> f64 {
    ws.resize(problem);
    problem.map.expand(&ws.free, &mut ws.theta);
    ws.evaluate(problem);
    let sum = |delta| kernels::robust_value(delta, &ws.trial_residuals, problem.weights);
    let value = match problem.objective {
        Objective::Huber { delta } => sum(delta),
        Objective::NlsLog | Objective::Nls => sum(f64::INFINITY),
        Objective::Lad => absolute(&ws.trial_residuals, problem.weights),
    };
    std::mem::swap(&mut ws.residuals, &mut ws.trial_residuals);
    value
}

fn absolute(residuals: &[f64], weights: &[f64]) -> f64 {
    residuals.iter().zip(weights).map(|(r, w)| w * r.abs()).sum()
}

/// Absolute deviations: Huber with a delta that falls, then from vertex to vertex, or within a face.
fn shrink(problem: &Problem, ws: &mut Workspace, stop: Stop) -> Outcome {
    ws.restore(problem);
    let median = ws.median_size().max(1e-12);
    let mut steps = 0;
    let mut blend = stop.blend;
    for share in SHARES {
        let stage = Stop { tolerance: 1e-4, max_steps: stop.max_steps, blend };
        // A sum of |r| is the sum of Huber's loss divided by delta, so a pull is multiplied by it.
        let delta = share * median;
        let outcome = descend(problem, ws, delta, delta, stage);
        steps += outcome.steps;
        blend = 0.1;
        // Residuals that are rounding alone have no vertex to walk to.
        let is_exact =
            absolute(&ws.residuals, problem.weights) <= 1e-11 * problem.weights.iter().sum::<f64>();
        if is_exact || problem.pull.is_none() && share < 0.5 && sharpen(problem, ws, delta) {
            return Outcome { objective: 0., steps, converged: true };
        }
    }
    let delta = SHARES[SHARES.len() - 1] * median;
    let last = Stop { tolerance: 1e-8, max_steps: stop.max_steps, blend };
    let outcome = descend(problem, ws, delta, delta, last);
    Outcome { steps: steps + outcome.steps, ..outcome }
}

/// Looks for a better optimum of absolute deviations around the one at `ws.free`: one step along each edge, and down from
/// there. Local optima lie a few edges apart where points are few, and smoothing leads every start to the same one of
/// them. The objective of the best, which is left in `ws.free`.
pub(crate) fn explore(problem: &Problem, ws: &mut Workspace, objective: f64) -> f64 {
    let mut best = (objective, ws.free.clone());
    for _ in 0..MAX_MOVES {
        let before = best.0;
        ws.free.clone_from(&best.1);
        for start in vertex::neighbours(problem, ws) {
            ws.free.clone_from(&start);
            problem.map.clamp(&mut ws.free);
            if !vertex::polish(problem, ws) {
                ws.free = start;
                problem.map.clamp(&mut ws.free);
                if !settle(problem, ws) {
                    continue;
                }
            }
            let objective = absolute(&ws.residuals, problem.weights);
            if objective < best.0 * (1. - 1e-10) {
                best = (objective, ws.free.clone());
            }
        }
        if best.0 == before {
            break;
        }
    }
    ws.free = best.1;
    best.0
}

/// The optimum of absolute deviations next to `ws.free`: the last stages alone, so that no smoothing leads away.
fn settle(problem: &Problem, ws: &mut Workspace) -> bool {
    ws.restore(problem);
    let median = ws.median_size().max(1e-12);
    SHARES[3..].iter().any(|share| {
        let stage = Stop { tolerance: 1e-4, max_steps: 60, blend: 0.1 };
        descend(problem, ws, share * median, share * median, stage);
        sharpen(problem, ws, share * median)
    })
}

/// Moves to a better optimum before an exploration ends.
const MAX_MOVES: usize = 10;

/// From the solution for `delta` to that of absolute deviations; true if it arrived, else `ws.free` is as before.
fn sharpen(problem: &Problem, ws: &mut Workspace, delta: f64) -> bool {
    let smooth = ws.free.clone();
    if vertex::polish(problem, ws) {
        return true;
    }
    ws.free = smooth;
    stationary::finish(problem, ws, delta)
}

/// Deltas of the stages, in units of the median residual at the start; far from the optimum that is large.
const SHARES: [f64; 7] = [1., 0.2, 0.04, 8e-3, 1.6e-3, 3e-4, 6e-5];

/// A tolerance above this ends a stage and not the search: its last step is taken only if it helps.
const COARSE: f64 = 1e-10;

/// The rounding of an objective, in units of the mean of itself and of what rounding alone leaves.
const ROUNDED: f64 = 6e-3;

/// Steps within the rounding of the objective before a search ends.
const MAX_NOISY: usize = 8;

/// Minimises Huber's loss of one delta (squares, if that is infinite).
fn descend(problem: &Problem, ws: &mut Workspace, delta: f64, pull: f64, stop: Stop) -> Outcome {
    let mut blend = if delta.is_finite() { stop.blend } else { 0. };
    let mut damping = if stop.blend < 1. { 0. } else { 1e-3 };
    problem.map.expand(&ws.free, &mut ws.theta);
    ws.evaluate(problem);
    let mut objective = ws.accept(problem, delta, pull);
    let mut is_newton = stop.blend < 1.;
    let floor = ws.rounding(problem);
    let mut noisy_steps = 0;
    for step in 0..stop.max_steps {
        ws.linearise(problem);
        let mut rejected = 0;
        let mut undamped = f64::INFINITY;
        let mut model = None;
        loop {
            if model != Some((blend, is_newton)) {
                ws.quadratic(problem, delta, blend, pull, is_newton);
                model = Some((blend, is_newton));
            }
            if !ws.step(problem, damping) {
                // Indefinite far from the optimum: leave the second derivatives out, then damp.
                damping = if is_newton { damping } else { (10. * damping).max(1e-6) };
                is_newton = false;
                rejected += 1;
                if rejected > 60 {
                    return Outcome { objective, steps: step, converged: false };
                }
                continue;
            }
            let decrement = ws.decrement();
            let is_small = decrement <= (stop.tolerance * objective.abs()).max(floor);
            let is_last = is_small && blend <= 0.021 && damping <= 1e-3;
            if is_last && stop.tolerance <= COARSE {
                ws.take_step(problem);
                return Outcome { objective, steps: step + 1, converged: true };
            }
            let trial = ws.try_step(problem, delta, pull);
            if is_last {
                if trial < objective {
                    ws.commit();
                }
                return Outcome {
                    objective: objective.min(trial),
                    steps: step + 1,
                    converged: true,
                };
            }
            let gained = (objective - trial) / (0.5 * decrement);
            if rejected == 0 {
                undamped = decrement;
            }
            // What so short a step brings is the rounding of the objective: residuals, large beside their own rounding,
            // times the latter.
            let noise = (stop.tolerance.min(COARSE) * objective.abs())
                .max(floor)
                .max(ROUNDED * (objective.abs() * floor).sqrt());
            let is_noise = decrement <= noise;
            if gained > 1e-3 || is_noise {
                let is_no_worse = trial <= objective + 10. * noise;
                if gained > 0. || is_no_worse {
                    ws.commit();
                    objective = trial;
                } else {
                    ws.restore(problem);
                }
                noisy_steps += usize::from(is_noise);
                // A full step may still bring the gradient to zero; more of them, or shorter ones, bring nothing.
                let is_drowned = rejected > 0 && undamped <= 1e3 * noise;
                if is_noise && (is_drowned || !is_no_worse || noisy_steps > MAX_NOISY) {
                    return Outcome { objective, steps: step + 1, converged: true };
                }
                if gained > 0.6 || is_noise {
                    damping = if damping < 1e-7 { 0. } else { 0.1 * damping };
                    blend = if blend < 1e-4 { blend } else { 0.2 * blend };
                    // Far away, the second derivatives of large residuals mislead.
                    is_newton = decrement < 0.1 * objective;
                } else if gained < 0.2 {
                    damping = (3. * damping).max(1e-6);
                    blend = (3. * blend).min(1.);
                }
                break;
            }
            rejected += 1;
            // What a step promises may drown in the rounding of the objective, or in the noise of a pull's quantity.
            let drowned = decrement <= 1e3 * noise;
            if rejected > 60 || rejected > 8 && drowned {
                return Outcome { objective, steps: step, converged: drowned };
            }
            if delta.is_finite() && blend < 1. {
                blend = (5. * blend).clamp(1e-3, 1.);
            } else {
                damping = (10. * damping).max(1e-4);
            }
        }
    }
    Outcome { objective, steps: stop.max_steps, converged: false }
}

/// The lower triangle of `Jᵀ diag(weights) J` by the free parameters at `ws.free`.
pub(crate) fn information(problem: &Problem, ws: &mut Workspace) -> Vec<f64> {
    problem.map.expand(&ws.free, &mut ws.theta);
    ws.evaluate(problem);
    ws.linearise(problem);
    ws.information(problem)
}

#[cfg(test)]
mod tests;
