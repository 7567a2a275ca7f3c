//! Runs side by side: what differed in their configurations, and what came out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use forerun_runs::table::{Cell, Column, Table};
use toml::{Table as Toml, Value};

use crate::config::{Body, Experiment};
use crate::outcome::Outcome;

/// Two tables for the terminal: settings that differ, and results.
///
/// # Errors
/// Names the directory that is not a finished run.
pub fn compare(dirs: &[PathBuf]) -> Result<String> {
    let outcomes: Vec<Outcome> =
        dirs.iter().map(|dir| Outcome::read(dir)).collect::<Result<_>>()?;
    let configs: Vec<BTreeMap<String, String>> =
        outcomes.iter().map(settings).collect::<Result<_>>()?;
    let names: Vec<String> = (1..=dirs.len()).map(|number| format!("run {number}")).collect();
    let mut text = String::new();
    for (name, dir) in names.iter().zip(dirs) {
        text.push_str(&format!("{name}  {}\n", dir.display()));
    }
    text.push_str("\nSettings that differ\n");
    text.push_str(&differing(&names, &configs));
    text.push_str(heading(outcomes.iter().map(|outcome| &outcome.experiment)));
    let results: Vec<BTreeMap<String, Cell>> = outcomes.iter().map(results).collect();
    text.push_str(&side_by_side(&names, &results, |_, _| false));
    Ok(text)
}

/// Says what means are taken over. Where pieces of text and turns have the numbers of seeds, reports have geometric means of
/// perplexities too.
fn heading<'a>(mut experiments: impl Iterator<Item = &'a Experiment>) -> &'static str {
    match experiments.any(|experiment| matches!(experiment.body, Body::Quantization(_))) {
        true => "\nResults (arithmetic means over seeds, pieces of text or turns)\n",
        false => "\nResults (means over seeds)\n",
    }
}

fn settings(outcome: &Outcome) -> Result<BTreeMap<String, String>> {
    let table =
        Toml::try_from(&outcome.experiment).context("a configuration that is not a table")?;
    let mut flat = BTreeMap::new();
    flatten("", &Value::Table(table), &mut flat);
    Ok(flat)
}

/// `arms.rope.training.steps = 400`: items with a name are called by it.
fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let join =
        |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Table(table) => {
            table.iter().for_each(|(key, value)| flatten(&join(key), value, into))
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                let name = item
                    .get("name")
                    .and_then(Value::as_str)
                    .map_or_else(|| index.to_string(), str::to_owned);
                flatten(&join(&name), item, into);
            }
        }
        leaf => {
            into.insert(prefix.to_owned(), leaf.to_string());
        }
    }
}

fn differing(names: &[String], configs: &[BTreeMap<String, String>]) -> String {
    let cells: Vec<BTreeMap<String, Cell>> = configs
        .iter()
        .map(|config| {
            config.iter().map(|(key, value)| (key.clone(), Cell::from(value.as_str()))).collect()
        })
        .collect();
    side_by_side(names, &cells, |a, b| a == b)
}

/// One row a key; rows whose neighbours are all `same` are left out.
fn side_by_side(
    names: &[String],
    runs: &[BTreeMap<String, Cell>],
    same: impl Fn(Option<&Cell>, Option<&Cell>) -> bool,
) -> String {
    let mut keys: Vec<&String> = runs.iter().flat_map(BTreeMap::keys).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut rows = Vec::new();
    for key in keys {
        let values: Vec<Option<&Cell>> = runs.iter().map(|run| run.get(key)).collect();
        if values.windows(2).all(|pair| same(pair[0], pair[1])) {
            continue;
        }
        let cells = values.into_iter().map(|cell| cell.cloned().unwrap_or(Cell::Empty));
        rows.push(std::iter::once(Cell::from(key.as_str())).chain(cells).collect());
    }
    if rows.is_empty() {
        return "  none\n".to_owned();
    }
    let columns = std::iter::once(Column::text(""))
        .chain(names.iter().map(|name| Column::number(name, "")))
        .collect();
    Table { caption: String::new(), columns, rows }.to_terminal(80)
}

/// Verdicts, and the mean of every measured series at its last abscissa.
fn results(outcome: &Outcome) -> BTreeMap<String, Cell> {
    let mut results = BTreeMap::new();
    for verdict in &outcome.verdicts {
        results.insert(
            format!("claim {}", verdict.name),
            Cell::from(verdict.judgement.verdict.to_string()),
        );
    }
    let mut ends: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for curve in &outcome.curves {
        if let Some(&(x, y)) = curve.points.last() {
            ends.entry(format!("{} {} at {x}", curve.arm, curve.series)).or_default().push(y);
        }
    }
    for (name, values) in ends {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        results.insert(name, Cell::number(mean, 4));
    }
    results
}

#[cfg(test)]
mod tests;
