//! The search: every valley to convergence, ends grouped into distinct optima, and what the best of them lacks.

use crate::error::{Error, Result};
use crate::fit::covariance::{Errors, errors};
use crate::fit::{Fit, Optimum, Prepared};
use crate::interval::quantile;
use crate::kernels;
use crate::law::{Law, Parameter};
use crate::objective::{Dropped, Objective};
use crate::solve::{Problem, Stop, Workspace, explore, minimise, value};

/// Objectives this close, relative, are one.
const SAME_OBJECTIVE: f64 = 1e-7;

/// Parameters this close, in the solver's scale and relative to 1, are one.
const SAME_THETA: f64 = 1e-2;

/// Beyond this condition number, of the information scaled to a unit diagonal, some direction is as good as open.
const FLAT: f64 = 1e8;

/// Of what varies, a fit that leaves more than this unexplained may have better ones elsewhere.
const MAX_LEFT: f64 = 0.1;

/// With fewer points a parameter than this, the objective has more valleys than squares show.
const FEW: usize = 3;

/// Rounds of a robust objective in which starts are sought anew.
const MAX_ROUNDS: usize = 3;

/// What a search found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Distinct, best first.
    pub(crate) optima: Vec<Optimum>,
    /// Starts, those included that another one stands for.
    pub(crate) n_starts: usize,
    /// Starts that were searched from.
    pub(crate) n_searches: usize,
    /// Starts whose search did not end at a stationary point.
    pub(crate) n_failed: usize,
}

impl Found {
    /// Searches from a start.
    fn try_from(&mut self, problem: &Problem, ws: &mut Workspace, theta: &[f64]) {
        self.try_with(problem, ws, theta, 1, Stop::COLD);
    }

    /// Searches from a point that stands for this many starts.
    fn try_with(
        &mut self,
        problem: &Problem,
        ws: &mut Workspace,
        theta: &[f64],
        starts: usize,
        stop: Stop,
    ) {
        self.n_starts += starts;
        self.n_searches += 1;
        ws.free = problem.map.reduce(theta);
        let mut outcome = minimise(problem, ws, stop);
        if !outcome.converged && stop.blend < 1. {
            ws.free = problem.map.reduce(theta);
            outcome = minimise(problem, ws, Stop::COLD);
        }
        if !outcome.converged || !outcome.objective.is_finite() {
            self.n_failed += starts;
            return;
        }
        problem.map.expand(&ws.free, &mut ws.theta);
        self.record(outcome.objective, &ws.theta, starts);
    }

    /// Adds an end to the optima, or counts it where it is one that is known.
    fn record(&mut self, objective: f64, theta: &[f64], starts: usize) {
        let is_same = |known: &Optimum| {
            let scale = known.objective.abs().max(objective.abs()).max(f64::MIN_POSITIVE);
            let distance =
                known.theta.iter().zip(theta).map(|(a, b)| (a - b).abs() / a.abs().max(1.));
            // Noiseless data leave objectives that are rounding alone.
            let is_close =
                (known.objective - objective).abs() <= SAME_OBJECTIVE * scale || scale < 1e-8;
            is_close && distance.fold(0., f64::max) < SAME_THETA
        };
        match self.optima.iter_mut().find(|known| is_same(known)) {
            Some(known) => {
                known.starts += starts;
                if objective < known.objective {
                    known.objective = objective;
                    known.theta = theta.to_vec();
                }
            }
            None => self.optima.push(Optimum { objective, theta: theta.to_vec(), starts }),
        }
        self.optima.sort_by(|left, right| left.objective.total_cmp(&right.objective));
    }

    /// The lowest objective, infinite before there is one.
    pub(crate) fn lowest(&self) -> f64 {
        self.optima.first().map_or(f64::INFINITY, |best| best.objective)
    }

    /// Looks for a better optimum of absolute deviations next to the best.
    fn explore(&mut self, problem: &Problem, ws: &mut Workspace) {
        let Some(best) = self.optima.first() else { return };
        let before = best.objective;
        ws.free = problem.map.reduce(&best.theta);
        let lower = explore(problem, ws, before);
        if lower < before {
            problem.map.expand(&ws.free, &mut ws.theta);
            self.record(lower, &ws.theta, 0);
        }
    }

    /// Searches from every start of the law.
    fn exhaust(&mut self, problem: &Problem, ws: &mut Workspace) {
        for start in problem.law.starts(problem.design, problem.log_target, problem.weights) {
            self.try_from(problem, ws, &start);
        }
    }

