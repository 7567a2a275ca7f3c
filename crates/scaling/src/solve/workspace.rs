//! The solver's memory and the passes over the points.

use super::Problem;
use super::vertex::Vertex;
use crate::kernels::{self, Robust};
use crate::linalg;

/// Everything that a minimisation writes to; sized once, reused by every draw of a bootstrap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workspace {
    /// Free parameters: the start, then the solution.
    pub(crate) free: Vec<f64>,
    /// The law's parameters that follow from them.
    pub(crate) theta: Vec<f64>,
    /// Residuals at `free`.
    pub(crate) residuals: Vec<f64>,
    pub(crate) trial_residuals: Vec<f64>,
    log_prediction: Vec<f64>,
    scratch: Vec<f64>,
    level: Vec<f64>,
    current_level: Vec<f64>,
    pub(super) jacobian: Vec<f64>,
    slope: Vec<f64>,
    curvature: Vec<f64>,
    weighted: Vec<f64>,
    full_gradient: Vec<f64>,
    full_hessian: Vec<f64>,
    gradient: Vec<f64>,
    hessian: Vec<f64>,
    factor: Vec<f64>,
    scale: Vec<f64>,
    step: Vec<f64>,
    pub(super) trial: Vec<f64>,
    pub(super) vertex: Vertex,
    level_target: Vec<f64>,
    /// Times that the law was evaluated at all points.
    pub(crate) n_evaluations: usize,
}

impl From<&Vec<f64>> for Workspace {
    /// One that starts at these free parameters.
    fn from(free: &Vec<f64>) -> Self {
        Self { free: free.clone(), ..Self::default() }
    }
}

impl Workspace {
    /// Makes room; allocates only where a problem is larger than all before.
    pub(crate) fn resize(&mut self, problem: &Problem) {
        let n = problem.design.n_points;
        let (p, q) = (problem.map.slots.len(), problem.map.n_free());
        for column in [
            &mut self.residuals,
            &mut self.trial_residuals,
            &mut self.log_prediction,
            &mut self.slope,
            &mut self.curvature,
            &mut self.weighted,
        ] {
            column.resize(n, 0.);
        }
        self.scratch.resize(problem.law.n_scratch() * n, 0.);
        self.jacobian.resize(p * n, 0.);
        self.theta.resize(p, 0.);
        self.full_gradient.resize(p, 0.);
        self.full_hessian.resize(p * p, 0.);
        for vector in
            [&mut self.free, &mut self.gradient, &mut self.scale, &mut self.step, &mut self.trial]
        {
            vector.resize(q, 0.);
        }
        self.hessian.resize(q * q, 0.);
        self.factor.resize(q * q, 0.);
        if problem.objective.is_level() {
            self.level.resize(n, 0.);
            self.current_level.resize(n, 0.);
            self.level_target.clear();
            self.level_target.extend_from_slice(problem.log_target);
            kernels::exp_all(&mut self.level_target);
        }
    }

    /// Residuals of `theta`, into `trial_residuals`.
    pub(crate) fn evaluate(&mut self, problem: &Problem) {
        self.n_evaluations += 1;
        let (scratch, log) = (&mut self.scratch, &mut self.log_prediction);
        if problem.objective.is_level() {
            problem.law.level(&self.theta, problem.design, scratch, log, &mut self.level);
            kernels::subtract(&self.level, &self.level_target, &mut self.trial_residuals);
        } else {
            problem.law.log_predict(&self.theta, problem.design, scratch, log);
            kernels::subtract(&self.log_prediction, problem.log_target, &mut self.trial_residuals);
        }
    }

    /// The objective with the spring of a pull; `unit` is what 1 of the objective is worth here.
    fn pulled(&self, problem: &Problem, unit: f64, value: f64) -> f64 {
        match &problem.pull {
            None => value,
            Some(by) => {
                let stretch = by.quantity.value(&self.theta) - by.target;
                value + 0.5 * unit * by.stiffness * stretch * stretch
            }
        }
    }

    /// Makes the residuals just evaluated the current ones; their objective.
    pub(crate) fn accept(&mut self, problem: &Problem, delta: f64, unit: f64) -> f64 {
        let value = kernels::robust_value(delta, &self.trial_residuals, problem.weights);
        std::mem::swap(&mut self.residuals, &mut self.trial_residuals);
        self.pulled(problem, unit, value)
    }

    /// Makes the last trial the current point.
    pub(crate) fn commit(&mut self) {
        std::mem::swap(&mut self.residuals, &mut self.trial_residuals);
        self.free.copy_from_slice(&self.trial);
    }

