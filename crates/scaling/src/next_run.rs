//! Which run to buy next: the one that shrinks the interval of what one wants to know most, for its cost.
//!
//! First order: a run with gradient `g` (of `ln L` by the parameters) and noise `s²` takes `(qᵀ Σ g)² / (s² + gᵀ Σ g)`
//! off the variance `qᵀ Σ q` of a quantity with gradient `q`. That is c-optimal design (Fedorov 1972) one run at a time;
//! no refit is needed, and neither is the run's outcome.

use ndarray::{Array1, Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure};
use crate::fit::{Fit, relative};
use crate::law::{Design, Law, predict_all};
use crate::observations::Observations;
use crate::quantity::Quantity;

/// A run that could be bought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunOption {
    /// The law's inputs for it.
    pub inputs: Vec<(String, f64)>,
    /// What it costs, in any one unit.
    pub cost: f64,
}

impl RunOption {
    /// A run of `n` parameters on `d` tokens; its cost is `6 N D`.
    pub fn of_size(n: f64, d: f64) -> Self {
        Self { inputs: vec![("n".into(), n), ("d".into(), d)], cost: 6. * n * d }
    }

    fn input(&self, name: &str) -> Option<f64> {
        self.inputs.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// What a run would bring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// Place of the run among the options.
    pub option: usize,
    /// Its cost.
    pub cost: f64,
    /// Standard error of the quantity, in its scale, before the run.
    pub se_before: f64,
    /// After it.
    pub se_after: f64,
}

impl Gain {
    /// The share of the standard error that goes away.
    pub fn shrinkage(&self) -> f64 {
        1. - self.se_after / self.se_before
    }
}

/// Errors of the fitted parameters, and the noise of one more run.
#[derive(Clone, Debug)]
struct State {
    covariance: Array2<f64>,
    noise: f64,
}

/// Every option within `budget` with what it would bring to `quantity`, best first.
///
/// # Errors
/// [`Error::NotIdentified`] where the fit has no covariance, or the quantity does not move with the parameters;
/// [`Error::Data`] names an input that an option misses.
pub fn rank(
    law: &dyn Law,
    fit: &Fit,
    observations: &Observations,
    quantity: &Quantity,
    options: &[RunOption],
    budget: f64,
) -> Result<Vec<Gain>> {
    let state = State::new(law, fit, observations)?;
    let gradients = gradients(law, fit, options)?;
    let q = Array1::from(quantity.gradient(&fit.theta));
    state.rank(&q, &gradients, options, budget, quantity.name())
}

/// Buys one run after the other, each the best for what is left of `budget` and for its cost, until nothing affordable
/// takes `worthwhile` (0.01) of the standard error away; a run may be bought more than once.
///
/// # Errors
/// As [`rank`].
pub fn plan(
    law: &dyn Law,
    fit: &Fit,
    observations: &Observations,
    quantity: &Quantity,
    options: &[RunOption],
    budget: f64,
    worthwhile: f64,
) -> Result<Vec<Gain>> {
    let mut state = State::new(law, fit, observations)?;
    let gradients = gradients(law, fit, options)?;
    let q = Array1::from(quantity.gradient(&fit.theta));
    let mut left = budget;
    let mut bought = vec![];
    while bought.len() < 100 {
        let gains = state.rank(&q, &gradients, options, left, quantity.name())?;
        let worth = gains.into_iter().filter(|gain| gain.shrinkage() >= worthwhile);
        let value = |gain: &Gain| -(1. - gain.shrinkage()).ln() / gain.cost;
        let Some(best) = worth.max_by(|a, b| value(a).total_cmp(&value(b))) else { break };
        left -= best.cost;
        state.add(&gradients[best.option]);
        bought.push(best);
    }
    Ok(bought)
}

/// Runs on a grid of sizes and horizons within the range of the data, stretched by `stretch` at either end, that cost at
/// most `budget`; `steps` values each.
pub fn grid(
    observations: &Observations,
    stretch: f64,
    steps: usize,
    budget: f64,
) -> Vec<RunOption> {
    let values = |input: &str| -> Vec<f64> {
        let values = observations.input(input).unwrap_or_default();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min) / stretch;
        let high = values.iter().copied().fold(0., f64::max) * stretch;
        let step = (high / low).ln() / (steps.max(2) - 1) as f64;
        (0..steps).map(|i| low * (step * i as f64).exp()).collect()
    };
    let (n, d) = (values("n"), values("d"));
    let all = n.iter().flat_map(|&n| d.iter().map(move |&d| RunOption::of_size(n, d)));
    all.filter(|option| option.cost <= budget && option.cost.is_finite()).collect()
}

