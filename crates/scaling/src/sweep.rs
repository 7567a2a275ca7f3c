//! From runs at many learning rates to one best learning rate a cell of size, horizon and batch.

mod slant;

pub use slant::{Slant, slant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure};
use crate::law::LrHorizon;
use crate::observations::Observations;
use crate::parabola::{Optimum, ParabolaConfig, Window, parabola};
use crate::units::CountUnit;

/// The runs of one size, horizon and batch, and where their loss is lowest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepCell {
    /// Parameters, where the table says so.
    pub n: Option<f64>,
    /// Tokens.
    pub d: f64,
    /// Batch, where the table says so, in its unit.
    pub batch: Option<f64>,
    /// Runs, as indices of the caller's columns.
    pub runs: Vec<usize>,
    /// The best learning rate, or why there is none.
    pub optimum: Optimum,
    /// By how much `ln` of the best learning rate moves with one standard error of the slant of the valleys; none for
    /// plain parabolas.
    pub slant_error: Option<f64>,
}

/// Columns of a sweep; `n` and `batch` are absent where they do not vary or are not known.
#[derive(Clone, Copy, Debug)]
pub struct Sweep<'a> {
    /// Parameters.
    pub n: Option<&'a [f64]>,
    /// Tokens.
    pub d: &'a [f64],
    /// Batch.
    pub batch: Option<&'a [f64]>,
    /// Peak learning rates.
    pub lr: &'a [f64],
    /// Losses; one that is no number has diverged.
    pub loss: &'a [f64],
}

/// Groups runs by size, horizon and batch, and reads the best learning rate off each group; cells are sorted by size,
/// horizon, batch.
///
/// Valleys are steeper on one side (too large a learning rate costs more than too small a one), and the vertex of a
/// parabola lies to the side of the lowest point by an amount that hangs on which learning rates were tried. Where the
/// points of all cells together tell that [`slant`], it is taken out; [`parabolas`] leaves it in. Where valleys are no
/// smooth curve over all points ([`Slant::p_smooth`] below 0.01), two learning rates on either side of the lowest are used.
///
/// # Errors
/// [`Error::Config`] for columns of different lengths; [`Error::Data`] names the row of a count or a learning rate that
/// is not positive.
pub fn cells(sweep: &Sweep, config: &ParabolaConfig) -> Result<Vec<SweepCell>> {
    let mut cells = parabolas(sweep, config)?;
    let Some(found) = slant(sweep, &cells, config) else { return Ok(cells) };
    if found.p_smooth > ROUGH || config.window != Window::All {
        found.take_out(sweep, &mut cells, config);
        return Ok(cells);
    }
    let near = ParabolaConfig { window: Window::Around(2), ..*config };
    let mut cells = parabolas(sweep, &near)?;
    if let Some(found) = slant(sweep, &cells, &near) {
        found.take_out(sweep, &mut cells, &near);
    }
    Ok(cells)
}

/// A [`Slant::p_smooth`] below this leaves out all but two learning rates on either side of the lowest.
const ROUGH: f64 = 0.01;

/// As [`cells`], with plain parabolas, as the literature has them.
///
/// # Errors
/// As [`cells`].
pub fn parabolas(sweep: &Sweep, config: &ParabolaConfig) -> Result<Vec<SweepCell>> {
    check(sweep)?;
    let at = |column: Option<&[f64]>, i: usize| column.map_or(0., |values| values[i]);
    let key = |i: usize| [at(sweep.n, i), sweep.d[i], at(sweep.batch, i)];
    let mut order: Vec<usize> = (0..sweep.d.len()).collect();
    let compare = |&i: &usize, &j: &usize| {
        let pairs = key(i).into_iter().zip(key(j));
        pairs.map(|(a, b)| a.total_cmp(&b)).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    };
    order.sort_by(compare);
    let cell = |runs: &[usize]| -> Result<SweepCell> {
        let pick = |column: &[f64]| runs.iter().map(|&i| column[i]).collect::<Vec<f64>>();
        Ok(SweepCell {
            n: sweep.n.map(|n| n[runs[0]]),
            d: sweep.d[runs[0]],
            batch: sweep.batch.map(|batch| batch[runs[0]]),
            runs: runs.to_vec(),
            optimum: parabola(&pick(sweep.lr), &pick(sweep.loss), config)?,
            slant_error: None,
        })
    };
    order.chunk_by(|&i, &j| key(i) == key(j)).map(cell).collect()
}

