//! A checkpoint of the Hugging Face layout, quantised file by file and tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use forerun_tensors::kernels::{PackedMatrix, WeightFormat};
use forerun_tensors::{
    Error as TensorError, SafetensorsFile, TensorPlan, save_streamed, write_atomic,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::files::{PackedTensor, packed_metadata};
use super::gptq::{Gptq, gptq};
use super::{Hessian, round_to_nearest};
use crate::error::{Error, Result};

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

/// Reads the checkpoint in the folder `from` (`config.json`, and `model.safetensors` or the files that
/// `model.safetensors.index.json` names) and writes it to the new folder `to` with the same files, the linear maps packed. One tensor
/// is in memory at a time. `config.json` says so under `quantization_config`; small files beside it (tokenizer,
/// generation) are copied.
///
/// `hessian` is asked for what the inputs of a linear map look like, by the name of its weight without `.weight`, if
/// [`Method::Gptq`] is to be used.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read or written or `to` exists; [`forerun_tensors::Error::File`] or
/// [`forerun_tensors::Error::Tensor`] with the name of what is missing, packed already, cannot be rounded, or has no Hessian. `to` is not
/// there then.
pub fn quantize_folder(
    from: &Path,
    to: &Path,
    config: &QuantizeConfig,
    hessian: &mut dyn FnMut(&str) -> Result<Option<Hessian>>,
) -> Result<Quantized> {
    let described = described(from, config)?;
    let files = weight_files(from)?;
    fs::create_dir(to).map_err(io(to))?;
    let mut work = Work { from, to, config, hessian, done: Quantized::default() };
    let outcome = work.all(&files, &described);
    if outcome.is_err() {
        // What is left of a failure would be in the way of the next try.
        let _ = fs::remove_dir_all(to);
    }
    outcome
}

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The new `config.json`.
fn described(from: &Path, config: &QuantizeConfig) -> Result<Vec<u8>> {
    let path = from.join(CONFIG);
    let text = fs::read(&path).map_err(io(&path))?;
    let refused = |reason: String| TensorError::File { path: path.clone(), reason };
    let mut fields: Value =
        serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
    let Some(fields) = fields.as_object_mut() else {
        return Err(refused("is no JSON object".to_owned()).into());
    };
    if fields.contains_key("quantization_config") {
        return Err(refused("is of a model that is quantised already".to_owned()).into());
    }
    let tables = config.tables.map(|format| format.to_string());
    let quantization = json!({
        "quant_method": "forerun",
        "blocks": config.blocks.to_string(),
        "tables": tables,
        "method": config.method.name(),
    });
    fields.insert("quantization_config".to_owned(), quantization);
    Ok(serde_json::to_vec_pretty(fields).map_err(|error| refused(error.to_string()))?)
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Gptq(_) => "gptq",
        }
    }
}

/// The files with the weights, and the tensors that an index expects in each.
fn weight_files(from: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let index = from.join(INDEX);
    if !index.exists() {
        return Ok(BTreeMap::from([(WEIGHTS.to_owned(), BTreeSet::new())]));
    }
    let text = fs::read(&index).map_err(io(&index))?;
    let refused =
        |reason: &str| TensorError::File { path: index.clone(), reason: reason.to_owned() };
    let parsed: Value =
        serde_json::from_slice(&text).map_err(|error| refused(&error.to_string()))?;
    let map = parsed.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| refused("has no `weight_map`"))?;
    let mut files = BTreeMap::<String, BTreeSet<String>>::new();
    for (tensor, file) in map {
        let file = file.as_str().filter(|name| Path::new(name).file_name() == Some(name.as_ref()));
        let file = file.ok_or_else(|| refused(&format!("names no file for tensor `{tensor}`")))?;
        files.entry(file.to_owned()).or_default().insert(tensor.clone());
    }
    Ok(files)
}

struct Work<'a> {
    from: &'a Path,
    to: &'a Path,
    config: &'a QuantizeConfig,
    hessian: &'a mut dyn FnMut(&str) -> Result<Option<Hessian>>,
    done: Quantized,
}

impl Work<'_> {
    fn all(
        &mut self,
        files: &BTreeMap<String, BTreeSet<String>>,
        config: &[u8],
    ) -> Result<Quantized> {
        for (name, expected) in files {
            self.file(name, expected)?;
        }
        self.beside()?;
        if files.len() > 1 || !files.contains_key(WEIGHTS) {
            self.index(files)?;
        }
        // Last: without it the folder is no checkpoint.
        write_atomic(&self.to.join(CONFIG), config)?;
        Ok(self.done)
    }

    fn file(&mut self, name: &str, expected: &BTreeSet<String>) -> Result<()> {
        let source = SafetensorsFile::open(&self.from.join(name))?;
        for tensor in expected {
            source.shape(tensor)?;
        }
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
                .map_err(|error| refused(&source, tensor, error.to_string()))?;
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
            match packed.get(name) {
                Some(packed) => self.pack(&source, name, packed.format),
                None => Ok(source.tensor(name)?),
            }
        })?;
        Ok(())
    }

    /// The format that a tensor is to have; none for one that stays as it is.
    fn format_of(&self, name: &str, kind: Kind, shape: &[i64]) -> Option<WeightFormat> {
        let float = matches!(kind, Kind::Float | Kind::BFloat16 | Kind::Half);
        let module = name.strip_suffix(".weight").filter(|_| float && shape.len() == 2)?;
        let last = module.rsplit('.').next().unwrap_or(module);
        match last {
            "embed_tokens" | "lm_head" => self.config.tables,
            _ => module.contains("layers.").then_some(self.config.blocks),
        }
    }

    fn pack(
        &mut self,
        source: &SafetensorsFile,
        name: &str,
        format: WeightFormat,
    ) -> Result<Tensor> {
        let weight = source.tensor(name)?;
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let in_block = module.contains("layers.");
        let packed = match self.config.method {
            Method::Gptq(options) if in_block => match (self.hessian)(module)? {
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
        for entry in fs::read_dir(self.from).map_err(io(self.from))? {
            let path = entry.map_err(io(self.from))?.path();
            let Some(name) = path.file_name() else { continue };
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            let known = KINDS.contains(&extension.as_str()) || name == "LICENSE";
            if path.is_file() && known && name != CONFIG && name != INDEX {
                fs::copy(&path, self.to.join(name)).map_err(io(&path))?;
            }
        }
        Ok(())
    }

    fn index(&self, files: &BTreeMap<String, BTreeSet<String>>) -> Result<()> {
        let map: BTreeMap<&String, &String> = files
            .iter()
            .flat_map(|(file, tensors)| tensors.iter().map(move |tensor| (tensor, file)))
            .collect();
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

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path: PathBuf = path.to_owned();
    move |source| Error::Io { path, source }
}
