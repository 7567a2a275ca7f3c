//! What users want to know: a parameter, the loss at a target, the compute-optimal size, a learning rate at a horizon.
//! Each is a function of the fitted parameters, with which every interval of this crate works.

use std::fmt;

use crate::error::{Result, ensure};
use crate::law::{Chinchilla, Design, Law, Scale, predict_all};
use crate::observations::Observations;
use crate::units::{Flops, Tokens};

type Function<'a> = Box<dyn Fn(&[f64]) -> f64 + Sync + Send + 'a>;
type Gradient<'a> = Box<dyn Fn(&[f64]) -> Vec<f64> + Sync + Send + 'a>;

/// A number that follows from a law's parameters.
pub struct Quantity<'a> {
    name: String,
    scale: Scale,
    function: Function<'a>,
    gradient: Option<Gradient<'a>>,
}

impl fmt::Debug for Quantity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quantity").field("name", &self.name).field("scale", &self.scale).finish()
    }
}

impl<'a> Quantity<'a> {
    /// Any function of `theta`. With [`Scale::Log`] the function gives the logarithm of the quantity: what is positive
    /// and spans decades has its intervals built there.
    pub fn new(
        name: impl Into<String>,
        scale: Scale,
        function: impl Fn(&[f64]) -> f64 + Sync + Send + 'a,
    ) -> Self {
        Self { name: name.into(), scale, function: Box::new(function), gradient: None }
    }

    /// Gives the derivatives by `theta`, in the quantity's scale, where they are known: a quantity that is the end of a
    /// search is then searched for once and not twice a parameter.
    #[must_use]
    pub fn with_gradient(
        mut self,
        gradient: impl Fn(&[f64]) -> Vec<f64> + Sync + Send + 'a,
    ) -> Self {
        self.gradient = Some(Box::new(gradient));
        self
    }

    /// A parameter by its name.
    ///
    /// # Errors
    /// [`crate::Error::Config`] lists the names if there is no such parameter.
    pub fn parameter(law: &dyn Law, name: &str) -> Result<Self> {
        let parameters = law.parameters();
        let index = parameters.iter().position(|parameter| parameter.name == name);
        let names: Vec<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
        ensure(index.is_some(), "parameter", format!("one of {}", names.join(", ")), name)?;
        let index = index.unwrap_or_default();
        Ok(Self::new(name, parameters[index].scale, move |theta: &[f64]| theta[index]))
    }

    /// The law's prediction at a point given by its inputs: a loss, or a best learning rate.
    ///
    /// # Errors
    /// [`crate::Error::Data`] names an input that is missing or outside its domain.
    pub fn prediction(law: &'a dyn Law, inputs: &[(&str, f64)]) -> Result<Self> {
        let mut point = Observations::new("prediction", vec![1.]);
        for (name, value) in inputs {
            point = point.with_input(name, vec![*value]);
        }
        let design = Design::new(law, &point)?;
        let named: Vec<String> =
            inputs.iter().map(|(name, value)| format!("{name}={value:e}")).collect();
        let name = format!("{}({})", law.name(), named.join(", "));
        Ok(Self::new(name, Scale::Log, move |theta: &[f64]| {
            predict_all(law, theta, &design)[0].ln()
        }))
    }

    /// `N*`, parameters, of a fitted [`Chinchilla`] law for a budget.
    pub fn optimal_params(flops: Flops) -> Self {
        let name = format!("n_opt({:e})", flops.0);
        Self::new(name, Scale::Log, move |theta: &[f64]| {
            Chinchilla::frontier(theta).at(flops).0.0.ln()
        })
    }

    /// `D*`, tokens, of a fitted [`Chinchilla`] law for a budget.
    pub fn optimal_tokens(flops: Flops) -> Self {
        let name = format!("d_opt({:e})", flops.0);
        Self::new(name, Scale::Log, move |theta: &[f64]| {
            let Tokens(d) = Chinchilla::frontier(theta).at(flops).1;
            d.ln()
        })
    }

    /// `a = beta / (alpha + beta)` of a fitted [`Chinchilla`] law: `N*` grows as `C^a`.
    pub fn frontier_exponent() -> Self {
        Self::new("a", Scale::Linear, |theta: &[f64]| Chinchilla::frontier(theta).exponent)
    }

    /// Its name in tables and JSON.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether intervals are built on its logarithm.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// The natural value.
    pub fn natural(&self, theta: &[f64]) -> f64 {
        self.to_natural(self.value(theta))
    }

    /// The value in the quantity's scale.
    pub fn value(&self, theta: &[f64]) -> f64 {
        (self.function)(theta)
    }

    /// The natural value of one in the quantity's scale.
    pub fn to_natural(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.exp(),
        }
    }

    /// Derivatives by `theta`, in the quantity's scale: those that it was given, else central differences.
    pub fn gradient(&self, theta: &[f64]) -> Vec<f64> {
        match &self.gradient {
            Some(gradient) => gradient(theta),
            None => self.differences(theta),
        }
    }

    fn differences(&self, theta: &[f64]) -> Vec<f64> {
        let mut moved = theta.to_vec();
        let difference = |i: usize| {
            let step = 1e-4 * theta[i].abs().max(0.1);
            moved[i] = theta[i] + step;
            let above = self.value(&moved);
            moved[i] = theta[i] - step;
            let below = self.value(&moved);
            moved[i] = theta[i];
            (above - below) / (2. * step)
        };
        (0..theta.len()).map(difference).collect()
    }

    /// Second derivatives in the quantity's scale, the lower triangle, row-major.
    pub(crate) fn hessian(&self, theta: &[f64]) -> Vec<f64> {
        let p = theta.len();
        let mut hessian = vec![0.; p * p];
        let mut moved = theta.to_vec();
        for i in 0..p {
            let step = 1e-3 * theta[i].abs().max(0.1);
            moved[i] = theta[i] + step;
            let above = self.gradient(&moved);
            moved[i] = theta[i] - step;
            let below = self.gradient(&moved);
            moved[i] = theta[i];
            for j in 0..=i {
                hessian[i * p + j] = (above[j] - below[j]) / (2. * step);
            }
        }
        hessian
    }
}

#[cfg(test)]
mod tests;
