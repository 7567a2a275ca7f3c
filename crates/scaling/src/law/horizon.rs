//! The best learning rate as a power law of size, horizon and batch.
//!
//! Bjorck et al. 2024, *Scaling optimal LR across token horizons*, arXiv:2409.19913:
//! `LR*(N, D) = C N^-alpha D^-beta` with `N` and `D` in **billions**, at a fixed batch. The sign of `beta` depends on
//! the batch regime, so the batch may be an input. Where larger scale bends the line, `kappa` adds a square in `ln D`.

use super::exp_sum::{ExpSum, ExpSumLaw, constant, log_line, slope};
use super::{Design, Input, Parameter};
use crate::units::CountUnit;

/// `ln LR* = ln C - alpha ln N - beta ln D + delta ln batch - kappa (ln D)²`, each part but `beta` optional.
#[derive(Clone, Debug, PartialEq)]
pub struct LrHorizon {
    unit: CountUnit,
    inputs: Vec<&'static str>,
    is_quadratic: bool,
    form: ExpSum,
}

impl LrHorizon {
    /// `LR*(D) = C D^-beta`.
    pub fn of_tokens(unit: CountUnit) -> Self {
        Self::build(unit, vec!["d"], false)
    }

    /// `LR*(N, D) = C N^-alpha D^-beta`.
    pub fn of_size_and_tokens(unit: CountUnit) -> Self {
        Self::build(unit, vec!["n", "d"], false)
    }

    /// Adds the batch, whose exponent is `delta`; its unit is the caller's.
    #[must_use]
    pub fn with_batch(self) -> Self {
        let mut inputs = self.inputs;
        inputs.push("batch");
        Self::build(self.unit, inputs, self.is_quadratic)
    }

    /// Adds `-kappa (ln D)²`, with `D` in the law's unit.
    #[must_use]
    pub fn with_curvature(self) -> Self {
        Self::build(self.unit, self.inputs, true)
    }

    fn build(unit: CountUnit, inputs: Vec<&'static str>, is_quadratic: bool) -> Self {
        let n_features = inputs.len() + usize::from(is_quadratic);
        let mut term = vec![constant(0)];
        term.extend((0..n_features).map(|i| slope(i + 1, i)));
        let form = ExpSum { terms: vec![term], common: vec![] };
        Self { unit, inputs, is_quadratic, form }
    }

    /// The unit in which `C` counts.
    pub fn unit(&self) -> CountUnit {
        self.unit
    }

    /// `C` of these parameters if it counted in `unit` instead; for a law without curvature.
    pub fn constant_in(&self, theta: &[f64], unit: CountUnit) -> f64 {
        let shift = self.unit.size().ln() - unit.size().ln();
        let of_counts = self.inputs.iter().zip(&theta[1..]).filter(|(name, _)| **name != "batch");
        (theta[0] + of_counts.map(|(_, exponent)| exponent * shift).sum::<f64>()).exp()
    }
}

impl ExpSumLaw for LrHorizon {
    fn form(&self) -> &ExpSum {
        &self.form
    }

    fn name(&self) -> String {
        "lr-horizon".into()
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = vec![Parameter::log("C", 1e-60, 1e60, self.unit.describe())];
        parameters.extend(self.inputs.iter().map(|&input| {
            let name = match input {
                "n" => "alpha",
                "d" => "beta",
                _ => "delta",
            };
            Parameter::linear(name, -20., 20., "")
        }));
        if self.is_quadratic {
            parameters.push(Parameter::linear("kappa", -20., 20., "per square of ln D"));
        }
        parameters
    }

    fn inputs(&self) -> Vec<Input> {
        self.inputs.iter().map(|&name| Input::positive(name)).collect()
    }

    fn columns(&self, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
        let offset = self.unit.size().ln();
        let column = |(name, values): (&&str, &&[f64])| match *name {
            "batch" => values.iter().map(|value| value.ln()).collect(),
            _ => values.iter().map(|value| offset - value.ln()).collect(),
        };
        let mut columns: Vec<Vec<f64>> = self.inputs.iter().zip(inputs).map(column).collect();
        if self.is_quadratic {
            let d = self.inputs.iter().position(|name| *name == "d").map(|i| columns[i].clone());
            columns
                .extend(d.map(|d| d.iter().map(|minus_ln_d| -minus_ln_d * minus_ln_d).collect()));
        }
        columns
    }

    fn starts(&self, design: &Design, log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>> {
        vec![log_line(&design.columns, log_target, weights)]
    }
}
