//! A run from `trainer_state.json`, which the Hugging Face trainer writes into every checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::summary;
use crate::error::{Result, damaged};
use crate::results::Row;

/// One row: scalars of the state (`total_flos`, `num_input_tokens_seen`, `train_batch_size`, …), and what each series of
/// the log says.
pub(super) fn run(path: &Path, state: &Map<String, Value>) -> Result<Row> {
    let history = state.get("log_history").and_then(Value::as_array);
    let history = history.ok_or_else(|| damaged(path, "`log_history` is no list"))?;
    let mut series: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for entry in history.iter().filter_map(Value::as_object) {
        let step = entry.get("step").and_then(Value::as_f64).unwrap_or(f64::NAN);
        for (name, value) in entry {
            if let (true, Some(value)) = (name != "step" && step.is_finite(), value.as_f64()) {
                // The trainer's own `train_loss`, at the end of the log, is the mean over the whole run.
                let name = if name == "loss" { "train/loss" } else { name };
                series.entry(name).or_default().push((step, value));
            }
        }
    }
    if series.is_empty() {
        return Err(damaged(path, "`log_history` holds no numbers"));
    }
    let mut row = Row::new();
    row.insert("name".into(), Value::from(run_name(path)));
    for (name, value) in state.iter().filter(|(_, value)| value.is_number()) {
        row.insert(name.clone(), value.clone());
    }
    for (name, points) in &series {
        summary::add(&mut row, name, points);
    }
    Ok(row)
}

/// The folder of the run: that of the file, or the one above for `checkpoint-100`.
fn run_name(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let run = run_folder(path);
    run.and_then(|run| name(&run)).or_else(|| name(path)).unwrap_or_default()
}

fn run_folder(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    match checkpoint_step(folder) {
        Some(_) => folder.parent().map(Path::to_path_buf),
        None => Some(folder.to_path_buf()),
    }
}

fn checkpoint_step(folder: &Path) -> Option<u64> {
    folder.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse().ok()
}

/// Of the states of one run (its own, or those of its checkpoints) the newest: each holds the whole history up to it.
pub(super) fn newest(states: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut runs: BTreeMap<PathBuf, (u64, PathBuf)> = BTreeMap::new();
    for state in states {
        let step = state.parent().and_then(checkpoint_step).unwrap_or(u64::MAX);
        let run = run_folder(&state).unwrap_or_else(|| state.clone());
        let known = runs.entry(run).or_insert_with(|| (step, state.clone()));
        if step > known.0 {
            *known = (step, state);
        }
    }
    runs.into_values().map(|(_, state)| state).collect()
}
