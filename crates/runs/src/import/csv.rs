//! Comma-separated values, as RFC 4180 has them, and what spreadsheets make of them: semicolons or tabs between cells,
//! and with semicolons a comma before decimals.

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::results::Row;

/// A header, and cells as text.
pub(super) struct Table {
    pub(super) names: Vec<String>,
    pub(super) cells: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn into_rows(self) -> Vec<Row> {
        let names = self.names;
        let row = |cells: &Vec<String>| {
            names.iter().cloned().zip(cells.iter().map(|cell| value(cell))).collect()
        };
        self.cells.iter().map(row).collect()
    }
}

/// A cell as a number or truth value where it is one; nothing where it is empty.
pub(super) fn value(cell: &str) -> Value {
    let trimmed = cell.trim();
    if trimmed.is_empty() {
        return Value::Null;
    }
    if let Ok(whole) = trimmed.parse::<i64>() {
        return Value::from(whole);
    }
    match (trimmed.parse::<f64>(), trimmed) {
        (Ok(number), _) => super::number(number),
        (_, "true" | "True") => Value::Bool(true),
        (_, "false" | "False") => Value::Bool(false),
        _ => Value::String(cell.to_owned()),
    }
}

/// `text` with commas between cells and points before decimals; as it is where commas separate its cells.
///
/// # Errors
/// [`Error::Record`] with the line whose number of cells differs from the header's.
pub fn with_commas<'a>(path: &Path, text: &'a str) -> Result<Cow<'a, str>> {
    if let Some(text) = old_lines(text) {
        return Ok(Cow::Owned(with_commas(path, &text)?.into_owned()));
    }
    if separator(text) == ',' {
        return Ok(Cow::Borrowed(text));
    }
    let Table { names, cells } = parse(path, text)?;
    let line = |cells: &Vec<String>| {
        cells.iter().map(|cell| quote(cell)).collect::<Vec<_>>().join(",") + "\n"
    };
    Ok(Cow::Owned(std::iter::once(&names).chain(&cells).map(line).collect()))
}

/// A text whose lines end as those of old Macintosh files do, with ends that others have.
fn old_lines(text: &str) -> Option<String> {
    (text.contains('\r') && !text.contains('\n')).then(|| text.replace('\r', "\n"))
}

/// Of comma, semicolon and tab the one that the header has most of, quoted ones not counted.
fn separator(text: &str) -> char {
    let mut quoted = false;
    let mut counts = [(',', 0), (';', 0), ('\t', 0)];
    for c in text.trim_start().chars().take_while(|c| *c != '\n') {
        quoted ^= c == '"';
        counts.iter_mut().filter(|(known, _)| *known == c && !quoted).for_each(|(_, n)| *n += 1);
    }
    // Of equal counts the first wins.
    counts.into_iter().rev().max_by_key(|(_, n)| *n).map_or(',', |(c, _)| c)
}

/// `3,14` as `3.14`; anything else as it is.
fn with_point(cell: String) -> String {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let trimmed = cell.trim().trim_start_matches(['-', '+']);
    let (mantissa, exponent) = trimmed.split_once(['e', 'E']).unwrap_or((trimmed, "0"));
    let parts = mantissa.split_once(',');
    let is_number = parts.is_some_and(|(whole, rest)| digits(whole) && digits(rest))
        && digits(exponent.trim_start_matches(['-', '+']));
    if is_number { cell.replace(',', ".") } else { cell }
}

/// Splits `text`; every record has as many cells as the header.
pub(super) fn parse(path: &Path, text: &str) -> Result<Table> {
    if let Some(text) = old_lines(text) {
        return parse(path, &text);
    }
    let separator = separator(text);
    let mut records = vec![];
    let (mut record, mut cell, mut quoted) = (vec![], String::new(), false);
    let (mut line, mut first_line) = (1, 1);
    let mut chars = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            c if c == separator && !quoted => record.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut cell));
                records.push((first_line, std::mem::take(&mut record)));
                line += 1;
                first_line = line;
            }
            _ => {
                line += usize::from(c == '\n');
                cell.push(c);
            }
        }
    }
    let bad = |line: usize, reason: String| Error::Record { path: path.to_owned(), line, reason };
    if quoted {
        return Err(bad(first_line, "a quote is not closed".into()));
    }
    if !cell.is_empty() || !record.is_empty() {
        record.push(cell);
        records.push((first_line, record));
    }
    records.retain(|(_, record)| record.iter().any(|cell| !cell.trim().is_empty()));
    let mut records = records.into_iter();
    let (_, names) = records.next().ok_or_else(|| bad(1, "there is no header".into()))?;
    let names: Vec<String> = names.into_iter().map(|name| name.trim().to_owned()).collect();
    let mut cells = vec![];
    for (line, record) in records {
        if record.len() != names.len() {
            return Err(bad(
                line,
                format!("{} cells, the header has {}", record.len(), names.len()),
            ));
        }
        cells.push(match separator {
            ';' => record.into_iter().map(with_point).collect(),
            _ => record,
        });
    }
    Ok(Table { names, cells })
}

/// Rows as comma-separated values with these columns, numbers with all their digits; nothing where a row has none.
pub fn to_csv(rows: &[Row], columns: &[String]) -> String {
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let mut out = line(columns.iter().map(|name| quote(name)).collect());
    for row in rows {
        let cell = |name: &String| match row.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => quote(text),
            Some(other) => quote(&other.to_string()),
        };
        out.push_str(&line(columns.iter().map(cell).collect()));
    }
    out
}

fn quote(cell: &str) -> String {
    match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}
