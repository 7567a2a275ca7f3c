//! Does a family's loss depend on its own share alone? A test, where the literature assumes it.
//!
//! He et al. 2024 (arXiv:2410.12883, hypothesis 1) state that it does. Here `ln L = c + (-gamma) ln p + Σ_j t_j p_j` with
//! all but one of the other shares is compared with the same without them, by an F-test within cells of equal size and
//! horizon. On RegMix's 512 runs the hypothesis fails in every domain.

use serde::{Deserialize, Serialize};

use crate::distribution::f_tail;
use crate::error::{Error, Result, ensure};
use crate::linalg;
use crate::observations::Observations;

/// What the test says of one family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Independence {
    /// The family.
    pub family: String,
    /// Points used.
    pub n_points: usize,
    /// Cells of equal size and horizon, each with a level of its own.
    pub n_cells: usize,
    /// `gamma` under the hypothesis.
    pub gamma: f64,
    /// Explained share of the variance within cells, from the own share.
    pub r2_own: f64,
    /// The same with the other shares.
    pub r2_all: f64,
    /// The statistic.
    pub f: f64,
    /// Degrees of freedom: the other shares that were added, and what the points leave.
    pub df: [usize; 2],
    /// Probability of an `f` at least this large if the hypothesis holds.
    pub p_value: f64,
    /// The other share with the largest effect, `d ln L` for each unit of it.
    pub strongest: Option<(String, f64)>,
}

/// Tests one family. `observations` have the input `p`, the family's own share, and an input for each of `others`, the
/// shares of the rest; as shares sum to 1, the last of them is left out. Clusters, if there are any, are cells of equal
/// size and horizon; without clusters all points are one cell.
///
/// # Errors
/// [`Error::Data`] names an own share that is not positive (choose rows by a smallest share first);
/// [`Error::NotIdentified`] where the points are too few, or where the other shares only ever moved together.
pub fn independence(
    family: &str,
    observations: &Observations,
    others: &[&str],
) -> Result<Independence> {
    test(family, observations, others, |own| vec![own.iter().map(|p| p.ln()).collect()])
}

/// As [`independence`], where the own share takes a few values only: each of them has an effect of its own, so that the
/// other shares do not get the credit for a loss that is no straight line in `ln p`.
///
/// # Errors
/// As [`independence`]; [`Error::NotIdentified`] also where another share follows from the own one.
pub fn independence_at_levels(
    family: &str,
    observations: &Observations,
    others: &[&str],
) -> Result<Independence> {
    test(family, observations, others, |own| {
        let mut levels = own.to_vec();
        levels.sort_by(f64::total_cmp);
        levels.dedup();
        let is = |level: &f64| own.iter().map(|p| f64::from(u8::from(p == level))).collect();
        levels.iter().skip(1).map(is).collect()
    })
}

