//! Holds this crate to reference fits: a folder of `X.ref.json` beside their tables.
//!
//! A file's kind is the beginning of its name; columns, protocols and counts come from the files, so that others of the
//! same kind can be checked. Tolerances are relative: objectives 1e-6, parameters and predictions 1e-3, standard errors
//! 5 %.

mod kinds;
mod lr;
mod mixtures;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::table::Table;

/// Tolerance of objectives.
pub const OBJECTIVE: f64 = 1e-6;
/// Tolerance of parameters, and of what follows from them.
pub const PARAMETER: f64 = 1e-3;
/// Tolerance of standard errors.
pub const STANDARD_ERROR: f64 = 0.05;

/// What was found about one reference file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    /// The file's stem.
    pub name: String,
    /// Numbers compared.
    pub cases: usize,
    /// The relative error and tolerance of the comparison that used up most of its tolerance.
    pub worst: Option<(f64, f64)>,
    /// What differs.
    pub problems: Vec<String>,
    /// Whether there is a check for files of this kind.
    pub is_known: bool,
}

impl Check {
    /// Whether something was compared and nothing differs.
    pub fn passes(&self) -> bool {
        self.is_known && self.cases > 0 && self.problems.is_empty()
    }

    /// Compares a number; `null`, a reference that has none, is skipped.
    fn number(&mut self, name: &str, actual: f64, expected: &Value, tolerance: f64) {
        let Some(expected) = expected.as_f64() else {
            if !expected.is_null() {
                self.problems.push(format!("{name}: the reference is no number"));
            }
            return;
        };
        self.close(name, actual, expected, tolerance, expected.abs());
    }

    /// Compares two numbers whose difference matters relative to `scale`.
    fn close(&mut self, name: &str, actual: f64, expected: f64, tolerance: f64, scale: f64) {
        self.cases += 1;
        let error = (actual - expected).abs() / scale.max(f64::MIN_POSITIVE);
        let error = if error.is_nan() { f64::INFINITY } else { error };
        if self.worst.is_none_or(|(worst, allowed)| error / tolerance > worst / allowed) {
            self.worst = Some((error, tolerance));
        }
        if error > tolerance {
            let text =
                format!("{name}: {actual:.9e}, not {expected:.9e} ({error:.1e} > {tolerance:.0e})");
            self.problems.push(text);
        }
    }

    fn require(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        self.cases += 1;
        if !holds {
            self.problems.push(problem());
        }
    }
}

/// Checks every `X.ref.json` of a folder, in the order of their names.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be read.
pub fn check_folder(folder: &Path) -> Result<Vec<Check>> {
    let io = |source| Error::Io { path: folder.to_owned(), source };
    let mut stems = vec![];
    for entry in folder.read_dir().map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".ref.json").filter(|stem| !stem.contains("_perf"));
        stems.extend(stem.map(str::to_owned));
    }
    stems.sort();
    Ok(stems.iter().map(|stem| check(folder, stem)).collect())
}

/// Checks one reference file, `STEM.ref.json`, with its table `STEM.csv`.
pub fn check(folder: &Path, stem: &str) -> Check {
    let mut tally = Check { name: stem.to_owned(), is_known: true, ..Check::default() };
    let kinds: [(&str, Checker); 7] = [
        ("chinchilla", kinds::chinchilla),
        ("gadre", kinds::gadre),
        ("porian", kinds::porian),
        ("regmix", mixtures::regmix),
        ("synth_lr", lr::synthetic),
        ("synth_multilingual", mixtures::multilingual),
        ("synth_transfer", mixtures::transfer),
    ];
    let Some((_, checker)) = kinds.iter().find(|(prefix, _)| stem.starts_with(prefix)) else {
        tally.is_known = false;
        return tally;
    };
    if let Err(error) =
        load(folder, stem).and_then(|(table, json)| checker(&table, &json, &mut tally))
    {
        tally.problems.push(error.to_string());
    }
    tally
}

type Checker = fn(&Table, &Value, &mut Check) -> Result<()>;

fn load(folder: &Path, stem: &str) -> Result<(Table, Value)> {
    let path: PathBuf = folder.join(format!("{stem}.ref.json"));
    let text = std::fs::read_to_string(&path)
        .map_err(|source| Error::Io { path: path.clone(), source })?;
    let json = serde_json::from_str(&text)
        .map_err(|error| Error::data(Some(&path), None, "json", error.to_string()))?;
    Ok((Table::read_csv(&folder.join(format!("{stem}.csv")))?, json))
}

/// A member's entries, none where it is no object.
fn entries(json: &Value) -> impl Iterator<Item = (&String, &Value)> {
    json.as_object().into_iter().flatten()
}

/// A member's elements as numbers.
fn numbers(json: &Value) -> Vec<f64> {
    json.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}
