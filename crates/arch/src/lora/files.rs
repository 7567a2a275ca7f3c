//! Adapters in files, as PEFT lays them out: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use forerun_tensors::{Error as TensorError, SafetensorsFile, save, write_atomic};
use serde_json::{Map, Value, json};
use tch::Tensor;

use super::{Adapter, LoraConfig, Targets};
use crate::error::{Error, Result};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the name of a module.
const PREFIX: &str = "base_model.model.";

/// What [`load_adapters`] found.
#[derive(Debug)]
pub struct SavedAdapters {
    /// The hyperparameters; `targets` are the modules' last names.
    pub config: LoraConfig,
    /// The model that the adapters are for, as the file says, if it does.
    pub base_model: Option<String>,
    /// By the name of the linear map: `model.layers.0.self_attn.q_proj`.
    pub adapters: BTreeMap<String, Adapter>,
}

/// The name that a matrix has in PEFT's files, and as a trainable parameter here.
#[must_use]
pub fn parameter_name(module: &str, matrix: char) -> String {
    format!("{PREFIX}{module}.lora_{matrix}.weight")
}

/// Writes `adapters`, by the name of their linear map, to the folder, which is made if it is not there. `base_model` says
/// which model they are for: a name or a path.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be made, [`Error::Tensors`] if a file cannot be written.
pub fn save_adapters(
    folder: &Path,
    config: &LoraConfig,
    base_model: Option<&str>,
    adapters: &BTreeMap<String, &Adapter>,
) -> Result<()> {
    config.validate()?;
    fs::create_dir_all(folder).map_err(io(folder))?;
    let mut tensors = Vec::with_capacity(2 * adapters.len());
    for (module, adapter) in adapters {
        tensors.push((parameter_name(module, 'A'), adapter.a().shallow_clone()));
        tensors.push((parameter_name(module, 'B'), adapter.b().shallow_clone()));
    }
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    save(&folder.join(WEIGHTS), &tensors, &metadata)?;
    let path = folder.join(CONFIG);
    let fields = fields(config, base_model, adapters.keys().map(String::as_str));
    let text =
        serde_json::to_vec_pretty(&fields).map_err(|error| broken(&path, error.to_string()))?;
    Ok(write_atomic(&path, &text)?)
}

fn fields<'a>(
    config: &LoraConfig,
    base_model: Option<&str>,
    modules: impl Iterator<Item = &'a str>,
) -> Value {
    // PEFT adapts every module whose name ends in one of these: which they were, "all-linear" would not say.
    let mut targets: Vec<String> = match &config.targets {
        Targets::Named(names) => names.clone(),
        Targets::AllLinear => {
            modules.map(|name| name.rsplit('.').next().unwrap_or(name).to_owned()).collect()
        }
    };
    targets.sort();
    targets.dedup();
    // PEFT's own field is an integer, but any number is read.
    let whole = config.alpha.fract() == 0.0 && config.alpha.abs() < 1e9;
    let alpha = if whole { json!(config.alpha as i64) } else { json!(config.alpha) };
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": true,
        "r": config.rank,
        "lora_alpha": alpha,
        "lora_dropout": config.dropout,
        "target_modules": targets,
        "use_rslora": config.rank_stabilised,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
        "layers_to_transform": null,
        "layers_pattern": null,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_dora": false,
    })
}

/// Reads adapters that [`save_adapters`] or PEFT wrote.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read; [`forerun_tensors::Error::File`] if the config is not one of LoRA, or asks for something that
/// is not done here (DoRA, biases, ranks of single modules, …); [`forerun_tensors::Error::Tensor`] with the name of the first tensor that
/// is missing, unexpected or of another shape.
pub fn load_adapters(folder: &Path) -> Result<SavedAdapters> {
    let path = folder.join(CONFIG);
    let text = fs::read(&path).map_err(io(&path))?;
    let (mut config, base_model) = LoraConfig::read_peft(&path, &text)?;
    let file = SafetensorsFile::open(&folder.join(WEIGHTS))?;
    let adapters = adapters(&file, &config)?;
    if let Targets::AllLinear = config.targets {
        let last = |name: &String| name.rsplit('.').next().unwrap_or(name).to_owned();
        let mut names: Vec<String> = adapters.keys().map(last).collect();
        names.sort();
        names.dedup();
        config.targets = Targets::Named(names);
    }
    Ok(SavedAdapters { config, base_model, adapters })
}

