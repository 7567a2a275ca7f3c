//! A model as a folder: `config.json` and `model.safetensors`.
//!
//! A stack is saved in the same two files: its tensors have the members before their own shape, and the config is
//! `{"stack": [..]}` with the config of each member. To hand a member on, save [`Decoder::member`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use forerun_tensors::{SafetensorsFile, load_into, save, write_atomic};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::stack::ensure_alike;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// What `config.json` holds for a stack.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StackConfig {
    stack: Vec<DecoderConfig>,
}

/// Writes `model`, which may be a stack, to the folder, which is made if it is not there; each file appears whole or not at all.
/// Returns the SHA-256 of the weights file, in hexadecimal.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be made, [`Error::Tensors`] if a file cannot be written.
pub fn save_checkpoint(model: &Decoder, folder: &Path) -> Result<String> {
    fs::create_dir_all(folder).map_err(io(folder))?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let hash = save(&folder.join(WEIGHTS), &model.parameters().named_tensors(), &metadata)?;
    let path = folder.join(CONFIG);
    let text = match model.is_stack() {
        false => serde_json::to_vec_pretty(model.config()),
        true => serde_json::to_vec_pretty(&StackConfig { stack: model.member_configs() }),
    };
    let text =
        text.map_err(|error| Error::ConfigFile { path: path.clone(), reason: error.to_string() })?;
    write_atomic(&path, &text)?;
    Ok(hash)
}

impl Decoder {
    /// Reads a model, or a stack, that [`save_checkpoint`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if a file is not there, [`Error::ConfigFile`] if the config is not one,
    /// [`Error::Tensors`] with the name of the first tensor that is missing, extra or of another shape.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let path = folder.join(CONFIG);
        let text = fs::read(&path).map_err(io(&path))?;
        let model = Self::described(&path, &text, device)?;
        load_into(&SafetensorsFile::open(&folder.join(WEIGHTS))?, model.parameters())?;
        Ok(model)
    }

    /// What a `config.json` describes, before its weights are there.
    fn described(path: &Path, text: &[u8], device: Device) -> Result<Self> {
        let refused = |reason: String| Error::ConfigFile { path: path.to_owned(), reason };
        let parse = |error: serde_json::Error| refused(error.to_string());
        let fields: serde_json::Value = serde_json::from_slice(text).map_err(parse)?;
        if fields.get("stack").is_none() {
            let config = serde_json::from_slice(text).map_err(parse)?;
            return Self::uninitialised(&config, None, device);
        }
        let StackConfig { stack } = serde_json::from_slice(text).map_err(parse)?;
        let first = stack.first().ok_or_else(|| refused("a stack without members".to_owned()))?;
        ensure_alike("stack", &stack.iter().collect::<Vec<_>>())?;
        let inits = stack.iter().map(|config| config.init).collect();
        Self::uninitialised(first, Some(inits), device)
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests;
