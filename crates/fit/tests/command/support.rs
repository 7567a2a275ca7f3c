//! What the tests of the command share.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

/// A table of the repository's test data.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/scaling").join(name)
}

pub(crate) fn run(words: &[&str]) -> Result<String, String> {
    let words = std::iter::once("forerun-scaling").chain(words.iter().copied()).map(OsString::from);
    forerun_fit::cli::run(words).map_err(|error| format!("{error:#}"))
}

/// Runs `fit` on a table of the test data; the terminal's text and the JSON.
pub(crate) fn fit(table: &str, words: &[&str]) -> (String, Value) {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("fit.json");
    let (table, path) = (data(table), json.to_string_lossy().into_owned());
    let fixed = ["fit", "--data", &table.to_string_lossy(), "--json", &path].map(str::to_owned);
    let words: Vec<&str> = fixed.iter().map(String::as_str).chain(words.iter().copied()).collect();
    let text = run(&words).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "80 columns:\n{text}");
    (text, serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap())
}

pub(crate) fn estimate(json: &Value, path: &str) -> f64 {
    let value = path.split('/').fold(json, |value, key| &value[key]);
    value["estimate"].as_f64().unwrap_or_else(|| panic!("{path} of {json}"))
}

pub(crate) fn close(actual: f64, expected: f64, relative: f64) {
    assert!((actual / expected - 1.).abs() < relative, "{actual}, expected {expected}");
}

/// A folder with one file.
pub(crate) fn folder_with(name: &str, content: impl AsRef<[u8]>) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let path = path.to_string_lossy().into_owned();
    (folder, path)
}

/// `fit` of a table of one's own: the terminal's text and the JSON, or what is refused, without the folder's name.
pub(crate) fn fit_text(
    name: &str,
    content: impl AsRef<[u8]>,
    words: &[&str],
) -> Result<(String, Value), String> {
    let (folder, path) = folder_with(name, content);
    let json = folder.path().join("fit.json");
    let out = json.to_string_lossy().into_owned();
    let fixed = ["fit", "--data", &path, "--json", &out];
    let plain = |text: String| text.replace(&format!("{}/", folder.path().display()), "");
    let text = run(&[&fixed, words].concat()).map_err(plain)?;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "80 columns:\n{text}");
    Ok((plain(text), serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap()))
}

/// Parameters, tokens, loss.
pub(crate) type Run = (f64, f64, f64);

/// Runs that follow `1.8 + 400 N^-0.34 + 1500 D^-0.36`, each off by a fixed few thousandths: sizes by horizons.
pub(crate) fn runs(sizes: &[f64], horizons: &[f64]) -> Vec<Run> {
    let mut found: Vec<Run> = vec![];
    for n in sizes {
        for d in horizons {
            let wobble = 0.002 * (7. * found.len() as f64).sin();
            let loss = 1.8 + 400. * n.powf(-0.34) + 1500. * d.powf(-0.36);
            found.push((*n, *d, loss * (1. + wobble)));
        }
    }
    found
}

/// Two dozen runs.
pub(crate) fn two_dozen() -> Vec<Run> {
    runs(&[1e8, 2e8, 4e8, 8e8, 1.6e9, 3.2e9], &[2e9, 8e9, 3.2e10, 1.28e11])
}
