//! The file that a command writes: one JSON object, or one a line of which the last with the key counts.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// The loss in `path` under `key`; none if it is there and no finite number.
///
/// # Errors
/// Names the file if it is missing or not JSON, and the keys that it has if `key` is not among them.
pub(super) fn final_loss(path: &Path, key: &str) -> Result<Option<f64>> {
    let name = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("it left no `{name}`, external.metrics")
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read `{name}`")),
    };
    let records = records(&text).with_context(|| format!("`{name}`"))?;
    let Some(value) = records.iter().rev().find_map(|record| record.get(key)) else {
        let keys: Vec<&str> =
            records.last().map_or_else(Vec::new, |last| last.keys().map(String::as_str).collect());
        bail!("`{name}` has no `{key}`, external.loss; its last record has: {}", keys.join(", "));
    };
    let number = match value {
        Value::Null => None,
        Value::Number(number) => number.as_f64(),
        // Some libraries write what JSON has no number for as a word.
        Value::String(word) => match word.parse::<f64>() {
            Ok(number) if !number.is_finite() => None,
            _ => bail!("`{name}`: `{key}` must be a number, got `{word}`"),
        },
        other => bail!("`{name}`: `{key}` must be a number, got `{other}`"),
    };
    Ok(number.filter(|loss| loss.is_finite()))
}

fn records(text: &str) -> Result<Vec<Map<String, Value>>> {
    if let Ok(whole) = object(text) {
        return Ok(vec![whole]);
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let records: Vec<Map<String, Value>> = lines
        .map(|(index, line)| object(line).with_context(|| format!("line {}", index + 1)))
        .collect::<Result<_>>()?;
    if records.is_empty() {
        bail!("it is empty");
    }
    Ok(records)
}

/// A JSON object, also as Python writes it, with `NaN` and `Infinity`.
fn object(text: &str) -> Result<Map<String, Value>> {
    let strict = serde_json::from_str(text);
    strict.or_else(|error| {
        let lenient = without_words(text);
        serde_json::from_str(&lenient).map_err(|_| anyhow::anyhow!("not a JSON object: {error}"))
    })
}

/// `NaN`, `Infinity` and `-Infinity` outside of strings become `null`.
fn without_words(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].iter().find(|word| rest.starts_with(**word));
        let taken = match word {
            Some(word) if !in_string => {
                clean.push_str("null");
                word.len()
            }
            _ => {
                // The character after a backslash ends no string.
                let escaped = if in_string && c == '\\' { rest[1..].chars().next() } else { None };
                in_string ^= c == '"';
                let length = c.len_utf8() + escaped.map_or(0, char::len_utf8);
                clean.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[taken..];
    }
    clean
}
