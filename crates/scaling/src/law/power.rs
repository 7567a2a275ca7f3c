//! `y = E + A x^-alpha` of any one positive input, with or without the floor `E`.

use super::chinchilla::minus_ln;
use super::exp_sum::{ExpSum, ExpSumLaw, constant, log_line, slope};
use super::{Design, Input, Parameter};
use crate::starts::one_power;

/// A power law of `input`. Parameters `A alpha`, and `E` with a floor.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerLaw {
    input: String,
    has_floor: bool,
    form: ExpSum,
}

impl PowerLaw {
    /// `y = A x^-alpha`.
    pub fn pure(input: &str) -> Self {
        let form = ExpSum { terms: vec![vec![constant(0), slope(1, 0)]], common: vec![] };
        Self { input: input.to_owned(), has_floor: false, form }
    }

    /// `y = E + A x^-alpha`.
    pub fn with_floor(input: &str) -> Self {
        let terms = vec![vec![constant(0), slope(1, 0)], vec![constant(2)]];
        Self { input: input.to_owned(), has_floor: true, form: ExpSum { terms, common: vec![] } }
    }
}

impl ExpSumLaw for PowerLaw {
    fn form(&self) -> &ExpSum {
        &self.form
    }

    fn name(&self) -> String {
        "power".into()
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = vec![
            Parameter::log("A", 1e-60, 1e60, "of the target"),
            // Without a floor the target may rise with the input.
            Parameter::linear("alpha", if self.has_floor { 1e-3 } else { -10. }, 10., ""),
        ];
        if self.has_floor {
            parameters.push(Parameter::log("E", 1e-9, 1e9, "of the target"));
        }
        parameters
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input::positive(&self.input)]
    }

    fn columns(&self, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
        vec![minus_ln(inputs[0])]
    }

    fn starts(&self, design: &Design, log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>> {
        if self.has_floor {
            return one_power(&design.columns[0], log_target, weights);
        }
        vec![log_line(&design.columns, log_target, weights)]
    }
}
