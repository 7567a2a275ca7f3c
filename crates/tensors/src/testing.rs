//! Comparison with golden files: what a reference implementation computed, to be computed again.
//!
//! `X.json` describes the tensors of `X.safetensors`: for each name its shape, its dtype, its role (`input`: feed
//! it, `weight`: load it, `output`: compare with it) and, where the default of atol 1e-5 and rtol 1e-4 does not
//! hold, its tolerance. Numbers agree if `|a - b| <= atol + rtol * |b|`; integers and booleans (stored as u8)
//! must be equal. A file that holds no tensors has no companion. Everything else in the JSON (`config`, `notes`) is
//! free, and read with [`Golden::json`].

mod compare;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::safetensors::SafetensorsFile;

pub use compare::{Comparison, Worst, compare};

/// What a golden tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoldenRole {
    /// To be fed to the computation.
    Input,
    /// To be loaded into the model.
    Weight,
    /// To be compared with the result.
    Output,
}

/// How far a number may be from the reference: `atol + rtol * |reference|`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// The absolute part, in the unit of the numbers.
    pub atol: f64,
    /// The part relative to the reference.
    pub rtol: f64,
}

impl Tolerance {
    /// Every number equal.
    pub const EXACT: Self = Self { atol: 0.0, rtol: 0.0 };
}

impl Default for Tolerance {
    /// That of the golden files: atol 1e-5, rtol 1e-4.
    fn default() -> Self {
        Self { atol: 1e-5, rtol: 1e-4 }
    }
}

/// A golden file, open.
#[derive(Debug)]
pub struct Golden {
    path: PathBuf,
    json: Value,
    entries: BTreeMap<String, Entry>,
    tensors: Option<SafetensorsFile>,
}

/// The description of one tensor.
#[derive(Debug, Deserialize)]
struct Entry {
    shape: Vec<i64>,
    dtype: String,
    role: GoldenRole,
    tol: Option<Tol>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Tol {
    Named(Named),
    Numbers(Tolerance),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    Exact,
}

impl Golden {
    /// Opens `stem.json`, and `stem.safetensors` if the former describes tensors. `stem` may be given with
    /// the extension `.json`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::File`] if a file cannot be read or the companion is missing;
    /// [`Error::Tensor`] names the first tensor that the two files do not agree on.
    pub fn open(stem: &Path) -> Result<Self> {
        let path = match stem.extension() {
            Some(extension) if extension == "json" => stem.to_owned(),
            _ => with_suffix(stem, ".json"),
        };
        let text = fs::read(&path).map_err(|source| Error::io(&path, source))?;
        let unreadable =
            |error: serde_json::Error| Error::file(&path, format!("unreadable: {error}"));
        let json: Value = serde_json::from_slice(&text).map_err(unreadable)?;
        let entries: BTreeMap<String, Entry> = match json.get("tensors") {
            None => BTreeMap::new(),
            Some(tensors) => BTreeMap::deserialize(tensors).map_err(unreadable)?,
        };
        let tensors = if entries.is_empty() { None } else { Some(open_companion(&path)?) };
        let golden = Self { path, json, entries, tensors };
        golden.check_agreement()?;
        Ok(golden)
    }

    /// The JSON file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of the JSON.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The JSON's `config`, null if there is none.
    pub fn config(&self) -> &Value {
        self.json.get("config").unwrap_or(&Value::Null)
    }

    /// The names of a role, sorted.
    pub fn names(&self, role: GoldenRole) -> impl Iterator<Item = &str> {
        let of_role = self.entries.iter().filter(move |(_, entry)| entry.role == role);
        of_role.map(|(name, _)| name.as_str())
    }

    /// Whether a tensor of that name is described.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// A tensor of role `input`, as stored (booleans are u8).
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is none of that name and role.
    pub fn input(&self, name: &str) -> Result<Tensor> {
        self.of_role(name, GoldenRole::Input)
    }

