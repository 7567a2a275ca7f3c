//! `L(N, D) = E + A N^-alpha + B D^-beta`.
//!
//! Hoffmann et al. 2022, *Training compute-optimal large language models*, arXiv:2203.15556, eq. 2; the frontier in
//! closed form is their eq. 4. Gadre et al. 2024 (arXiv:2403.08540) tie `alpha = beta`: fit with
//! [`crate::Constraint::Equal`].

use super::exp_sum::{ExpSum, ExpSumLaw, constant, slope};
use super::{Design, Input, Parameter, Valley};
use crate::starts::{EXPONENTS, two_powers, valleys};
use crate::units::{Flops, Params, Tokens};

/// Cells of the grid to start from, at most.
const N_STARTS: usize = 12;

/// Loss from parameters `n` and tokens `d`, raw counts. Parameters `A B E alpha beta`.
#[derive(Clone, Debug, PartialEq)]
pub struct Chinchilla {
    form: ExpSum,
}

impl Default for Chinchilla {
    fn default() -> Self {
        Self::new()
    }
}

/// Bounds that the two-power laws share: wide, so that touching one is a finding.
pub(super) fn two_power_parameters() -> Vec<Parameter> {
    vec![
        Parameter::log("A", 1e-20, 1e60, "nats per token"),
        Parameter::log("B", 1e-20, 1e60, "nats per token"),
        Parameter::log("E", 1e-6, 1e6, "nats per token"),
        Parameter::linear("alpha", 1e-3, 10., ""),
        Parameter::linear("beta", 1e-3, 10., ""),
    ]
}

/// `E + A N^-alpha + B D^-beta` with `-ln N` and `-ln D` in columns 0 and 1.
pub(super) fn two_power_terms() -> Vec<Vec<super::exp_sum::Feature>> {
    vec![vec![constant(0), slope(3, 0)], vec![constant(1), slope(4, 1)], vec![constant(2)]]
}

/// `-ln x`, column by column.
pub(super) fn minus_ln(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| -value.ln()).collect()
}

/// What a fitted law says about the best use of compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frontier {
    /// `N* = G (C / 6)^exponent`, with `exponent = beta / (alpha + beta)`.
    pub exponent: f64,
    /// `G = (alpha A / (beta B))^(1 / (alpha + beta))`.
    pub g: f64,
}

impl Frontier {
    /// Parameters and tokens that give the lowest loss for `flops`.
    pub fn at(self, flops: Flops) -> (Params, Tokens) {
        let product = flops.0 / 6.;
        let n = self.g * product.powf(self.exponent);
        (Params(n), Tokens(product / n))
    }
}

impl Chinchilla {
    /// The law.
    pub fn new() -> Self {
        Self { form: ExpSum { terms: two_power_terms(), common: vec![] } }
    }

    /// The compute-optimal frontier of `theta`, with `C = 6 N D`.
    pub fn frontier(theta: &[f64]) -> Frontier {
        let [a, b, _, alpha, beta] = [0, 1, 2, 3, 4].map(|i| theta[i]);
        let g = ((alpha.ln() + a - beta.ln() - b) / (alpha + beta)).exp();
        Frontier { exponent: beta / (alpha + beta), g }
    }
}

impl ExpSumLaw for Chinchilla {
    fn form(&self) -> &ExpSum {
        &self.form
    }

    fn name(&self) -> String {
        "chinchilla".into()
    }

    fn parameters(&self) -> Vec<Parameter> {
        two_power_parameters()
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input::positive("n"), Input::positive("d")]
    }

    fn columns(&self, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
        inputs.iter().map(|values| minus_ln(values)).collect()
    }

    fn starts(&self, design: &Design, log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>> {
        let grid =
            two_powers(&design.columns[0], &design.columns[1], log_target, weights, &EXPONENTS);
        grid.spread(N_STARTS).into_iter().map(|start| start.theta.to_vec()).collect()
    }

    fn valleys(
        &self,
        design: &Design,
        log_target: &[f64],
        weights: &[f64],
        known: &[&[f64]],
    ) -> Option<Vec<Valley>> {
        let [x, z] = [0, 1].map(|i| design.columns[i].as_slice());
        let known: Vec<[f64; 2]> = known.iter().map(|theta| [theta[3], theta[4]]).collect();
        Some(valleys(x, z, log_target, weights, &known, N_STARTS))
    }
}
