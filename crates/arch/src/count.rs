//! Parameters and floating-point operations of a config in closed form, without building it.

use crate::config::{Activation, DecoderConfig, NormKind, NormPlacement, Positions};
use crate::layout::has_final_norm;

/// Trainable numbers of a decoder of this config.
#[must_use]
pub fn n_params(config: &DecoderConfig) -> i64 {
    let &DecoderConfig { vocab_size, d_model, tie_embeddings, .. } = config;
    let tables = if tie_embeddings { 1 } else { 2 };
    let positions = match config.positions {
        Positions::Learned { max_seq_len, offset } => max_seq_len + offset,
        _ => 0,
    };
    n_non_embedding_params(config) + (tables * vocab_size + positions) * d_model
}

/// As [`n_params`], without token embeddings, learned positions and output projection.
#[must_use]
pub fn n_non_embedding_params(config: &DecoderConfig) -> i64 {
    let &DecoderConfig { d_model, n_layers, d_ff, .. } = config;
    let sub = config.norm == NormPlacement::Sub;
    let inner_norms = if sub { norm(config, d_model) + norm(config, d_ff) } else { 0 };
    let block =
        block_matrices(config) + block_biases(config) + 2 * norm(config, d_model) + inner_norms;
    let outer_norms = i64::from(has_final_norm(config.norm)) + i64::from(config.norm_embedding);
    n_layers * block + outer_norms * norm(config, d_model)
}

/// Floating-point operations that a training step spends on one token of sequences of `seq_len` tokens,
/// forward and backward, under a causal mask: 6 for each weight of a matrix (the head's included, tied or
/// not), and 12 · `d_model` a layer for each visible key, of which there are (`seq_len` + 1)/2 on average.
///
/// PaLM's convention (arXiv:2204.02311, appendix B) counts `seq_len` keys instead. Norms,
/// activations and embedding look-ups are not counted, nor is recomputation.
#[must_use]
pub fn flops_per_token(config: &DecoderConfig, seq_len: i64) -> f64 {
    let &DecoderConfig { vocab_size, d_model, n_layers, .. } = config;
    let weights = n_layers * block_matrices(config) + vocab_size * d_model;
    let keys = (seq_len + 1) as f64 / 2.0;
    6.0 * weights as f64 + 12.0 * (n_layers * d_model) as f64 * keys
}

fn block_matrices(config: &DecoderConfig) -> i64 {
    let &DecoderConfig { d_model, d_ff, .. } = config;
    let mlp = if config.activation == Activation::SwiGlu { 3 } else { 2 };
    2 * d_model * d_model + 2 * d_model * config.d_kv() + mlp * d_model * d_ff
}

fn block_biases(config: &DecoderConfig) -> i64 {
    let &DecoderConfig { d_model, d_ff, bias, .. } = config;
    let wide = if config.activation == Activation::SwiGlu { 2 } else { 1 };
    if bias { 3 * d_model + 2 * config.d_kv() + wide * d_ff } else { 0 }
}

fn norm(config: &DecoderConfig, channels: i64) -> i64 {
    match config.norm_kind {
        NormKind::LayerNorm => 2 * channels,
        NormKind::RmsNorm => channels,
    }
}

#[cfg(test)]
mod tests;
