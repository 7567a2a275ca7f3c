//! A checkpoint of the Hugging Face layout, quantised file by file and tensor by tensor.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use forerun_tensors::kernels::{PackedMatrix, WeightFormat};
use forerun_tensors::{
    Error as TensorError, SafetensorsFile, TensorPlan, save_streamed, write_atomic,
};
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::files::{PackedTensor, packed_metadata};
use super::gptq::{Gptq, gptq};
use super::{Hessian, round_to_nearest};
use crate::error::{Error, Result};
use crate::hf::{
    CONFIG, Described, INDEX, LoadOptions, QUANT_METHOD, QUANTIZATION, WeightFiles, parse, read,
    weight_files,
};
use crate::lm::CausalLm;
use crate::phi3_small::in_model_order;

/// What the names of the blocks' maps begin with.
const BLOCKS: &str = "model.layers.";

/// How the codes of a matrix are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// [`round_to_nearest`].
    Nearest,
    /// [`gptq`], for the blocks' matrices; embedding and head are rounded to nearest.
    Gptq(Gptq),
}

/// What becomes of which tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizeConfig {
    /// Of the linear maps in the blocks.
    pub blocks: WeightFormat,
    /// Of the embedding table and the head. None leaves them as they are. Every token reads the whole head.
    pub tables: Option<WeightFormat>,
    /// How the codes are found.
    pub method: Method,
}

impl QuantizeConfig {
    /// `blocks` for the blocks, 8 bits for embedding and head, rounded to nearest.
    #[must_use]
    pub fn nearest(blocks: WeightFormat) -> Self {
        Self { blocks, tables: Some(WeightFormat::Int8), method: Method::Nearest }
    }
}

/// What [`quantize_folder`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantized {
    /// Tensors that are packed now.
    pub n_packed: usize,
    /// Tensors that were copied.
    pub n_copied: usize,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors now.
    pub bytes_after: u64,
}

/// Reads the checkpoint in the folder `from`, which [`CausalLm::load`] would load, and writes it to the new folder `to` with the same
/// files, the linear maps packed. One tensor is in memory at a time, whatever the size of the model and of its files: its pages of the mapped
/// file, which are given back after it, and with [`Method::Nearest`] some four copies of it in f32. What a Hessian takes, and how it is come by,
/// is told at [`crate::Calibration`]. `config.json` says so under `quantization_config`; small files beside it
/// (tokenizer, generation) are copied. Then `to` is loaded once, which reads no weights but maps them: what is written can be
/// used. Of Phi-3-small `query_key_value` and `up_proj` are packed with their rows in the order in which a model holds them.
///
/// `hessian` is asked for what the inputs of a linear map look like, by the map's name in a [`CausalLm`], if [`Method::Gptq`] is to
/// be used.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read or written or `to` exists; [`Error::Checkpoint`], [`forerun_tensors::Error::File`] or
/// [`forerun_tensors::Error::Tensor`] with the name of what is unknown, missing, packed already, cannot be rounded, or has no
/// Hessian. `to` is not there then.
pub fn quantize_folder(
    from: &Path,
    to: &Path,
    config: &QuantizeConfig,
    hessian: &mut dyn FnMut(&str) -> Result<Option<Hessian>>,
) -> Result<Quantized> {
    quantize_folder_watched(from, to, config, hessian, &mut |_, _| ControlFlow::Continue(()))
}

/// As [`quantize_folder`]; before each tensor `on_tensor` is told how many are done and how many there are, and may end the work.
///
/// # Errors
/// As [`quantize_folder`]; [`Error::Io`] of the kind [`io::ErrorKind::Interrupted`] about `to` if `on_tensor` ended it. `to` is not there then.
pub fn quantize_folder_watched(
    from: &Path,
    to: &Path,
    config: &QuantizeConfig,
    hessian: &mut dyn FnMut(&str) -> Result<Option<Hessian>>,
    on_tensor: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Quantized> {
    let (described, text) = described(from, config)?;
    let files = weight_files(from)?;
    fs::create_dir(to).map_err(failed(to))?;
    let progress = Progress { done: 0, all: files.tensors.len(), on_tensor };
    let done = Quantized::default();
    let mut work = Work { from, to, config, described, hessian, progress, done };
    let outcome = work.all(&files, &text);
    if outcome.is_err() {
        // What is left of a failure would be in the way of the next try.
        let _ = fs::remove_dir_all(to);
    }
    outcome
}

/// What `from` is a checkpoint of, and the new `config.json`.
fn described(from: &Path, config: &QuantizeConfig) -> Result<(Described, Vec<u8>)> {
    let path = from.join(CONFIG);
    let text = read(&path)?;
    let refused = |reason: String| TensorError::File { path: path.clone(), reason };
    let described = parse(&path, &text)?;
    let mut fields: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
    if fields.get(QUANTIZATION).is_some_and(|value| !value.is_null()) {
        return Err(refused("is of a model that is quantised already".to_owned()).into());
    }
    let tables = config.tables.map(|format| format.to_string());
    let quantization = json!({
        "quant_method": QUANT_METHOD,
        "blocks": config.blocks.to_string(),
        "tables": tables,
        "method": config.method.name(),
    });
    fields.insert(QUANTIZATION.to_owned(), quantization);
    let text = serde_json::to_vec_pretty(&fields).map_err(|error| refused(error.to_string()))?;
    Ok((described, text))
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Gptq(_) => "gptq",
        }
    }
}

/// How far the work is.
struct Progress<'a> {
    done: usize,
    all: usize,
    on_tensor: &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>,
}

struct Work<'a> {
    from: &'a Path,
    to: &'a Path,
    config: &'a QuantizeConfig,
    described: Described,
    hessian: &'a mut dyn FnMut(&str) -> Result<Option<Hessian>>,
    progress: Progress<'a>,
    done: Quantized,
}

