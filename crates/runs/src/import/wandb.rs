//! Charts exported from Weights & Biases: one row a step, columns `RUN - METRIC` with `__MIN` and `__MAX` beside them.
//! (Its table of runs is a plain CSV with one row a run.)

use std::collections::BTreeMap;

use serde_json::Value;

use super::csv::{self, Table};
use super::summary;
use crate::results::Row;

/// One row a run, or nothing if the table is no such chart.
pub(super) fn chart(table: &Table) -> Option<Vec<Row>> {
    let first = table.names.first()?;
    let is_axis =
        ["step", "_step", "global_step", "trainer/global_step", "relative time (process)"]
            .contains(&first.to_lowercase().as_str());
    let is_bound = |name: &str| name.ends_with("__MIN") || name.ends_with("__MAX");
    let series: Vec<(usize, &str, &str)> = table
        .names
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(_, name)| !is_bound(name))
        .filter_map(|(i, name)| name.rsplit_once(" - ").map(|(run, metric)| (i, run, metric)))
        .collect();
    let n_bounds = table.names.iter().filter(|name| is_bound(name)).count();
    if !is_axis || series.is_empty() || series.len() + n_bounds + 1 != table.names.len() {
        return None;
    }
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for (column, run, metric) in series {
        let number = |cell: &str| match csv::value(cell) {
            Value::Number(number) => number.as_f64(),
            Value::String(word) => word.parse().ok(), // NaN
            _ => None,
        };
        let point = |cells: &Vec<String>| Some((number(&cells[0])?, number(&cells[column])?));
        let points: Vec<(f64, f64)> = table.cells.iter().filter_map(point).collect();
        let row = rows.entry(run).or_default();
        row.insert("name".into(), Value::from(run));
        summary::add(row, metric, &points);
    }
    Some(rows.into_values().collect())
}
