//! Most laws are one shape: a sum of exponentials of linear forms, times an exponential of a linear form,
//! `f = exp(d·θ) Σ_k exp(c_k·θ)`. Values, gradients and second derivatives of all of them are here.

use std::fmt::Debug;

use super::{Design, Input, Law, Parameter, Valley};
use crate::kernels;
use crate::linalg;

/// What is left to say of a law that is an [`ExpSum`]; values and derivatives follow.
pub(crate) trait ExpSumLaw: Debug + Sync {
    /// The linear forms.
    fn form(&self) -> &ExpSum;

    /// As [`Law::name`].
    fn name(&self) -> String;

    /// As [`Law::parameters`].
    fn parameters(&self) -> Vec<Parameter>;

    /// As [`Law::inputs`].
    fn inputs(&self) -> Vec<Input>;

    /// As [`Law::columns`].
    fn columns(&self, inputs: &[&[f64]]) -> Vec<Vec<f64>>;

    /// As [`Law::starts`].
    fn starts(&self, design: &Design, log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>>;

    /// As [`Law::valleys`].
    fn valleys(
        &self,
        design: &Design,
        log_target: &[f64],
        weights: &[f64],
        known: &[&[f64]],
    ) -> Option<Vec<Valley>> {
        let _ = (design, log_target, weights, known);
        None
    }
}

impl<T: ExpSumLaw> Law for T {
    fn name(&self) -> String {
        ExpSumLaw::name(self)
    }

    fn parameters(&self) -> Vec<Parameter> {
        ExpSumLaw::parameters(self)
    }

    fn inputs(&self) -> Vec<Input> {
        ExpSumLaw::inputs(self)
    }

    fn columns(&self, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
        ExpSumLaw::columns(self, inputs)
    }

    fn n_scratch(&self) -> usize {
        self.form().n_scratch()
    }

    fn log_predict(&self, theta: &[f64], design: &Design, scratch: &mut [f64], out: &mut [f64]) {
        self.form().log_predict(theta, design, scratch, out);
    }

    fn log_gradient(
        &self,
        _: &[f64],
        design: &Design,
        scratch: &[f64],
        _: &[f64],
        jacobian: &mut [f64],
    ) {
        self.form().log_gradient(design, scratch, jacobian);
    }

    fn level(
        &self,
        theta: &[f64],
        design: &Design,
        scratch: &mut [f64],
        _: &mut [f64],
        out: &mut [f64],
    ) {
        self.form().level(theta, design, scratch, out);
    }

    fn add_curvature(
        &self,
        design: &Design,
        jacobian: &[f64],
        coefficients: &[f64],
        hessian: &mut [f64],
    ) -> bool {
        self.form().add_curvature(design, jacobian, coefficients, hessian);
        true
    }

    fn starts(&self, design: &Design, log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>> {
        ExpSumLaw::starts(self, design, log_target, weights)
    }

    fn valleys(
        &self,
        design: &Design,
        log_target: &[f64],
        weights: &[f64],
        known: &[&[f64]],
    ) -> Option<Vec<Valley>> {
        ExpSumLaw::valleys(self, design, log_target, weights, known)
    }
}

/// One product `θ[param] · column`, or `θ[param]` alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Feature {
    pub(crate) param: usize,
    pub(crate) column: Option<usize>,
}

/// `θ[param]`.
pub(crate) fn constant(param: usize) -> Feature {
    Feature { param, column: None }
}

/// `θ[param] · column`.
pub(crate) fn slope(param: usize, column: usize) -> Feature {
    Feature { param, column: Some(column) }
}

/// The start of a law that is one exponential, whose logarithm is linear in its parameters: their least squares, or a
/// constant where the columns leave them open. One start is enough, as there is one optimum.
pub(crate) fn log_line(columns: &[Vec<f64>], log_target: &[f64], weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let mean = |values: &[f64]| kernels::dot(values, weights) / total;
    let ones = vec![1.; log_target.len()];
    let centres: Vec<f64> = columns.iter().map(|column| mean(column)).collect();
    let centred: Vec<Vec<f64>> = columns
        .iter()
        .zip(&centres)
        .map(|(column, centre)| column.iter().map(|x| x - centre).collect())
        .collect();
    let mut all = vec![ones.as_slice()];
    all.extend(centred.iter().map(Vec::as_slice));
    let Some(mut line) = linalg::least_squares(&all, log_target, weights) else {
        let mut constant = vec![0.; all.len()];
        constant[0] = mean(log_target);
        return constant;
    };
    line[0] -= line[1..].iter().zip(&centres).map(|(slope, centre)| slope * centre).sum::<f64>();
    line
}

/// The linear forms; each parameter appears in one place.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ExpSum {
    pub(crate) terms: Vec<Vec<Feature>>,
    pub(crate) common: Vec<Feature>,
}

/// `values[i] += θ · column[i]` for each feature.
fn add(features: &[Feature], theta: &[f64], design: &Design, values: &mut [f64]) {
    for feature in features {
        match feature.column {
            None => values.iter_mut().for_each(|value| *value += theta[feature.param]),
            Some(c) => kernels::add_scaled(theta[feature.param], &design.columns[c], values),
        }
    }
}