    /// A tensor of role `output`, as stored (booleans are u8).
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is none of that name and role.
    pub fn output(&self, name: &str) -> Result<Tensor> {
        self.of_role(name, GoldenRole::Output)
    }

    /// A tensor of role `weight`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is none of that name and role.
    pub fn weight(&self, name: &str) -> Result<Tensor> {
        self.of_role(name, GoldenRole::Weight)
    }

    /// All weights whose name begins with `prefix` (mostly `w.`), named by the rest, sorted.
    ///
    /// # Errors
    /// [`Error::Tensor`] if one cannot be read.
    pub fn weights(&self, prefix: &str) -> Result<Vec<(String, Tensor)>> {
        let named = self.names(GoldenRole::Weight);
        let chosen = named.filter_map(|name| Some((name, name.strip_prefix(prefix)?)));
        chosen.map(|(name, rest)| Ok((rest.to_owned(), self.weight(name)?))).collect()
    }

    /// The tolerance of a tensor: the file's, else exact for integers and booleans, else the default.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is none of that name.
    pub fn tolerance(&self, name: &str) -> Result<Tolerance> {
        let entry = self.entry(name)?;
        Ok(match entry.tol {
            Some(Tol::Named(Named::Exact)) => Tolerance::EXACT,
            Some(Tol::Numbers(tolerance)) => tolerance,
            None if kind_of(&entry.dtype).is_some_and(|kind| !is_float(kind)) => Tolerance::EXACT,
            None => Tolerance::default(),
        })
    }

    /// Compares `actual` with the output `name` under its tolerance.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there is no such output, [`Error::Shape`] if `actual` has another shape.
    pub fn check(&self, name: &str, actual: &Tensor) -> Result<Comparison> {
        compare(actual, &self.output(name)?, self.tolerance(name)?)
    }

    fn of_role(&self, name: &str, role: GoldenRole) -> Result<Tensor> {
        let entry = self.entry(name)?;
        if entry.role != role {
            let reason = format!("has role {:?}, not {role:?}", entry.role);
            return Err(Error::tensor(&self.path, name, reason));
        }
        match &self.tensors {
            Some(file) => file.tensor(name),
            None => Err(Error::tensor(&self.path, name, "is missing")),
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        let entry = self.entries.get(name);
        entry.ok_or_else(|| Error::tensor(&self.path, name, "is not described"))
    }

    fn check_agreement(&self) -> Result<()> {
        let Some(file) = &self.tensors else { return Ok(()) };
        for (name, entry) in &self.entries {
            let (shape, kind) = (file.shape(name)?, file.kind(name)?);
            if shape != entry.shape || kind_of(&entry.dtype) != Some(kind) {
                let Entry { shape: want, dtype, .. } = entry;
                let reason = format!("is {kind:?} {shape:?}, but described as {dtype} {want:?}");
                return Err(Error::tensor(file.path(), name, reason));
            }
        }
        match file.names().find(|name| !self.entries.contains_key(*name)) {
            None => Ok(()),
            Some(extra) => Err(Error::tensor(file.path(), extra, "is not described in the JSON")),
        }
    }
}

fn open_companion(json: &Path) -> Result<SafetensorsFile> {
    let path = json.with_extension("safetensors");
    if !path.exists() {
        let reason = format!("missing; `{}` describes its tensors", json.display());
        return Err(Error::file(&path, reason));
    }
    SafetensorsFile::open(&path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    PathBuf::from(text)
}

/// NumPy's names of kinds, and torch's.
fn kind_of(dtype: &str) -> Option<Kind> {
    Some(match dtype {
        "float64" => Kind::Double,
        "float32" => Kind::Float,
        "float16" => Kind::Half,
        "bfloat16" => Kind::BFloat16,
        "int64" => Kind::Int64,
        "int32" => Kind::Int,
        "int16" => Kind::Int16,
        "int8" => Kind::Int8,
        "uint8" => Kind::Uint8,
        "bool" => Kind::Bool,
        _ => return None,
    })
}

fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16)
}

#[cfg(test)]
mod tests;
