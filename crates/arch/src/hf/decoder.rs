//! Our own decoders that are shaped like a Llama: their configuration and the names of their tensors.

use std::path::Path;

use super::refused;
use crate::config::{
    Activation, DecoderConfig, NormKind, NormPlacement, Parametrisation, Positions,
};
use crate::error::Result;
use crate::lm::{LmConfig, LmFamily, LmRope, RopeScaling};

/// What a decoder of this configuration is as a Llama.
pub(super) fn config_of(path: &Path, config: DecoderConfig) -> Result<LmConfig> {
    config.validate().map_err(|error| refused(path, error.to_string()))?;
    let is_like = |holds: bool, field: &str, want: &str| {
        let reason = format!("the decoder is not shaped like a Llama: `{field}` must be {want}");
        if holds { Ok(()) } else { Err(refused(path, reason)) }
    };
    is_like(config.norm == NormPlacement::Pre, "norm", "pre")?;
    is_like(config.norm_kind == NormKind::RmsNorm, "norm_kind", "rms_norm")?;
    is_like(config.activation == Activation::SwiGlu, "activation", "swiglu")?;
    is_like(!config.scale_embedding, "scale_embedding", "false")?;
    is_like(!config.norm_embedding, "norm_embedding", "false")?;
    let standard = config.parametrisation == Parametrisation::Standard;
    is_like(standard, "parametrisation", "standard")?;
    let Positions::Rope { base } = config.positions else {
        is_like(false, "positions", "rope")?;
        return Err(refused(path, "`positions` must be rope"));
    };
    Ok(LmConfig {
        family: LmFamily::Llama,
        vocab_size: config.vocab_size,
        d_model: config.d_model,
        n_layers: config.n_layers,
        n_heads: config.n_heads,
        n_kv_heads: config.kv_heads(),
        head_dim: config.head_dim(),
        d_ff: config.d_ff,
        norm_eps: config.norm_eps,
        rope: LmRope { theta: base, rotary_dim: config.head_dim(), scaling: RopeScaling::None },
        sliding_window: None,
        // A decoder does not say how long its texts were; transformers' default.
        max_seq_len: 2048,
        tie_embeddings: config.tie_embeddings,
        attention_bias: config.bias,
        mlp_bias: config.bias,
        bos_token: None,
        eos_tokens: Vec::new(),
        pad_token: None,
    })
}

/// How names begin: those of a Llama, and those of a decoder.
const BEGINNINGS: [Pair; 4] = [
    ("model.embed_tokens.", "embed_tokens."),
    ("model.norm.", "layer_norm."),
    ("lm_head.", "output_projection."),
    ("model.layers.", "layers."),
];
/// What follows the number of a block.
const PARTS: [Pair; 6] = [
    (".o_proj.", ".out_proj."),
    (".input_layernorm.", ".self_attn_layer_norm."),
    (".post_attention_layernorm.", ".final_layer_norm."),
    (".mlp.gate_proj.", ".ffn.fc1."),
    (".mlp.up_proj.", ".ffn.gate."),
    (".mlp.down_proj.", ".ffn.fc2."),
];

type Pair = (&'static str, &'static str);

/// What a decoder calls the tensor of a Llama.
pub(super) fn own_name(name: &str) -> String {
    renamed(name, |pair| pair)
}

/// What a Llama calls the tensor of a decoder.
pub(super) fn published_name(name: &str) -> String {
    renamed(name, |(published, own)| (own, published))
}

fn renamed(name: &str, from_to: fn(Pair) -> Pair) -> String {
    let mut pairs = BEGINNINGS.map(from_to).into_iter();
    let begun = pairs.find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    let begun = begun.unwrap_or_else(|| name.to_owned());
    PARTS.map(from_to).iter().fold(begun, |name, (from, to)| name.replacen(from, to, 1))
}
