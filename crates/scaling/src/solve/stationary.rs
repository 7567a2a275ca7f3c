//! Least absolute deviations where fewer residuals are zero than parameters are free.
//!
//! Most solutions are vertices, where as many residuals are zero as parameters are free. Where the law bends more than
//! the linear problem sees, the solution lies inside a face: some residuals are zero, and along what they leave open the
//! sum of the others is smooth and stationary. There no walk over vertices arrives. With the zero residuals known, from a
//! Huber solution of small delta, and their multipliers, which its slopes are, Newton's method on the conditions of
//! Karush, Kuhn and Tucker converges in a few steps (Murray and Overton 1981, *A projected Lagrangian algorithm for
//! nonlinear l1 optimization*).

use super::workspace::Workspace;
use super::{Problem, absolute};
use crate::kernels;
use crate::linalg;

/// Newton's steps before giving up.
const MAX_STEPS: usize = 40;

/// Faces left for a smaller one before giving up.
const MAX_FACES: usize = 8;

/// From the solution for `delta` at `ws.free` to that of absolute deviations nearby; true if it arrived, else `ws.free`
/// is as before.
pub(super) fn finish(problem: &Problem, ws: &mut Workspace, delta: f64) -> bool {
    let start = ws.free.clone();
    ws.restore(problem);
    std::mem::swap(&mut ws.residuals, &mut ws.trial_residuals);
    let before = absolute(&ws.residuals, problem.weights);
    let Some(mut face) = Face::new(problem, ws, delta) else { return false };
    for _ in 0..MAX_FACES {
        if !face.newton(problem, ws) {
            break;
        }
        let Some(downhill) = face.downhill(problem, ws) else {
            if absolute(&ws.residuals, problem.weights) <= before {
                return true;
            }
            break;
        };
        if !face.narrow(problem, ws, &downhill) {
            break;
        }
    }
    ws.free = start;
    ws.restore(problem);
    std::mem::swap(&mut ws.residuals, &mut ws.trial_residuals);
    false
}

/// Points whose residuals are zero, and what the objective's slope is at every point: a weight with the residual's
/// sign, or the multiplier of a zero.
struct Face {
    zeros: Vec<usize>,
    /// How hard each zero may pull: its weight and those of its duplicates, for which it stands.
    limits: Vec<f64>,
    slopes: Vec<f64>,
    /// Free parameters that may move.
    moving: Vec<usize>,
}

impl Face {
    fn new(problem: &Problem, ws: &Workspace, delta: f64) -> Option<Self> {
        let moving: Vec<usize> =
            (0..ws.free.len()).filter(|&k| !problem.map.at_bound(k, ws.free[k])).collect();
        let pairs = || ws.residuals.iter().zip(problem.weights);
        let slopes = pairs().map(|(r, w)| w * (r / delta).clamp(-1., 1.)).collect();
        let mut face = Self { zeros: vec![], limits: vec![], slopes, moving };
        for (point, (r, &weight)) in pairs().enumerate() {
            if weight > 0. && r.abs() <= delta {
                face.add(problem, point, weight);
            }
        }
        (face.zeros.len() <= face.moving.len()).then_some(face)
    }

    /// Adds a zero, or lets one that is the same point stand for it.
    fn add(&mut self, problem: &Problem, point: usize, weight: f64) {
        let is_same = |other: usize| {
            let columns = &problem.design.columns;
            problem.log_target[other] == problem.log_target[point]
                && columns.iter().all(|column| column[other] == column[point])
        };
        match self.zeros.iter().position(|&other| is_same(other)) {
            Some(index) => {
                self.limits[index] += weight;
                self.slopes[self.zeros[index]] += self.slopes[point];
                self.slopes[point] = 0.;
            }
            None => {
                self.zeros.push(point);
                self.limits.push(weight);
            }
        }
    }

