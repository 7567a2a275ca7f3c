//! Down a valley of the projected problem: least squares over two exponents, the amplitudes solved for at every step.
//!
//! Steps are those of Kaufman 1975, *A variable projection method for solving separable nonlinear least squares
//! problems*, in the logarithms of the exponents, damped as by Levenberg and Marquardt. Two columns of exponentials and
//! a few dot products a step make this far cheaper than a search over all parameters, and several starts in one valley
//! are recognised as such on the way.

use super::Relative;
use super::amplitudes::{Amplitudes, Dots};
use crate::kernels;

/// Logarithms of exponents this close lie in one valley.
const SAME_VALLEY: f64 = 0.15;

/// Objectives this close, relative, are as low as each other.
const SAME_DEPTH: f64 = 1e-3;

/// A path ends where a step promises less than this, relative.
const TOLERANCE: f64 = 1e-7;

/// Least squares left over that are rounding, relative to the target's.
const ROUNDING: f64 = 1e-13;

const MAX_STEPS: usize = 40;
const MAX_REJECTED: usize = 8;

/// The longest step, in logarithms of exponents.
const MAX_STEP: f64 = 0.7;

/// Exponents beyond these are no valley of this problem.
const RANGE: (f64, f64) = (4e-3, 8.);

/// How a path ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    /// In the valley of this number, whose bottom has this sum of squares.
    Joins(usize, f64),
    /// At its lowest point, or where an amplitude would turn negative.
    Ends([f64; 2], Amplitudes),
}

impl Path {
    /// The sum of squares that it leads to.
    pub(super) fn objective(&self) -> f64 {
        match self {
            Self::Joins(_, objective) => *objective,
            Self::Ends(_, amplitudes) => amplitudes.objective,
        }
    }
}

/// A place that is known, with the sum of squares there.
#[derive(Clone, Copy, Debug)]
struct Bottom {
    logs: [f64; 2],
    objective: f64,
}

/// The problem, and the columns at the pair of exponents last visited.
pub(super) struct Descent<'a> {
    shared: &'a Relative,
    x: &'a [f64],
    z: &'a [f64],
    u: Vec<f64>,
    v: Vec<f64>,
    /// Derivatives of the powers by their exponents.
    p: Vec<f64>,
    q: Vec<f64>,
    dots: Dots,
    known: Vec<Bottom>,
}

/// Gradient and Gauss and Newton's matrix by the logarithms of the exponents.
struct Model {
    gradient: [f64; 2],
    matrix: [f64; 3],
}

impl Model {
    /// The damped step, and twice the decrease that it promises; none where the matrix is singular.
    fn step(&self, damping: f64) -> Option<([f64; 2], f64)> {
        let [pp, pq, qq] = self.matrix;
        let (pp, qq) = (pp * (1. + damping), qq * (1. + damping));
        let determinant = pp * qq - pq * pq;
        if determinant.is_nan() || determinant <= 1e-13 * pp * qq {
            return None;
        }
        let [g, h] = self.gradient;
        let step = [(pq * h - qq * g) / determinant, (pq * g - pp * h) / determinant];
        let decrement = -(g * step[0] + h * step[1]);
        let size = step[0].abs().max(step[1].abs());
        let share = (MAX_STEP / size).min(1.);
        Some((step.map(|step| share * step), decrement))
    }
}

impl<'a> Descent<'a> {
    pub(super) fn new(shared: &'a Relative, x: &'a [f64], z: &'a [f64]) -> Self {
        let column = || vec![0.; x.len()];
        let dots = Dots {
            uu: 0.,
            uv: 0.,
            vv: 0.,
            ut: 0.,
            vt: 0.,
            uf: 0.,
            vf: 0.,
            ff: shared.floor_square,
            tf: shared.floor_target,
            tt: shared.target_square,
        };
        let (u, v, p, q) = (column(), column(), column(), column());
        Self { shared, x, z, u, v, p, q, dots, known: vec![] }
    }

    /// How many places are known.
    pub(super) fn n_known(&self) -> usize {
        self.known.len()
    }

    /// Counts a pair of exponents among the places that are known.
    pub(super) fn remember(&mut self, exponents: [f64; 2]) {
        self.visit(exponents);
        let objective = Amplitudes::best(&self.dots).objective;
        self.known.push(Bottom { logs: exponents.map(f64::ln), objective });
    }

