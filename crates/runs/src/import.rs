//! Runs that were trained elsewhere, as one table: Weights & Biases exports, TensorBoard event files, Hugging Face
//! `trainer_state.json`, and plain CSV, JSON lines or Parquet.
//!
//! [`read`] recognises the format and gives one row a run, with the columns that the source has. [`observations`] turns
//! those into the columns that fits want (`n`, `d`, `batch`, `lr`, `loss`), says where each came from, and works out
//! what follows from others: tokens from steps, batch and sequence length, or from compute and size.

mod csv;
mod events;
mod json;
mod names;
mod parquet;
mod summary;
mod trainer;
mod wandb;

pub use csv::{to_csv, with_commas};
pub use names::{Naming, Observed, ROLES, observations};

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Result, damaged, io_error};
use crate::results::Row;

/// What a source turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Values separated by commas, semicolons or tabs, one row a run.
    Csv,
    /// A chart of Weights & Biases: one row a step, one column a run.
    WandbChart,
    /// One JSON object a line.
    JsonLines,
    /// A JSON array of objects.
    JsonArray,
    /// Parquet.
    Parquet,
    /// A folder with TensorBoard event files in it or below it.
    TensorBoard,
    /// `trainer_state.json` of the Hugging Face trainer, or a folder with such files below it.
    TrainerState,
}

/// Rows of a source, one a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// What the source is.
    pub format: Format,
    /// One row a run, with the source's own column names. A number that is not finite is text (`NaN`).
    pub rows: Vec<Row>,
}

/// Folders below a source are searched this deep.
const MAX_DEPTH: usize = 6;

/// Reads a file or a folder; what it is follows from its name and its first bytes.
///
/// # Errors
/// [`crate::Error::Io`] if it cannot be read; [`crate::Error::File`] or [`crate::Error::Record`] with the place where
/// it is not what it seems to be.
pub fn read(path: &Path) -> Result<Imported> {
    if path.is_dir() {
        return read_folder(path);
    }
    let name =
        path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    if name.contains("tfevents") {
        let rows = vec![events::run(path, &crate::tensorboard::read_events(path)?)];
        return Ok(Imported { format: Format::TensorBoard, rows });
    }
    if name.ends_with(".parquet") {
        return Ok(Imported { format: Format::Parquet, rows: parquet::read(path)? });
    }
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    match name.rsplit('.').next() {
        Some("jsonl" | "ndjson") => lines(path, &text),
        Some("json") => whole_json(path, &text),
        Some("csv" | "tsv" | "txt") => comma_separated(path, &text),
        _ => Err(damaged(
            path,
            "expected .csv, .tsv, .txt, .jsonl, .json, .parquet, an event file, or a folder of event files or trainer states",
        )),
    }
}

fn lines(path: &Path, text: &str) -> Result<Imported> {
    Ok(Imported { format: Format::JsonLines, rows: json::lines(path, text)? })
}

fn whole_json(path: &Path, text: &str) -> Result<Imported> {
    let value: Value = serde_json::from_str(text).map_err(|e| damaged(path, e))?;
    match value {
        Value::Object(object) if object.contains_key("log_history") => {
            let rows = vec![trainer::run(path, &object)?];
            Ok(Imported { format: Format::TrainerState, rows })
        }
        Value::Array(entries) => {
            Ok(Imported { format: Format::JsonArray, rows: json::array(path, entries)? })
        }
        _ => Err(damaged(
            path,
            "expected an array of objects, or `log_history` of a trainer's state",
        )),
    }
}

fn comma_separated(path: &Path, text: &str) -> Result<Imported> {
    let table = csv::parse(path, text)?;
    if let Some(rows) = wandb::chart(&table) {
        return Ok(Imported { format: Format::WandbChart, rows });
    }
    Ok(Imported { format: Format::Csv, rows: table.into_rows() })
}

fn read_folder(path: &Path) -> Result<Imported> {
    let (mut states, mut event_folders) = (vec![], vec![]);
    walk(path, 0, &mut states, &mut event_folders)?;
    if !states.is_empty() {
        let rows =
            trainer::newest(states).iter().map(|state| state_row(state)).collect::<Result<_>>()?;
        return Ok(Imported { format: Format::TrainerState, rows });
    }
    if event_folders.is_empty() {
        return Err(damaged(
            path,
            "neither event files nor `trainer_state.json` in it or below it",
        ));
    }
    let row =
        |folder: &PathBuf| Ok(events::run(folder, &crate::tensorboard::read_history(folder)?));
    let rows = event_folders.iter().map(row).collect::<Result<_>>()?;
    Ok(Imported { format: Format::TensorBoard, rows })
}

fn state_row(path: &Path) -> Result<Row> {
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    let value: Value = serde_json::from_str(&text).map_err(|e| damaged(path, e))?;
    let object = value.as_object().ok_or_else(|| damaged(path, "expected an object"))?;
    trainer::run(path, object)
}

/// Collects trainer states and folders with event files, in the order of their names. Links are not followed.
fn walk(
    folder: &Path,
    depth: usize,
    states: &mut Vec<PathBuf>,
    event_folders: &mut Vec<PathBuf>,
) -> Result<()> {
    let mut entries = vec![];
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let entry = entry.map_err(io_error("list", folder))?;
        let kind = entry.file_type().map_err(io_error("read", &entry.path()))?;
        entries.push((entry.path(), kind));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, kind) in entries {
        let name =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if kind.is_dir() && depth < MAX_DEPTH {
            walk(&path, depth + 1, states, event_folders)?;
        } else if kind.is_file() && name == "trainer_state.json" {
            states.push(path);
        } else if kind.is_file()
            && name.contains("tfevents")
            && event_folders.last() != Some(&folder.to_owned())
        {
            event_folders.push(folder.to_owned());
        }
    }
    Ok(())
}

/// A number as JSON, or its name as text where it is not finite.
fn number(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None => Value::String(value.to_string()),
    }
}

#[cfg(test)]
mod tests;
