//! The tensors of a folder, in one safetensors file or several.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forerun_tensors::kernels::PackedMatrix;
use forerun_tensors::{Error as TensorError, SafetensorsFile};
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::fields::parse;
use super::{INDEX, WEIGHTS, read, refused};
use crate::error::{Error, Result};
use crate::lm::Source;
use crate::quantize::{PackedTensor, packed_tensors};

/// Tensors by name, each to be taken once.
pub(super) struct Weights {
    /// The file that says which tensors there are.
    path: PathBuf,
    files: Vec<SafetensorsFile>,
    /// In which file each lies that has not been taken.
    left: BTreeMap<String, usize>,
    /// Which are packed, and how.
    packed: BTreeMap<String, PackedTensor>,
    /// The name in the files of what the model calls otherwise.
    rename: fn(&str) -> String,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
        if single.exists() || !index.exists() {
            let file = SafetensorsFile::open(&single)?;
            let left = file.names().map(|name| (name.to_owned(), 0)).collect();
            return Self::of(single, vec![file], left);
        }
        let Index { weight_map } = parse(&index, &read(&index)?)?;
        let mut names: Vec<&String> = weight_map.values().collect();
        names.sort();
        names.dedup();
        let mut files = Vec::new();
        for name in &names {
            // Only files beside the index: a checkpoint must not reach out of its folder.
            if Path::new(name).file_name().is_none_or(|base| base != name.as_str()) {
                return Err(refused(&index, format!("`{name}` is not the name of a file")));
            }
            files.push(SafetensorsFile::open(&folder.join(name))?);
        }
        let mut left = BTreeMap::new();
        for (tensor, file) in &weight_map {
            let place = names.binary_search(&file).unwrap_or_default();
            files[place].shape(tensor)?; // or else it is missing there
            left.insert(tensor.clone(), place);
        }
        for (place, file) in files.iter().enumerate() {
            if let Some(extra) = file.names().find(|name| left.get(*name) != Some(&place)) {
                let reason = "is not what the index says is in this file".to_owned();
                return Err(tensor(file.path(), extra, reason));
            }
        }
        Self::of(index, files, left)
    }

    fn of(
        path: PathBuf,
        files: Vec<SafetensorsFile>,
        left: BTreeMap<String, usize>,
    ) -> Result<Self> {
        let mut packed = BTreeMap::new();
        for file in &files {
            packed.extend(packed_tensors(file)?);
        }
        Ok(Self { path, files, left, packed, rename: str::to_owned })
    }

    /// The same, of tensors whose names in the files are given by `rename`.
    pub(super) fn renamed(self, rename: fn(&str) -> String) -> Self {
        Self { rename, ..self }
    }

    /// Checks that nothing is left over.
    pub(super) fn finish(self) -> Result<()> {
        // A table that old checkpoints carry and everybody computes.
        let is_extra = |name: &str| !name.ends_with("rotary_emb.inv_freq");
        match self.left.iter().find(|(name, _)| is_extra(name)) {
            None => Ok(()),
            Some((name, &place)) => {
                let reason = "is unexpected: the model has no tensor of that name".to_owned();
                Err(tensor(self.files[place].path(), name, reason))
            }
        }
    }
}

impl Source for Weights {
    fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let name = (self.rename)(name);
        let Some(place) = self.left.remove(&name) else {
            return Err(tensor(&self.path, &name, "is missing".to_owned()));
        };
        let file = &self.files[place];
        let (got, kind) = (file.shape(&name)?, file.kind(&name)?);
        if got != shape {
            let reason = format!("has shape {got:?}, the config's is {shape:?}");
            return Err(tensor(file.path(), &name, reason));
        }
        if !matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
            let reason = format!("has kind {kind:?}, which no weight can have");
            return Err(tensor(file.path(), &name, reason));
        }
        Ok(file.tensor(&name)?)
    }

    fn take_packed(&mut self, name: &str, shape: [i64; 2]) -> Result<Option<PackedMatrix>> {
        let name = (self.rename)(name);
        let Some(packed) = self.packed.get(&name) else { return Ok(None) };
        let Some(place) = self.left.remove(&name) else {
            return Err(tensor(&self.path, &name, "is missing".to_owned()));
        };
        let file = &self.files[place];
        if packed.size != shape {
            let reason = format!("has shape {:?}, the config's is {shape:?}", packed.size);
            return Err(tensor(file.path(), &name, reason));
        }
        Ok(Some(packed.read(file, &name)?))
    }

    fn holds(&self, name: &str) -> bool {
        self.left.contains_key(&(self.rename)(name))
    }

    fn refuse(&self, name: &str, reason: &str) -> Error {
        tensor(&self.path, name, reason.to_owned())
    }
}

fn tensor(path: &Path, name: &str, reason: String) -> Error {
    TensorError::Tensor { path: path.to_owned(), name: name.to_owned(), reason }.into()
}
