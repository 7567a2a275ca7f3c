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

/// As [`readable`], of rows.
pub(crate) fn readable_rows(rows: &mut [Row]) -> Vec<String> {
    let mut names: Vec<String> = rows.iter().flat_map(Row::keys).cloned().collect();
    names.sort_unstable();
    names.dedup();
    let mut notes = vec![];
    for name in names {
        let cell = |row: &Row| match row.get(&name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let cells: Vec<String> = rows.iter().map(cell).collect();
        let texts: Vec<&str> = cells.iter().map(String::as_str).collect();
        let Some(new) = spelt_out(&texts) else { continue };
        let mut changed = cells.iter().zip(&new).filter(|(old, new)| old.trim() != *new);
        if let Some((old, new)) = changed.next() {
            notes.push(format!("column `{name}`: `{old}` is read as {new}"));
        }
        for (row, (old, new)) in rows.iter_mut().zip(cells.iter().zip(&new)) {
            if old.trim() != new {
                row.insert(name.clone(), new.parse::<f64>().map_or(Value::Null, Value::from));
            }
        }
    }
    notes
}

/// A column of numbers of which at least one is written with a suffix or in groups of three digits; `None` for any
/// other column. A column of numbers may have a few cells that are none: they stay, to be refused by name where numbers are
/// needed.
fn spelt_out(cells: &[&str]) -> Option<Vec<String>> {
    let (mut n_changed, mut n_text) = (0, 0);
    let mut read = |cell: &&str| {
        let cell = cell.trim();
        if cell.is_empty() || cell.parse::<f64>().is_ok() {
            return cell.to_owned();
        }
        let plain = ungrouped(cell).unwrap_or_else(|| cell.to_owned());
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

/// What separates thousands besides commas: as people and programs write it. (Points do not: `1.234` may be a loss.)
const GROUPS: [char; 6] = [',', ' ', '_', '\'', '\u{a0}', '\u{202f}'];

/// `1,234,567.8` and `1 234 567.8` without what separates thousands; `None` for what is not written so.
fn ungrouped(cell: &str) -> Option<String> {
    let whole = cell.split('.').next().unwrap_or_default();
    let separator = whole.chars().find(|c| GROUPS.contains(c))?;
    let mut groups = whole.split(separator);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let first = groups.next().is_some_and(|group| digits(group) && group.len() <= 3);
    let is_grouped = first && groups.all(|group| digits(group) && group.len() == 3);
    is_grouped.then(|| cell.replace(separator, ""))
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