    /// Newton's steps; true if they converged. A residual that would change its sign becomes a zero, a zero that pulls
    /// harder than its weight is let go.
    fn newton(&mut self, problem: &Problem, ws: &mut Workspace) -> bool {
        for _ in 0..MAX_STEPS {
            ws.linearise(problem);
            if !ws.lagrangian(problem, &self.slopes) && self.zeros.len() < self.moving.len() {
                return false; // Without second derivatives a smooth direction has no end.
            }
            let Some((step, multipliers)) = self.step(problem, ws) else { return false };
            let size = step.iter().fold(0., |size: f64, s| size.max(s.abs()));
            let mut along = vec![0.; ws.free.len()];
            self.moving.iter().zip(&step).for_each(|(&k, &step)| along[k] = step);
            let crossing = self.first_zero(problem, ws, &along);
            let share = crossing.map_or(1., |(_, at)| at.min(1.));
            if share * size > 1. {
                return false;
            }
            let start = ws.free.clone();
            move_to(problem, ws, &start, &along, share);
            ws.commit();
            for (&zero, change) in self.zeros.iter().zip(multipliers) {
                self.slopes[zero] += share * change;
            }
            let left = self.zeros.iter().fold(0., |left: f64, &i| left.max(ws.residuals[i].abs()));
            match crossing {
                Some((point, at)) if at < 1. => {
                    if self.zeros.len() == self.moving.len() {
                        return false;
                    }
                    self.hold(problem, point);
                }
                _ if self.let_go() => {}
                _ if size < 1e-9 && left < 1e-13 => return true,
                _ => {}
            }
        }
        false
    }

    /// Takes a point among the zeros.
    fn hold(&mut self, problem: &Problem, point: usize) {
        self.zeros.push(point);
        self.limits.push(problem.weights[point]);
        self.slopes[point] = 0.;
    }

    /// Frees the zero that exceeds its limit most; false if none does.
    fn let_go(&mut self) -> bool {
        let excess = |index: &usize| self.slopes[self.zeros[*index]].abs() / self.limits[*index];
        let worst = (0..self.zeros.len()).max_by(|a, b| excess(a).total_cmp(&excess(b)));
        let Some(worst) = worst.filter(|index| excess(index) > 1. + 1e-9) else { return false };
        let (point, limit) = (self.zeros.swap_remove(worst), self.limits.swap_remove(worst));
        self.slopes[point] = limit.copysign(self.slopes[point]);
        true
    }

    /// The point whose residual, in the linear problem, is the first to turn to a sign that its slope does not have, and
    /// where along `along` it is zero.
    fn first_zero(&self, problem: &Problem, ws: &Workspace, along: &[f64]) -> Option<(usize, f64)> {
        let rates = rates(problem, ws, along);
        let at = |i: usize| -ws.residuals[i] / rates[i];
        let counts = |&i: &usize| {
            let turns = self.slopes[i] * rates[i] < 0. && self.slopes[i] * ws.residuals[i] > 0.;
            turns && !self.zeros.contains(&i)
        };
        let first = (0..rates.len()).filter(counts).min_by(|&i, &j| at(i).total_cmp(&at(j)))?;
        Some((first, at(first)))
    }

    /// At a stationary point that is no minimum, the direction within the face along which the objective falls fastest.
    fn downhill(&self, problem: &Problem, ws: &Workspace) -> Option<Vec<f64>> {
        let q = self.moving.len();
        let n = problem.design.n_points;
        let free = |row: &[f64]| self.moving.iter().map(|&k| row[k]).collect::<Vec<f64>>();
        // Each parameter in units of what it moves residuals by.
        let mut unit = vec![0.; ws.free.len()];
        for (slot, column) in problem.map.slots.iter().zip(ws.jacobian.chunks_exact(n)) {
            if let super::Slot::Free(k) = *slot {
                unit[k] += kernels::dot(column, column);
            }
        }
        let unit: Vec<f64> = free(&unit).iter().map(|square| 1. / square.sqrt()).collect();
        let mut kept: Vec<Vec<f64>> = vec![];
        for row in self.rows(problem, ws) {
            let mut row: Vec<f64> = free(&row).iter().zip(&unit).map(|(x, u)| x * u).collect();
            project(&mut row, &kept);
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            kept.push(row.iter().map(|x| x / length).collect());
        }
        let matrix = self.matrix(problem, ws);
        let size = q + self.zeros.len();
        let mut inside = vec![0.; q * q]; // second derivatives within the face, row by row, then column by column
        for i in 0..q {
            let row: Vec<f64> = (0..q).map(|j| matrix[i * size + j] * unit[i] * unit[j]).collect();
            inside[i * q..][..q].copy_from_slice(&row);
            project(&mut inside[i * q..][..q], &kept);
        }
        for j in 0..q {
            let mut column: Vec<f64> = (0..q).map(|i| inside[i * q + j]).collect();
            project(&mut column, &kept);
            (0..q).for_each(|i| inside[i * q + j] = column[i]);
        }
        let largest = inside.iter().fold(0., |m: f64, x| m.max(x.abs()));
        let (values, vectors) = linalg::eigen(inside, q);
        let lowest = (0..q).min_by(|&i, &j| values[i].total_cmp(&values[j]))?;
        let vector = vectors[lowest * q..][..q].iter().zip(&unit).map(|(v, u)| v * u);
        (values[lowest] < -1e-9 * largest).then(|| vector.collect())
    }