    /// Whether all starts lie in one valley whose optimum explains most of what varies: then nobody need look for others.
    fn is_clear(&self, problem: &Problem, ws: &mut Workspace) -> bool {
        let [best] = self.optima.as_slice() else { return false };
        let points = problem.weights.iter().filter(|weight| **weight > 0.).count();
        let is_few = points < FEW * problem.map.n_free();
        if is_few || self.n_searches > 1 || self.n_failed > 0 {
            return false;
        }
        ws.free = problem.map.reduce(&best.theta);
        if ws.free.iter().enumerate().any(|(k, &value)| problem.map.at_bound(k, value)) {
            return false;
        }
        value(problem, ws);
        let target: Vec<f64> = match problem.objective.is_level() {
            true => problem.log_target.iter().map(|y| y.exp()).collect(),
            false => problem.log_target.to_vec(),
        };
        let weights = problem.weights;
        let mean = kernels::dot(&target, weights) / weights.iter().sum::<f64>();
        let varies: f64 = target.iter().zip(weights).map(|(y, w)| w * (y - mean).powi(2)).sum();
        let is_left = kernels::dot3(&ws.residuals, &ws.residuals, weights);
        is_left <= MAX_LEFT * varies
    }

    /// Lets the only search count for itself alone, as the starts that it stood for are searched from after all.
    fn count_once(&mut self) {
        self.n_starts = self.n_searches;
        self.n_failed = self.n_failed.min(self.n_searches);
        self.optima
            .iter_mut()
            .for_each(|optimum| optimum.starts = optimum.starts.min(self.n_searches));
    }

    /// Robust objectives see other valleys than squares do. At their optimum they are squares with smaller weights for
    /// large residuals, so the valleys of those are where a better optimum would be. Absolute deviations have optima
    /// close to each other, so there the bottom of the known valley is searched from as well.
    fn seek_anew(&mut self, problem: &Problem, ws: &mut Workspace) {
        for round in 0..MAX_ROUNDS {
            let Some(best) = self.optima.first().cloned() else { return };
            ws.free = problem.map.reduce(&best.theta);
            value(problem, ws);
            let weights = reweighted(problem, &ws.residuals);
            let is_close = problem.objective == Objective::Lad && round == 0;
            let known = if is_close { &[] } else { self.optima.as_slice() };
            let known: Vec<&[f64]> = known.iter().map(|o| o.theta.as_slice()).collect();
            let valleys = problem.law.valleys(problem.design, problem.log_target, &weights, &known);
            for valley in valleys.unwrap_or_default() {
                self.try_with(problem, ws, &valley.theta, valley.starts, Stop::NEAR);
            }
            if self.lowest() >= best.objective * (1. - SAME_OBJECTIVE) {
                return;
            }
        }
    }
}

/// Weights with which squares have the slopes that a robust objective has at these residuals.
fn reweighted(problem: &Problem, residuals: &[f64]) -> Vec<f64> {
    let sizes = residuals.iter().map(|r| r.abs());
    let least = match problem.objective {
        Objective::Huber { delta } => delta,
        _ => {
            let mut sizes: Vec<f64> = sizes.clone().collect();
            sizes.sort_by(f64::total_cmp);
            (1e-2 * quantile(&sizes, 0.5)).max(f64::MIN_POSITIVE)
        }
    };
    sizes.zip(problem.weights).map(|(size, weight)| weight * least / size.max(least)).collect()
}

/// Weights with which the squares of relative errors are closest to the objective: those of the level are the level's.
fn start_weights(problem: &Problem) -> Vec<f64> {
    if !problem.objective.is_level() {
        return problem.weights.to_vec();
    }
    let highest = problem.log_target.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let pairs = problem.weights.iter().zip(problem.log_target);
    pairs.map(|(weight, y)| weight * (2. * (y - highest)).exp()).collect()
}

/// Searches for the optimum: from every valley that the law knows, once, and where these are several or explain little from
/// each of the law's starts as well. Ties and fixed values change the valleys, so there it is the starts alone.
pub(crate) fn search(problem: &Problem, ws: &mut Workspace, further: &[Vec<f64>]) -> Found {
    let mut found = Found::default();
    let valleys = match problem.map.is_identity() {
        true => {
            let weights = start_weights(problem);
            problem.law.valleys(problem.design, problem.log_target, &weights, &[])
        }
        false => None,
    };
    let has_valleys = valleys.is_some();
    let valleys = valleys.unwrap_or_default();
    for valley in &valleys {
        let starts = if valleys.len() == 1 { valley.starts } else { 1 };
        found.try_with(problem, ws, &valley.theta, starts, Stop::NEAR);
    }
    if !found.is_clear(problem, ws) {
        found.count_once();
        found.exhaust(problem, ws);
    }
    for start in further {
        found.try_from(problem, ws, start);
    }
    if has_valleys && !problem.objective.is_square() {
        found.seek_anew(problem, ws);
    }
    found
}

