//! From `config.json` to [`LmConfig`].

use std::path::Path;

use forerun_tensors::Error as TensorError;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields::{Fields, Ids, SmallFields, parse as parse_json};
use super::{Names, decoder, refused, rope};
use crate::block_sparse::BlockSparse;
use crate::config::DecoderConfig;
use crate::error::{Error, Result};
use crate::lm::{LmConfig, LmFamily, Phi3Small};

/// Which fields there are.
#[derive(Debug, Deserialize)]
struct Kind {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    /// Of a [`crate::DecoderConfig`].
    d_model: Option<i64>,
    quantization_config: Option<Quantization>,
}

#[derive(Debug, Deserialize)]
struct Quantization {
    quant_method: Option<String>,
}

/// [`LmFamily`] before what belongs to it has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    Phi3,
    Phi3Small,
}

/// The families: `model_type`, architecture.
const KNOWN: [(&str, &str, Family); 3] = [
    ("llama", "LlamaForCausalLM", Family::Llama),
    ("phi3", "Phi3ForCausalLM", Family::Phi3),
    ("phi3small", "Phi3SmallForCausalLM", Family::Phi3Small),
];

/// Where a `config.json` says how a checkpoint is quantised, and what it says of ours.
pub(crate) const QUANTIZATION: &str = "quantization_config";
pub(crate) const QUANT_METHOD: &str = "forerun";

/// What a `config.json` describes.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) config: LmConfig,
    pub(crate) names: Names,
}

/// The configuration in `text`.
pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Described> {
    let kind: Kind = parse_json(path, text)?;
    quantization(path, &kind)?;
    if kind.model_type.is_none() && kind.architectures.is_none() && kind.d_model.is_some() {
        let config = decoder::config_of(path, decoder_config(path, text)?)?;
        return Ok(Described { config: validated(path, config)?, names: Names::Decoder });
    }
    let family = family(path, &kind)?;
    let mut fields: Fields = parse_json(path, text)?;
    if family == Family::Phi3Small {
        fields.small = parse_json(path, text)?;
    }
    let config = config(path, family, &fields)?;
    Ok(Described { config: validated(path, config)?, names: Names::Published })
}

fn quantization(path: &Path, kind: &Kind) -> Result<()> {
    let Some(quantization) = &kind.quantization_config else { return Ok(()) };
    match quantization.quant_method.as_deref().unwrap_or("none") {
        QUANT_METHOD => Ok(()),
        other => {
            let want = format!("`{QUANTIZATION}.quant_method` must be `{QUANT_METHOD}`");
            Err(refused(path, format!("{want}, got `{other}`")))
        }
    }
}

/// What has been written for a decoder, which knows nothing of packed weights.
fn decoder_config(path: &Path, text: &[u8]) -> Result<DecoderConfig> {
    let mut fields: Map<String, Value> = parse_json(path, text)?;
    match fields.remove(QUANTIZATION) {
        None => parse_json(path, text),
        Some(_) => parse_json(path, Value::Object(fields).to_string().as_bytes()),
    }
}

fn family(path: &Path, kind: &Kind) -> Result<Family> {
    let known = || KNOWN.map(|(model_type, ..)| model_type).join(", ");
    let by_type = kind.model_type.as_deref().map(|given| {
        let found = KNOWN.iter().find(|(model_type, ..)| *model_type == given);
        found.ok_or_else(|| {
            refused(path, format!("`model_type`: `{given}` is not one of {}", known()))
        })
    });
    let first = kind.architectures.as_deref().and_then(<[String]>::first);
    let by_name = first.map(|given| {
        let found = KNOWN.iter().find(|(_, architecture, _)| architecture == given);
        found.ok_or_else(|| {
            let names = KNOWN.map(|(_, architecture, _)| architecture).join(", ");
            refused(path, format!("`architectures`: `{given}` is not one of {names}"))
        })
    });
    match (by_type.transpose()?, by_name.transpose()?) {
        (Some(a), Some(b)) if a.2 != b.2 => {
            Err(refused(path, format!("`architectures`: `{}` is no `{}`", b.1, a.0)))
        }
        (Some(found), _) | (None, Some(found)) => Ok(found.2),
        (None, None) => Err(refused(path, "`model_type` is missing")),
    }
}

