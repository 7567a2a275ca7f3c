//! The tensors of a folder, in one safetensors file or several.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forerun_tensors::SafetensorsFile;
use forerun_tensors::kernels::PackedMatrix;
use tch::{Kind, Tensor};

use super::files::{WeightFiles, weight_files, wrong};
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

impl Weights {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let WeightFiles { path, files, tensors } = weight_files(folder)?;
        let files: Vec<SafetensorsFile> = files.into_iter().map(|(_, file)| file).collect();
        let mut packed = BTreeMap::new();
        for file in &files {
            packed.extend(packed_tensors(file)?);
        }
        Ok(Self { path, files, left: tensors, packed, rename: str::to_owned })
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
                let reason = "is unexpected: the model has no tensor of that name";
                Err(wrong(self.files[place].path(), name, reason))
            }
        }
    }
}

impl Source for Weights {
    fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let name = (self.rename)(name);
        let Some(place) = self.left.remove(&name) else {
            return Err(wrong(&self.path, &name, "is missing"));
        };
        let file = &self.files[place];
        let (got, kind) = (file.shape(&name)?, file.kind(&name)?);
        if got != shape {
            let reason = format!("has shape {got:?}, the config's is {shape:?}");
            return Err(wrong(file.path(), &name, reason));
        }
        if !matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
            let reason = format!("has kind {kind:?}, which no weight can have");
            return Err(wrong(file.path(), &name, reason));
        }
        Ok(file.tensor(&name)?)
    }

    fn take_packed(&mut self, name: &str, shape: [i64; 2]) -> Result<Option<PackedMatrix>> {
        let name = (self.rename)(name);
        let Some(packed) = self.packed.get(&name) else { return Ok(None) };
        let Some(place) = self.left.remove(&name) else {
            return Err(wrong(&self.path, &name, "is missing"));
        };
        let file = &self.files[place];
        if packed.size != shape {
            let reason = format!("has shape {:?}, the config's is {shape:?}", packed.size);
            return Err(wrong(file.path(), &name, reason));
        }
        Ok(Some(packed.read(file, &name)?))
    }

    fn holds(&self, name: &str) -> bool {
        self.left.contains_key(&(self.rename)(name))
    }

    fn refuse(&self, name: &str, reason: &str) -> Error {
        wrong(&self.path, name, reason)
    }
}
