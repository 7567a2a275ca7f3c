//! The last steps towards least absolute deviations: from vertex to vertex, in the linearised problem and then in the
//! real one.
//!
//! At the solution as many residuals are zero as parameters are free. Barrodale and Roberts 1973 walk such vertices of
//! the linear problem, dropping one zero residual for a better one along an edge; around that, the model is linearised
//! again until nothing moves, which converges quadratically as Newton's method does on the zero residuals.

use super::workspace::Workspace;
use super::{Problem, absolute};
use crate::kernels;

/// Linearisations before giving up.
const MAX_ROUNDS: usize = 30;

/// Edges walked in one linear problem before giving up.
const MAX_EDGES: usize = 200;

/// Residuals below this are zero: those of duplicates of the basis are, up to rounding.
const TINY: f64 = 1e-12;

/// Memory of the walk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vertex {
    /// Points whose residuals are zero.
    basis: Vec<usize>,
    /// Free parameters that may move.
    moving: Vec<usize>,
    columns: Vec<f64>,
    residuals: Vec<f64>,
    signs: Vec<f64>,
    /// Points outside the basis whose residuals are zero.
    zeros: Vec<usize>,
    rates: Vec<f64>,
    inverse: Vec<f64>,
    square: Vec<f64>,
    edge: Vec<f64>,
    multipliers: Vec<f64>,
    step: Vec<f64>,
    breaks: Vec<f64>,
    order: Vec<usize>,
}

/// Walks from `ws.free` to a local optimum; true if it arrived, else `ws.free` is no worse than before.
pub(super) fn polish(problem: &Problem, ws: &mut Workspace) -> bool {
    let mut vertex = std::mem::take(&mut ws.vertex);
    let arrived = vertex.walk(problem, ws);
    ws.vertex = vertex;
    arrived
}

/// How far along an edge, in median residuals of the one that is let go.
const REACHES: [f64; 2] = [-0.5, 0.5];

/// Points around the one at `ws.free`: along each edge of the vertex there, either way.
pub(super) fn neighbours(problem: &Problem, ws: &mut Workspace) -> Vec<Vec<f64>> {
    let mut vertex = std::mem::take(&mut ws.vertex);
    let found = vertex.neighbours(problem, ws);
    ws.vertex = vertex;
    found
}

impl Vertex {
    fn neighbours(&mut self, problem: &Problem, ws: &mut Workspace) -> Vec<Vec<f64>> {
        self.start(problem, ws);
        let distance = ws.median_size();
        ws.linearise(problem);
        self.gather(problem, ws);
        let q = self.moving.len();
        if !self.choose_basis(problem) || !self.invert(problem.design.n_points) {
            return vec![];
        }
        let along = |(b, reach): (usize, f64)| {
            let mut free = ws.free.clone();
            for (k, &place) in self.moving.iter().enumerate() {
                free[place] += reach * distance * self.inverse[k * q + b];
            }
            free
        };
        (0..q).flat_map(|b| REACHES.map(|reach| (b, reach))).map(along).collect()
    }

    /// Evaluates the point at `ws.free` and forgets the last walk.
    fn start(&mut self, problem: &Problem, ws: &mut Workspace) {
        self.moving.clear();
        self.moving.extend((0..ws.free.len()).filter(|&k| !problem.map.at_bound(k, ws.free[k])));
        self.basis.clear();
        ws.restore(problem);
        ws.residuals.copy_from_slice(&ws.trial_residuals);
    }

    fn walk(&mut self, problem: &Problem, ws: &mut Workspace) -> bool {
        self.start(problem, ws);
        let mut objective = absolute(&ws.residuals, problem.weights);
        let floor = 1e-12 * problem.weights.iter().sum::<f64>();
        for _ in 0..MAX_ROUNDS {
            ws.linearise(problem);
            self.gather(problem, ws);
            if self.basis.is_empty() && !self.choose_basis(problem) {
                return false;
            }
            if !self.solve_linear(problem) {
                return false;
            }
            let promised = objective - absolute(&self.residuals, problem.weights);
            let Some(next) = self.advance(problem, ws, objective) else {
                return promised <= (1e-9 * objective).max(floor); // The linear problem says stay, up to rounding.
            };
            let gain = objective - next;
            objective = next;
            if gain <= (1e-13 * objective).max(1e-3 * floor) {
                return true;
            }
        }
        false
    }

