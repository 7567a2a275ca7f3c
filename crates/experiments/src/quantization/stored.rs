//! What a folder of weights holds, before anything is made of it.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use forerun_runs::atomic::read_json;
use forerun_tensors::SafetensorsFile;
use serde_json::Value;
use tch::Kind;

use crate::pretrained::Place;

/// The format of a folder's weights, by its first matrix. A folder with any packed weights is refused: its embedding, which comes
/// first, may be left in floating-point numbers.
pub(super) fn stored_kind(folder: &Path, model: &str) -> Result<Option<Kind>> {
    let config: Value = read_json(&folder.join("config.json"))?;
    let described = config.get("quantization_config").is_some_and(|value| !value.is_null());
    let kinds = if described { Vec::new() } else { matrix_kinds(folder)? };
    ensure!(
        !described && !kinds.iter().any(|kind| matches!(kind, Kind::Uint8 | Kind::Int8)),
        "`{model}` is quantised already; name the model that it was made of"
    );
    Ok(kinds.first().copied())
}

/// The formats of all matrices of a folder.
fn matrix_kinds(folder: &Path) -> Result<Vec<Kind>> {
    let files = Place::Folder(folder.to_owned()).files()?;
    let is_weights = |path: &&PathBuf| path.extension().is_some_and(|e| e == "safetensors");
    let weights: Vec<_> = files.iter().filter(is_weights).collect();
    ensure!(!weights.is_empty(), "`{}` has no safetensors file", folder.display());
    let mut kinds = Vec::new();
    for path in weights {
        let file = SafetensorsFile::open(path)?;
        for name in file.names() {
            if file.shape(name)?.len() == 2 {
                kinds.push(file.kind(name)?);
            }
        }
    }
    Ok(kinds)
}
