//! `retrospective`: what each method, and each habit, would have cost on public sweeps whose outcome is known.
//!
//! A method sees the small runs and decides for the large ones; regret is the loss at its choice less the lowest loss
//! that was measured there. Sweeps: Porian et al. (size for a budget), RegMix (mixture), Gadre et al. (loss of a larger
//! run), Marin (learning rate at a longer horizon).

mod gadre;
mod marin;
mod porian;
mod regmix;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use forerun_runs::table::{Cell, Column, Table as Shown};
use forerun_scaling::Table;

use crate::render::{WIDTH, wrap};

/// What each method would have cost on public sweeps whose outcome is known.
#[derive(Args, Debug)]
pub(crate) struct RetrospectiveArguments {
    /// The folder with porian_isoflop_owt2.csv, regmix_1m_train.csv, gadre_*.csv, marin_optimizer_lr.csv; what is not
    /// there is left out
    #[arg(value_name = "DIR", default_value = "tests/data/scaling")]
    folder: PathBuf,
}

/// Regrets of one method.
pub(crate) struct Tried {
    pub(crate) method: &'static str,
    /// One a decision; NaN where the method could not decide.
    pub(crate) regrets: Vec<f64>,
}

/// One sweep: file, title of its table, and who reads it.
type Reader = fn(&Table) -> Result<Vec<Tried>>;
const SWEEPS: [(&str, &str, Reader); 5] = [
    (
        "porian_isoflop_owt2.csv",
        "Porian et al.: size for the 3 largest budgets, nats",
        porian::regrets,
    ),
    (
        "regmix_1m_train.csv",
        "RegMix: mixture for the mean loss of 13 domains, nats",
        regmix::regrets,
    ),
    (
        "gadre_c4_original.csv",
        "Gadre et al., C4: loss of runs above 1e9 parameters, relative error",
        gadre::errors,
    ),
    ("gadre_rpj.csv", "Gadre et al., RedPajama: the same", gadre::errors),
    ("marin_optimizer_lr.csv", "Marin: learning rate for longer horizons, nats", marin::regrets),
];

/// Does it; the text for the terminal.
pub(crate) fn run(arguments: &RetrospectiveArguments) -> Result<String> {
    let mut text = String::new();
    for (name, title, read) in SWEEPS {
        let path = arguments.folder.join(name);
        if path.exists() {
            text += &shown(title, &read(&Table::read_csv(&path)?)?);
            text.push('\n');
        }
    }
    if text.is_empty() {
        bail!(
            "none of the sweeps lies in `{}`; name the folder that holds them",
            arguments.folder.display()
        );
    }
    text += &wrap(
        "Loss at a choice between two measured ones is interpolated; a choice outside counts as its end.",
        "",
    );
    Ok(text)
}

fn shown(title: &str, tried: &[Tried]) -> String {
    let row = |one: &Tried| {
        let mut known: Vec<f64> =
            one.regrets.iter().copied().filter(|regret| regret.is_finite()).collect();
        known.sort_by(f64::total_cmp);
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let worst = known.last().copied().unwrap_or(f64::NAN);
        let decided = format!("{} of {}", known.len(), one.regrets.len());
        vec![
            Cell::from(one.method),
            Cell::number(mean, 3),
            Cell::number(worst, 3),
            Cell::from(decided),
        ]
    };
    let table = Shown {
        caption: title.to_owned(),
        columns: vec![
            Column::text("method"),
            Column::number("mean", ""),
            Column::number("worst", ""),
            Column::number("decided", ""),
        ],
        rows: tried.iter().map(row).collect(),
    };
    table.to_terminal(WIDTH)
}

/// Piecewise linear in `ln x` through measured points; constant outside.
fn interpolate(points: &[(f64, f64)], x: f64) -> f64 {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return f64::NAN };
    if x.is_nan() {
        return f64::NAN;
    }
    if x <= first.0 {
        return first.1;
    }
    if x >= last.0 {
        return last.1;
    }
    let above = sorted.partition_point(|point| point.0 < x).max(1);
    let ((x0, y0), (x1, y1)) = (sorted[above - 1], sorted[above]);
    y0 + (y1 - y0) * (x / x0).ln() / (x1 / x0).ln()
}

fn lowest(points: &[(f64, f64)]) -> (f64, f64) {
    points.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((f64::NAN, f64::NAN))
}

/// Loss at `x` less the lowest measured.
fn regret(points: &[(f64, f64)], x: f64) -> f64 {
    interpolate(points, x) - lowest(points).1
}

/// Distinct texts of a column, in the order in which they first appear.
fn distinct(table: &Table, column: &str) -> Result<Vec<String>> {
    let mut known: Vec<String> = vec![];
    for cell in table.text(column)? {
        if !known.iter().any(|name| name == cell) {
            known.push(cell.to_owned());
        }
    }
    Ok(known)
}

/// Rows with this text in a column.
fn only(table: &Table, column: &str, text: &str) -> Result<Table> {
    let cells = table.text(column)?;
    Ok(table.filter(|row| cells[row] == text))
}

/// A file of this folder, for tests.
#[cfg(test)]
fn data(name: &str) -> Table {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/scaling");
    Table::read_csv(&folder.join(name)).unwrap()
}

#[cfg(test)]
mod tests;
