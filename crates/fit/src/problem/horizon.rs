//! The law of the best learning rate: from a sweep, or from a table of best ones.

use anyhow::{Result, bail};
use forerun_scaling::sweep::{self, Slant, Sweep, SweepCell, Valleys, WEAK};
use forerun_scaling::units::CountUnit;
use forerun_scaling::{Error, Observations, Table};

use super::{Part, Problem, Reading, groups, weighed};
use crate::data::fault;
use crate::number::short;

/// Below this probability valleys are no smooth curve with one slant.
const ROUGH: f64 = 0.01;

impl Problem {
    pub(super) fn add_horizon(&mut self, table: &Table, reading: &Reading) -> Result<()> {
        let column = |name: &str| -> Result<Option<Vec<f64>>> {
            let column = reading.columns.find(table, name)?;
            column.map(|column| Ok(table.numbers(&column)?)).transpose()
        };
        let required = reading.columns.require_all(table, &["d", "lr"])?;
        let [d, lr] = [0, 1].map(|i| table.numbers(&required[i]));
        let (d, lr) = (d?, lr?);
        let (n, batch, loss) = (column("n")?, column("batch")?, column("loss")?);
        let optima = match loss {
            Some(loss) => {
                let sweep =
                    Sweep { n: n.as_deref(), d: &d, batch: batch.as_deref(), lr: &lr, loss: &loss };
                self.sweep = lr.iter().copied().zip(loss.iter().copied()).collect();
                self.optima(&sweep, table, reading)?
            }
            None => {
                self.notes.push(
                    "no column of losses: the learning rates are taken as the best ones".into(),
                );
                let mut optima = Observations::new(&required[1], lr)
                    .with_input("d", d)
                    .with_column_name("d", &required[0])
                    .with_rows(table.row_numbers().to_vec())
                    .with_file(table.file.clone());
                for (name, column) in [("n", n), ("batch", batch)] {
                    if let Some(column) = column {
                        optima = optima.with_input(name, column);
                    }
                }
                optima.check()?;
                let optima = weighed(optima, table, reading)?;
                groups::with(optima, table, reading, &["n"])?
            }
        };
        let law = sweep::horizon_law(&optima, CountUnit::Billions)?;
        let part = Part {
            name: String::new(),
            law: Box::new(law.clone()),
            family: None,
            horizon: Some(law),
            observations: optima,
        };
        self.parts.push(part);
        Ok(())
    }

    /// The best learning rates of a sweep, and what to say about them.
    fn optima(&mut self, sweep: &Sweep, table: &Table, reading: &Reading) -> Result<Observations> {
        refuse_weights(table, reading)?;
        let found =
            sweep::read(sweep, &reading.parabola).map_err(|error| placed(error, table, reading))?;
        let shown: Vec<&SweepCell> =
            found.cells.iter().filter(|cell| cell.optimum.vertex().is_some()).collect();
        self.notes.push(format!(
            "{} of {} cells of the sweep show a best learning rate",
            shown.len(),
            found.cells.len()
        ));
        self.notes.extend(diverged(&shown));
        self.notes.extend(slant_in_words(&found.valleys));
        self.doubt = doubt(&found.valleys);
        self.warnings.extend(self.doubt.clone());
        self.warnings.extend(lost(&found));
        let optima = sweep::optima(&found.cells)?;
        let groups = match reading.columns.find(table, "cluster")? {
            Some(column) => groups_of(&shown, &table.text(&column)?)?,
            None => groups::same(&optima, &["n"]),
        };
        self.swept = Some(found);
        Ok(optima.with_clusters(groups))
    }
}

/// A parabola knows no weights: they are refused unless they are all the same.
fn refuse_weights(table: &Table, reading: &Reading) -> Result<()> {
    let Some(column) = reading.columns.find(table, "weight")? else { return Ok(()) };
    let weights = table.numbers(&column)?;
    if weights.iter().all(|weight| *weight == weights[0]) {
        return Ok(());
    }
    let reason = "a sweep over learning rates is read without weights: leave runs out with --filter, and take this column \
                  away or give all runs the same";
    bail!(fault(table, None, &column, reason.into()))
}