/// Fits what was prepared.
pub(crate) fn fit_prepared(
    law: &dyn Law,
    prepared: &Prepared,
    objective: Objective,
    dropped: Vec<Dropped>,
    further: &[Vec<f64>],
) -> Result<Fit> {
    let problem = prepared.problem(law, objective);
    let mut ws = Workspace::default();
    let mut found = search(&problem, &mut ws, further);
    if objective == Objective::Lad {
        found.explore(&problem, &mut ws);
    }
    finish(law, prepared, objective, dropped, found, ws)
}

/// The fit at the best optimum.
fn finish(
    law: &dyn Law,
    prepared: &Prepared,
    objective: Objective,
    dropped: Vec<Dropped>,
    found: Found,
    mut ws: Workspace,
) -> Result<Fit> {
    let problem = prepared.problem(law, objective);
    let Found { optima, n_starts, n_searches, n_failed } = found;
    let Some(best) = optima.first().cloned() else {
        let reason = format!("none of {n_starts} starts converged");
        return Err(Error::not_identified(law.name(), reason));
    };
    ws.free = prepared.map.reduce(&best.theta);
    let objective_value = value(&problem, &mut ws);
    let residuals = ws.residuals.clone();
    let shared_error = prepared.shared_error.as_deref();
    let Errors { covariance, shared_shift, condition } =
        errors(&problem, &mut ws, objective_value, shared_error);
    let parameters = law.parameters();
    let at_bounds = at_bounds(prepared, &parameters, &best.theta);
    let mut fit = Fit {
        law: law.name(),
        objective,
        parameters,
        theta: best.theta,
        objective_value,
        n_points: prepared.rows.len(),
        n_free: prepared.map.n_free(),
        dropped,
        n_starts,
        n_searches,
        n_failed,
        n_evaluations: ws.n_evaluations,
        optima,
        residuals,
        used: prepared.used.clone(),
        rows: prepared.rows.clone(),
        covariance,
        shared_shift,
        condition,
        at_bounds,
        warnings: vec![],
    };
    fit.warnings = warnings(&fit);
    Ok(fit)
}

fn at_bounds(prepared: &Prepared, parameters: &[Parameter], theta: &[f64]) -> Vec<String> {
    let free = prepared.map.reduce(theta);
    let at = |(i, parameter): (usize, &Parameter)| {
        let crate::solve::Slot::Free(k) = prepared.map.slots[i] else { return None };
        prepared.map.at_bound(k, free[k]).then(|| parameter.name.clone())
    };
    parameters.iter().enumerate().filter_map(at).collect()
}

/// What a reader must know.
fn warnings(fit: &Fit) -> Vec<String> {
    let mut warnings = vec![];
    for name in &fit.at_bounds {
        let value = fit.value(name).unwrap_or(f64::NAN);
        warnings.push(format!("`{name}` ended on its bound, {value:.3e}: the data ask for no such term, or cannot tell"));
    }
    if fit.condition > FLAT || fit.covariance.is_none() {
        warnings.push(format!(
            "the optimum lies on a flat ridge (condition number {:.1e}): single parameters mean little, predictions \
             inside the data may still hold",
            fit.condition
        ));
    }
    let near = |optimum: &&Optimum| optimum.objective <= 1.01 * fit.objective_value;
    let rivals = fit.optima.iter().skip(1).filter(near).count();
    if rivals > 0 {
        warnings.push(format!("{rivals} other optima have an objective within 1 % of the best"));
    }
    if 2 * fit.n_failed > fit.n_starts {
        warnings.push(format!("{} of {} starts did not converge", fit.n_failed, fit.n_starts));
    }
    let per_parameter = fit.n_points as f64 / fit.n_free.max(1) as f64;
    if per_parameter < 3. {
        warnings.push(format!(
            "{} points for {} parameters: intervals are wide and their asymptotics doubtful",
            fit.n_points, fit.n_free
        ));
    }
    warnings
}

#[cfg(test)]
mod tests;
