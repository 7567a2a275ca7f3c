//! The law of the best learning rate: from a sweep, or from a table of best ones.

use anyhow::{Result, bail};
use forerun_scaling::sweep::{self, Sweep, SweepCell, Valleys};
use forerun_scaling::units::CountUnit;
use forerun_scaling::{Error, Observations, Table};

use super::{Part, Problem, Reading, groups};
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
        let (note, warning) = words(&found.valleys);
        self.notes.extend(note);
        self.warnings.extend(warning);
        let optima = sweep::optima(&found.cells)?;
        let groups = match reading.columns.find(table, "cluster")? {
            Some(column) => groups_of(&shown, &table.text(&column)?)?,
            None => groups::same(&optima, &["n"]),
        };
        self.swept = Some(found);
        Ok(optima.with_clusters(groups))
    }
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

/// A note about how valleys were read, and a warning where that is a doubt.
fn words(valleys: &Valleys) -> (Option<String>, Option<String>) {
    let points = |reach: f64| format!("points within a factor of {:.1}", reach.exp());
    match valleys {
        Valleys::OneSlant { slant, reach, is_narrowed } => {
            let from = match is_narrowed {
                true => format!(
                    "{} of each cell's parabola optimum, as those beyond do not agree with them",
                    points(*reach)
                ),
                false => "all points".into(),
            };
            let note = format!(
                "valleys are steeper on one side: {:.1e} nats per cube of ln lr, the same for all cells, are taken out, \
                 from {from}",
                slant.coefficient
            );
            let rough = slant.p_smooth.filter(|p| *p < ROUGH).map(|p| {
                format!(
                    "within that window the valleys are no smooth curve with one slant (p = {}): the best learning rates may \
                     be off to one side",
                    short(p)
                )
            });
            (Some(note), rough)
        }
        Valleys::Rough { reach } => {
            let warning = format!(
                "the valleys are no smooth curve with one slant in any window: plain parabolas through {} of their lowest \
                 point are used, and the best learning rates may be off to one side by more than their intervals say; \
                 learning rates closer together around the lowest would tell",
                points(*reach)
            );
            (None, Some(warning))
        }
        Valleys::Untested => {
            let note = "plain parabolas: the points are too few to tell whether valleys are steeper on one side, which \
                        would move the best learning rates";
            (Some(note.into()), None)
        }
    }
}
