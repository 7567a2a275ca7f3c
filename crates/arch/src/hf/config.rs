//! From `config.json` to [`LmConfig`].

use std::path::Path;

use forerun_tensors::Error as TensorError;
use serde::Deserialize;

use super::fields::{Fields, Ids, SmallFields, parse as parse_json};
use super::{decoder, refused, rope};
use crate::block_sparse::BlockSparse;
use crate::error::{Error, Result};
use crate::lm::{LmConfig, LmFamily, Phi3Small};

/// Which fields there are.
#[derive(Debug, Deserialize)]
struct Kind {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    /// Of a [`crate::DecoderConfig`].
    d_model: Option<i64>,
}

/// The families: `model_type`, architecture.
const KNOWN: [(&str, &str, LmFamily); 3] = [
    ("llama", "LlamaForCausalLM", LmFamily::Llama),
    ("phi3", "Phi3ForCausalLM", LmFamily::Phi3),
    ("phi3small", "Phi3SmallForCausalLM", LmFamily::Phi3Small),
];

/// The configuration in `text`, and whether it is one of our own decoders.
pub(super) fn parse(path: &Path, text: &[u8]) -> Result<(LmConfig, bool)> {
    let kind: Kind = parse_json(path, text)?;
    if kind.model_type.is_none() && kind.architectures.is_none() && kind.d_model.is_some() {
        let config = decoder::config_of(path, parse_json(path, text)?)?;
        return Ok((validated(path, config)?, true));
    }
    let family = family(path, &kind)?;
    let mut fields: Fields = parse_json(path, text)?;
    if family == LmFamily::Phi3Small {
        fields.small = parse_json(path, text)?;
    }
    let config = config(path, family, &fields)?;
    Ok((validated(path, config)?, false))
}

