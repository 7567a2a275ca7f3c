//! The best use of compute: how large a model on how many tokens, for any law of `n` and `d`.
//!
//! Hoffmann et al. 2022 (arXiv:2203.15556) have the closed form for their law ([`crate::law::Chinchilla::frontier`]);
//! here the same is found by search, for laws that have none (repeated data, Kaplan's, a family's), with `C = 6 N D`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure};
use crate::law::{Design, Law, Scale, predict_all};
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

/// Points of a scan; every scan narrows the bracket by half as many.
const SCAN: usize = 48;

/// Smallest and largest number of parameters and of tokens that a budget is split into.
const SMALLEST: f64 = 1.;

/// Losses along a line of constant compute.
struct Line<'a> {
    law: &'a dyn Law,
    theta: &'a [f64],
    product: f64,
    others: &'a [(&'a str, f64)],
}

impl Line<'_> {
    fn losses(&self, ln_n: &[f64]) -> Result<Vec<f64>> {
        let n: Vec<f64> = ln_n.iter().map(|x| x.exp()).collect();
        let d: Vec<f64> = n.iter().map(|n| self.product / n).collect();
        let mut points =
            Observations::new("loss", vec![1.; n.len()]).with_input("n", n).with_input("d", d);
        for (name, value) in self.others {
            points = points.with_input(name, vec![*value; ln_n.len()]);
        }
        Ok(predict_all(self.law, self.theta, &Design::new(self.law, &points)?))
    }
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
    let product = flops.0 / 6.;
    ensure(product > SMALLEST && product.is_finite(), "flops", "above 6", flops.0)?;
    let line = Line { law, theta, product, others };
    let ends = [SMALLEST.ln(), product.ln()];
    let [mut low, mut high] = ends;
    let mut best = (low, f64::INFINITY);
    // The loss is flat at its minimum: below a relative width of 1e-8 the comparison sees rounding alone.
    while high - low > 1e-9 {
        let step = (high - low) / SCAN as f64;
        let grid: Vec<f64> = (0..=SCAN).map(|i| low + step * i as f64).collect();
        let losses = line.losses(&grid)?;
        let lowest =
            (0..=SCAN).min_by(|&i, &j| losses[i].total_cmp(&losses[j])).unwrap_or_default();
        best = (grid[lowest], losses[lowest]);
        low = grid[lowest.saturating_sub(1)];
        high = grid[(lowest + 1).min(SCAN)];
    }
    if best.0 - ends[0] < 1e-6 || ends[1] - best.0 < 1e-6 {
        let end = if best.0 - ends[0] < 1e-6 { "the smallest model" } else { "the fewest tokens" };
        let reason = format!("the law prefers {end} at any cost");
        return Err(Error::not_identified("the compute-optimal size", reason));
    }
    let n = best.0.exp();
    Ok(Allocation { flops, n: Params(n), d: Tokens(product / n), loss: best.1 })
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
    Quantity::new(format!("n_opt({:e})", flops.0), Scale::Log, move |theta: &[f64]| {
        optimal_allocation(law, theta, flops, others).map_or(f64::NAN, |best| best.n.0.ln())
    })
}

/// The lowest loss that a budget can buy, as a quantity that intervals can be built for.
pub fn optimal_loss<'a>(
    law: &'a dyn Law,
    flops: Flops,
    others: &'a [(&'a str, f64)],
) -> Quantity<'a> {
    Quantity::new(format!("loss_opt({:e})", flops.0), Scale::Log, move |theta: &[f64]| {
        optimal_allocation(law, theta, flops, others).map_or(f64::NAN, |best| best.loss.ln())
    })
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