/// Observations of the best learning rate, one a cell that shows one.
///
/// # Errors
/// [`Error::NotIdentified`] where no cell does.
pub fn optima(cells: &[SweepCell]) -> Result<Observations> {
    let found: Vec<&SweepCell> =
        cells.iter().filter(|cell| cell.optimum.vertex().is_some()).collect();
    if found.is_empty() {
        let reason = format!("none of {} cells encloses an optimum", cells.len());
        return Err(Error::not_identified("the best learning rate", reason));
    }
    let of = |value: &dyn Fn(&SweepCell) -> Option<f64>| -> Option<Vec<f64>> {
        found.iter().map(|cell| value(cell)).collect()
    };
    let lr = of(&|cell| cell.optimum.vertex().map(|vertex| vertex.x)).unwrap_or_default();
    let mut observations =
        Observations::new("lr", lr).with_input("d", found.iter().map(|c| c.d).collect());
    if let Some(n) = of(&|cell| cell.n) {
        observations = observations.with_input("n", n);
    }
    if let Some(batch) = of(&|cell| cell.batch) {
        observations = observations.with_input("batch", batch);
    }
    if let Some(shifts) = of(&|cell| cell.slant_error) {
        observations = observations.with_shared_error(shifts);
    }
    Ok(observations)
}

/// The horizon law with an exponent for each of size, horizon and batch that takes more than one value, and `N`, `D` in
/// `unit`.
///
/// # Errors
/// [`Error::NotIdentified`] where all optima are of one horizon.
pub fn horizon_law(optima: &Observations, unit: CountUnit) -> Result<LrHorizon> {
    if !varies(optima, "d") {
        let reason = "every cell that shows an optimum has the same horizon";
        return Err(Error::not_identified("the exponent of the horizon", reason));
    }
    let law = match varies(optima, "n") {
        true => LrHorizon::of_size_and_tokens(unit),
        false => LrHorizon::of_tokens(unit),
    };
    Ok(if varies(optima, "batch") { law.with_batch() } else { law })
}

fn varies(observations: &Observations, input: &str) -> bool {
    let values = observations.input(input).unwrap_or_default();
    values.iter().any(|value| *value != values[0])
}

/// The typical curvature of the cells: `loss = best + curvature · ln(lr / best lr)²`, the median of those that show an
/// optimum.
pub fn curvature(cells: &[SweepCell]) -> Option<f64> {
    let mut found: Vec<f64> = cells
        .iter()
        .filter_map(|cell| cell.optimum.vertex().map(|vertex| vertex.curvature))
        .collect();
    found.sort_by(f64::total_cmp);
    (!found.is_empty()).then(|| crate::interval::quantile(&found, 0.5))
}

fn check(sweep: &Sweep) -> Result<()> {
    let rows = sweep.d.len();
    let columns =
        [("n", sweep.n), ("d", Some(sweep.d)), ("batch", sweep.batch), ("lr", Some(sweep.lr))];
    for (name, column) in columns {
        let Some(column) = column else { continue };
        ensure(column.len() == rows, name, format!("{rows} values"), column.len())?;
        if let Some(i) = column.iter().position(|&value| !(value > 0. && value.is_finite())) {
            return Err(Error::data(
                None,
                i + 1,
                name,
                format!("must be positive, got {}", column[i]),
            ));
        }
    }
    ensure(sweep.loss.len() == rows, "loss", format!("{rows} values"), sweep.loss.len())
}

#[cfg(test)]
mod tests;
