//! The loss of one language family, or one data domain, from its own share of the mixture.
//!
//! He et al. 2024, *Scaling laws for multilingual language models*, arXiv:2410.12883:
//! `L_i = (E_i + A_i N^-alpha_i + B_i D^-beta_i) p_i^-gamma_i`. The loss depends on the family's own share alone; that
//! is a hypothesis, which cross terms `- tau_j p_j` in the logarithm relax. `(p + epsilon)` in place of `p` lets the
//! share be 0, which the paper's form does not.

use super::chinchilla::{minus_ln, two_power_parameters, two_power_terms};
use super::exp_sum::{ExpSum, Feature, constant, slope};
use super::{Design, Input, Law, Parameter};
use crate::kernels;
use crate::linalg;
use crate::starts::{COARSE_EXPONENTS, two_powers};

/// How the loss depends on the family's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareForm {
    /// `p^-gamma`; the share must be positive.
    #[default]
    Power,
    /// `(p + epsilon)^-gamma`; the share may be 0.
    Offset,
}

/// The law of one family. Parameters `A B E alpha beta` (or `C` at one scale), `gamma_<family>`, `epsilon`,
/// `tau_<other>`; inputs `n`, `d`, `p` and the shares with cross terms.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    family: String,
    has_scale: bool,
    share: ShareForm,
    cross: Vec<String>,
    form: ExpSum,
}

impl Family {
    /// The law with `N` and `D`; `family` names its `gamma`.
    pub fn new(family: &str) -> Self {
        Self::build(family, true, ShareForm::Power, vec![])
    }

    /// The law at one scale: `L = C p^-gamma`.
    pub fn at_one_scale(family: &str) -> Self {
        Self::build(family, false, ShareForm::Power, vec![])
    }

    /// Lets the share be 0.
    #[must_use]
    pub fn with_offset(self) -> Self {
        Self::build(&self.family, self.has_scale, ShareForm::Offset, self.cross)
    }

    /// Adds `- tau_j p_j` to the logarithm for each of these inputs, the shares of other families. At most all but
    /// one, as shares sum to 1.
    #[must_use]
    pub fn with_cross_terms(self, others: &[&str]) -> Self {
        let cross = others.iter().map(|&name| name.to_owned()).collect();
        Self::build(&self.family, self.has_scale, self.share, cross)
    }

    fn build(family: &str, has_scale: bool, share: ShareForm, cross: Vec<String>) -> Self {
        let terms = if has_scale { two_power_terms() } else { vec![vec![constant(0)]] };
        let (n_base, n_columns) = if has_scale { (5, 2) } else { (1, 0) };
        // The share's column is `-ln p`, or `p` itself, which the offset then handles.
        let mut common: Vec<Feature> = vec![];
        let mut next = n_base + 1;
        match share {
            ShareForm::Power => common.push(slope(n_base, n_columns)),
            ShareForm::Offset => next += 1,
        }
        common.extend((0..cross.len()).map(|j| slope(next + j, n_columns + 1 + j)));
        let form = ExpSum { terms, common };
        Self { family: family.to_owned(), has_scale, share, cross, form }
    }

    /// Where `gamma` stands in `theta`.
    pub fn gamma_index(&self) -> usize {
        if self.has_scale { 5 } else { 1 }
    }

    /// The loss that the family would have alone, `L(N, D, p = 1)` without cross terms, from `theta`.
    pub fn scale_factor(&self, theta: &[f64], n: f64, d: f64) -> f64 {
        if !self.has_scale {
            return theta[0].exp();
        }
        let of_n = (theta[0] - theta[3] * n.ln()).exp();
        let of_d = (theta[1] - theta[4] * d.ln()).exp();
        theta[2].exp() + of_n + of_d
    }

    fn share_column(&self) -> usize {
        if self.has_scale { 2 } else { 0 }
    }
}

impl Law for Family {
    fn name(&self) -> String {
        "multilingual".into()
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = match self.has_scale {
            true => two_power_parameters(),
            false => vec![Parameter::log("C", 1e-6, 1e6, "nats per token")],
        };
        let gamma = match self.family.as_str() {
            "" => "gamma".to_owned(),
            family => format!("gamma_{family}"),
        };
        parameters.push(Parameter::linear(gamma, -2., 5., ""));
        if self.share == ShareForm::Offset {
            parameters.push(Parameter::log("epsilon", 1e-9, 1., "share"));
        }
        let cross = self.cross.iter();
        parameters.extend(cross.map(|j| Parameter::linear(format!("tau_{j}"), -20., 20., "")));
        parameters
    }

    fn inputs(&self) -> Vec<Input> {
        let mut inputs = vec![];
        if self.has_scale {
            inputs.extend([Input::positive("n"), Input::positive("d")]);
        }
        inputs.push(match self.share {
            ShareForm::Power => Input::positive("p"),
            ShareForm::Offset => Input::fraction("p"),
        });
        inputs.extend(self.cross.iter().map(Input::fraction));
        inputs
    }

