//! Writing a model in the layout of Hugging Face.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use forerun_tensors::{ensure, save, write_atomic};
use serde_json::{Map, Value, json};
use tch::Kind;

use super::{CONFIG, GENERATION, WEIGHTS, refused};
use crate::error::{Error, Result};
use crate::lm::{CausalLm, LmConfig, LmFamily, RopeScaling};

impl CausalLm {
    /// Writes `config.json`, `generation_config.json` and `model.safetensors` to `folder`, which is made if it is not there; each file appears
    /// whole or not at all. Names and layout are those of the family, so that transformers opens it. Returns the SHA-256 of the weights file.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be made; [`Error::Tensors`] if a file cannot be written, or names the projection that is not
    /// held as a matrix.
    pub fn save(&self, folder: &Path) -> Result<String> {
        let divided = matches!(self.config().rope.scaling, RopeScaling::Divided { .. });
        let want = "one that a config.json can say";
        ensure(!divided, "rope.scaling", want, "divisors from a GGUF file")?;
        let mut tensors = self.named_tensors()?;
        for (_, tensor) in &mut tensors {
            // All of one format, as in the file that they came from; f32 holds every bf16 and f16.
            *tensor = tensor.f_to_kind(self.kind())?;
        }
        fs::create_dir_all(folder)
            .map_err(|source| Error::Io { path: folder.to_owned(), source })?;
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let hash = save(&folder.join(WEIGHTS), &tensors, &metadata)?;
        write_json(&folder.join(GENERATION), &generation(self.config()))?;
        write_json(&folder.join(CONFIG), &config(self.config(), self.kind()))?;
        Ok(hash)
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text =
        serde_json::to_vec_pretty(value).map_err(|error| refused(path, error.to_string()))?;
    Ok(write_atomic(path, &text)?)
}

fn generation(config: &LmConfig) -> Value {
    let mut fields = Map::new();
    tokens(config, &mut fields);
    Value::Object(fields)
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

fn config(config: &LmConfig, kind: Kind) -> Value {
    let (model_type, architecture) = match config.family {
        LmFamily::Llama => ("llama", "LlamaForCausalLM"),
        LmFamily::Phi3 => ("phi3", "Phi3ForCausalLM"),
        LmFamily::Phi3Small => ("phi3small", "Phi3SmallForCausalLM"),
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
    set("rope_scaling", scaling(&config.rope.scaling));
    if config.rope.rotary_dim != config.head_dim {
        let part = config.rope.rotary_dim as f64 / config.head_dim as f64;
        set("partial_rotary_factor", json!(part));
    }
    match config.family {
        LmFamily::Llama => {
            set("head_dim", json!(config.head_dim));
            set("attention_bias", json!(config.attention_bias));
            set("mlp_bias", json!(config.mlp_bias));
        }
        LmFamily::Phi3 | LmFamily::Phi3Small => {
            set("sliding_window", json!(config.sliding_window));
        }
    }
    if let RopeScaling::LongRope { original_max_seq_len, .. } = config.rope.scaling {
        set("original_max_position_embeddings", json!(original_max_seq_len));
    }
    tokens(config, &mut fields);
    Value::Object(fields)
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        _ => "float32",
    }
}

fn scaling(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::None | RopeScaling::Divided { .. } => Value::Null,
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
        RopeScaling::LongRope { short_factors, long_factors, scales: [short, long], .. } => {
            let mut fields = json!({
                "type": "longrope",
                "short_factor": short_factors,
                "long_factor": long_factors,
            });
            if short == long {
                fields["attention_factor"] = json!(short);
            } else {
                fields["short_mscale"] = json!(short);
                fields["long_mscale"] = json!(long);
            }
            fields
        }
    }
}
