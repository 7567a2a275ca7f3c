//! The tables of errors on models that no law was fitted to.

use forerun_runs::table::{Cell, Column, Table};

use super::findings::{Findings, HeldOut};
use super::tables::{number, table};
use crate::multilingual::predictions::Predictor;

fn label(by: Predictor) -> &'static str {
    match by {
        Predictor::Law => "law",
        Predictor::WithOthers => "law with the others' shares",
        Predictor::WithoutShares => "law without shares",
        Predictor::NearestMixture => "that, corrected by the nearest mixture",
        Predictor::NoGrowth => "law at the largest small size",
    }
}

/// Sizes of errors, of the law and of those that it is compared with.
pub(super) fn by_set(findings: &Findings<'_>) -> Table {
    let mut columns =
        vec![Column::text("models that no law has seen"), Column::number("models", "")];
    columns.extend(Predictor::ALL.map(|by| Column::number(label(by), "%")));
    let row = |set: &HeldOut<'_>| {
        let error = |by| findings.predictions.mean_error(by, set.models.iter().copied());
        let mut row = vec![Cell::from(set.label.as_str()), Cell::from(set.models.len() as u64)];
        row.extend(Predictor::ALL.map(|by| number(error(by), 2)));
        row
    };
    let rows = findings.held_out().iter().map(row).collect();
    table("Mean size of the relative error of predicted losses, all families", columns, rows)
}

/// Mean errors of the law with their signs.
pub(super) fn by_family(findings: &Findings<'_>) -> Table {
    let sets = findings.held_out();
    let mut columns = vec![Column::text("family")];
    columns.extend(sets.iter().map(|set| Column::number(set.label.as_str(), "%")));
    let row = |(family, label): (usize, &&str)| {
        let mut row = vec![Cell::from(*label)];
        row.extend(sets.iter().map(|set| number(findings.bias(&set.models, family), 2)));
        row
    };
    let rows = findings.body.labels().iter().enumerate().map(row).collect();
    table(
        "Mean relative error of the laws with its sign: above 0 they foretell too high a loss",
        columns,
        rows,
    )
}
