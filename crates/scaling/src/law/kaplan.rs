//! `L(N, D) = [(Nc / N)^(alpha_N / alpha_D) + Dc / D]^alpha_D`.
//!
//! Kaplan et al. 2020, *Scaling laws for neural language models*, arXiv:2001.08361, eq. 1.5.

use super::chinchilla::minus_ln;
use super::{Design, Input, Law, Parameter};
use crate::kernels;
use crate::linalg;

/// Loss from parameters `n` and tokens `d`, raw counts. Parameters `Nc Dc alpha_N alpha_D`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kaplan;

impl Law for Kaplan {
    fn name(&self) -> String {
        "kaplan".into()
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter::log("Nc", 1e-10, 1e80, "parameters"),
            Parameter::log("Dc", 1e-10, 1e80, "tokens"),
            Parameter::log("alpha_N", 1e-4, 10., ""),
            Parameter::log("alpha_D", 1e-4, 10., ""),
        ]
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input::positive("n"), Input::positive("d")]
    }

    fn columns(&self, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
        inputs.iter().map(|values| minus_ln(values)).collect()
    }

    fn n_scratch(&self) -> usize {
        3
    }

    fn log_predict(&self, theta: &[f64], design: &Design, scratch: &mut [f64], out: &mut [f64]) {
        let n = design.n_points;
        let [ln_nc, ln_dc, alpha_n, alpha_d] = unpack(theta);
        let ratio = alpha_n / alpha_d;
        let (sum, terms) = scratch.split_at_mut(n);
        let (of_n, of_d) = terms.split_at_mut(n);
        kernels::exp_linear(ratio * ln_nc, ratio, &design.columns[0], of_n);
        kernels::exp_linear(ln_dc, 1., &design.columns[1], of_d);
        sum.copy_from_slice(of_n);
        kernels::add_scaled(1., of_d, sum);
        kernels::ln_all(sum, out);
        out.iter_mut().for_each(|value| *value *= alpha_d);
    }

    fn log_gradient(
        &self,
        theta: &[f64],
        design: &Design,
        scratch: &[f64],
        log_prediction: &[f64],
        jacobian: &mut [f64],
    ) {
        let n = design.n_points;
        let [ln_nc, _, alpha_n, alpha_d] = unpack(theta);
        let (sum, of_n) = (&scratch[..n], &scratch[n..2 * n]);
        for i in 0..n {
            let share = of_n[i] / sum[i];
            let distance = ln_nc + design.columns[0][i]; // ln (Nc / N)
            let by_ratio = share * distance * alpha_n;
            jacobian[i] = alpha_n * share;
            jacobian[n + i] = alpha_d * (1. - share);
            jacobian[2 * n + i] = by_ratio;
            jacobian[3 * n + i] = log_prediction[i] - by_ratio;
        }
    }

    /// For given exponents, `L^(1 / alpha_D)` is linear in `Nc^(alpha_N / alpha_D)` and `Dc`.
    fn starts(&self, design: &Design, log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>> {
        let grid = [0.03, 0.05, 0.08, 0.13, 0.2, 0.35];
        let mut starts = vec![];
        for alpha_n in grid {
            for alpha_d in grid {
                let relative = |slope: f64, column: &[f64]| -> Vec<f64> {
                    let pairs = column.iter().zip(log_target);
                    pairs.map(|(x, y)| (slope * x - y / alpha_d).exp()).collect()
                };
                let of_n = relative(alpha_n / alpha_d, &design.columns[0]);
                let of_d = relative(1., &design.columns[1]);
                let ones = vec![1.; log_target.len()];
                let Some(fit) = linalg::least_squares(&[&of_n, &of_d], &ones, weights) else {
                    continue;
                };
                if fit.iter().all(|&value| value > 0. && value.is_finite()) {
                    let ln_nc = fit[0].ln() * alpha_d / alpha_n;
                    starts.push(vec![ln_nc, fit[1].ln(), alpha_n.ln(), alpha_d.ln()]);
                }
            }
        }
        starts
    }
}

/// Logarithms of `Nc` and `Dc`, natural exponents.
fn unpack(theta: &[f64]) -> [f64; 4] {
    [theta[0], theta[1], theta[2].exp(), theta[3].exp()]
}
