//! The frontier without a law of the loss: the best size of each budget, and a power law through those.
//!
//! Hoffmann et al. 2022 (arXiv:2203.15556): approach 2 takes runs of equal compute and the vertex of a parabola in
//! `ln N` (its intercept is biased where the valley is not symmetric); approach 1 takes the best run seen so far at each
//! compute. Approach 3 is a fitted law ([`crate::allocation`]). Where the three disagree, believe none of them too much.

use serde::{Deserialize, Serialize};

use crate::distribution::student_quantile;
use crate::error::{Error, Result, ensure};
use crate::interval::Interval;
use crate::parabola::{Optimum, ParabolaConfig, parabola};
use crate::units::{Flops, Params};

/// The runs of one budget, and where their loss is lowest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IsoFlop {
    /// The budget, the geometric mean of its runs'.
    pub flops: Flops,
    /// Runs, as indices of the caller's columns.
    pub runs: Vec<usize>,
    /// The size with the lowest loss, or why there is none.
    pub optimum: Optimum,
}

/// `y = e^ln_coefficient x^exponent`, through points in logarithms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerFit {
    /// The exponent.
    pub exponent: f64,
    /// Its 95 % interval by Student's t; infinite with two points.
    pub exponent_ci95: Interval,
    /// The logarithm of the coefficient.
    pub ln_coefficient: f64,
    /// Explained share of the variance.
    pub r2: f64,
    /// Points used, as indices; those that are no positive number, or without a usable weight, are left out.
    pub used: Vec<usize>,
}

impl PowerFit {
    /// The value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        (self.ln_coefficient + self.exponent * x.ln()).exp()
    }
}

/// Groups runs whose budgets differ by less than `tolerance` (0.05), and lays a parabola through each group.
///
/// # Errors
/// [`Error::Config`] for columns of different lengths or a tolerance that is not positive; [`Error::Data`] names the
/// entry of a column that is not positive.
pub fn profiles(
    n: &[f64],
    flops: &[f64],
    loss: &[f64],
    tolerance: f64,
    config: &ParabolaConfig,
) -> Result<Vec<IsoFlop>> {
    check(n, flops, loss)?;
    ensure(tolerance > 0. && tolerance < 1., "tolerance", "between 0 and 1", tolerance)?;
    let mut order: Vec<usize> = (0..n.len()).collect();
    order.sort_by(|&i, &j| flops[i].total_cmp(&flops[j]));
    let is_same = |&i: &usize, &j: &usize| flops[j] <= flops[i] * (1. + tolerance);
    let budget = |runs: &[usize]| -> Result<IsoFlop> {
        let pick = |column: &[f64]| runs.iter().map(|&i| column[i]).collect::<Vec<f64>>();
        let ln_c = runs.iter().map(|&i| flops[i].ln()).sum::<f64>() / runs.len() as f64;
        let optimum = parabola(&pick(n), &pick(loss), config)?;
        Ok(IsoFlop { flops: Flops(ln_c.exp()), runs: runs.to_vec(), optimum })
    };
    order.chunk_by(is_same).map(budget).collect()
}

/// Approach 2: a power law `N* = k C^a` through the budgets whose optimum is identified.
///
/// # Errors
/// [`Error::NotIdentified`] where fewer than two budgets show an optimum.
pub fn exponent(profiles: &[IsoFlop]) -> Result<PowerFit> {
    let found =
        profiles.iter().filter_map(|p| p.optimum.vertex().map(|vertex| (p.flops.0, vertex.x)));
    let (flops, n): (Vec<f64>, Vec<f64>) = found.unzip();
    power_fit(&flops, &n, None)
}

/// Approach 1: the runs that are better than every cheaper one, the best of each factor `step` of compute.
///
/// # Errors
/// As [`profiles`].
pub fn envelope(n: &[f64], flops: &[f64], loss: &[f64], step: f64) -> Result<Vec<(Flops, Params)>> {
    check(n, flops, loss)?;
    ensure(step > 1. && step.is_finite(), "step", "above 1", step)?;
    let mut order: Vec<usize> = (0..n.len()).filter(|&i| loss[i].is_finite()).collect();
    order.sort_by(|&i, &j| flops[i].total_cmp(&flops[j]).then(loss[i].total_cmp(&loss[j])));
    let mut record = f64::INFINITY;
    order.retain(|&i| {
        let is_better = loss[i] < record;
        record = record.min(loss[i]);
        is_better
    });
    let bin = |i: usize| (flops[i].ln() / step.ln()).floor();
    // Records fall with compute, so the last of a bin is its best.
    let best = order.chunk_by(|&i, &j| bin(i) == bin(j)).filter_map(|chunk| chunk.last());
    Ok(best.map(|&i| (Flops(flops[i]), Params(n[i]))).collect())
}

/// A power law by least squares of logarithms. Points or weights that are no positive number are left out, and say so
/// by their absence from [`PowerFit::used`].
///
/// # Errors
/// [`Error::Config`] for columns of different lengths; [`Error::NotIdentified`] with fewer than two distinct points.
pub fn power_fit(x: &[f64], y: &[f64], weights: Option<&[f64]>) -> Result<PowerFit> {
    ensure(x.len() == y.len(), "y", format!("{} values", x.len()), y.len())?;
    let weight =
        |i: usize| weights.map_or(1., |weights| weights.get(i).copied().unwrap_or(f64::NAN));
    let is_sound = |value: f64| value > 0. && value.is_finite();
    let used: Vec<usize> =
        (0..x.len()).filter(|&i| is_sound(x[i]) && is_sound(y[i]) && is_sound(weight(i))).collect();
    let total: f64 = used.iter().map(|&i| weight(i)).sum();
    let mean =
        |values: &[f64]| used.iter().map(|&i| weight(i) * values[i].ln()).sum::<f64>() / total;
    let (mx, my) = (mean(x), mean(y));
    let sum = |a: &[f64], ma: f64, b: &[f64], mb: f64| -> f64 {
        used.iter().map(|&i| weight(i) * (a[i].ln() - ma) * (b[i].ln() - mb)).sum()
    };
    let (xx, xy, yy) = (sum(x, mx, x, mx), sum(x, mx, y, my), sum(y, my, y, my));
    if used.len() < 2 || xx.is_nan() || xx <= 0. {
        let reason = format!("{} usable points at distinct values", used.len());
        return Err(Error::not_identified("the exponent", reason));
    }
    let exponent = xy / xx;
    let rss = (yy - exponent * xy).max(0.);
    let freedom = used.len() as f64 - 2.;
    let half = match freedom > 0. {
        true => student_quantile(0.975, freedom) * (rss / freedom / xx).sqrt(),
        false => f64::INFINITY,
    };
    Ok(PowerFit {
        exponent,
        exponent_ci95: Interval { low: exponent - half, high: exponent + half },
        ln_coefficient: my - exponent * mx,
        r2: if yy > 0. { 1. - rss / yy } else { 1. },
        used,
    })
}

fn check(n: &[f64], flops: &[f64], loss: &[f64]) -> Result<()> {
    let same = n.len() == flops.len() && n.len() == loss.len();
    ensure(same, "columns", format!("{} values each", n.len()), flops.len().min(loss.len()))?;
    for (name, column) in [("n", n), ("flops", flops)] {
        if let Some(i) = column.iter().position(|&value| !(value > 0. && value.is_finite())) {
            let reason = format!("must be positive, got {}", column[i]);
            return Err(Error::data(None, i + 1, name, reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
