//! `L(r) = c + exp(Σ_j t_j r_j)`: the loss on one domain from the shares of all of them.
//!
//! Ye et al. 2024, *Data mixing laws*, arXiv:2403.16952. Their `k exp(Σ t_j r_j)` has one parameter too many where the
//! shares sum to 1 (a shift of all `t` is a factor of `k`), so `k` is taken into the `t_j` here.

use super::exp_sum::{ExpSum, ExpSumLaw, constant, slope};
use super::{Design, Input, Parameter};
use crate::linalg;

/// The loss on one domain from the shares named. Parameters `c` and `t_<share>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixing {
    shares: Vec<String>,
    form: ExpSum,
}

impl Mixing {
    /// A law of the shares with these input names, which sum to 1.
    pub fn new(shares: &[&str]) -> Self {
        let exponent = (0..shares.len()).map(|j| slope(1 + j, j)).collect();
        let terms = vec![vec![constant(0)], exponent];
        Self {
            shares: shares.iter().map(|&name| name.to_owned()).collect(),
            form: ExpSum { terms, common: vec![] },
        }
    }
}

impl ExpSumLaw for Mixing {
    fn form(&self) -> &ExpSum {
        &self.form
    }

    fn name(&self) -> String {
        "mixing".into()
    }

    fn parameters(&self) -> Vec<Parameter> {
        let cross = self.shares.iter();
        let cross = cross.map(|name| Parameter::linear(format!("t_{name}"), -200., 50., ""));
        std::iter::once(Parameter::log("c", 1e-6, 1e6, "nats per token")).chain(cross).collect()
    }

    fn inputs(&self) -> Vec<Input> {
        self.shares.iter().map(Input::fraction).collect()
    }

    fn columns(&self, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
        inputs.iter().map(|values| values.to_vec()).collect()
    }

    /// For a floor `c` below every loss, `ln(L - c)` is linear in the shares.
    fn starts(&self, design: &Design, log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>> {
        let lowest = log_target.iter().copied().fold(f64::INFINITY, f64::min).exp();
        let columns: Vec<&[f64]> = design.columns.iter().map(Vec::as_slice).collect();
        let start = |fraction: f64| {
            let floor = fraction * lowest;
            let above: Vec<f64> = log_target.iter().map(|y| (y.exp() - floor).ln()).collect();
            let exponents = linalg::least_squares(&columns, &above, weights)?;
            Some(std::iter::once(floor.ln()).chain(exponents).collect())
        };
        [0.95, 0.8, 0.5, 0.2, 0.01].into_iter().filter_map(start).collect()
    }
}
