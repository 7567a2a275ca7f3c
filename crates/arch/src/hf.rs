//! Checkpoints in the layout of Hugging Face: a folder with `config.json`, `generation_config.json` and one or several safetensors files.
//!
//! Both spellings of configurations are read: as they were published with the models (`rope_theta`, `rope_scaling`), and as transformers 5
//! writes them (`rope_parameters`). What is written is the first, which all versions read.

mod config;
mod decoder;
mod fields;
mod files;
mod generation;
mod rope;
mod save;
mod weights;

use std::path::Path;

use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::lm::{CausalLm, LmConfig};
use weights::Weights;

pub(crate) use config::{Described, QUANT_METHOD, QUANTIZATION, parse};
pub(crate) use files::{WeightFiles, weight_files};
pub use generation::GenerationDefaults;

pub(crate) const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// What the tensors of a checkpoint are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// As its family's.
    Published,
    /// As those of a [`crate::Decoder`].
    Decoder,
}

impl Names {
    /// The published name of what is called `name` in the file.
    pub(crate) fn published(self, name: &str) -> String {
        match self {
            Self::Published => name.to_owned(),
            Self::Decoder => decoder::published_name(name),
        }
    }
}

/// How a checkpoint is loaded; [`Default`] is onto the CPU, in the format of the file, without a copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadOptions {
    /// f32, bf16 or f16; the checkpoint's own if none is given. Weights of that format are not copied but read from the mapped file as
    /// they are needed.
    pub kind: Option<Kind>,
    /// Where the model is to live.
    pub device: Device,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { kind: None, device: Device::Cpu }
    }
}

impl CausalLm {
    /// Loads the checkpoint in `folder`: `config.json` and `model.safetensors`, or the files that `model.safetensors.index.json` names. A
    /// folder that [`crate::save_checkpoint`] wrote is read as well if its model is shaped like a Llama.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read; [`Error::Checkpoint`] names the file and what in it is unknown or makes no sense;
    /// [`Error::Tensors`] names the file and the tensor that is missing, unexpected or of another shape.
    pub fn load(folder: &Path, options: &LoadOptions) -> Result<Self> {
        Self::load_described(folder, &folder.join(CONFIG), options)
    }

    /// As [`Self::load`], but with the configuration in another file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_described(folder: &Path, config: &Path, options: &LoadOptions) -> Result<Self> {
        let text = read(config)?;
        let Described { config: lm_config, names } = parse(config, &text)?;
        let weights = Weights::open(folder)?;
        let mut source = match names {
            Names::Published => weights,
            Names::Decoder => weights.renamed(decoder::own_name),
        };
        let model = Self::build(lm_config, &mut source, options.kind, options.device)?;
        source.finish()?;
        Ok(model)
    }
}

impl LmConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Checkpoint`] names what in it is unknown or makes no sense.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(parse(path, &read(path)?)?.config)
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::Checkpoint { path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
