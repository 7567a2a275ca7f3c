//! The trait that every law implements: what it predicts, and how that moves with its parameters.
//!
//! A law works on whole columns, so that its inner loops are over contiguous memory; on logarithms of its amplitudes,
//! so that they stay positive and the problem stays well scaled; and it predicts the **logarithm** of its target.

mod chinchilla;
mod constrained;
mod exp_sum;
mod family;
mod horizon;
mod kaplan;
mod mixing;
mod power;

use std::fmt::Debug;

pub use chinchilla::Chinchilla;
pub use constrained::{BaseLaw, DataConstrained};
pub use family::{Family, ShareForm};
pub use horizon::LrHorizon;
pub use kaplan::Kaplan;
pub use mixing::Mixing;
pub use power::PowerLaw;

use crate::error::Result;
use crate::kernels;
use crate::observations::Observations;

/// How a parameter's natural value follows from the number that the solver moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The solver moves the value itself.
    Linear,
    /// The solver moves its natural logarithm; the value is positive.
    Log,
}

/// One parameter of a law.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The literature's name: `A`, `alpha`, `gamma`.
    pub name: String,
    /// Whether the solver moves the value or its logarithm.
    pub scale: Scale,
    /// Smallest natural value allowed.
    pub lower: f64,
    /// Largest natural value allowed.
    pub upper: f64,
    /// What it is measured in.
    pub unit: &'static str,
}

impl Parameter {
    /// A positive parameter that the solver moves in its logarithm.
    pub fn log(name: impl Into<String>, lower: f64, upper: f64, unit: &'static str) -> Self {
        Self { name: name.into(), scale: Scale::Log, lower, upper, unit }
    }

    /// A parameter that the solver moves as it is.
    pub fn linear(name: impl Into<String>, lower: f64, upper: f64, unit: &'static str) -> Self {
        Self { name: name.into(), scale: Scale::Linear, lower, upper, unit }
    }

    /// Natural value from the solver's.
    pub fn natural(&self, theta: f64) -> f64 {
        match self.scale {
            Scale::Linear => theta,
            Scale::Log => theta.exp(),
        }
    }

    /// The solver's value from the natural one.
    pub fn internal(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.ln(),
        }
    }
}

/// What an input must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Above 0: its logarithm is taken.
    Positive,
    /// At least 0 and at most 1.
    Fraction,
    /// Any finite number.
    Real,
}

/// One input of a law.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The name that [`Observations`] use: `n`, `d`, `p`.
    pub name: String,
    /// The values it may have.
    pub domain: Domain,
}

impl Input {
    /// An input that must be positive.
    pub fn positive(name: impl Into<String>) -> Self {
        Self { name: name.into(), domain: Domain::Positive }
    }

    /// An input between 0 and 1.
    pub fn fraction(name: impl Into<String>) -> Self {
        Self { name: name.into(), domain: Domain::Fraction }
    }
}

/// A law's inputs as it wants them (logarithms, mostly): `n_points` a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    pub(crate) n_points: usize,
    pub(crate) columns: Vec<Vec<f64>>,
}

impl Design {
    /// Checks and transforms what `law` needs of `observations`.
    ///
    /// # Errors
    /// [`crate::Error::Data`] names file, row and column of an input that is missing or outside its domain.
    pub fn new(law: &dyn Law, observations: &Observations) -> Result<Self> {
        let inputs = law.inputs();
        let mut values = Vec::with_capacity(inputs.len());
        for input in &inputs {
            let column = observations.input(&input.name).ok_or_else(|| {
                let reason = format!("`{}` needs this input and there is none", law.name());
                observations.fault(None, &input.name, reason)
            })?;
            check_domain(column, input, observations)?;
            values.push(column);
        }
        Ok(Self { n_points: observations.len(), columns: law.columns(&values) })
    }

    /// Points.
    pub fn n_points(&self) -> usize {
        self.n_points
    }

    /// One column, `n_points` long, in the order of [`Law::columns`].
    pub fn column(&self, index: usize) -> &[f64] {
        &self.columns[index]
    }

    /// The chosen points.
    #[must_use]
    pub(crate) fn select(&self, points: &[usize]) -> Self {
        let pick = |column: &Vec<f64>| points.iter().map(|&i| column[i]).collect();
        Self { n_points: points.len(), columns: self.columns.iter().map(pick).collect() }
    }
}

fn check_domain(column: &[f64], input: &Input, observations: &Observations) -> Result<()> {
    let (want, is_wrong): (&str, fn(f64) -> bool) = match input.domain {
        Domain::Positive => ("must be positive", |value| !(value > 0. && value.is_finite())),
        Domain::Fraction => ("must lie between 0 and 1", |value| !(0. ..=1.).contains(&value)),
        Domain::Real => ("must be finite", |value| !value.is_finite()),
    };
    match column.iter().position(|&value| is_wrong(value)) {
        None => Ok(()),
        Some(i) => Err(observations.fault(i, &input.name, format!("{want}, got {}", column[i]))),
    }
}