impl State {
    fn new(law: &dyn Law, fit: &Fit, observations: &Observations) -> Result<Self> {
        let open = || Error::not_identified("the next run", "the fit leaves a direction open");
        let covariance = fit.covariance.clone().ok_or_else(open)?;
        let points = observations.select(&fit.used);
        let weights = points.weights().map_or_else(|| vec![1.; points.len()], <[f64]>::to_vec);
        let weights = relative(weights);
        let jacobian = jacobian(law, fit, &points)?;
        // The covariance is the noise times the inverse information: their product has the trace `noise · n_free`.
        let trace: f64 = jacobian
            .columns()
            .into_iter()
            .zip(&weights)
            .map(|(g, w)| w * g.dot(&covariance.dot(&g)))
            .sum();
        let noise = trace / fit.n_free.max(1) as f64;
        ensure(
            noise > 0. && noise.is_finite(),
            "noise",
            "positive, as data with residuals have",
            noise,
        )?;
        Ok(Self { covariance, noise })
    }

    fn rank(
        &self,
        q: &Array1<f64>,
        gradients: &[Array1<f64>],
        options: &[RunOption],
        budget: f64,
        name: &str,
    ) -> Result<Vec<Gain>> {
        let reach = self.covariance.dot(q);
        let before = q.dot(&reach);
        if !(before > 0. && before.is_finite()) {
            return Err(Error::not_identified(name, "it does not move with the parameters"));
        }
        let gain = |(option, g): (usize, &Array1<f64>)| {
            let taken = g.dot(&reach).powi(2) / (self.noise + g.dot(&self.covariance.dot(g)));
            let se_after = (before - taken).max(0.).sqrt();
            Gain { option, cost: options[option].cost, se_before: before.sqrt(), se_after }
        };
        let affordable = gradients.iter().enumerate().filter(|(i, _)| options[*i].cost <= budget);
        let mut gains: Vec<Gain> = affordable.map(gain).collect();
        gains.sort_by(|a, b| a.se_after.total_cmp(&b.se_after).then(a.cost.total_cmp(&b.cost)));
        Ok(gains)
    }

    /// The covariance once a run with this gradient has been made.
    fn add(&mut self, g: &Array1<f64>) {
        let reach = self.covariance.dot(g);
        let scale = self.noise + g.dot(&reach);
        for ((i, j), value) in self.covariance.indexed_iter_mut() {
            *value -= reach[i] * reach[j] / scale;
        }
    }
}

/// Derivatives of what the objective sees, one column a point: `[parameters, points]`.
fn jacobian(law: &dyn Law, fit: &Fit, points: &Observations) -> Result<Array2<f64>> {
    let design = Design::new(law, points)?;
    let (n, p) = (points.len(), fit.theta.len());
    let mut scratch = vec![0.; law.n_scratch() * n];
    let (mut log_prediction, mut jacobian) = (vec![0.; n], vec![0.; n * p]);
    law.log_predict(&fit.theta, &design, &mut scratch, &mut log_prediction);
    law.log_gradient(&fit.theta, &design, &scratch, &log_prediction, &mut jacobian);
    let mut jacobian = Array2::from_shape_vec((p, n), jacobian).unwrap_or_default();
    if fit.objective.is_level() {
        jacobian *= &ArrayView1::from(&predict_all(law, &fit.theta, &design));
    }
    Ok(jacobian)
}

fn gradients(law: &dyn Law, fit: &Fit, options: &[RunOption]) -> Result<Vec<Array1<f64>>> {
    ensure(!options.is_empty(), "options", "at least one run within the budget", 0)?;
    let mut points = Observations::new("loss", vec![1.; options.len()]);
    for input in law.inputs() {
        let column: Option<Vec<f64>> =
            options.iter().map(|option| option.input(&input.name)).collect();
        let missing =
            || points.fault(None, &input.name, "a run that could be bought lacks this input");
        let column = column.ok_or_else(missing)?;
        points = points.with_input(&input.name, column);
    }
    Ok(jacobian(law, fit, &points)?.columns().into_iter().map(|g| g.to_owned()).collect())
}

#[cfg(test)]
mod tests;
