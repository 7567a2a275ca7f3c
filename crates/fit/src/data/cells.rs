//! Cells that people write for people: `125M`, `1,000,000`, and counts in billions.

use anyhow::Result;
use forerun_runs::import::to_csv;
use forerun_runs::results::Row;
use forerun_scaling::Table;
use serde_json::Value;

use super::Columns;
use crate::number;

/// The table with such cells as plain numbers, and what was done, in words.
pub(super) fn readable(
    table: Table,
    columns: &Columns,
    units: &[(String, f64)],
) -> Result<(Table, Vec<String>)> {
    let mut notes = vec![];
    let mut changed: Vec<(String, Vec<String>)> = vec![];
    for name in table.names() {
        if let Some(cells) = spelt_out(&table.text(name)?) {
            let mut pairs = table.text(name)?.into_iter().zip(&cells);
            if let Some((old, new)) = pairs.find(|(old, new)| old.trim() != *new) {
                notes.push(format!("column `{name}`: `{old}` is read as {new}"));
            }
            changed.push((name.clone(), cells));
        }
    }
    let table = with_columns(table, &changed)?;
    let mut scaled = vec![];
    for (role, unit) in units {
        let name = columns.require(&table, role)?;
        let cell = |value: f64| if value.is_nan() { String::new() } else { value.to_string() };
        let cells = table.numbers(&name)?.into_iter().map(|value| cell(value * unit)).collect();
        notes.push(format!("column `{name}` counts in units of {unit:e}"));
        scaled.push((name, cells));
    }
    Ok((with_columns(table, &scaled)?, notes))
}

/// A column of numbers of which at least one is written with a suffix or with commas in groups of three; `None` for any
/// other column. A column of numbers may have a few cells that are none: they stay, to be refused by name where numbers are
/// needed.
fn spelt_out(cells: &[&str]) -> Option<Vec<String>> {
    let (mut n_changed, mut n_text) = (0, 0);
    let mut read = |cell: &&str| {
        let cell = cell.trim();
        if cell.is_empty() || cell.parse::<f64>().is_ok() {
            return cell.to_owned();
        }
        let plain = if is_grouped(cell) { cell.replace(',', "") } else { cell.to_owned() };
        let value = number::parse(&plain).ok();
        *(if value.is_some() { &mut n_changed } else { &mut n_text }) += 1;
        value.map_or_else(|| cell.to_owned(), |value| value.to_string())
    };
    let read: Vec<String> = cells.iter().map(&mut read).collect();
    let is_number = n_changed > 0 && MOSTLY * n_text <= cells.len();
    is_number.then_some(read)
}

/// A column is one of numbers if at most one cell in so many is none.
const MOSTLY: usize = 4;

/// Whether commas stand where thousands end: `1,234,567.8`.
fn is_grouped(cell: &str) -> bool {
    let whole = cell.split('.').next().unwrap_or_default();
    let mut groups = whole.split(',');
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let first = groups.next().is_some_and(|group| digits(group) && group.len() <= 3);
    let mut rest = groups.peekable();
    first && rest.peek().is_some() && rest.all(|group| digits(group) && group.len() == 3)
}

fn with_columns(table: Table, changed: &[(String, Vec<String>)]) -> Result<Table> {
    if changed.is_empty() {
        return Ok(table);
    }
    let mut rows = vec![Row::new(); table.len()];
    for name in table.names() {
        let new = changed.iter().find(|(known, _)| known == name).map(|(_, cells)| cells);
        for (i, (row, old)) in rows.iter_mut().zip(table.text(name)?).enumerate() {
            let cell = new.map_or_else(|| old.to_owned(), |cells| cells[i].clone());
            row.insert(name.clone(), Value::String(cell));
        }
    }
    Ok(Table::parse_csv(&to_csv(&rows, table.names()), table.file.as_deref())?)
}
