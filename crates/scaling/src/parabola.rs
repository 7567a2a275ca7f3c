//! The best learning rate of a sweep: the vertex of a parabola in its logarithm, or the reason why there is none.
//!
//! Bjorck et al. 2024 (arXiv:2409.19913) fit all points of a cell after dropping diverged runs. That the sweep does not
//! show an optimum is a result like any other here: [`Optimum::NotIdentified`] says why.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure};
use crate::linalg;

/// Which points a parabola is laid through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// All that have not diverged.
    #[default]
    All,
    /// The lowest point and this many distinct values on either side.
    Around(usize),
    /// The points whose loss is within this of the lowest, in the loss's unit.
    Within(f64),
}

/// How a sweep is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParabolaConfig {
    /// Points to use.
    pub window: Window,
    /// A loss is diverged if it exceeds the lowest by more than this many nats, or is no number.
    pub divergence: f64,
    /// The explained share of the variance below which a parabola is no description; 0 accepts all.
    pub min_r2: f64,
}

impl Default for ParabolaConfig {
    /// All points; a run 2 nats above the best has diverged; any explained share.
    fn default() -> Self {
        Self { window: Window::All, divergence: 2., min_r2: 0. }
    }
}

/// A vertex that the points enclose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vertex {
    /// Where the loss is lowest, natural value.
    pub x: f64,
    /// Its logarithm.
    pub ln_x: f64,
    /// The loss there, from the parabola.
    pub loss: f64,
    /// The parabola's leading coefficient: `loss + curvature · (ln x - ln_x)²`.
    pub curvature: f64,
    /// Standard error of `ln_x` by the delta method; `NaN` with three points.
    pub se_ln_x: f64,
    /// Explained share of the variance.
    pub r2: f64,
    /// Points in the window.
    pub n_points: usize,
    /// Points left out as diverged.
    pub n_diverged: usize,
}

/// Why a sweep shows no optimum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum Reason {
    /// Fewer than three distinct values are left after divergence and window.
    TooFewPoints {
        /// Distinct values.
        n: usize,
    },
    /// The parabola opens downwards, or is a line.
    NotConvex {
        /// Its leading coefficient.
        curvature: f64,
    },
    /// The vertex lies outside the values tried: the sweep must go on in that direction.
    AtEdge {
        /// Whether it lies below them.
        below: bool,
        /// Where it would lie.
        x: f64,
    },
    /// The parabola explains too little of the variance.
    PoorFit {
        /// Explained share.
        r2: f64,
    },
}

/// What a sweep shows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimum {
    /// An optimum between the values tried.
    Identified(Vertex),
    /// None, with the reason and the parabola as far as there is one.
    NotIdentified(Reason, Option<Vertex>),
}

impl Optimum {
    /// The vertex, if it is identified.
    pub fn vertex(&self) -> Option<&Vertex> {
        match self {
            Self::Identified(vertex) => Some(vertex),
            Self::NotIdentified(..) => None,
        }
    }

    /// The parabola's vertex, whether or not it counts.
    pub fn parabola(&self) -> Option<&Vertex> {
        match self {
            Self::Identified(vertex) => Some(vertex),
            Self::NotIdentified(_, vertex) => vertex.as_ref(),
        }
    }
}

/// Fits a parabola in `ln x` to the losses of one sweep: `x` is a learning rate, or a number of parameters at one
/// budget. A loss that is no number counts as diverged.
///
/// # Errors
/// [`Error::Data`] names the entry of `x` that is not positive; [`Error::Config`] a setting out of range, or columns of
/// different lengths.
pub fn parabola(x: &[f64], loss: &[f64], config: &ParabolaConfig) -> Result<Optimum> {
    ensure(
        x.len() == loss.len(),
        "loss",
        format!("{} values, one for each x", x.len()),
        loss.len(),
    )?;
    ensure(config.divergence > 0., "divergence", "positive", config.divergence)?;
    ensure(config.min_r2 <= 1., "min_r2", "at most 1", config.min_r2)?;
    if let Some(i) = x.iter().position(|&x| !(x > 0. && x.is_finite())) {
        return Err(Error::data(None, i + 1, "x", format!("must be positive, got {}", x[i])));
    }
    let (points, n_diverged) = window(x, loss, config);
    Ok(read(&points, n_diverged, 0., config))
}

/// What the points of a window show, for a valley with this third-order term: `loss = … + slant · ln³ x`.
pub(crate) fn read(
    points: &[(f64, f64)],
    n_diverged: usize,
    slant: f64,
    config: &ParabolaConfig,
) -> Optimum {
    let n_distinct = distinct(points).len();
    if n_distinct < 3 {
        return Optimum::NotIdentified(Reason::TooFewPoints { n: n_distinct }, None);
    }
    let Some(vertex) = fit(points, n_diverged, slant) else {
        return Optimum::NotIdentified(Reason::NotConvex { curvature: 0. }, None);
    };
    match reason(&vertex, points, config) {
        None => Optimum::Identified(vertex),
        Some(reason) => Optimum::NotIdentified(reason, Some(vertex)),
    }
}