impl Work<'_> {
    fn all(&mut self, weights: &WeightFiles, config: &[u8]) -> Result<Quantized> {
        for (name, source) in &weights.files {
            self.file(name, source)?;
        }
        self.beside()?;
        if weights.have_index() {
            self.index(weights)?;
        }
        // Last: without it the folder is no checkpoint.
        write_atomic(&self.to.join(CONFIG), config)?;
        let _ = CausalLm::load(self.to, &LoadOptions::default())?;
        Ok(self.done)
    }

    fn file(&mut self, name: &str, source: &SafetensorsFile) -> Result<()> {
        let mut plans = Vec::new();
        let mut packed = BTreeMap::new();
        for tensor in source.names() {
            let (kind, shape) = (source.kind(tensor)?, source.shape(tensor)?.to_vec());
            let bytes = kind.elt_size_in_bytes() as u64 * shape.iter().product::<i64>() as u64;
            self.done.bytes_before += bytes;
            let Some(format) = self.format_of(tensor, kind, &shape) else {
                self.done.n_copied += 1;
                self.done.bytes_after += bytes;
                plans.push(TensorPlan { name: tensor.to_owned(), kind, shape });
                continue;
            };
            let size = [shape[0], shape[1]];
            let data = PackedMatrix::data_shape(format, size[0], size[1])
                .map_err(|error| refused(source, tensor, error.to_string()))?;
            self.done.n_packed += 1;
            self.done.bytes_after += data.iter().product::<i64>() as u64;
            packed.insert(tensor.to_owned(), PackedTensor { format, size });
            plans.push(TensorPlan {
                name: tensor.to_owned(),
                kind: Kind::Uint8,
                shape: data.to_vec(),
            });
        }
        let path = self.to.join(name);
        let metadata = packed_metadata(&packed, self.config.method.name())?;
        save_streamed(&path, &plans, &metadata, |index| {
            let name = &plans[index].name;
            self.advance()?;
            // Mapped anew: the pages of all that has been read stay in memory as long as the file is mapped.
            let source = SafetensorsFile::open(source.path())?;
            match packed.get(name) {
                Some(packed) => self.pack(&source, name, packed.format),
                None => Ok(source.tensor(name)?),
            }
        })?;
        Ok(())
    }

    fn advance(&mut self) -> Result<()> {
        let Progress { done, all, on_tensor } = &mut self.progress;
        if on_tensor(*done, *all).is_break() {
            return Err(failed(self.to)(io::ErrorKind::Interrupted.into()));
        }
        *done += 1;
        Ok(())
    }

    /// The format that a tensor is to have; none for one that stays as it is.
    fn format_of(&self, name: &str, kind: Kind, shape: &[i64]) -> Option<WeightFormat> {
        let float = matches!(kind, Kind::Float | Kind::BFloat16 | Kind::Half);
        if !float || shape.len() != 2 {
            return None;
        }
        match self.module(name)?.as_str() {
            "model.embed_tokens" | "lm_head" => self.config.tables,
            module => module.starts_with(BLOCKS).then_some(self.config.blocks),
        }
    }

    /// What a [`CausalLm`] calls the linear map, or table, with this weight.
    fn module(&self, name: &str) -> Option<String> {
        let published = self.described.names.published(name);
        published.strip_suffix(".weight").map(str::to_owned)
    }

    fn pack(
        &mut self,
        source: &SafetensorsFile,
        name: &str,
        format: WeightFormat,
    ) -> Result<Tensor> {
        let module = self.module(name).unwrap_or_default();
        let weight = in_model_order(&self.described.config, &module, &source.tensor(name)?)?;
        let packed = match self.config.method {
            Method::Gptq(options) if module.starts_with(BLOCKS) => match (self.hessian)(&module)? {
                Some(hessian) => gptq(&weight, &hessian, format, &options),
                None => return Err(refused(source, name, "has no calibration").into()),
            },
            _ => round_to_nearest(&weight, format),
        };
        let packed = packed.map_err(|error| refused(source, name, error.to_string()))?;
        Ok(packed.data().shallow_clone())
    }

    /// Copies what lies beside the weights: tokenizer, options of generation, licence.
    fn beside(&self) -> Result<()> {
        const KINDS: [&str; 6] = ["json", "txt", "model", "jinja", "md", "tiktoken"];
        for entry in fs::read_dir(self.from).map_err(failed(self.from))? {
            let path = entry.map_err(failed(self.from))?.path();
            let Some(name) = path.file_name() else { continue };
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            let known = KINDS.contains(&extension.as_str()) || name == "LICENSE";
            if path.is_file() && known && name != CONFIG && name != INDEX {
                fs::copy(&path, self.to.join(name)).map_err(failed(&path))?;
            }
        }
        Ok(())
    }

    fn index(&self, weights: &WeightFiles) -> Result<()> {
        let file = |place: usize| weights.files[place].0.as_str();
        let map: BTreeMap<&String, &str> =
            weights.tensors.iter().map(|(tensor, &place)| (tensor, file(place))).collect();
        let index =
            json!({ "metadata": { "total_size": self.done.bytes_after }, "weight_map": map });
        let path = self.to.join(INDEX);
        let text = serde_json::to_vec_pretty(&index)
            .map_err(|error| TensorError::File { path: path.clone(), reason: error.to_string() })?;
        Ok(write_atomic(&path, &text)?)
    }
}

fn refused(source: &SafetensorsFile, name: &str, reason: impl Into<String>) -> TensorError {
    let (path, name) = (source.path().to_owned(), name.to_owned());
    TensorError::Tensor { path, name, reason: reason.into() }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path: PathBuf = path.to_owned();
    move |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests;
