//! How much steeper the valleys of a sweep are on one side, from all of its cells together.
//!
//! `loss = … + slant · ln³ lr` has the same slant wherever the logarithm is centred, so that one number can be fitted to
//! all cells, each with a parabola of its own: a cell of seven runs cannot tell it, twenty cells can. It is left out where
//! the points are too few; it is never left out because it is small, as an interval after such a choice covers less than
//! it says.

use super::{Sweep, SweepCell};
use crate::distribution::{f_tail, normal_quantile, student_quantile};
use crate::linalg;
use crate::parabola::{ParabolaConfig, Vertex, read, window};

/// The third-order term that the valleys of a sweep share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slant {
    /// Nats per cube of `ln lr`; positive where too large a learning rate costs more than too small a one.
    pub coefficient: f64,
    /// Its standard error.
    pub se: f64,
    /// Degrees of freedom of the latter.
    pub freedom: f64,
    /// The probability of a fifth-order term as large as that of the residuals, were there none: where it is small, the
    /// valleys are no smooth curve with one slant. 1 where the points cannot tell.
    pub p_smooth: f64,
}

/// Fewest degrees of freedom with which a slant is fitted.
const MIN_FREEDOM: f64 = 5.;

/// Points of a cell that shows an optimum, and how many diverged.
fn points(sweep: &Sweep, cell: &SweepCell, config: &ParabolaConfig) -> (Vec<(f64, f64)>, usize) {
    let pick = |column: &[f64]| cell.runs.iter().map(|&i| column[i]).collect::<Vec<f64>>();
    window(&pick(sweep.lr), &pick(sweep.loss), config)
}

/// A cell's cubes of `ln lr`, around their mean: the parabola through them, and what is left of them and of the losses
/// once a parabola has been fitted to each.
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

/// The slant of the valleys of those cells that show an optimum; `None` where they have too few points for it.
pub fn slant(sweep: &Sweep, cells: &[SweepCell], config: &ParabolaConfig) -> Option<Slant> {
    let (mut cubes, mut losses, mut freedom) = (vec![], vec![], -1.);
    let (mut fourths, mut fifths) = (vec![], vec![]);
    for cell in cells.iter().filter(|cell| cell.optimum.vertex().is_some()) {
        let (points, _) = points(sweep, cell, config);
        let Some(beyond) = beyond_parabola(&points) else { continue };
        freedom += points.len() as f64 - 3.;
        cubes.extend(beyond.cubes);
        losses.extend(beyond.losses);
        fourths.extend(beyond.fourths);
        fifths.extend(beyond.fifths);
    }
    let size: f64 = cubes.iter().map(|x| x * x).sum();
    if freedom < MIN_FREEDOM || size < 1e-9 {
        return None;
    }
    let coefficient = cubes.iter().zip(&losses).map(|(x, y)| x * y).sum::<f64>() / size;
    let residual: f64 = cubes.iter().zip(&losses).map(|(x, y)| (y - coefficient * x).powi(2)).sum();
    let p_smooth = p_of_last([&cubes, &fourths, &fifths], &losses, freedom - 2.).unwrap_or(1.);
    Some(Slant { coefficient, se: (residual / freedom / size).sqrt(), freedom, p_smooth })
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
    /// Reads the cells again with this slant, and notes how far they move with its error.
    ///
    /// The error is widened by what Student's quantile exceeds the normal one, as it is known from few points.
    pub(super) fn take_out(self, sweep: &Sweep, cells: &mut [SweepCell], config: &ParabolaConfig) {
        let wide = student_quantile(0.975, self.freedom) / normal_quantile(0.975);
        for cell in cells.iter_mut().filter(|cell| cell.optimum.vertex().is_some()) {
            let (points, n_diverged) = points(sweep, cell, config);
            let optimum = read(&points, n_diverged, self.coefficient, config);
            let rate = optimum.vertex().and_then(|vertex| rate(&points, vertex));
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
