//! A model as a folder: `config.json` and `model.safetensors`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use forerun_tensors::{SafetensorsFile, load_into, save, write_atomic};
use tch::Device;

use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::error::{Error, Result};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// Writes `model` to the folder, which is made if it is not there; each file appears whole or not at all.
/// Returns the SHA-256 of the weights file, in hexadecimal.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be made, [`Error::Tensors`] if a file cannot be written.
pub fn save_checkpoint(model: &Decoder, folder: &Path) -> Result<String> {
    fs::create_dir_all(folder).map_err(io(folder))?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let hash = save(&folder.join(WEIGHTS), &model.parameters().named_tensors(), &metadata)?;
    let path = folder.join(CONFIG);
    let text = serde_json::to_vec_pretty(model.config())
        .map_err(|error| Error::ConfigFile { path: path.clone(), reason: error.to_string() })?;
    write_atomic(&path, &text)?;
    Ok(hash)
}

impl Decoder {
    /// Reads a model that [`save_checkpoint`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if a file is not there, [`Error::ConfigFile`] if the config is not one,
    /// [`Error::Tensors`] with the name of the first tensor that is missing, extra or of another shape.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let path = folder.join(CONFIG);
        let text = fs::read(&path).map_err(io(&path))?;
        let config: DecoderConfig = serde_json::from_slice(&text)
            .map_err(|error| Error::ConfigFile { path, reason: error.to_string() })?;
        let model = Self::uninitialised(&config, device)?;
        load_into(&SafetensorsFile::open(&folder.join(WEIGHTS))?, model.parameters())?;
        Ok(model)
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests;