fn family(path: &Path, kind: &Kind) -> Result<LmFamily> {
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

fn config(path: &Path, family: LmFamily, fields: &Fields) -> Result<LmConfig> {
    sizes(path, fields)?;
    activation(path, family, fields)?;
    let small = match family {
        LmFamily::Phi3Small => Some(small(path, &fields.small)?),
        LmFamily::Llama | LmFamily::Phi3 => None,
    };
    let d_ff = match family {
        LmFamily::Phi3Small => fields.ff_intermediate_size.or(fields.intermediate_size),
        LmFamily::Llama | LmFamily::Phi3 => fields.intermediate_size,
    };
    let n_heads = fields.num_attention_heads;
    let norm_eps = match family {
        LmFamily::Llama => fields.rms_norm_eps.unwrap_or(1e-6),
        LmFamily::Phi3 => fields.rms_norm_eps.unwrap_or(1e-5),
        LmFamily::Phi3Small => fields.layer_norm_epsilon.unwrap_or(1e-5),
    };
    let is_llama = family == LmFamily::Llama;
    let default_len = if is_llama { 2048 } else { 4096 };
    let first = |ids: &Option<Ids>| ids.as_ref().and_then(|ids| ids.list().first().copied());
    let given = |bias: Option<bool>| is_llama && bias.unwrap_or(false) || small.is_some();
    Ok(LmConfig {
        family,
        vocab_size: fields.vocab_size,
        d_model: fields.hidden_size,
        n_layers: fields.num_hidden_layers,
        n_heads,
        n_kv_heads: fields.num_key_value_heads.unwrap_or(n_heads),
        head_dim: fields.hidden_size / n_heads,
        d_ff: d_ff.ok_or_else(|| refused(path, "`intermediate_size` is missing"))?,
        norm_eps,
        rope: rope::rope(path, family, fields)?,
        sliding_window: fields.sliding_window.filter(|_| family == LmFamily::Phi3),
        max_seq_len: fields.max_position_embeddings.unwrap_or(default_len),
        tie_embeddings: fields.tie_word_embeddings.unwrap_or(small.is_some()),
        attention_bias: given(fields.attention_bias),
        mlp_bias: given(fields.mlp_bias),
        bos_token: first(&fields.bos_token_id),
        eos_tokens: fields.eos_token_id.as_ref().map(Ids::list).unwrap_or_default(),
        pad_token: first(&fields.pad_token_id),
        phi3_small: small,
    })
}

/// What must hold before anything is divided.
fn sizes(path: &Path, fields: &Fields) -> Result<()> {
    let (d_model, n_heads) = (fields.hidden_size, fields.num_attention_heads);
    for (field, value) in [("hidden_size", d_model), ("num_attention_heads", n_heads)] {
        if value <= 0 {
            return Err(refused(path, format!("`{field}` must be positive, got {value}")));
        }
    }
    if d_model % n_heads != 0 {
        let want = format!("a multiple of `num_attention_heads` = {n_heads}");
        return Err(refused(path, format!("`hidden_size` must be {want}, got {d_model}")));
    }
    let head_dim = d_model / n_heads;
    match fields.head_dim {
        Some(given) if given != head_dim => {
            let want = format!("`hidden_size` / `num_attention_heads` = {head_dim}");
            Err(refused(path, format!("`head_dim` must be {want}, got {given}")))
        }
        _ => Ok(()),
    }
}

fn activation(path: &Path, family: LmFamily, fields: &Fields) -> Result<()> {
    let want = if family == LmFamily::Phi3Small { "gegelu" } else { "silu" };
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
    let block_sparse = BlockSparse {
        block_size: fields.blocksparse_block_size.unwrap_or(64),
        n_local_blocks: fields.blocksparse_num_local_blocks.unwrap_or(16),
        vertical_stride: fields.blocksparse_vert_stride.unwrap_or(8),
    };
    let every = fields.dense_attention_every_n_layers.unwrap_or(2);
    for (field, value) in [
        ("blocksparse_block_size", block_sparse.block_size),
        ("blocksparse_num_local_blocks", block_sparse.n_local_blocks),
        ("blocksparse_vert_stride", block_sparse.vertical_stride),
        ("dense_attention_every_n_layers", every),
    ] {
        if value <= 0 {
            return Err(refused(path, format!("`{field}` must be positive, got {value}")));
        }
    }
    let multiplier = |field: &str, given: Option<f64>, default: f64| match given.unwrap_or(default)
    {
        value if value > 0.0 && value.is_finite() => Ok(value),
        value => Err(refused(path, format!("`{field}` must be positive, got {value}"))),
    };
    Ok(Phi3Small {
        mup_embedding_multiplier: multiplier(
            "mup_embedding_multiplier",
            fields.mup_embedding_multiplier,
            10.0,
        )?,
        mup_width_multiplier: multiplier("mup_width_multiplier", fields.mup_width_multiplier, 8.0)?,
        mup_attn_multiplier: multiplier("mup_attn_multiplier", fields.mup_attn_multiplier, 1.0)?,
        gegelu_limit: Some(multiplier("gegelu_limit", fields.gegelu_limit, 20.0)?),
        block_sparse,
        dense_attention_every_n_layers: every,
        dummy_tokens: fields.dummy_token_indices.clone().unwrap_or_default(),
    })
}

fn validated(path: &Path, config: LmConfig) -> Result<LmConfig> {
    if let Some(small) = &config.phi3_small {
        let outside = small.dummy_tokens.iter().find(|id| !(0..config.vocab_size).contains(*id));
        if let Some(id) = outside {
            return Err(refused(path, format!("`dummy_token_indices`: {id} is no token id")));
        }
    }
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
        "rope.theta" => "rope_theta",
        "rope.rotary_dim" => "partial_rotary_factor",
        "rope.original_max_seq_len" => "original_max_position_embeddings",
        "rope.short_factors" => "short_factor",
        "rope.long_factors" => "long_factor",
        "rope.scales" => "attention_factor",
        other => other.strip_prefix("rope.").unwrap_or(other),
    }
}