impl ExpSum {
    /// One column for the sum, one for each term.
    pub(crate) fn n_scratch(&self) -> usize {
        1 + self.terms.len()
    }

    /// Whether there is more than one term: then their sum and its logarithm are computed.
    fn is_sum(&self) -> bool {
        self.terms.len() > 1
    }

    pub(crate) fn log_predict(
        &self,
        theta: &[f64],
        design: &Design,
        scratch: &mut [f64],
        out: &mut [f64],
    ) {
        if self.is_sum() {
            self.add_terms(theta, design, scratch);
            kernels::ln_all(&scratch[..design.n_points], out);
        } else {
            out.fill(0.);
            self.terms.iter().for_each(|term| add(term, theta, design, out));
        }
        add(&self.common, theta, design, out);
    }

    /// The prediction itself, without the way over its logarithm.
    pub(crate) fn level(
        &self,
        theta: &[f64],
        design: &Design,
        scratch: &mut [f64],
        out: &mut [f64],
    ) {
        if !self.is_sum() {
            self.log_predict(theta, design, scratch, out);
            return kernels::exp_all(out);
        }
        self.add_terms(theta, design, scratch);
        let sum = &scratch[..design.n_points];
        if self.common.is_empty() {
            return out.copy_from_slice(sum);
        }
        out.fill(0.);
        add(&self.common, theta, design, out);
        kernels::exp_all(out);
        out.iter_mut().zip(sum).for_each(|(out, sum)| *out *= sum);
    }

    /// Writes the terms, and before them their sum, to `scratch`.
    fn add_terms(&self, theta: &[f64], design: &Design, scratch: &mut [f64]) {
        let n = design.n_points;
        let (sum, terms) = scratch.split_at_mut(n);
        sum.fill(0.);
        for (features, term) in self.terms.iter().zip(terms.chunks_exact_mut(n)) {
            match features.as_slice() {
                [Feature { param, column: None }] => term.fill(theta[*param].exp()),
                &[Feature { param: a, column: None }, Feature { param: b, column: Some(c) }] => {
                    kernels::exp_linear(theta[a], theta[b], &design.columns[c], term);
                }
                features => {
                    term.fill(0.);
                    add(features, theta, design, term);
                    kernels::exp_all(term);
                }
            }
            kernels::add_scaled(1., term, sum);
        }
    }

    pub(crate) fn log_gradient(&self, design: &Design, scratch: &[f64], jacobian: &mut [f64]) {
        let n = design.n_points;
        let (sum, terms) = scratch.split_at(n);
        for (features, term) in self.terms.iter().zip(terms.chunks_exact(n)) {
            let mut share = None; // the constant's column, where there is one, is the term's share of the sum
            for feature in features {
                let (before, rest) = jacobian.split_at_mut(feature.param * n);
                let (out, after) = rest.split_at_mut(n);
                match (feature.column, share) {
                    (None, _) if !self.is_sum() => out.fill(1.),
                    (Some(c), _) if !self.is_sum() => out.copy_from_slice(&design.columns[c]),
                    (None, _) => {
                        kernels::divide(term, sum, out);
                        share = Some(feature.param);
                    }
                    (Some(c), Some(param)) => {
                        let share = match param < feature.param {
                            true => &before[param * n..][..n],
                            false => &after[(param - feature.param - 1) * n..][..n],
                        };
                        kernels::multiply(share, &design.columns[c], out);
                    }
                    (Some(c), None) => {
                        kernels::divide(term, sum, out);
                        out.iter_mut().zip(&design.columns[c]).for_each(|(out, x)| *out *= x);
                    }
                }
            }
        }
        for feature in &self.common {
            let out = &mut jacobian[feature.param * n..][..n];
            match feature.column {
                None => out.fill(1.),
                Some(c) => out.copy_from_slice(&design.columns[c]),
            }
        }
    }

    /// `Σ_i c_i Σ_k s_k v_k v_kᵀ`, with `s_k` a term's share of the sum and `v_k` the features of its exponent. A
    /// feature's column of the Jacobian is already `s_k v_k`.
    pub(crate) fn add_curvature(
        &self,
        design: &Design,
        jacobian: &[f64],
        coefficients: &[f64],
        hessian: &mut [f64],
    ) {
        let n = design.n_points;
        let p = jacobian.len() / n;
        let mut add = |i: usize, j: usize, value: f64| hessian[i.max(j) * p + i.min(j)] += value;
        let against = |left: &Feature, right: &Feature| {
            let left = &jacobian[left.param * n..][..n];
            match right.column {
                None => kernels::dot(coefficients, left),
                Some(c) => kernels::dot3(coefficients, left, &design.columns[c]),
            }
        };
        let of_term = self.terms.iter().flat_map(|term| term.iter().map(move |left| (term, left)));
        for (term, left) in of_term {
            let siblings = term.iter().filter(|right| right.param <= left.param);
            for right in siblings.chain(&self.common) {
                add(left.param, right.param, against(left, right));
            }
        }
        for left in &self.common {
            for right in self.common.iter().filter(|right| right.param <= left.param) {
                add(left.param, right.param, against(left, right));
            }
        }
    }
}
