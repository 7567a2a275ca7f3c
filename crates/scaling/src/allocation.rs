//! The best use of compute: how large a model on how many tokens, for any law of `n` and `d`.
//!
//! Hoffmann et al. 2022 (arXiv:2203.15556) have the closed form for their law ([`crate::law::Chinchilla::frontier`]);
//! here the same is found by search, for laws that have none (repeated data, Kaplan's, a family's), with `C = 6 N D`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure};
use crate::law::{Design, Law, Scale};
use crate::observations::Observations;
use crate::quantity::Quantity;
use crate::units::{Flops, Params, Tokens};

/// Size and horizon for a budget, and the loss that the law predicts there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// The budget.
    pub flops: Flops,
    /// Parameters.
    pub n: Params,
    /// Tokens.
    pub d: Tokens,
    /// Predicted loss, nats per token.
    pub loss: f64,
}

/// Points of the scan that brackets the optimum.
const SCAN: usize = 48;

/// Smallest number of parameters and of tokens that a budget is split into.
const SMALLEST: f64 = 1.;

/// Step in `ln N` of the differences along a line. The formulas are of fourth order: truncation and rounding are both
/// some 1e-11 of the slope.
const STEP: f64 = 3e-3;

/// A slope that is rounding alone: that of a logarithm near 1, over the step.
const ROUNDING: f64 = 1e-13;

/// Steps at which the line is evaluated around a point.
const STENCIL: [f64; 5] = [-2., -1., 0., 1., 2.];

/// Weights of the first derivative on the stencil, in units of `1 / (12 STEP)`.
const FIRST: [f64; 5] = [1., -8., 0., 8., -1.];

/// Weights of the second derivative, in units of `1 / (12 STEP²)`.
const SECOND: [f64; 5] = [-1., 16., -30., 16., -1.];

/// A line of constant compute.
struct Line<'a> {
    law: &'a dyn Law,
    theta: &'a [f64],
    product: f64,
    others: &'a [(&'a str, f64)],
}