    /// Goes down from a pair of exponents whose amplitudes are positive.
    pub(super) fn follow(&mut self, start: [f64; 2]) -> Path {
        let mut logs = start.map(f64::ln);
        self.visit(start);
        let mut here = Amplitudes::best(&self.dots);
        let mut damping = 1e-3;
        for _ in 0..MAX_STEPS {
            if let Some(valley) = self.valley_of(logs, here.objective) {
                return valley;
            }
            if here.objective <= ROUNDING * self.shared.target_square {
                break;
            }
            let model = self.model(logs.map(f64::exp), &here);
            match self.advance(&model, &mut damping, logs, here.objective) {
                Some((next, amplitudes)) => (logs, here) = (next, amplitudes),
                None => break,
            }
        }
        if let Some(valley) = self.valley_of(logs, here.objective) {
            return valley;
        }
        self.known.push(Bottom { logs, objective: here.objective });
        Path::Ends(logs.map(f64::exp), here)
    }

    /// The known valley that a place lies in, unless it is lower than that one's bottom.
    fn valley_of(&self, logs: [f64; 2], objective: f64) -> Option<Path> {
        let is_near = |bottom: &Bottom| {
            let distance = (logs[0] - bottom.logs[0]).abs().max((logs[1] - bottom.logs[1]).abs());
            distance < SAME_VALLEY && objective >= bottom.objective * (1. - SAME_DEPTH)
        };
        let index = self.known.iter().position(is_near)?;
        Some(Path::Joins(index, self.known[index].objective))
    }

    /// A step that helps; none at the end of the path.
    fn advance(
        &mut self,
        model: &Model,
        damping: &mut f64,
        logs: [f64; 2],
        objective: f64,
    ) -> Option<([f64; 2], Amplitudes)> {
        for _ in 0..MAX_REJECTED {
            let Some((step, decrement)) = model.step(*damping) else {
                *damping = (10. * *damping).max(1e-3);
                continue;
            };
            if decrement <= TOLERANCE * objective {
                return None;
            }
            let next = [logs[0] + step[0], logs[1] + step[1]];
            let exponents = next.map(f64::exp);
            if exponents.iter().all(|&exponent| RANGE.0 < exponent && exponent < RANGE.1) {
                self.visit(exponents);
                match Amplitudes::inside(&self.dots) {
                    Some(found) if found.objective < objective => {
                        *damping *= 0.1;
                        return Some((next, found));
                    }
                    _ => {}
                }
            }
            *damping = (10. * *damping).max(1e-2);
        }
        None
    }

    /// Columns and dot products of a pair of exponents.
    fn visit(&mut self, [alpha, beta]: [f64; 2]) {
        let shared = self.shared;
        shared.column(alpha, self.x, &mut self.u);
        shared.column(beta, self.z, &mut self.v);
        kernels::multiply(&self.u, self.x, &mut self.p);
        kernels::multiply(&self.v, self.z, &mut self.q);
        self.dots.uf = shared.project(&mut self.u);
        self.dots.vf = shared.project(&mut self.v);
        let [uu, uv, ut, _] =
            kernels::dot4(&self.u, [&self.u, &self.v, &shared.target, &shared.target]);
        self.dots = Dots { uu, uv, ut, ..self.dots };
        self.dots.vv = kernels::dot(&self.v, &self.v);
        self.dots.vt = kernels::dot(&self.v, &shared.target);
    }

    /// The model at the pair last visited.
    fn model(&self, [alpha, beta]: [f64; 2], here: &Amplitudes) -> Model {
        let Dots { uu, uv, vv, ff, .. } = self.dots;
        let [a, b, _] = here.values;
        let against = |column: &[f64], scale: f64| {
            let shared = self.shared;
            kernels::dot4(column, [&self.u, &self.v, &shared.target, &shared.floor])
                .map(|dot| scale * dot)
        };
        let (of_p, of_q) = (a * alpha, b * beta);
        let [pu, pv, pt, pf] = against(&self.p, of_p);
        let [qu, qv, qt, qf] = against(&self.q, of_q);
        let determinant = uu * vv - uv * uv;
        // What u and v explain of a product of two columns, given those with them.
        let explained = |[lu, lv]: [f64; 2], [ru, rv]: [f64; 2]| {
            (lu * (vv * ru - uv * rv) + lv * (uu * rv - uv * ru)) / determinant
        };
        let square = |left: &[f64], right: &[f64], scale: f64| scale * kernels::dot(left, right);
        let (p, q) = ([pu, pv], [qu, qv]);
        Model {
            gradient: [a * pu + b * pv - pt, a * qu + b * qv - qt],
            matrix: [
                square(&self.p, &self.p, of_p * of_p) - pf * pf / ff - explained(p, p),
                square(&self.p, &self.q, of_p * of_q) - pf * qf / ff - explained(p, q),
                square(&self.q, &self.q, of_q * of_q) - qf * qf / ff - explained(q, q),
            ],
        }
    }
}
