//! Loss when tokens are seen more than once.
//!
//! Muennighoff et al. 2023, *Scaling data-constrained language models*, arXiv:2305.16264, eqs. 5 to 7:
//! `L = E + A N'^-alpha + B D'^-beta` with `D' = U + U R* (1 - e^(-R / R*))`, `U` unique tokens, `R = D / U - 1`
//! repetitions, and `N'` likewise from the parameters that the unique tokens could use. We write `1 - e^-x` as
//! `-expm1(-x)`: with the subtraction an optimiser finds a false optimum at huge `R*`, where all digits cancel.

use super::chinchilla::{Chinchilla, two_power_parameters};
use super::{Design, Input, Law, Parameter};
use crate::kernels;
use crate::starts::{COARSE_EXPONENTS, two_powers};

/// The law for unique tokens that says how many parameters they can use; it is held fixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BaseLaw {
    /// `ln A`.
    pub ln_a: f64,
    /// `ln B`.
    pub ln_b: f64,
    /// `alpha`.
    pub alpha: f64,
    /// `beta`.
    pub beta: f64,
}

impl Default for BaseLaw {
    /// The paper's constants, fitted on C4 with `alpha = beta`.
    fn default() -> Self {
        Self { ln_a: 6.255_414, ln_b: 7.304_997_4, alpha: 0.352_659_6, beta: 0.352_659_6 }
    }
}

impl BaseLaw {
    /// Parameters that are compute-optimal for `tokens`.
    fn optimal_params(self, tokens: f64) -> f64 {
        let theta = [self.ln_a, self.ln_b, 0., self.alpha, self.beta];
        let g = Chinchilla::frontier(&theta).g;
        g * (g * tokens).powf(self.beta / self.alpha)
    }
}

/// Loss from parameters `n`, tokens seen `d` and unique tokens `u`. Parameters `A B E alpha beta R_N R_D`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DataConstrained {
    /// Says how many parameters the unique tokens can use.
    pub base: BaseLaw,
}

/// Columns of the design.
const LN_UNIQUE_N: usize = 0;
const REPEAT_N: usize = 1;
const LN_UNIQUE_D: usize = 2;
const REPEAT_D: usize = 3;

/// `ln(1 + R* (1 - e^(-R / R*)))` and its derivative by `ln R*`.
fn gain(repetitions: f64, limit: f64) -> (f64, f64) {
    let x = repetitions / limit;
    let saturation = -(-x).exp_m1();
    let by_log = limit * (saturation - x * (-x).exp());
    let gain = limit * saturation;
    (gain.ln_1p(), by_log / (1. + gain))
}

impl Law for DataConstrained {
    fn name(&self) -> String {
        "data-constrained".into()
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = two_power_parameters();
        parameters.push(Parameter::log("R_N", 1e-3, 1e6, "repetitions"));
        parameters.push(Parameter::log("R_D", 1e-3, 1e6, "repetitions"));
        parameters
    }

    fn inputs(&self) -> Vec<Input> {
        ["n", "d", "u"].map(Input::positive).into()
    }

    fn columns(&self, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
        let mut columns = vec![vec![]; 4];
        for ((&n, &d), &u) in inputs[0].iter().zip(inputs[1]).zip(inputs[2]) {
            let unique_d = u.min(d);
            let unique_n = self.base.optimal_params(unique_d).min(n);
            columns[LN_UNIQUE_N].push(unique_n.ln());
            columns[REPEAT_N].push(n / unique_n - 1.);
            columns[LN_UNIQUE_D].push(unique_d.ln());
            columns[REPEAT_D].push(d / unique_d - 1.);
        }
        columns
    }

    /// The sum, the terms of `N` and `D`, `ln N'`, `ln D'` and their derivatives by the logarithms of the limits.
    fn n_scratch(&self) -> usize {
        7
    }

    fn log_predict(&self, theta: &[f64], design: &Design, scratch: &mut [f64], out: &mut [f64]) {
        let n = design.n_points;
        let floor = theta[2].exp();
        let limits = [theta[5].exp(), theta[6].exp()];
        for i in 0..n {
            let mut sum = floor;
            for (k, unique) in [LN_UNIQUE_N, LN_UNIQUE_D].into_iter().enumerate() {
                let (log_gain, by_log) = gain(design.columns[unique + 1][i], limits[k]);
                let effective = design.columns[unique][i] + log_gain;
                let term = (theta[k] - theta[3 + k] * effective).clamp(-700., 700.).exp();
                scratch[(1 + k) * n + i] = term;
                scratch[(3 + k) * n + i] = effective;
                scratch[(5 + k) * n + i] = by_log;
                sum += term;
            }
            scratch[i] = sum;
        }
        kernels::ln_all(&scratch[..n], out);
    }

    fn log_gradient(
        &self,
        theta: &[f64],
        design: &Design,
        scratch: &[f64],
        _: &[f64],
        jacobian: &mut [f64],
    ) {
        let n = design.n_points;
        let floor = theta[2].exp();
        for i in 0..n {
            let sum = scratch[i];
            jacobian[2 * n + i] = floor / sum;
            for k in 0..2 {
                let share = scratch[(1 + k) * n + i] / sum;
                jacobian[k * n + i] = share;
                jacobian[(3 + k) * n + i] = -share * scratch[(3 + k) * n + i];
                jacobian[(5 + k) * n + i] = -share * theta[3 + k] * scratch[(5 + k) * n + i];
            }
        }
    }

    fn starts(&self, design: &Design, log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>> {
        let effective = |unique: usize, limit: f64| -> Vec<f64> {
            let pairs = design.columns[unique].iter().zip(&design.columns[unique + 1]);
            pairs.map(|(ln_unique, &repeats)| -(ln_unique + gain(repeats, limit).0)).collect()
        };
        let limits = [0.5, 2., 8., 32., 128.];
        let mut starts = vec![];
        for limit_n in limits {
            let n = effective(LN_UNIQUE_N, limit_n);
            for limit_d in limits {
                let d = effective(LN_UNIQUE_D, limit_d);
                let grid = two_powers(&n, &d, log_target, weights, &COARSE_EXPONENTS);
                for start in grid.spread(1) {
                    let mut theta = start.theta.to_vec();
                    theta.extend([limit_n.ln(), limit_d.ln()]);
                    starts.push((start.objective, theta));
                }
            }
        }
        starts.sort_by(|left, right| left.0.total_cmp(&right.0));
        starts.into_iter().map(|(_, theta)| theta).collect()
    }
}