impl Line<'_> {
    fn design(&self, ln_n: &[f64]) -> Result<Design> {
        let n: Vec<f64> = ln_n.iter().map(|x| x.exp()).collect();
        let d: Vec<f64> = n.iter().map(|n| self.product / n).collect();
        let mut points =
            Observations::new("loss", vec![1.; n.len()]).with_input("n", n).with_input("d", d);
        for (name, value) in self.others {
            points = points.with_input(name, vec![*value; ln_n.len()]);
        }
        Design::new(self.law, &points)
    }

    /// Logarithms of the loss.
    fn log_losses(&self, ln_n: &[f64]) -> Result<Vec<f64>> {
        let design = self.design(ln_n)?;
        let mut scratch = vec![0.; self.law.n_scratch() * ln_n.len()];
        let mut out = vec![0.; ln_n.len()];
        self.law.log_predict(self.theta, &design, &mut scratch, &mut out);
        Ok(out)
    }

    /// Derivative of the logarithm of the loss by `ln N`.
    fn slope(&self, ln_n: f64) -> Result<f64> {
        let losses = self.log_losses(&around(ln_n))?;
        Ok(dot(&FIRST, &losses) / (12. * STEP))
    }

    /// `ln N` of the lowest loss: a bracket from a scan, then the root of the slope.
    fn optimum(&self) -> Result<f64> {
        let (start, end) = (SMALLEST.ln(), self.product.ln());
        let step = (end - start) / SCAN as f64;
        let grid: Vec<f64> = (0..=SCAN).map(|i| start + step * i as f64).collect();
        let losses = self.log_losses(&grid)?;
        let lowest =
            (0..=SCAN).min_by(|&i, &j| losses[i].total_cmp(&losses[j])).unwrap_or_default();
        let (low, high) = (grid[lowest.saturating_sub(1)], grid[(lowest + 1).min(SCAN)]);
        let slopes = (self.slope(low)?, self.slope(high)?);
        if !(slopes.0 < 0. && slopes.1 > 0.) {
            let end = if slopes.0 >= 0. { "the smallest model" } else { "the fewest tokens" };
            let reason = format!("the law prefers {end} at any cost");
            return Err(Error::not_identified("the compute-optimal size", reason));
        }
        self.root((low, slopes.0), (high, slopes.1))
    }

    /// Where the slope changes its sign: regula falsi, with the value of an end that stays halved (the Illinois rule).
    fn root(&self, mut low: (f64, f64), mut high: (f64, f64)) -> Result<f64> {
        let mut last_side = 0;
        for _ in 0..100 {
            let share = low.1 / (low.1 - high.1);
            let x = low.0 + share * (high.0 - low.0);
            let slope = self.slope(x)?;
            if slope.abs() < ROUNDING || x <= low.0 || x >= high.0 {
                return Ok(x);
            }
            let side = if slope < 0. { -1 } else { 1 };
            let halve = if side == last_side { 0.5 } else { 1. };
            if side < 0 {
                low = (x, slope);
                high.1 *= halve;
            } else {
                high = (x, slope);
                low.1 *= halve;
            }
            last_side = side;
        }
        Ok(0.5 * (low.0 + high.0))
    }

    /// Derivatives of `ln N*` and of the logarithm of the loss there by `theta`. The first moves as the zero of the
    /// slope does; the second is the loss's own, as the optimum is flat.
    fn gradients(&self, ln_n: f64) -> Result<[Vec<f64>; 2]> {
        let stencil = around(ln_n);
        let design = self.design(&stencil)?;
        let (n, p) = (stencil.len(), self.theta.len());
        let mut scratch = vec![0.; self.law.n_scratch() * n];
        let (mut losses, mut jacobian) = (vec![0.; n], vec![0.; p * n]);
        self.law.log_predict(self.theta, &design, &mut scratch, &mut losses);
        self.law.log_gradient(self.theta, &design, &scratch, &losses, &mut jacobian);
        let curvature = dot(&SECOND, &losses) / (12. * STEP * STEP);
        let mixed = |column: &[f64]| -dot(&FIRST, column) / (12. * STEP) / curvature;
        let columns = || jacobian.chunks_exact(n);
        Ok([columns().map(mixed).collect(), columns().map(|column| column[n / 2]).collect()])
    }
}

fn around(ln_n: f64) -> [f64; 5] {
    STENCIL.map(|steps| ln_n + steps * STEP)
}

fn dot(weights: &[f64; 5], values: &[f64]) -> f64 {
    weights.iter().zip(values).map(|(w, v)| w * v).sum()
}

/// The line of `flops`.
fn line<'a>(
    law: &'a dyn Law,
    theta: &'a [f64],
    flops: Flops,
    others: &'a [(&'a str, f64)],
) -> Result<Line<'a>> {
    let product = flops.0 / 6.;
    ensure(product > SMALLEST && product.is_finite(), "flops", "above 6", flops.0)?;
    Ok(Line { law, theta, product, others })
}

/// The split of `flops` with the lowest predicted loss; `others` are inputs of the law besides `n` and `d`, held fixed.
///
/// # Errors
/// [`Error::Config`] for a budget below 6 FLOP; [`Error::NotIdentified`] where the loss keeps falling towards one end,
/// which says that the law sees no use in the other input; [`Error::Data`] names an input that the law misses.
pub fn optimal_allocation(
    law: &dyn Law,
    theta: &[f64],
    flops: Flops,
    others: &[(&str, f64)],
) -> Result<Allocation> {
    let line = line(law, theta, flops, others)?;
    let ln_n = line.optimum()?;
    let n = ln_n.exp();
    let loss = line.log_losses(&[ln_n])?[0].exp();
    Ok(Allocation { flops, n: Params(n), d: Tokens(line.product / n), loss })
}

/// The optimal split of every budget.
///
/// # Errors
/// As [`optimal_allocation`].
pub fn frontier(
    law: &dyn Law,
    theta: &[f64],
    budgets: &[Flops],
    others: &[(&str, f64)],
) -> Result<Vec<Allocation>> {
    budgets.iter().map(|&flops| optimal_allocation(law, theta, flops, others)).collect()
}