    /// The Jacobian by the moving parameters, column by column, and the residuals.
    fn gather(&mut self, problem: &Problem, ws: &Workspace) {
        let n = problem.design.n_points;
        self.columns.clear();
        self.columns.resize(self.moving.len() * n, 0.);
        for (slot, column) in problem.map.slots.iter().zip(ws.jacobian.chunks_exact(n)) {
            let super::Slot::Free(k) = *slot else { continue };
            if let Some(place) = self.moving.iter().position(|&moving| moving == k) {
                kernels::add_scaled(1., column, &mut self.columns[place * n..][..n]);
            }
        }
        self.residuals.clear();
        self.residuals.extend_from_slice(&ws.residuals);
        self.signs.resize(n, 0.);
        self.rates.resize(n, 0.);
    }

    /// The points of smallest residuals whose rows of the Jacobian are independent.
    fn choose_basis(&mut self, problem: &Problem) -> bool {
        let (n, q) = (problem.design.n_points, self.moving.len());
        self.order.clear();
        self.order.extend((0..n).filter(|&i| problem.weights[i] > 0.));
        let size = |i: &usize| self.residuals[*i].abs();
        self.order.sort_unstable_by(|i, j| size(i).total_cmp(&size(j)));
        // Gram and Schmidt on rows, each parameter in units of its column's length.
        let unit: Vec<f64> = (0..q)
            .map(|k| {
                let column = &self.columns[k * n..][..n];
                1. / kernels::dot(column, column).sqrt().max(1e-300)
            })
            .collect();
        let mut kept: Vec<Vec<f64>> = vec![];
        for &point in &self.order {
            let mut row: Vec<f64> = (0..q).map(|k| self.columns[k * n + point] * unit[k]).collect();
            let before: f64 = row.iter().map(|x| x * x).sum();
            for other in &kept {
                let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
            let after: f64 = row.iter().map(|x| x * x).sum();
            if after > 1e-8 * before {
                row.iter_mut().for_each(|x| *x /= after.sqrt());
                kept.push(row);
                self.basis.push(point);
                if kept.len() == q {
                    return true;
                }
            }
        }
        self.basis.clear();
        false
    }

    /// The optimum of the linearised problem: leaves the step to it.
    fn solve_linear(&mut self, problem: &Problem) -> bool {
        let (n, q) = (problem.design.n_points, self.moving.len());
        if !self.invert(n) {
            return false;
        }
        self.step.clear();
        self.step.resize(q, 0.);
        for k in 0..q {
            self.step[k] = -(0..q)
                .map(|b| self.inverse[k * q + b] * self.residuals[self.basis[b]])
                .sum::<f64>();
            kernels::add_scaled(self.step[k], &self.columns[k * n..][..n], &mut self.residuals);
        }
        for _ in 0..MAX_EDGES {
            for &point in &self.basis {
                self.residuals[point] = 0.;
            }
            let Some((leaving, slope)) = self.steepest(problem) else { return true };
            let Some((entering, length)) = self.line_search(problem, leaving, slope) else {
                return false;
            };
            for k in 0..q {
                self.step[k] += length * self.edge[k];
            }
            kernels::add_scaled(length, &self.rates, &mut self.residuals);
            self.basis[leaving] = entering;
            if !self.invert(n) {
                return false;
            }
        }
        false
    }

    /// Inverts the rows of the basis, `inverse[k][b]`; false if they are dependent.
    fn invert(&mut self, n: usize) -> bool {
        let q = self.moving.len();
        self.square.clear();
        for &point in &self.basis {
            self.square.extend((0..q).map(|k| self.columns[k * n + point]));
        }
        self.inverse.clear();
        self.inverse.resize(q * q, 0.);
        for i in 0..q {
            self.inverse[i * q + i] = 1.;
        }
        for column in 0..q {
            let size = |row: &usize| self.square[row * q + column].abs();
            let pivot = (column..q).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(column);
            if size(&pivot).is_nan() || size(&pivot) < 1e-300 {
                return false;
            }
            for k in 0..q {
                self.square.swap(pivot * q + k, column * q + k);
                self.inverse.swap(pivot * q + k, column * q + k);
            }
            let factor = 1. / self.square[column * q + column];
            for k in 0..q {
                self.square[column * q + k] *= factor;
                self.inverse[column * q + k] *= factor;
            }
            for row in (0..q).filter(|&row| row != column) {
                let factor = self.square[row * q + column];
                for k in 0..q {
                    self.square[row * q + k] -= factor * self.square[column * q + k];
                    self.inverse[row * q + k] -= factor * self.inverse[column * q + k];
                }
            }
        }
        self.inverse.iter().all(|value| value.is_finite())
    }

    /// The zero residual that is best let go, with the slope of the objective along its edge; `None` at the optimum.
    fn steepest(&mut self, problem: &Problem) -> Option<(usize, f64)> {
        let (n, q) = (problem.design.n_points, self.moving.len());
        self.zeros.clear();
        for (i, ((sign, r), w)) in
            self.signs.iter_mut().zip(&self.residuals).zip(problem.weights).enumerate()
        {
            let is_zero = r.abs() <= TINY;
            *sign = if is_zero { 0. } else { w.copysign(*r) };
            if is_zero && !self.basis.contains(&i) {
                self.zeros.push(i);
            }
        }
        self.multipliers.clear();
        self.multipliers.resize(q, 0.);
        for k in 0..q {
            let pull = kernels::dot(&self.signs, &self.columns[k * n..][..n]);
            for b in 0..q {
                self.multipliers[b] -= self.inverse[k * q + b] * pull;
            }
        }
        // A zero outside the basis, as a duplicate is, resists a step in either direction.
        let rate = |point: usize, b: usize| -> f64 {
            (0..q).map(|k| self.inverse[k * q + b] * self.columns[k * n + point]).sum()
        };
        let resistance = |b: usize| -> f64 {
            self.zeros.iter().map(|&point| problem.weights[point] * rate(point, b).abs()).sum()
        };
        let slope =
            |b: usize| problem.weights[self.basis[b]] + resistance(b) - self.multipliers[b].abs();
        let leaving = (0..q).min_by(|&a, &b| slope(a).total_cmp(&slope(b)))?;
        let slope = slope(leaving);
        if slope >= -1e-9 {
            return None;
        }
        let side = self.multipliers[leaving].signum();
        self.edge.clear();
        self.edge.extend((0..q).map(|k| side * self.inverse[k * q + leaving]));
        Some((leaving, slope))
    }

    /// Where the objective is lowest along the edge: the point whose residual becomes zero there, and how far it is.
    fn line_search(
        &mut self,
        problem: &Problem,
        leaving: usize,
        slope: f64,
    ) -> Option<(usize, f64)> {
        let n = problem.design.n_points;
        self.rates.fill(0.);
        for (k, &along) in self.edge.iter().enumerate() {
            kernels::add_scaled(along, &self.columns[k * n..][..n], &mut self.rates);
        }
        self.breaks.clear();
        for ((r, rate), w) in self.residuals.iter().zip(&self.rates).zip(problem.weights) {
            let at = -r / rate;
            let counts = at > 0. && at.is_finite() && *w > 0. && r.abs() > TINY;
            self.breaks.push(if counts { at } else { f64::INFINITY });
        }
        for (b, &point) in self.basis.iter().enumerate() {
            // Others of the basis stay at zero along this edge, up to rounding.
            self.breaks[point] = f64::INFINITY;
            if b != leaving {
                self.rates[point] = 0.;
            }
        }
        let mut slope = slope;
        loop {
            let (point, &at) = self.breaks.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1))?;
            if at == f64::INFINITY {
                return None;
            }
            slope += 2. * problem.weights[point] * self.rates[point].abs();
            if slope >= 0. {
                return Some((point, at));
            }
            self.breaks[point] = f64::INFINITY;
        }
    }

    /// Takes the step in the real problem, halved until it helps; the new objective, or `None` if none does.
    fn advance(&mut self, problem: &Problem, ws: &mut Workspace, objective: f64) -> Option<f64> {
        let mut share = 1.;
        for _ in 0..12 {
            ws.trial.copy_from_slice(&ws.free);
            for (&k, step) in self.moving.iter().zip(&self.step) {
                ws.trial[k] += share * step;
            }
            problem.map.clamp(&mut ws.trial);
            problem.map.expand(&ws.trial, &mut ws.theta);
            ws.evaluate(problem);
            let value = absolute(&ws.trial_residuals, problem.weights);
            if value < objective {
                ws.commit();
                return Some(value);
            }
            share *= 0.4;
        }
        None
    }
}