    /// Evaluates the current point again, after a trial that was not taken.
    pub(crate) fn restore(&mut self, problem: &Problem) {
        problem.map.expand(&self.free, &mut self.theta);
        self.evaluate(problem);
    }

    /// Median of the sizes of the residuals just evaluated.
    pub(crate) fn median_size(&mut self) -> f64 {
        self.weighted.clear();
        self.weighted.extend(self.trial_residuals.iter().map(|r| r.abs()));
        let middle = self.weighted.len() / 2;
        *self.weighted.select_nth_unstable_by(middle, f64::total_cmp).1
    }

    /// A decrease that is rounding alone, of residuals that change by some 1e-12 of the target: where data have no
    /// noise, the objective has no scale of its own.
    pub(super) fn rounding(&self, problem: &Problem) -> f64 {
        let size = if problem.objective.is_level() {
            kernels::dot3(problem.weights, &self.level_target, &self.level_target)
        } else {
            problem.weights.iter().sum()
        };
        1e-25 * size
    }

    /// The Jacobian of the logarithm of the prediction at the current point, which was the last evaluated.
    pub(crate) fn linearise(&mut self, problem: &Problem) {
        problem.map.expand(&self.free, &mut self.theta);
        if problem.objective.is_level() {
            self.current_level.copy_from_slice(&self.level);
        }
        problem.law.log_gradient(
            &self.theta,
            problem.design,
            &self.scratch,
            &self.log_prediction,
            &mut self.jacobian,
        );
    }

    /// Gradient and Hessian of the quadratic model by the free parameters.
    pub(crate) fn quadratic(
        &mut self,
        problem: &Problem,
        delta: f64,
        blend: f64,
        unit: f64,
        is_newton: bool,
    ) {
        problem.map.expand(&self.free, &mut self.theta); // a rejected trial may have left its own
        let rule = Robust { delta, blend };
        let weights = problem.weights;
        kernels::robust(rule, &self.residuals, weights, &mut self.slope, &mut self.curvature);
        let is_level = problem.objective.is_level();
        if is_level {
            for ((slope, curvature), f) in
                self.slope.iter_mut().zip(&mut self.curvature).zip(&self.current_level)
            {
                *slope *= f;
                *curvature *= f * f;
            }
        }
        self.full_hessian.fill(0.);
        if is_newton {
            let hessian = &mut self.full_hessian;
            let (jacobian, slope) = (&self.jacobian, &self.slope);
            let has = problem.law.add_curvature(problem.design, jacobian, slope, hessian);
            if has && !is_level {
                // The logarithm's second derivative is that of f over f, less the square of the gradient.
                kernels::add_scaled(-1., &self.slope, &mut self.curvature);
            }
        }
        self.squares(problem);
        if let Some(by) = &problem.pull {
            let (gradient, hessian) = (&mut self.full_gradient, &mut self.full_hessian);
            by.add_derivatives(&self.theta, unit, gradient, hessian, is_newton);
        }
        let map = problem.map;
        if map.is_identity() {
            self.gradient.copy_from_slice(&self.full_gradient);
            self.hessian.copy_from_slice(&self.full_hessian);
        } else {
            map.reduce_gradient(&self.full_gradient, &mut self.gradient);
            map.reduce_matrix(&self.full_hessian, &mut self.hessian);
        }
    }

    /// Adds `Jᵀ diag(curvature) J` to the Hessian, and writes `Jᵀ slope`.
    fn squares(&mut self, problem: &Problem) {
        let n = problem.design.n_points;
        let p = self.theta.len();
        let column = |j: usize| &self.jacobian[j * n..][..n];
        self.full_gradient.fill(0.);
        add_dots(&self.slope, p, column, &mut self.full_gradient);
        for i in 0..p {
            kernels::multiply(column(i), &self.curvature, &mut self.weighted);
            add_dots(&self.weighted, i + 1, column, &mut self.full_hessian[i * p..]);
        }
    }

    /// Solves for the step; false if the damped Hessian is not positive definite.
    pub(crate) fn step(&mut self, problem: &Problem, damping: f64) -> bool {
        let q = self.free.len();
        self.factor.copy_from_slice(&self.hessian);
        for k in 0..q {
            self.step[k] = -self.gradient[k];
            if problem.map.is_held(k, self.free[k], self.gradient[k]) {
                self.step[k] = 0.;
                for l in 0..q {
                    self.factor[k.max(l) * q + k.min(l)] = 0.;
                }
                self.factor[k * q + k] = 1.;
            }
        }
        if !linalg::cholesky(&mut self.factor, &mut self.scale, damping) {
            return false;
        }
        linalg::solve(&self.factor, &self.scale, &mut self.step);
        self.step.iter().all(|step| step.is_finite())
    }

