//! Writing a model in the layout of Hugging Face.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use forerun_tensors::{ensure, save, write_atomic};
use serde_json::{Map, Value, json};
use tch::Kind;

use super::{CONFIG, GENERATION, INDEX, WEIGHTS, parse, refused};
use crate::error::{Error, Result};
use crate::lm::{CausalLm, LmConfig, LmFamily, RopeScaling};

impl CausalLm {
    /// Writes `config.json` and `model.safetensors` to `folder`, which is made if it is not there, and, if it holds none,
    /// `generation_config.json` with the tokens that end a text; each file appears whole or not at all. Names and layout are those of the
    /// family, so that transformers opens it. Returns the SHA-256 of the weights file.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the folder holds a checkpoint in several files, or no `config.json` can describe the
    /// model; [`Error::Io`] if the folder cannot be made; [`Error::Tensors`] if a file cannot be written, or names the projection that is
    /// not held as a matrix, or has an adapter on top, which would be lost: adapters are merged first, or saved by
    /// [`crate::save_adapters`] and taken off.
    pub fn save(&self, folder: &Path) -> Result<String> {
        for map in self.projections() {
            let apart = map.adapter().is_some_and(|adapter| !adapter.is_merged());
            let field = format!("adapter of `{}`", map.name());
            ensure(!apart, &field, "merged or taken off", "one on top of the weights")?;
        }
        let mut tensors = self.named_tensors()?;
        for (_, tensor) in &mut tensors {
            // All of one format, as in the file that they came from; f32 holds every bf16 and f16.
            *tensor = tensor.f_to_kind(self.kind())?;
        }
        let index = folder.join(INDEX);
        if index.exists() {
            return Err(refused(
                &index,
                "is of another checkpoint, which would be mixed with this one",
            ));
        }
        let path = folder.join(CONFIG);
        let config = described(&path, self.config(), self.kind())?;
        fs::create_dir_all(folder)
            .map_err(|source| Error::Io { path: folder.to_owned(), source })?;
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let hash = save(&folder.join(WEIGHTS), &tensors, &metadata)?;
        let generation = folder.join(GENERATION);
        if !generation.exists() {
            let mut fields = Map::new();
            tokens(self.config(), &mut fields);
            write_atomic(&generation, &text_of(&generation, &fields)?)?;
        }
        write_atomic(&path, &config)?;
        Ok(hash)
    }
}

/// A `config.json` that is read as `config`.
fn described(path: &Path, config: &LmConfig, kind: Kind) -> Result<Vec<u8>> {
    let text = text_of(path, &fields(path, config, kind)?)?;
    match parse(path, &text)?.config == *config {
        true => Ok(text),
        false => Err(refused(path, "the family's files cannot hold all of the hyperparameters")),
    }
}

fn text_of(path: &Path, fields: &Map<String, Value>) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(fields).map_err(|error| refused(path, error.to_string()))
}

fn tokens(config: &LmConfig, fields: &mut Map<String, Value>) {
    let eos = match config.eos_tokens.as_slice() {
        [] => None,
        [one] => Some(json!(one)),
        several => Some(json!(several)),
    };
    for (name, value) in [
        ("bos_token_id", config.bos_token.map(|id| json!(id))),
        ("eos_token_id", eos),
        ("pad_token_id", config.pad_token.map(|id| json!(id))),
    ] {
        fields.insert(name.to_owned(), value.unwrap_or(Value::Null));
    }
}

fn fields(path: &Path, config: &LmConfig, kind: Kind) -> Result<Map<String, Value>> {
    let (model_type, architecture) = match config.family {
        LmFamily::Llama => ("llama", "LlamaForCausalLM"),
        LmFamily::Phi3 => ("phi3", "Phi3ForCausalLM"),
        LmFamily::Phi3Small(_) => return Err(refused(path, "a Phi-3-small is not written")),
    };
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("model_type", json!(model_type));
    set("architectures", json!([architecture]));
    set("vocab_size", json!(config.vocab_size));
    set("hidden_size", json!(config.d_model));
    set("num_hidden_layers", json!(config.n_layers));
    set("num_attention_heads", json!(config.n_heads));
    set("num_key_value_heads", json!(config.n_kv_heads));
    set("intermediate_size", json!(config.d_ff));
    set("hidden_act", json!("silu"));
    set("rms_norm_eps", json!(config.norm_eps));
    set("max_position_embeddings", json!(config.max_seq_len));
    set("tie_word_embeddings", json!(config.tie_embeddings));
    set("torch_dtype", json!(name_of(kind)));
    set("rope_theta", json!(config.rope.theta));
    set("rope_scaling", scaling(path, config)?);
    if config.rope.rotary_dim != config.head_dim {
        let part = config.rope.rotary_dim as f64 / config.head_dim as f64;
        set("partial_rotary_factor", json!(part));
    }
    if config.family == LmFamily::Llama {
        set("attention_bias", json!(config.attention_bias));
        set("mlp_bias", json!(config.mlp_bias));
    } else {
        set("sliding_window", json!(config.sliding_window));
    }
    // Phi-3 knows the field, but its files do not have it.
    if config.family == LmFamily::Llama || config.head_dim * config.n_heads != config.d_model {
        set("head_dim", json!(config.head_dim));
    }
    if let RopeScaling::LongRope { original_max_seq_len, .. } = config.rope.scaling {
        set("original_max_position_embeddings", json!(original_max_seq_len));
    }
    tokens(config, &mut fields);
    Ok(fields)
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        _ => "float32",
    }
}

fn scaling(path: &Path, config: &LmConfig) -> Result<Value> {
    Ok(match &config.rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Divided { .. } => {
            let reason = "`rope_scaling` cannot be the divisors of frequencies in a GGUF file";
            return Err(refused(path, reason));
        }
        RopeScaling::Linear { factor } => {
            json!({ "type": "linear", "rope_type": "linear", "factor": factor })
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_seq_len } => {
            json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_seq_len,
            })
        }
        RopeScaling::LongRope { short_factors, long_factors, original_max_seq_len, scales } => {
            let mut fields = json!({
                "type": "longrope",
                "short_factor": short_factors,
                "long_factor": long_factors,
            });
            let ([short, long], original) = (scales, *original_max_seq_len);
            let factor = config.max_seq_len as f64 / original as f64;
            // transformers 4 refuses a fourth field: one is written only where it says something.
            if short != long {
                fields["short_mscale"] = json!(short);
                fields["long_mscale"] = json!(long);
            } else if *short != RopeScaling::long_rope_scale(factor, original) {
                fields["attention_factor"] = json!(short);
            }
            fields
        }
    })
}