fn test(
    family: &str,
    observations: &Observations,
    others: &[&str],
    own_columns: impl Fn(&[f64]) -> Vec<Vec<f64>>,
) -> Result<Independence> {
    observations.check()?;
    let has_weight = |i: &usize| observations.weights().is_none_or(|weights| weights[*i] > 0.);
    let weighty: Vec<usize> = (0..observations.len()).filter(has_weight).collect();
    let observations = &observations.select(&weighty);
    ensure(others.len() > 1, "others", "at least two shares", others.len())?;
    let own = input(observations, "p")?;
    if let Some(i) = own.iter().position(|&p| p <= 0.) {
        let reason = format!("must be positive, got {}", own[i]);
        return Err(observations.fault(i, "p", reason));
    }
    let cells = Cells::new(observations);
    let y = cells.within(observations.target().iter().map(|loss| loss.ln()).collect());
    let ln_p = cells.within(own.iter().map(|p| p.ln()).collect());
    let mut columns: Vec<Vec<f64>> =
        own_columns(own).into_iter().map(|column| cells.within(column)).collect();
    let n_own = columns.len();
    for name in &others[..others.len() - 1] {
        columns.push(cells.within(input(observations, name)?.to_vec()));
    }
    let (n, k) = (y.len(), columns.len() - n_own);
    let fail =
        |reason: String| Error::not_identified(format!("independence of `{family}`"), reason);
    let df2 = n.saturating_sub(cells.n + n_own + k);
    if df2 == 0 {
        return Err(fail(format!("{n} points in {} cells for {k} other shares", cells.n)));
    }
    let never = |column: &Vec<f64>| square(column) < 1e-18 * n as f64;
    let still = columns[n_own..].iter().position(never).map(|index| others[index]);
    if let Some(name) = Some("p").filter(|_| never(&ln_p)).or(still) {
        return Err(fail(format!("`{name}` never changes within a cell")));
    }
    let weights = observations.weights().map_or_else(|| vec![1.; n], <[f64]>::to_vec);
    let all: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let line = regress(&[&ln_p], &y, &weights);
    let restricted = regress(&all[..n_own], &y, &weights);
    let full = regress(&all, &y, &weights);
    let (Some((line, _)), Some((_, rss_own)), Some((coefficients, rss_all))) =
        (line, restricted, full)
    else {
        let or = if n_own > 1 { ", or with the own one" } else { "" };
        return Err(fail(format!("the other shares only ever moved together{or}")));
    };
    let f = ((rss_own - rss_all) / k as f64 / (rss_all / df2 as f64)).max(0.);
    let total: f64 = y.iter().zip(&weights).map(|(y, w)| w * y * y).sum();
    let strongest =
        (n_own..n_own + k).max_by(|&i, &j| coefficients[i].abs().total_cmp(&coefficients[j].abs()));
    Ok(Independence {
        family: family.to_owned(),
        n_points: n,
        n_cells: cells.n,
        gamma: -line[0],
        r2_own: 1. - rss_own / total,
        r2_all: 1. - rss_all / total,
        f,
        df: [k, df2],
        p_value: f_tail(f, k as f64, df2 as f64),
        strongest: strongest.map(|i| (others[i - n_own].to_owned(), coefficients[i])),
    })
}

/// Holm's correction: p-values that may be compared with one level although there are several of them.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut adjusted = vec![0.; p_values.len()];
    let mut largest = 0_f64;
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max((p_values.len() - rank) as f64 * p_values[i]).min(1.);
        adjusted[i] = largest;
    }
    adjusted
}

fn input<'a>(observations: &'a Observations, name: &str) -> Result<&'a [f64]> {
    observations.input(name).ok_or_else(|| observations.fault(None, name, "there is no such input"))
}

fn square(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}

/// Coefficients and the weighted residual sum of squares; `None` where columns are dependent.
fn regress(columns: &[&[f64]], y: &[f64], weights: &[f64]) -> Option<(Vec<f64>, f64)> {
    let coefficients = linalg::least_squares(columns, y, weights)?;
    let fitted = |i: usize| columns.iter().zip(&coefficients).map(|(c, b)| c[i] * b).sum::<f64>();
    let rss = (0..y.len()).map(|i| weights[i] * (y[i] - fitted(i)).powi(2)).sum();
    Some((coefficients, rss))
}

/// Cells of equal size and horizon.
struct Cells {
    of: Vec<usize>,
    n: usize,
    weights: Vec<f64>,
}

impl Cells {
    fn new(observations: &Observations) -> Self {
        let points = observations.len();
        let labels = observations.clusters().map_or_else(|| vec![0; points], <[usize]>::to_vec);
        let mut known = labels.clone();
        known.sort_unstable();
        known.dedup();
        let of = labels.iter().map(|label| known.partition_point(|k| k < label)).collect();
        let weights = observations.weights().map_or_else(|| vec![1.; points], <[f64]>::to_vec);
        Self { of, n: known.len(), weights }
    }

    /// Values less the mean of their cell: what is left of a regression with one level a cell.
    fn within(&self, mut values: Vec<f64>) -> Vec<f64> {
        let mut sums = vec![(0., 0.); self.n];
        for ((value, &cell), w) in values.iter().zip(&self.of).zip(&self.weights) {
            sums[cell] = (sums[cell].0 + w * value, sums[cell].1 + w);
        }
        for (value, &cell) in values.iter_mut().zip(&self.of) {
            *value -= sums[cell].0 / sums[cell].1;
        }
        values
    }
}

#[cfg(test)]
mod tests;
