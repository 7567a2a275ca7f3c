//! One draw after the other: warm starts first, a search of its own where asked for or needed.

use crate::fit::{Fit, Prepared, search};
use crate::solve::{Problem, Stop, Workspace, minimise};

/// Optima that draws start from, at most.
const MAX_WARM: usize = 3;

/// A cold start found something else if it ends lower by this, relative.
const LOWER: f64 = 1e-6;

/// The solver with what it starts from.
pub(super) struct Refit<'a> {
    ws: Workspace,
    /// Optima that may win on other draws, best first.
    warm: Vec<Vec<f64>>,
    prepared: &'a Prepared,
    best: Vec<f64>,
    theta: Vec<f64>,
    pub(super) n_failed: usize,
    pub(super) n_too_few: usize,
    pub(super) n_checked: usize,
    pub(super) n_improved: usize,
}

impl<'a> Refit<'a> {
    pub(super) fn new(prepared: &'a Prepared, fit: &Fit) -> Self {
        let near = |objective: f64| objective <= 1.1 * fit.objective_value;
        let rivals = fit.optima.iter().filter(|optimum| near(optimum.objective));
        let reduce = |theta: &Vec<f64>| prepared.map.reduce(theta);
        let mut warm: Vec<Vec<f64>> =
            rivals.take(MAX_WARM).map(|optimum| reduce(&optimum.theta)).collect();
        if warm.is_empty() {
            warm.push(reduce(&fit.theta));
        }
        Self {
            ws: Workspace::default(),
            warm,
            prepared,
            best: vec![],
            theta: vec![0.; fit.theta.len()],
            n_failed: 0,
            n_too_few: 0,
            n_checked: 0,
            n_improved: 0,
        }
    }

    pub(super) fn n_evaluations(&self) -> usize {
        self.ws.n_evaluations
    }

    /// Solves one draw; its parameters, or none if it does not count.
    pub(super) fn run(&mut self, problem: &Problem, is_checked: bool) -> Option<&[f64]> {
        let distinct = problem.weights.iter().filter(|weight| **weight > 0.).count();
        if distinct <= problem.map.n_free() {
            self.n_too_few += 1;
            return None;
        }
        let warm = self.run_warm(problem);
        let mut objective = warm;
        if is_checked || !warm.is_finite() {
            let found = search(problem, &mut self.ws, &[]);
            if let Some(best) = found.optima.first()
                && best.objective < warm * (1. - LOWER)
            {
                objective = best.objective;
                self.best = self.prepared.map.reduce(&best.theta);
            }
        }
        if !objective.is_finite() {
            self.n_failed += 1;
            return None;
        }
        if is_checked && warm.is_finite() {
            self.n_checked += 1;
            self.n_improved += usize::from(objective < warm);
        }
        self.prepared.map.expand(&self.best, &mut self.theta);
        Some(&self.theta)
    }

    /// The lowest objective that warm starts lead to, infinite if none converges.
    fn run_warm(&mut self, problem: &Problem) -> f64 {
        let mut objective = f64::INFINITY;
        for start in 0..self.warm.len() {
            self.ws.free.clone_from(&self.warm[start]);
            let mut outcome = minimise(problem, &mut self.ws, Stop::WARM);
            if !outcome.converged {
                outcome = minimise(problem, &mut self.ws, Stop::COLD);
            }
            if outcome.converged && outcome.objective < objective {
                objective = outcome.objective;
                self.best.clone_from(&self.ws.free);
            }
        }
        objective
    }
}