fn reason(vertex: &Vertex, points: &[(f64, f64)], config: &ParabolaConfig) -> Option<Reason> {
    let values = distinct(points);
    let (first, last) = (values[0], values[values.len() - 1]);
    if vertex.curvature <= 0. || !vertex.ln_x.is_finite() {
        return Some(Reason::NotConvex { curvature: vertex.curvature });
    }
    if vertex.ln_x <= first || vertex.ln_x >= last {
        return Some(Reason::AtEdge { below: vertex.ln_x <= first, x: vertex.x });
    }
    (vertex.r2 < config.min_r2).then_some(Reason::PoorFit { r2: vertex.r2 })
}

/// Distinct values of `ln x`, ascending.
fn distinct(points: &[(f64, f64)]) -> Vec<f64> {
    let mut values: Vec<f64> = points.iter().map(|point| point.0).collect();
    values.sort_by(f64::total_cmp);
    values.dedup_by(|a, b| (*a - *b).abs() < 1e-12);
    values
}

/// The points to use as `(ln x, loss)`, and how many diverged.
pub(crate) fn window(x: &[f64], loss: &[f64], config: &ParabolaConfig) -> (Vec<(f64, f64)>, usize) {
    let lowest = loss.iter().copied().filter(|loss| loss.is_finite()).fold(f64::INFINITY, f64::min);
    let is_sound = |loss: f64| loss.is_finite() && loss <= lowest + config.divergence;
    let mut points: Vec<(f64, f64)> = x
        .iter()
        .zip(loss)
        .filter(|(_, loss)| is_sound(**loss))
        .map(|(x, &loss)| (x.ln(), loss))
        .collect();
    let n_diverged = x.len() - points.len();
    match config.window {
        Window::All => {}
        Window::Within(nats) => points.retain(|point| point.1 <= lowest + nats),
        Window::Around(steps) => {
            let best = points.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0., |point| point.0);
            let values = distinct(&points);
            let centre = values.partition_point(|&value| value < best - 1e-12);
            let low = centre.saturating_sub(steps);
            let high = (centre + steps).min(values.len().saturating_sub(1));
            if let (Some(&low), Some(&high)) = (values.get(low), values.get(high)) {
                points.retain(|point| point.0 >= low - 1e-12 && point.0 <= high + 1e-12);
            }
        }
    }
    (points, n_diverged)
}

/// Least squares, around the mean of `ln x` so that nothing depends on the unit of `x`; `None` where the points leave it
/// open, or where a slant as large leaves no valley.
fn fit(points: &[(f64, f64)], n_diverged: usize, slant: f64) -> Option<Vertex> {
    let n = points.len() as f64;
    let centre = points.iter().map(|point| point.0).sum::<f64>() / n;
    let ones = vec![1.; points.len()];
    let line: Vec<f64> = points.iter().map(|point| point.0 - centre).collect();
    let square: Vec<f64> = line.iter().map(|x| x * x).collect();
    let upright: Vec<f64> =
        points.iter().zip(&line).map(|(point, x)| point.1 - slant * x.powi(3)).collect();
    let columns = [ones.as_slice(), &line, &square];
    let c = linalg::least_squares(&columns, &upright, &ones)?;
    let shift = lowest(&c, slant)?;
    let curvature = c[2] + 3. * slant * shift;
    let mean = points.iter().map(|point| point.1).sum::<f64>() / n;
    let residual: f64 =
        line.iter().zip(&upright).map(|(x, y)| (y - c[0] - c[1] * x - c[2] * x * x).powi(2)).sum();
    let total: f64 = points.iter().map(|point| (point.1 - mean).powi(2)).sum();
    Some(Vertex {
        x: (centre + shift).exp(),
        ln_x: centre + shift,
        loss: c[0] + shift * (c[1] + shift * (c[2] + shift * slant)),
        curvature,
        se_ln_x: standard_error(&columns, shift, curvature, residual / (n - 3.)),
        r2: if total > 0. { 1. - residual / total } else { 0. },
        n_points: points.len(),
        n_diverged,
    })
}

/// Where `c1 x + c2 x² + slant x³` is stationary: at its lowest point, or for a parabola at its highest.
fn lowest(c: &[f64], slant: f64) -> Option<f64> {
    if slant == 0. {
        return Some(-0.5 * c[1] / c[2]);
    }
    let root = (c[2] * c[2] - 3. * slant * c[1]).sqrt();
    let shift = -c[1] / (c[2] + root);
    (c[2] > 0. && shift.is_finite()).then_some(shift)
}

/// Delta method: the lowest point moves by `-1 / (2 curvature)` a unit of slope there.
fn standard_error(columns: &[&[f64]; 3], shift: f64, curvature: f64, variance: f64) -> f64 {
    let mut gram = vec![0.; 9];
    for i in 0..3 {
        for j in 0..=i {
            gram[i * 3 + j] = columns[i].iter().zip(columns[j]).map(|(a, b)| a * b).sum();
        }
    }
    let Some((inverse, _)) = linalg::inverse(&gram, 3) else { return f64::NAN };
    let gradient = [0., -0.5 / curvature, -shift / curvature];
    let pairs = (0..3).flat_map(|i| (0..3).map(move |j| (i, j)));
    let sum: f64 = pairs.map(|(i, j)| gradient[i] * inverse[i * 3 + j] * gradient[j]).sum();
    (sum * variance).sqrt()
}

#[cfg(test)]
mod tests;