    /// Goes along a direction, to the side where the objective is lower, until one more residual is zero.
    fn narrow(&mut self, problem: &Problem, ws: &mut Workspace, direction: &[f64]) -> bool {
        let mut along = vec![0.; ws.free.len()];
        self.moving.iter().zip(direction).for_each(|(&k, &step)| along[k] = step);
        let start = ws.free.clone();
        let mut best = (f64::INFINITY, 0., 0);
        for side in [1., -1.] {
            let turned: Vec<f64> = along.iter().map(|x| side * x).collect();
            let Some((next, at)) = self.first_zero(problem, ws, &turned) else { continue };
            let distance = side * at;
            move_to(problem, ws, &start, &along, distance);
            let value = absolute(&ws.trial_residuals, problem.weights);
            if value < best.0 {
                best = (value, distance, next);
            }
        }
        let (_, distance, next) = best;
        if distance == 0. || self.zeros.len() == self.moving.len() {
            return false;
        }
        move_to(problem, ws, &start, &along, distance);
        ws.commit();
        self.hold(problem, next);
        true
    }

    /// The step of the moving parameters, and the change of the multipliers.
    fn step(&self, problem: &Problem, ws: &Workspace) -> Option<(Vec<f64>, Vec<f64>)> {
        let q = self.moving.len();
        let (gradient, _) = ws.free_model();
        let mut right: Vec<f64> = self.moving.iter().map(|&k| -gradient[k]).collect();
        right.extend(self.zeros.iter().map(|&zero| -ws.residuals[zero]));
        let mut matrix = self.matrix(problem, ws);
        linalg::solve_square(&mut matrix, &mut right).then(|| {
            let multipliers = right.split_off(q);
            (right, multipliers)
        })
    }

    /// The matrix of the conditions: second derivatives of the smooth part, bordered by the zeros' first.
    fn matrix(&self, problem: &Problem, ws: &Workspace) -> Vec<f64> {
        let (q, n_free) = (self.moving.len(), ws.free.len());
        let size = q + self.zeros.len();
        let (_, hessian) = ws.free_model();
        let rows = self.rows(problem, ws);
        let mut matrix = vec![0.; size * size];
        for (i, &row) in self.moving.iter().enumerate() {
            for (j, &column) in self.moving.iter().enumerate() {
                matrix[i * size + j] = hessian[row.max(column) * n_free + row.min(column)];
            }
            for (a, zero) in rows.iter().enumerate() {
                matrix[i * size + q + a] = zero[row];
                matrix[(q + a) * size + i] = zero[row];
            }
        }
        matrix
    }

    /// The zeros' derivatives by the free parameters.
    fn rows(&self, problem: &Problem, ws: &Workspace) -> Vec<Vec<f64>> {
        let n = problem.design.n_points;
        let row = |&point: &usize| {
            let by_theta: Vec<f64> =
                ws.jacobian.chunks_exact(n).map(|column| column[point]).collect();
            let mut row = vec![0.; ws.free.len()];
            problem.map.reduce_gradient(&by_theta, &mut row);
            row
        };
        self.zeros.iter().map(row).collect()
    }
}

/// How fast each residual changes along a direction of the free parameters.
fn rates(problem: &Problem, ws: &Workspace, along: &[f64]) -> Vec<f64> {
    let mut rates = vec![0.; problem.design.n_points];
    for (slot, column) in problem.map.slots.iter().zip(ws.jacobian.chunks_exact(rates.len())) {
        if let super::Slot::Free(k) = *slot {
            kernels::add_scaled(along[k], column, &mut rates);
        }
    }
    rates
}

/// Evaluates `start + distance · along`.
fn move_to(problem: &Problem, ws: &mut Workspace, start: &[f64], along: &[f64], distance: f64) {
    for ((trial, start), along) in ws.trial.iter_mut().zip(start).zip(along) {
        *trial = start + distance * along;
    }
    problem.map.clamp(&mut ws.trial);
    problem.map.expand(&ws.trial, &mut ws.theta);
    ws.evaluate(problem);
}

/// Takes out of `row` what lies along orthonormal rows.
fn project(row: &mut [f64], onto: &[Vec<f64>]) {
    for other in onto {
        let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
        row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
    }
}
