//! Which files of a folder hold the weights, and which tensors lie in each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forerun_tensors::{Error as TensorError, SafetensorsFile};
use serde::Deserialize;

use super::fields::parse;
use super::{INDEX, WEIGHTS, read, refused};
use crate::error::{Error, Result};

/// The weights of a folder.
pub(crate) struct WeightFiles {
    /// The file that says which tensors there are: `model.safetensors`, or the index.
    pub(crate) path: PathBuf,
    /// By their names in the folder, in ascending order.
    pub(crate) files: Vec<(String, SafetensorsFile)>,
    /// The place in `files` where each tensor lies.
    pub(crate) tensors: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Whether an index says where the tensors are.
    pub(crate) fn have_index(&self) -> bool {
        self.path.ends_with(INDEX)
    }
}

/// `model.safetensors`, or else what `model.safetensors.index.json` names: the order of transformers.
pub(crate) fn weight_files(folder: &Path) -> Result<WeightFiles> {
    let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
    if single.exists() || !index.exists() {
        let file = SafetensorsFile::open(&single)?;
        let tensors = file.names().map(|name| (name.to_owned(), 0)).collect();
        return Ok(WeightFiles { path: single, files: vec![(WEIGHTS.to_owned(), file)], tensors });
    }
    let weight_map = weight_map(&index, &read(&index)?)?;
    let mut names: Vec<&String> = weight_map.values().collect();
    names.sort();
    names.dedup();
    let mut files = Vec::with_capacity(names.len());
    for name in &names {
        files.push(((*name).clone(), SafetensorsFile::open(&folder.join(name))?));
    }
    let mut tensors = BTreeMap::new();
    for (tensor, file) in &weight_map {
        let place = names.binary_search(&file).unwrap_or_default();
        files[place].1.shape(tensor)?; // or else it is missing there
        tensors.insert(tensor.clone(), place);
    }
    for (place, (_, file)) in files.iter().enumerate() {
        if let Some(extra) = file.names().find(|name| tensors.get(*name) != Some(&place)) {
            return Err(wrong(file.path(), extra, "is not what the index says is in this file"));
        }
    }
    Ok(WeightFiles { path: index, files, tensors })
}

/// Where each tensor lies, as an index says.
pub(super) fn weight_map(path: &Path, text: &[u8]) -> Result<BTreeMap<String, String>> {
    let Index { weight_map } = parse(path, text)?;
    for name in weight_map.values() {
        // Only files beside the index: a checkpoint must not reach out of its folder.
        if Path::new(name).file_name().is_none_or(|base| base != name.as_str()) {
            return Err(refused(path, format!("`{name}` is not the name of a file")));
        }
    }
    Ok(weight_map)
}

/// The error about a tensor of a file.
pub(super) fn wrong(path: &Path, name: &str, reason: impl Into<String>) -> Error {
    let (path, name) = (path.to_owned(), name.to_owned());
    TensorError::Tensor { path, name, reason: reason.into() }.into()
}
