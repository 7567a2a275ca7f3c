//! How much steeper the valleys of a sweep are on one side, from all of its cells together.
//!
//! `loss = … + slant · ln³ lr` has the same slant wherever the logarithm is centred, so that one number can be fitted to
//! all cells, each with a parabola of its own: a cell of seven runs cannot tell it, twenty cells can. It is never left
//! out because it is small, as an interval after such a choice covers less than it says.

use serde::{Deserialize, Serialize};

use super::{Sweep, SweepCell};
use crate::distribution::{f_tail, normal_quantile, student_quantile};
use crate::linalg;
use crate::parabola::{ParabolaConfig, Vertex, read, window};

/// The third-order term that the valleys of a sweep share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slant {
    /// Nats per cube of `ln lr`; positive where too large a learning rate costs more than too small a one.
    pub coefficient: f64,
    /// Its standard error; from [`super::read`] with what that of a narrower window differs by beyond chance.
    pub se: f64,
    /// Degrees of freedom of the latter.
    pub freedom: f64,
    /// The probability of a fifth-order term as large as that of the residuals, were there none: where it is small, the
    /// valleys are no smooth curve with one slant. `None` where the points cannot tell.
    pub p_smooth: Option<f64>,
}

/// Fewest degrees of freedom with which a slant is fitted.
pub(super) const MIN_FREEDOM: f64 = 5.;

/// A cell that shows an optimum.
#[derive(Clone, Debug)]
pub(super) struct Valley {
    /// Its index among the cells.
    pub(super) cell: usize,
    /// Where its parabola is lowest, `ln lr`.
    pub(super) centre: f64,
    /// Its points, `(ln lr, loss)`.
    pub(super) points: Vec<(f64, f64)>,
    /// Runs that diverged.
    pub(super) n_diverged: usize,
}

/// The cells that show an optimum, with the points that the window leaves.
pub(super) fn valleys(sweep: &Sweep, cells: &[SweepCell], config: &ParabolaConfig) -> Vec<Valley> {
    let valley = |(index, cell): (usize, &SweepCell)| {
        let centre = cell.optimum.vertex()?.ln_x;
        let pick = |column: &[f64]| cell.runs.iter().map(|&i| column[i]).collect::<Vec<f64>>();
        let (points, n_diverged) = window(&pick(sweep.lr), &pick(sweep.loss), config);
        Some(Valley { cell: index, centre, points, n_diverged })
    };
    cells.iter().enumerate().filter_map(valley).collect()
}

/// A valley's cubes of `ln lr`, around their mean: the parabola through them, and what is left of powers and losses once
/// a parabola has been fitted to each.
struct Beyond {
    centre: f64,
    parabola: Vec<f64>,
    cubes: Vec<f64>,
    fourths: Vec<f64>,
    fifths: Vec<f64>,
    losses: Vec<f64>,
}

fn beyond_parabola(points: &[(f64, f64)]) -> Option<Beyond> {
    let n = points.len();
    let centre = points.iter().map(|point| point.0).sum::<f64>() / n as f64;
    let line: Vec<f64> = points.iter().map(|point| point.0 - centre).collect();
    let square: Vec<f64> = line.iter().map(|x| x * x).collect();
    let ones = vec![1.; n];
    let fit = |values: &[f64]| linalg::least_squares(&[&ones, &line, &square], values, &ones);
    let left = |values: &[f64], c: &[f64]| -> Vec<f64> {
        let parabola = |x: &f64| c[0] + x * (c[1] + x * c[2]);
        values.iter().zip(&line).map(|(y, x)| y - parabola(x)).collect()
    };
    let power = |k: i32| line.iter().map(|x| x.powi(k)).collect::<Vec<f64>>();
    let rest = |values: Vec<f64>| Some(left(&values, &fit(&values)?));
    let cubes = power(3);
    let losses: Vec<f64> = points.iter().map(|point| point.1).collect();
    let (parabola, of_losses) = (fit(&cubes)?, fit(&losses)?);
    let (cubes, losses) = (left(&cubes, &parabola), left(&losses, &of_losses));
    Some(Beyond {
        centre,
        parabola,
        cubes,
        fourths: rest(power(4))?,
        fifths: rest(power(5))?,
        losses,
    })
}

