//! `state.json`: everything of a checkpoint that is not a tensor, sealed with its own SHA-256.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use forerun_tensors::{generator_state, hex, set_generator_state, write_atomic};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use crate::error::{Error, Result};

/// Raised when the meaning of a field changes.
const FORMAT: u32 = 2;

/// Where a run stands. Indices are global, so that any number of ranks can go on from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this file's format.
    pub format: u32,
    /// Updates done.
    pub step: u64,
    /// Global index of the first row that has not been trained on.
    pub next_row: u64,
    /// How far each member of a stack has come; one for a single model.
    pub members: Vec<Progress>,
    /// What decides the numbers of the run, its schedule included: dotted field → value.
    pub config: BTreeMap<String, Value>,
    /// State of libtorch's generators: device → hex.
    pub generators: BTreeMap<String, String>,
    /// Length in bytes of every log when the checkpoint was written.
    pub log_offsets: BTreeMap<String, u64>,
    /// SHA-256 of `model.safetensors`, hex.
    pub model_sha256: String,
    /// SHA-256 of `optimizer.safetensors`, hex.
    pub optimizer_sha256: String,
}

/// Where one model stands. [`Default`] is the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Tokens predicted so far.
    pub tokens: u64,
    /// Loss of the last update, nats per token.
    pub loss: Option<f64>,
    /// Loss of the last evaluation, nats per token.
    pub eval_loss: Option<f64>,
    /// Present once the model has left the run; its parameters are those of the update before.
    pub diverged: Option<Divergence>,
}

/// When and how a model diverged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Divergence {
    /// The update in which it showed, counted from 1.
    pub step: u64,
    /// The loss then, nats per token; text in the file, because JSON has no infinity.
    #[serde(with = "as_text")]
    pub loss: f64,
}

/// The file: the state and the hash of its compact JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    state: State,
    sha256: String,
}

impl State {
    /// The start of a run of `n_members` models, to be filled with struct update syntax.
    pub(crate) fn of_config(config: BTreeMap<String, Value>, n_members: usize) -> Self {
        Self {
            format: FORMAT,
            step: 0,
            next_row: 0,
            members: vec![Progress::default(); n_members],
            config,
            generators: BTreeMap::new(),
            log_offsets: BTreeMap::new(),
            model_sha256: String::new(),
            optimizer_sha256: String::new(),
        }
    }

    /// Reads and verifies `path`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|error| Error::damaged(path, error))?;
        let Sealed { state, sha256 } =
            serde_json::from_slice(&bytes).map_err(|error| Error::damaged(path, error))?;
        if state.seal(path)? != sha256 {
            return Err(Error::damaged(path, "its contents do not match its own SHA-256"));
        }
        if state.format != FORMAT {
            let reason = format!("format {} is not format {FORMAT}", state.format);
            return Err(Error::damaged(path, reason));
        }
        Ok(state)
    }

    /// Writes and flushes `path`.
    pub(crate) fn write(self, path: &Path) -> Result<()> {
        let sha256 = self.seal(path)?;
        let mut bytes = serde_json::to_vec_pretty(&Sealed { state: self, sha256 })
            .map_err(|error| Error::io("write", path)(error.into()))?;
        bytes.push(b'\n');
        Ok(write_atomic(path, &bytes)?)
    }

    /// The first field in which this state's configuration differs from `config`: its path, the value here, and
    /// the value there.
    pub(crate) fn difference(
        &self,
        config: &BTreeMap<String, Value>,
    ) -> Option<(String, String, String)> {
        let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
        self.config
            .keys()
            .chain(config.keys())
            .find(|field| self.config.get(*field) != config.get(*field))
            .map(|field| (field.clone(), text(self.config.get(field)), text(config.get(field))))
    }

    fn seal(&self, path: &Path) -> Result<String> {
        let bytes = serde_json::to_vec(self).map_err(|error| Error::damaged(path, error))?;
        Ok(hex(&Sha256::digest(bytes)))
    }
}

mod as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// States of the CPU's generator and of `device`'s, as hex.
pub(crate) fn generator_states(device: Device) -> Result<BTreeMap<String, String>> {
    let mut states = BTreeMap::new();
    for device in [Device::Cpu, device] {
        let state = generator_state(device)?.f_to_device(Device::Cpu)?;
        states.insert(name(device), hex(&Vec::<u8>::try_from(&state)?));
    }
    Ok(states)
}

/// Puts the generators of the CPU and of `device` back, as far as `states` has them.
pub(crate) fn restore_generators(states: &BTreeMap<String, String>, device: Device) -> Result<()> {
    for device in [Device::Cpu, device] {
        if let Some(bytes) = states.get(&name(device)).and_then(|text| from_hex(text)) {
            set_generator_state(device, &Tensor::f_from_slice(&bytes)?)?;
        }
    }
    Ok(())
}

fn name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pair = |i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests;