fn config(path: &Path, family: Family, fields: &Fields) -> Result<LmConfig> {
    let head_dim = head_dim(path, fields)?;
    activation(path, family, fields)?;
    let (is_llama, is_small) = (family == Family::Llama, family == Family::Phi3Small);
    let d_ff = match family {
        Family::Phi3Small => fields.ff_intermediate_size.or(fields.intermediate_size),
        Family::Llama | Family::Phi3 => fields.intermediate_size,
    };
    let n_heads = fields.num_attention_heads;
    let norm_eps = match family {
        Family::Llama => fields.rms_norm_eps.unwrap_or(1e-6),
        Family::Phi3 => fields.rms_norm_eps.unwrap_or(1e-5),
        Family::Phi3Small => fields.layer_norm_epsilon.unwrap_or(1e-5),
    };
    let default_len = if is_llama { 2048 } else { 4096 };
    let first = |ids: &Option<Ids>| ids.as_ref().and_then(|ids| ids.list().first().copied());
    let given = |bias: Option<bool>| is_llama && bias.unwrap_or(false) || is_small;
    Ok(LmConfig {
        family: match family {
            Family::Llama => LmFamily::Llama,
            Family::Phi3 => LmFamily::Phi3,
            Family::Phi3Small => LmFamily::Phi3Small(small(path, &fields.small)?),
        },
        vocab_size: fields.vocab_size,
        d_model: fields.hidden_size,
        n_layers: fields.num_hidden_layers,
        n_heads,
        n_kv_heads: fields.num_key_value_heads.unwrap_or(n_heads),
        head_dim,
        d_ff: d_ff.ok_or_else(|| refused(path, "`intermediate_size` is missing"))?,
        norm_eps,
        rope: rope::rope(path, family, head_dim, fields)?,
        sliding_window: fields.sliding_window.filter(|_| family == Family::Phi3),
        max_seq_len: fields.max_position_embeddings.unwrap_or(default_len),
        tie_embeddings: fields.tie_word_embeddings.unwrap_or(is_small),
        attention_bias: given(fields.attention_bias),
        mlp_bias: given(fields.mlp_bias),
        bos_token: first(&fields.bos_token_id),
        eos_tokens: fields.eos_token_id.as_ref().map(Ids::list).unwrap_or_default(),
        pad_token: first(&fields.pad_token_id),
    })
}

/// What is given, or else the width of the stream divided among the heads.
fn head_dim(path: &Path, fields: &Fields) -> Result<i64> {
    let (d_model, n_heads) = (fields.hidden_size, fields.num_attention_heads);
    for (field, value) in [("hidden_size", d_model), ("num_attention_heads", n_heads)] {
        if value <= 0 {
            return Err(refused(path, format!("`{field}` must be positive, got {value}")));
        }
    }
    match fields.head_dim {
        Some(given) => Ok(given),
        None if d_model % n_heads == 0 => Ok(d_model / n_heads),
        None => {
            let want = format!("a multiple of `num_attention_heads` = {n_heads}");
            Err(refused(path, format!("`hidden_size` must be {want}, got {d_model}")))
        }
    }
}

fn activation(path: &Path, family: Family, fields: &Fields) -> Result<()> {
    let want = if family == Family::Phi3Small { "gegelu" } else { "silu" };
    match fields.hidden_act.as_deref() {
        Some(given) if given != want => {
            Err(refused(path, format!("`hidden_act` must be `{want}`, got `{given}`")))
        }
        _ => Ok(()),
    }
}

/// Defaults are those of the published configuration.
fn small(path: &Path, fields: &SmallFields) -> Result<Phi3Small> {
    for (field, given, only) in [
        ("mup_use_scaling", fields.mup_use_scaling, true),
        ("blocksparse_homo_head_pattern", fields.blocksparse_homo_head_pattern, false),
    ] {
        if given.is_some_and(|given| given != only) {
            return Err(refused(path, format!("`{field}` must be {only}, got {}", !only)));
        }
    }
    Ok(Phi3Small {
        mup_embedding_multiplier: fields.mup_embedding_multiplier.unwrap_or(10.0),
        mup_width_multiplier: fields.mup_width_multiplier.unwrap_or(8.0),
        mup_attn_multiplier: fields.mup_attn_multiplier.unwrap_or(1.0),
        gegelu_limit: Some(fields.gegelu_limit.unwrap_or(20.0)),
        block_sparse: BlockSparse {
            block_size: fields.blocksparse_block_size.unwrap_or(64),
            n_local_blocks: fields.blocksparse_num_local_blocks.unwrap_or(16),
            vertical_stride: fields.blocksparse_vert_stride.unwrap_or(8),
        },
        dense_attention_every_n_layers: fields.dense_attention_every_n_layers.unwrap_or(2),
        dummy_tokens: fields.dummy_token_indices.clone().unwrap_or_default(),
    })
}

fn validated(path: &Path, config: LmConfig) -> Result<LmConfig> {
    match config.validate() {
        Ok(()) => Ok(config),
        Err(TensorError::Config { field, want, got }) => {
            let field = name_in_file(&field);
            Err(refused(path, format!("`{field}` must be {want}, got {got}")))
        }
        Err(other) => Err(Error::Tensors(other)),
    }
}

/// What the file calls a field of [`LmConfig`].
fn name_in_file(field: &str) -> &str {
    match field {
        "d_model" => "hidden_size",
        "n_layers" => "num_hidden_layers",
        "n_heads" => "num_attention_heads",
        "n_kv_heads" => "num_key_value_heads",
        "d_ff" => "intermediate_size",
        "max_seq_len" => "max_position_embeddings",
        "norm_eps" => "rms_norm_eps",
        "block_size" => "blocksparse_block_size",
        "n_local_blocks" => "blocksparse_num_local_blocks",
        "vertical_stride" => "blocksparse_vert_stride",
        "dummy_tokens" => "dummy_token_indices",
        "rope.theta" => "rope_theta",
        "rope.rotary_dim" => "partial_rotary_factor",
        "rope.original_max_seq_len" => "original_max_position_embeddings",
        "rope.short_factors" => "short_factor",
        "rope.long_factors" => "long_factor",
        "rope.scales" => "attention_factor",
        other => other.strip_prefix("rope.").unwrap_or(other),
    }
}