/// `n` budgets from `low` to `high`, equal factors apart.
pub fn budgets(low: Flops, high: Flops, n: usize) -> Vec<Flops> {
    let step = (high.0 / low.0).ln() / (n.max(2) - 1) as f64;
    (0..n).map(|i| Flops(low.0 * (step * i as f64).exp())).collect()
}

/// `N*` for a budget of any law, as a quantity that intervals can be built for.
pub fn optimal_params<'a>(
    law: &'a dyn Law,
    flops: Flops,
    others: &'a [(&'a str, f64)],
) -> Quantity<'a> {
    let name = format!("n_opt({:e})", flops.0);
    let value = move |theta: &[f64]| {
        line(law, theta, flops, others).and_then(|line| line.optimum()).unwrap_or(f64::NAN)
    };
    Quantity::new(name, Scale::Log, value).with_gradient(move |theta| {
        let [of_size, _] = gradients(law, theta, flops, others);
        of_size
    })
}

/// The lowest loss that a budget can buy, as a quantity that intervals can be built for.
pub fn optimal_loss<'a>(
    law: &'a dyn Law,
    flops: Flops,
    others: &'a [(&'a str, f64)],
) -> Quantity<'a> {
    let name = format!("loss_opt({:e})", flops.0);
    let value = move |theta: &[f64]| {
        optimal_allocation(law, theta, flops, others).map_or(f64::NAN, |best| best.loss.ln())
    };
    Quantity::new(name, Scale::Log, value).with_gradient(move |theta| {
        let [_, of_loss] = gradients(law, theta, flops, others);
        of_loss
    })
}

/// Derivatives at the optimum, `NaN` where there is none.
fn gradients(law: &dyn Law, theta: &[f64], flops: Flops, others: &[(&str, f64)]) -> [Vec<f64>; 2] {
    let found = line(law, theta, flops, others)
        .and_then(|line| line.optimum().and_then(|ln_n| line.gradients(ln_n)));
    found.unwrap_or_else(|_| [vec![f64::NAN; theta.len()], vec![f64::NAN; theta.len()]])
}

/// The smallest budget whose optimal split reaches `loss`.
///
/// # Errors
/// [`Error::NotIdentified`] for a loss that no budget up to 1e40 FLOP reaches; else as [`optimal_allocation`].
pub fn compute_for_loss(
    law: &dyn Law,
    theta: &[f64],
    loss: f64,
    others: &[(&str, f64)],
) -> Result<Allocation> {
    let at = |ln_c: f64| optimal_allocation(law, theta, Flops(ln_c.exp()), others);
    let (mut low, mut high) = (100_f64.ln(), 1e40_f64.ln());
    let is_above = |ln_c: f64| match at(ln_c) {
        Ok(best) => Ok(best.loss > loss),
        Err(Error::NotIdentified { .. }) => Ok(true), // so small that all of it goes to one of the two
        Err(error) => Err(error),
    };
    if is_above(high)? {
        return Err(Error::not_identified(
            "the compute for this loss",
            format!("the law does not reach {loss} nats per token"),
        ));
    }
    while high - low > 1e-9 {
        let middle = 0.5 * (low + high);
        if is_above(middle)? { low = middle } else { high = middle }
    }
    at(high)
}

/// The share of `flops` that a loss above the best is worth: 0.2 says that a fifth less compute, well used, would have
/// reached the same.
///
/// # Errors
/// [`Error::Config`] for a negative excess; else as [`compute_for_loss`].
pub fn wasted_compute(
    law: &dyn Law,
    theta: &[f64],
    flops: Flops,
    excess_loss: f64,
    others: &[(&str, f64)],
) -> Result<f64> {
    ensure(excess_loss >= 0., "excess_loss", "at least 0", excess_loss)?;
    let best = optimal_allocation(law, theta, flops, others)?;
    let enough = compute_for_loss(law, theta, best.loss + excess_loss, others)?;
    Ok((1. - enough.flops.0 / flops.0).clamp(0., 1.))
}

#[cfg(test)]
mod tests;
