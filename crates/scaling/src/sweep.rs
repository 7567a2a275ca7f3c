//! From runs at many learning rates to one best learning rate a cell of size, horizon and batch.

mod reach;
mod slant;

pub use slant::{Slant, slant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure};
use crate::law::LrHorizon;
use crate::observations::Observations;
use crate::parabola::{self, Optimum, ParabolaConfig, Reason, parabola};
use crate::units::CountUnit;
use reach::{Reach, Shape};

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

/// How the valleys of a sweep were read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Valleys {
    /// One slant was taken out of all of them.
    OneSlant {
        /// The slant.
        slant: Slant,
        /// Points this far from their cell's parabola optimum were used, in `ln lr`.
        reach: f64,
        /// Whether there are points beyond that, which do not agree.
        is_narrowed: bool,
        /// Degrees of freedom of the narrower window that says most about this one: below [`WEAK`] it may have been
        /// taken because nothing could be seen, and optima may be off to one side as those of rough valleys.
        tested_with: f64,
    },
    /// Plain parabolas through the points this close, as no window shows one slant: the lowest points may be off to one
    /// side by more than their intervals say.
    Rough {
        /// Distance from the parabola optimum through all points, in `ln lr`.
        reach: f64,
    },
    /// Plain parabolas, as the points are too few to tell what is beyond them: the same caution.
    Untested,
}

/// Degrees of freedom with which a window must have been tested, for its intervals to hold what they say
/// (`docs/decisions/0005-scaling-intervals.md`).
pub const WEAK: f64 = 8.;

/// The cells of a sweep, and how they were read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Sorted by size, horizon, batch.
    pub cells: Vec<SweepCell>,
    /// What was done about valleys that are steeper on one side.
    pub valleys: Valleys,
    /// Cells that show an optimum with all of their points and none with those that were used.
    pub n_lost: usize,
}

/// Groups runs by size, horizon and batch, and reads the best learning rate off each group.
///
/// Valleys are steeper on one side (too large a learning rate costs more than too small a one), and the vertex of a
/// parabola lies to the side of the lowest point by an amount that hangs on which learning rates were tried. Where the
/// points of all cells together tell that slant, it is taken out, within the widest window in which valleys are one curve
/// with one slant; [`parabolas`] leaves it in, as does this function, and says so, where points cannot tell.
///
/// # Errors
/// [`Error::Config`] for columns of different lengths; [`Error::Data`] names the row of a count or a learning rate that
/// is not positive.
pub fn read(sweep: &Sweep, config: &ParabolaConfig) -> Result<Reading> {
    let mut cells = parabolas(sweep, config)?;
    let n_shown = count_shown(&cells);
    let valleys = match reach::shape(&slant::valleys(sweep, &cells, config), config) {
        Shape::OneSlant {
            within: Reach { reach, valleys, .. },
            slant,
            is_narrowed,
            tested_with,
        } => {
            slant.take_out(&valleys, &mut cells, config);
            Valleys::OneSlant { slant, reach, is_narrowed, tested_with }
        }
        Shape::Rough(Reach { reach, valleys, .. }) => {
            for valley in &valleys {
                let plain = parabola::read(&valley.points, valley.n_diverged, 0., config);
                cells[valley.cell].optimum = plain;
            }
            Valleys::Rough { reach }
        }
        Shape::Untested => Valleys::Untested,
    };
    let n_lost = n_shown - count_shown(&cells);
    Ok(Reading { cells, valleys, n_lost })
}

fn count_shown(cells: &[SweepCell]) -> usize {
    cells.iter().filter(|cell| cell.optimum.vertex().is_some()).count()
}

/// The cells of [`read`].
///
/// # Errors
/// As [`read`].
pub fn cells(sweep: &Sweep, config: &ParabolaConfig) -> Result<Vec<SweepCell>> {
    Ok(read(sweep, config)?.cells)
}

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
        let reason = format!("none of {} cells encloses an optimum: {}", cells.len(), whys(cells));
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

/// Why cells show no optimum, and what would help, counted.
fn whys(cells: &[SweepCell]) -> String {
    let count = |is: &dyn Fn(&Reason) -> bool| {
        let of =
            |cell: &&SweepCell| matches!(&cell.optimum, Optimum::NotIdentified(why, _) if is(why));
        cells.iter().filter(of).count()
    };
    let kinds = [
        (
            count(&|why| matches!(why, Reason::AtEdge { below: true, .. })),
            "the loss still falls towards lower learning rates: try lower ones",
        ),
        (
            count(&|why| matches!(why, Reason::AtEdge { below: false, .. })),
            "the loss still falls towards higher learning rates: try higher ones",
        ),
        (
            count(&|why| matches!(why, Reason::TooFewPoints { .. })),
            "fewer than 3 learning rates have a loss",
        ),
        (count(&|why| matches!(why, Reason::NotConvex { .. })), "the losses form no valley"),
        (count(&|why| matches!(why, Reason::PoorFit { .. })), "a parabola explains too little"),
    ];
    let said = kinds.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("in {n} {what}"));
    said.collect::<Vec<_>>().join(", ")
}

/// The horizon law with an exponent for each of size, horizon and batch that takes more than one value, and `N`, `D` in
/// `unit`.
///
/// # Errors
/// [`Error::NotIdentified`] where all optima are of one horizon.
pub fn horizon_law(optima: &Observations, unit: CountUnit) -> Result<LrHorizon> {
    if !varies(optima, "d") {
        let reason = "every cell that shows an optimum has the same horizon: add runs of others";
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
