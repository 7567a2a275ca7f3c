//! Objects of JSON as rows; nested objects become `outer.inner`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result, damaged};
use crate::results::Row;

/// One object a line; empty lines are skipped.
pub(super) fn lines(path: &Path, text: &str) -> Result<Vec<Row>> {
    let mut rows = vec![];
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |reason: String| Error::Record { path: path.to_owned(), line: index + 1, reason };
        // Python writes NaN and Infinity, which JSON has no words for.
        let value = serde_json::from_str(line)
            .or_else(|error| serde_json::from_str(&without_nan(line)).map_err(|_| error))
            .map_err(|error| bad(in_line(&error)))?;
        let Value::Object(object) = value else { return Err(bad("expected an object".into())) };
        rows.push(flat(&object));
    }
    Ok(rows)
}

/// What is wrong in a line that is one text of JSON; its number is said elsewhere.
fn in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    format!("{reason} at column {}", error.column())
}

/// An array of objects.
pub(super) fn array(path: &Path, entries: Vec<Value>) -> Result<Vec<Row>> {
    let row = |(index, entry): (usize, &Value)| match entry {
        Value::Object(object) => Ok(flat(object)),
        _ => Err(damaged(path, format!("entry {} is no object", index + 1))),
    };
    entries.iter().enumerate().map(row).collect()
}

/// The leaves of an object; lists are left out.
pub(super) fn flat(object: &Map<String, Value>) -> Row {
    let mut row = Row::new();
    flatten("", object, &mut row);
    row
}

fn flatten(prefix: &str, object: &Map<String, Value>, row: &mut Row) {
    for (name, value) in object {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => flatten(&format!("{name}."), inner, row),
            Value::Array(_) => {}
            leaf => {
                row.insert(name, leaf.clone());
            }
        }
    }
}

/// Python's `NaN` and `Infinity` outside of strings as strings.
pub(super) fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut rest) = (false, text);
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "-Infinity", "Infinity"]
            .into_iter()
            .find(|word| !quoted && rest.starts_with(word));
        if let Some(word) = word {
            out.push_str(&format!("\"{word}\""));
            rest = &rest[word.len()..];
            continue;
        }
        let mut step = c.len_utf8();
        if quoted && c == '\\' {
            step += rest[step..].chars().next().map_or(0, char::len_utf8);
        }
        quoted ^= c == '"';
        out.push_str(&rest[..step]);
        rest = &rest[step..];
    }
    out
}