impl LoraConfig {
    /// What an `adapter_config.json` says, and for which model.
    pub(crate) fn read_peft(path: &Path, text: &[u8]) -> Result<(Self, Option<String>)> {
        let fields: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| broken(path, error.to_string()))?;
        let config = parse(&fields).map_err(|reason| broken(path, reason))?;
        let base = fields.get("base_model_name_or_path").and_then(Value::as_str);
        Ok((config, base.map(str::to_owned)))
    }
}

/// Whether a field says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn parse(fields: &Map<String, Value>) -> Result<LoraConfig, String> {
    // What changes the result, and is not done here.
    const UNKNOWN: [&str; 13] = [
        "use_dora",
        "fan_in_fan_out",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "lora_bias",
        "use_qalora",
        "alora_invocation_tokens",
        "layer_replication",
        "trainable_token_indices",
        "target_parameters",
        "corda_config",
        "megatron_config",
    ];
    let get = |name: &str| fields.get(name).unwrap_or(&Value::Null);
    if get("peft_type").as_str() != Some("LORA") {
        return Err(format!("`peft_type` must be \"LORA\", got {}", get("peft_type")));
    }
    for name in UNKNOWN {
        if !is_empty(get(name)) {
            return Err(format!("`{name}` is not supported, got {}", get(name)));
        }
    }
    if !matches!(get("bias"), Value::Null) && get("bias").as_str() != Some("none") {
        return Err(format!("`bias` must be \"none\", got {}", get("bias")));
    }
    let number = |name: &str| {
        get(name).as_f64().ok_or_else(|| format!("`{name}` must be a number, got {}", get(name)))
    };
    let rank =
        get("r").as_i64().ok_or_else(|| format!("`r` must be a number, got {}", get("r")))?;
    let names = get("target_modules").as_array().into_iter().flatten();
    let names: Vec<String> = names.filter_map(Value::as_str).map(str::to_owned).collect();
    // A text is a pattern: which modules it means, the tensors say.
    let targets = if names.is_empty() { Targets::AllLinear } else { Targets::Named(names) };
    let config = LoraConfig {
        rank,
        alpha: number("lora_alpha")?,
        dropout: if is_empty(get("lora_dropout")) { 0.0 } else { number("lora_dropout")? },
        targets,
        rank_stabilised: get("use_rslora").as_bool().unwrap_or(false),
    };
    config.validate().map_err(|error| error.to_string())?;
    Ok(config)
}

fn adapters(file: &SafetensorsFile, config: &LoraConfig) -> Result<BTreeMap<String, Adapter>> {
    let mut found = BTreeMap::new();
    for name in file.names() {
        let refused = |reason: &str| {
            let (path, name) = (file.path().to_owned(), name.to_owned());
            TensorError::Tensor { path, name, reason: reason.to_owned() }
        };
        let module = name.strip_prefix(PREFIX);
        let of = |end: &str| module.and_then(|module| module.strip_suffix(end));
        let (a, b) = (of(".lora_A.weight"), of(".lora_B.weight"));
        let Some(module) = a.or(b) else {
            return Err(refused("is unexpected: no matrix of an adapter to a linear map").into());
        };
        // Both must be there; each is met once by its own name.
        let [a, b] = ['A', 'B'].map(|matrix| file.tensor(&parameter_name(module, matrix)));
        let (a, b): (Tensor, Tensor) = (a?, b?);
        if !found.contains_key(module) {
            let adapter = Adapter::from_tensors(config, a, b);
            let adapter = adapter.map_err(|error| refused(&format!("does not fit: {error}")))?;
            found.insert(module.to_owned(), adapter);
        }
    }
    Ok(found)
}

fn broken(path: &Path, reason: String) -> Error {
    TensorError::File { path: path.to_owned(), reason }.into()
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path: PathBuf = path.to_owned();
    move |source| Error::Io { path, source }
}