    fn columns(&self, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
        let share = self.share_column();
        let column = |(i, values): (usize, &&[f64])| match i {
            i if i < share => minus_ln(values),
            i if i == share && self.share == ShareForm::Power => minus_ln(values),
            i if i == share => values.to_vec(),
            _ => values.iter().map(|value| -value).collect(),
        };
        inputs.iter().enumerate().map(column).collect()
    }

    fn n_scratch(&self) -> usize {
        self.form.n_scratch()
    }

    fn log_predict(&self, theta: &[f64], design: &Design, scratch: &mut [f64], out: &mut [f64]) {
        self.form.log_predict(theta, design, scratch, out);
        if self.share == ShareForm::Offset {
            let gamma = self.gamma_index();
            let epsilon = theta[gamma + 1].exp();
            for (out, p) in out.iter_mut().zip(&design.columns[self.share_column()]) {
                *out -= theta[gamma] * (p + epsilon).ln();
            }
        }
    }

    fn log_gradient(
        &self,
        theta: &[f64],
        design: &Design,
        scratch: &[f64],
        _: &[f64],
        jacobian: &mut [f64],
    ) {
        self.form.log_gradient(design, scratch, jacobian);
        if self.share == ShareForm::Offset {
            let (gamma, n) = (self.gamma_index(), design.n_points);
            let epsilon = theta[gamma + 1].exp();
            for (i, p) in design.columns[self.share_column()].iter().enumerate() {
                jacobian[gamma * n + i] = -(p + epsilon).ln();
                jacobian[(gamma + 1) * n + i] = -theta[gamma] * epsilon / (p + epsilon);
            }
        }
    }

    fn level(
        &self,
        theta: &[f64],
        design: &Design,
        scratch: &mut [f64],
        log_prediction: &mut [f64],
        out: &mut [f64],
    ) {
        match self.share {
            ShareForm::Power => self.form.level(theta, design, scratch, out),
            ShareForm::Offset => {
                self.log_predict(theta, design, scratch, log_prediction);
                out.copy_from_slice(log_prediction);
                kernels::exp_all(out);
            }
        }
    }

    fn add_curvature(
        &self,
        design: &Design,
        jacobian: &[f64],
        coefficients: &[f64],
        hessian: &mut [f64],
    ) -> bool {
        if self.share == ShareForm::Offset {
            return false;
        }
        self.form.add_curvature(design, jacobian, coefficients, hessian);
        true
    }

    fn starts(&self, design: &Design, log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>> {
        let share = &design.columns[self.share_column()];
        let offsets: &[f64] = match self.share {
            ShareForm::Power => &[0.],
            ShareForm::Offset => &[1e-4, 1e-3, 1e-2],
        };
        let mut starts: Vec<(f64, Vec<f64>)> = vec![];
        for &epsilon in offsets {
            let minus_ln_p: Vec<f64> = match self.share {
                ShareForm::Power => share.clone(),
                ShareForm::Offset => share.iter().map(|p| -(p + epsilon).ln()).collect(),
            };
            for (cost, base, gamma) in self.base_starts(design, &minus_ln_p, log_target, weights) {
                let mut theta = base;
                theta.push(gamma);
                if self.share == ShareForm::Offset {
                    theta.push(epsilon.ln());
                }
                theta.resize(theta.len() + self.cross.len(), 0.);
                starts.push((cost, theta));
            }
        }
        starts.sort_by(|left, right| left.0.total_cmp(&right.0));
        starts.truncate(8);
        starts.into_iter().map(|(_, theta)| theta).collect()
    }
}

impl Family {
    /// Cost, parameters of the bracket and `gamma`, for a share whose `-ln` is given.
    fn base_starts(
        &self,
        design: &Design,
        minus_ln_p: &[f64],
        log_target: &[f64],
        weights: &[f64],
    ) -> Vec<(f64, Vec<f64>, f64)> {
        if !self.has_scale {
            let ones = vec![1.; log_target.len()];
            let line = linalg::least_squares(&[&ones, minus_ln_p], log_target, weights);
            return line.into_iter().map(|line| (0., vec![line[0]], line[1])).collect();
        }
        let mut starts = vec![];
        for gamma in [0., 0.03, 0.08, 0.15, 0.3, 0.6] {
            let without: Vec<f64> =
                log_target.iter().zip(minus_ln_p).map(|(y, x)| y - gamma * x).collect();
            let (n, d) = (&design.columns[0], &design.columns[1]);
            let grid = two_powers(n, d, &without, weights, &COARSE_EXPONENTS);
            starts
                .extend(grid.spread(3).into_iter().map(|s| (s.objective, s.theta.to_vec(), gamma)));
        }
        starts
    }
}