/// One slant for all valleys and a parabola for each, by least squares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joint {
    pub(super) slant: Slant,
    /// Squares that are left.
    pub(super) residual: f64,
    /// What the points say about the slant: the squares of the cubes that parabolas leave.
    pub(super) size: f64,
    pub(super) n_points: usize,
    /// The largest loss, for what is rounding.
    pub(super) largest: f64,
}

/// `None` where there are no degrees of freedom, or no cubes.
pub(super) fn joint(valleys: &[Valley]) -> Option<Joint> {
    let (mut cubes, mut losses, mut freedom) = (vec![], vec![], -1.);
    let (mut fourths, mut fifths) = (vec![], vec![]);
    for valley in valleys {
        let Some(beyond) = beyond_parabola(&valley.points) else { continue };
        freedom += valley.points.len() as f64 - 3.;
        cubes.extend(beyond.cubes);
        losses.extend(beyond.losses);
        fourths.extend(beyond.fourths);
        fifths.extend(beyond.fifths);
    }
    let size: f64 = cubes.iter().map(|x| x * x).sum();
    if freedom < 1. || size < 1e-9 {
        return None;
    }
    let coefficient = cubes.iter().zip(&losses).map(|(x, y)| x * y).sum::<f64>() / size;
    let residual: f64 = cubes.iter().zip(&losses).map(|(x, y)| (y - coefficient * x).powi(2)).sum();
    let p_smooth = p_of_last([&cubes, &fourths, &fifths], &losses, freedom - 2.);
    let slant = Slant { coefficient, se: (residual / freedom / size).sqrt(), freedom, p_smooth };
    let points = || valleys.iter().flat_map(|valley| &valley.points);
    let largest = points().map(|point| point.1.abs()).fold(0., f64::max);
    Some(Joint { slant, residual, size, n_points: points().count(), largest })
}

/// The slant of the valleys of those cells that show an optimum, from all points of the window; `None` where they have
/// too few for it. [`super::read`] asks as well how far from the lowest point valleys have one.
pub fn slant(sweep: &Sweep, cells: &[SweepCell], config: &ParabolaConfig) -> Option<Slant> {
    let slant = joint(&valleys(sweep, cells, config))?.slant;
    (slant.freedom >= MIN_FREEDOM).then_some(slant)
}

/// The F-test of the last of three columns; `None` where the losses cannot tell them apart.
fn p_of_last(columns: [&[f64]; 3], losses: &[f64], freedom: f64) -> Option<f64> {
    let ones = vec![1.; losses.len()];
    let residual = |columns: &[&[f64]]| -> Option<f64> {
        let c = linalg::least_squares(columns, losses, &ones)?;
        let fitted = |i: usize| c.iter().zip(columns).map(|(c, x)| c * x[i]).sum::<f64>();
        Some((0..losses.len()).map(|i| (losses[i] - fitted(i)).powi(2)).sum())
    };
    let (all, without) = (residual(&columns)?, residual(&columns[..2])?);
    (freedom >= MIN_FREEDOM).then(|| f_tail((without - all) / (all / freedom), 1., freedom))
}

impl Slant {
    /// Reads the valleys with this slant, and notes how far their lowest points move with its error.
    ///
    /// The error is widened by what Student's quantile exceeds the normal one, as it is known from few points.
    pub(super) fn take_out(
        self,
        valleys: &[Valley],
        cells: &mut [SweepCell],
        config: &ParabolaConfig,
    ) {
        let wide = student_quantile(0.975, self.freedom) / normal_quantile(0.975);
        for valley in valleys {
            let optimum = read(&valley.points, valley.n_diverged, self.coefficient, config);
            let rate = optimum.vertex().and_then(|vertex| rate(&valley.points, vertex));
            let cell = &mut cells[valley.cell];
            cell.slant_error = rate.map(|rate| wide * rate * self.se);
            cell.optimum = optimum;
        }
    }
}

/// How fast the lowest point moves with the slant. For the slant `s`, `c1 + 2 c2 z + 3 s z²` is zero there, and the
/// coefficients are those of the losses less `s` times those of the cubes.
fn rate(points: &[(f64, f64)], vertex: &Vertex) -> Option<f64> {
    let beyond = beyond_parabola(points)?;
    let z = vertex.ln_x - beyond.centre;
    let c = beyond.parabola;
    Some((c[1] + 2. * c[2] * z - 3. * z * z) / (2. * vertex.curvature))
}