    /// `-gᵀ step`: twice the decrease that the model promises.
    pub(crate) fn decrement(&self) -> f64 {
        -self.gradient.iter().zip(&self.step).map(|(g, s)| g * s).sum::<f64>()
    }

    fn move_trial(&mut self, problem: &Problem) {
        for ((trial, free), step) in self.trial.iter_mut().zip(&self.free).zip(&self.step) {
            *trial = free + step;
        }
        problem.map.clamp(&mut self.trial);
        problem.map.expand(&self.trial, &mut self.theta);
    }

    /// Evaluates the step's end; its objective, infinite where it is no number.
    pub(crate) fn try_step(&mut self, problem: &Problem, delta: f64, unit: f64) -> f64 {
        self.move_trial(problem);
        self.evaluate(problem);
        let value = kernels::robust_value(delta, &self.trial_residuals, problem.weights);
        let value = self.pulled(problem, unit, value);
        if value.is_nan() { f64::INFINITY } else { value }
    }

    /// Takes the last, tiny step without asking what it brings.
    pub(crate) fn take_step(&mut self, problem: &Problem) {
        self.move_trial(problem);
        self.free.copy_from_slice(&self.trial);
    }

    /// Gradient and second derivatives by the free parameters of `Σ c r` at the current point, linearised already; false
    /// if the law does not know its second derivatives, which then are zero.
    pub(super) fn lagrangian(&mut self, problem: &Problem, coefficients: &[f64]) -> bool {
        self.slope.copy_from_slice(coefficients);
        self.full_hessian.fill(0.);
        let (jacobian, hessian) = (&self.jacobian, &mut self.full_hessian);
        let has = problem.law.add_curvature(problem.design, jacobian, coefficients, hessian);
        // The logarithm's second derivative is that of f over f, less the square of the gradient.
        self.curvature.fill(0.);
        if has {
            kernels::add_scaled(-1., coefficients, &mut self.curvature);
        }
        self.squares(problem);
        problem.map.reduce_gradient(&self.full_gradient, &mut self.gradient);
        problem.map.reduce_matrix(&self.full_hessian, &mut self.hessian);
        has
    }

    /// Gradient and lower triangle of the Hessian by the free parameters, as last computed.
    pub(super) fn free_model(&self) -> (&[f64], &[f64]) {
        (&self.gradient, &self.hessian)
    }

    /// `Jᵀ diag(w) shift` by the free parameters, for a shift of the logarithms of the targets; after
    /// [`Self::information`].
    pub(crate) fn pushed_by(&mut self, problem: &Problem, shift: &[f64]) -> Vec<f64> {
        kernels::multiply(&self.curvature, shift, &mut self.slope);
        for (sum, column) in
            self.full_gradient.iter_mut().zip(self.jacobian.chunks_exact(shift.len()))
        {
            *sum = kernels::dot(column, &self.slope);
        }
        let mut push = vec![0.; self.free.len()];
        problem.map.reduce_gradient(&self.full_gradient, &mut push);
        push
    }

    /// `Jᵀ diag(w) J` by the free parameters, of the residuals that the objective sees.
    pub(crate) fn information(&mut self, problem: &Problem) -> Vec<f64> {
        self.curvature.copy_from_slice(problem.weights);
        if problem.objective.is_level() {
            self.curvature.iter_mut().zip(&self.current_level).for_each(|(c, f)| *c *= f * f);
        }
        self.full_hessian.fill(0.);
        self.squares(problem);
        let q = self.free.len();
        let mut lower = vec![0.; q * q];
        problem.map.reduce_matrix(&self.full_hessian, &mut lower);
        lower
    }
}

/// Adds the dot products of `left` with the first `count` columns to `sums`.
fn add_dots<'a>(left: &[f64], count: usize, column: impl Fn(usize) -> &'a [f64], sums: &mut [f64]) {
    for first in (0..count).step_by(4) {
        match count - first {
            1 => sums[first] += kernels::dot(left, column(first)),
            left_over => {
                let four = [0, 1, 2, 3].map(|k| column(first + k.min(left_over - 1)));
                let dots = kernels::dot4(left, four);
                sums[first..count].iter_mut().zip(dots).for_each(|(sum, dot)| *sum += dot);
            }
        }
    }
}