/// A law: a positive function of inputs and parameters.
///
/// `theta` is what the solver moves, one number a parameter, in the order of [`Law::parameters`]; natural values follow
/// by [`Parameter::natural`]. Slices have `n_points` elements; a Jacobian has one such slice a parameter, one after
/// the other.
pub trait Law: Debug + Sync {
    /// The law's name, as the command line and reports say it.
    fn name(&self) -> String;

    /// Its parameters, in the order of `theta`.
    fn parameters(&self) -> Vec<Parameter>;

    /// The inputs that it asks for.
    fn inputs(&self) -> Vec<Input>;

    /// The columns that it computes with, from the values of its inputs.
    fn columns(&self, inputs: &[&[f64]]) -> Vec<Vec<f64>>;

    /// Columns of scratch memory that [`Law::log_predict`] leaves for [`Law::log_gradient`].
    fn n_scratch(&self) -> usize {
        1
    }

    /// Writes the logarithm of the prediction to `out`; `scratch` has `n_scratch · n_points` elements.
    fn log_predict(&self, theta: &[f64], design: &Design, scratch: &mut [f64], out: &mut [f64]);

    /// Writes the derivatives of the logarithm to `jacobian`; `scratch` and `log_prediction` are as
    /// [`Law::log_predict`] left them for the same `theta`.
    fn log_gradient(
        &self,
        theta: &[f64],
        design: &Design,
        scratch: &[f64],
        log_prediction: &[f64],
        jacobian: &mut [f64],
    );

    /// Writes the prediction itself to `out`, and to `scratch` and `log_prediction` what [`Law::log_gradient`] needs.
    fn level(
        &self,
        theta: &[f64],
        design: &Design,
        scratch: &mut [f64],
        log_prediction: &mut [f64],
        out: &mut [f64],
    ) {
        self.log_predict(theta, design, scratch, log_prediction);
        out.copy_from_slice(log_prediction);
        kernels::exp_all(out);
    }

    /// Adds `Σ_i c_i (∇² f_i) / f_i` to the lower triangle of `hessian` (row-major), if the law knows its second
    /// derivatives; then the solver takes Newton's steps, else Gauss and Newton's.
    fn add_curvature(
        &self,
        design: &Design,
        jacobian: &[f64],
        coefficients: &[f64],
        hessian: &mut [f64],
    ) -> bool {
        let _ = (design, jacobian, coefficients, hessian);
        false
    }

    /// Points to start from, for a target whose logarithm and weights are given; best first.
    fn starts(&self, design: &Design, log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>>;

    /// The valleys that these starts lie in, each once, with its lowest point: for a law whose amplitudes are linear, of
    /// least squares of relative errors with the amplitudes projected out. Those around a point of `known` are left out,
    /// unless they are lower there. `None` from a law that knows none: then every start is searched from.
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

/// A place to start from that stands for several.
#[derive(Clone, Debug, PartialEq)]
pub struct Valley {
    /// Its lowest point, or how far down one gets where the valley leads to an amplitude of zero.
    pub theta: Vec<f64>,
    /// The law's starts that lie in it.
    pub starts: usize,
}

/// Predicts one point: the natural value, from named inputs.
///
/// # Errors
/// [`crate::Error::Data`] names an input that is missing or outside its domain.
pub fn predict(law: &dyn Law, theta: &[f64], inputs: &[(&str, f64)]) -> Result<f64> {
    let mut point = Observations::new("prediction", vec![1.]);
    for (name, value) in inputs {
        point = point.with_input(name, vec![*value]);
    }
    Ok(predict_all(law, theta, &Design::new(law, &point)?)[0])
}

/// Predictions, natural values, of every point of a design.
pub fn predict_all(law: &dyn Law, theta: &[f64], design: &Design) -> Vec<f64> {
    let mut scratch = vec![0.; law.n_scratch() * design.n_points];
    let mut out = vec![0.; design.n_points];
    law.log_predict(theta, design, &mut scratch, &mut out);
    out.iter().map(|value| value.exp()).collect()
}

/// The solver's parameters from natural values in the order of [`Law::parameters`].
pub fn internal(law: &dyn Law, natural: &[f64]) -> Vec<f64> {
    law.parameters().iter().zip(natural).map(|(p, &value)| p.internal(value)).collect()
}

/// Natural values from the solver's parameters.
pub fn natural(law: &dyn Law, theta: &[f64]) -> Vec<f64> {
    law.parameters().iter().zip(theta).map(|(p, &value)| p.natural(value)).collect()
}

#[cfg(test)]
mod tests;
