//! The fields of `config.json` as they stand in the file.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::refused;
use crate::error::Result;

/// Fields of all families; those of one are optional.
#[derive(Debug, Deserialize)]
pub(super) struct Fields {
    pub(super) vocab_size: i64,
    pub(super) hidden_size: i64,
    pub(super) num_hidden_layers: i64,
    pub(super) num_attention_heads: i64,
    pub(super) num_key_value_heads: Option<i64>,
    pub(super) head_dim: Option<i64>,
    pub(super) intermediate_size: Option<i64>,
    pub(super) ff_intermediate_size: Option<i64>,
    pub(super) hidden_act: Option<String>,
    pub(super) rms_norm_eps: Option<f64>,
    pub(super) layer_norm_epsilon: Option<f64>,
    pub(super) max_position_embeddings: Option<i64>,
    pub(super) original_max_position_embeddings: Option<i64>,
    pub(super) sliding_window: Option<i64>,
    pub(super) tie_word_embeddings: Option<bool>,
    pub(super) attention_bias: Option<bool>,
    pub(super) mlp_bias: Option<bool>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_scaling: Option<RopeFields>,
    pub(super) rope_parameters: Option<RopeFields>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) bos_token_id: Option<Ids>,
    pub(super) eos_token_id: Option<Ids>,
    pub(super) pad_token_id: Option<Ids>,
    /// Read on their own, so that an error names the field.
    #[serde(skip)]
    pub(super) small: SmallFields,
}

/// Fields of Phi-3-small alone.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SmallFields {
    pub(super) rope_embedding_base: Option<f64>,
    pub(super) rope_position_scale: Option<f64>,
    pub(super) mup_use_scaling: Option<bool>,
    pub(super) mup_width_multiplier: Option<f64>,
    pub(super) mup_embedding_multiplier: Option<f64>,
    pub(super) mup_attn_multiplier: Option<f64>,
    pub(super) gegelu_limit: Option<f64>,
    pub(super) blocksparse_block_size: Option<i64>,
    pub(super) blocksparse_num_local_blocks: Option<i64>,
    pub(super) blocksparse_vert_stride: Option<i64>,
    pub(super) blocksparse_homo_head_pattern: Option<bool>,
    pub(super) dense_attention_every_n_layers: Option<i64>,
    pub(super) dummy_token_indices: Option<Vec<i64>>,
}

/// `rope_scaling` or `rope_parameters`. What is not here is refused rather than ignored: it would change the model.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RopeFields {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) rope_type: Option<String>,
    pub(super) rope_theta: Option<f64>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) factor: Option<f64>,
    pub(super) low_freq_factor: Option<f64>,
    pub(super) high_freq_factor: Option<f64>,
    pub(super) original_max_position_embeddings: Option<i64>,
    pub(super) short_factor: Option<Vec<f64>>,
    pub(super) long_factor: Option<Vec<f64>>,
    pub(super) short_mscale: Option<f64>,
    pub(super) long_mscale: Option<f64>,
    pub(super) attention_factor: Option<f64>,
}

/// One token id or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Ids {
    One(i64),
    Several(Vec<i64>),
}

impl Ids {
    pub(super) fn list(&self) -> Vec<i64> {
        match self {
            Self::One(id) => vec![*id],
            Self::Several(ids) => ids.clone(),
        }
    }
}

/// Parses JSON; an error names the file and the field.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (field, reason) = (error.path().to_string(), error.inner().to_string());
        let place = if field == "." { String::new() } else { format!("`{field}`: ") };
        refused(path, format!("{place}{reason}"))
    })?;
    json.end().map_err(|error| refused(path, error.to_string()))?;
    Ok(parsed)
}