/// An error of a sweep's column with the file and the row of the table.
fn placed(error: Error, table: &Table, reading: &Reading) -> Error {
    match error {
        Error::Data { file: None, row: Some(row), column, reason } => {
            let row = table.row_numbers().get(row - 1).copied();
            let own = reading.columns.find(table, &column).ok().flatten();
            Error::Data { file: table.file.clone(), row, column: own.unwrap_or(column), reason }
        }
        other => other,
    }
}

/// How many runs of these cells are left out.
fn diverged(cells: &[&SweepCell]) -> Option<String> {
    let of = |cell: &&SweepCell| cell.optimum.vertex().map_or(0, |vertex| vertex.n_diverged);
    match cells.iter().map(of).sum::<usize>() {
        0 => None,
        n => Some(format!(
            "{n} {} of these cells diverged (no loss, or one far above the lowest of its cell) and {} left out",
            if n == 1 { "run" } else { "runs" },
            if n == 1 { "is" } else { "are" }
        )),
    }
}

/// The group of each cell: that of its runs.
fn groups_of(cells: &[&SweepCell], labels: &[&str]) -> Result<Vec<usize>> {
    let mut found = vec![];
    for cell in cells {
        let label = labels[cell.runs[0]].trim();
        if let Some(&other) = cell.runs.iter().find(|&&run| labels[run].trim() != label) {
            bail!(
                "--columns cluster: a cell of the sweep (d = {}) has runs of two groups, `{label}` and `{}`; what is \
                 drawn is cells",
                short(cell.d),
                labels[other].trim()
            );
        }
        found.push(label);
    }
    Ok(groups::numbered(found.into_iter()))
}

/// Cells that the narrower window left without an optimum.
fn lost(found: &sweep::Reading) -> Option<String> {
    let n = found.n_lost;
    (n > 0).then(|| {
        format!(
            "{n} of {} cells show a best learning rate with all of their points, but none with those around the lowest that \
             are used, and {} left out",
            found.cells.len(),
            if n == 1 { "is" } else { "are" }
        )
    })
}

fn points(reach: f64) -> String {
    format!("points within a factor of {:.1} of each cell's parabola optimum", reach.exp())
}

/// What was taken out of the valleys.
fn slant_in_words(valleys: &Valleys) -> Option<String> {
    let Valleys::OneSlant { slant, reach, is_narrowed, .. } = valleys else { return None };
    let from = match is_narrowed {
        true => format!("{}, as those beyond do not agree with them", points(*reach)),
        false => "all points".into(),
    };
    Some(format!(
        "a slant of {:.1e} ± {:.1e} nats per cube of ln lr, the same for all valleys, is taken out, from {from}",
        slant.coefficient, slant.se
    ))
}

/// Why intervals of best learning rates may not hold what they say.
fn doubt(valleys: &Valleys) -> Option<String> {
    let what = match valleys {
        Valleys::OneSlant { slant: Slant { p_smooth: Some(p), .. }, .. } if *p < ROUGH => {
            format!("the valleys that are used are no smooth curve with one slant (p = {})", short(*p))
        }
        Valleys::OneSlant { tested_with, .. } if *tested_with < WEAK => format!(
            "whether valleys have one slant was tested with {tested_with:.0} degrees of freedom, which do not show much"
        ),
        Valleys::OneSlant { .. } => return None,
        Valleys::Rough { reach } => {
            format!("the valleys are no smooth curve with one slant: parabolas are laid through {}", points(*reach))
        }
        Valleys::Untested => "the points are too few to tell whether valleys are steeper on one side: plain parabolas \
                              are used"
            .into(),
    };
    Some(format!(
        "{what}; the best learning rates may be off to one side by more than their intervals say, and more rates around \
         the lowest would tell"
    ))
}
