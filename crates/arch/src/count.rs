//! Parameters and floating-point operations of a config in closed form, without building it.

use std::num::Saturating;

use crate::config::{Activation, DecoderConfig, NormKind, NormPlacement, Positions};
use crate::layout::has_final_norm;

/// Sizes of a config that nobody has checked may be absurd; their counts stop at the largest `i64`.
type Count = Saturating<i64>;

/// Trainable numbers of a decoder of this config; `i64::MAX` if they are as many or more.
#[must_use]
pub fn n_params(config: &DecoderConfig) -> i64 {
    let tables = Saturating(if config.tie_embeddings { 1 } else { 2 });
    let positions = match config.positions {
        Positions::Learned { max_seq_len, offset } => Saturating(max_seq_len) + Saturating(offset),
        _ => Saturating(0),
    };
    let rows = tables * Saturating(config.vocab_size) + positions;
    (non_embedding(config) + rows * Saturating(config.d_model)).0
}

/// As [`n_params`], without token embeddings, learned positions and output projection.
#[must_use]
pub fn n_non_embedding_params(config: &DecoderConfig) -> i64 {
    non_embedding(config).0
}

/// Floating-point operations that a training step spends on one token of sequences of `seq_len` tokens,
/// forward and backward, under a causal mask: 6 for each weight of a matrix (the head's included, tied or
/// not), and 12 · `d_model` a layer for each visible key, of which there are (`seq_len` + 1)/2 on average.
///
/// PaLM's convention (arXiv:2204.02311, appendix B) counts `seq_len` keys instead. Norms,
/// activations and embedding look-ups are not counted, nor is recomputation.
#[must_use]
pub fn flops_per_token(config: &DecoderConfig, seq_len: i64) -> f64 {
    let n_layers = config.n_layers as f64;
    let [vocab_size, d_model] = [config.vocab_size, config.d_model].map(|size| size as f64);
    let weights = n_layers * block_matrices(config).0 as f64 + vocab_size * d_model;
    let keys = (seq_len as f64 + 1.0) / 2.0;
    6.0 * weights + 12.0 * n_layers * d_model * keys
}

fn non_embedding(config: &DecoderConfig) -> Count {
    let &DecoderConfig { d_model, d_ff, .. } = config;
    let sub = config.norm == NormPlacement::Sub;
    let inner_norms = if sub { norm(config, d_model) + norm(config, d_ff) } else { Saturating(0) };
    let block_norms = Saturating(2) * norm(config, d_model) + inner_norms;
    let block = block_matrices(config) + block_biases(config) + block_norms;
    let outer_norms = i64::from(has_final_norm(config.norm)) + i64::from(config.norm_embedding);
    Saturating(config.n_layers) * block + Saturating(outer_norms) * norm(config, d_model)
}

fn block_matrices(config: &DecoderConfig) -> Count {
    let [d_model, d_kv, d_ff] = [config.d_model, config.d_kv(), config.d_ff].map(Saturating);
    let mlp = Saturating(if config.activation == Activation::SwiGlu { 3 } else { 2 });
    Saturating(2) * d_model * (d_model + d_kv) + mlp * d_model * d_ff
}

fn block_biases(config: &DecoderConfig) -> Count {
    let [d_model, d_kv, d_ff] = [config.d_model, config.d_kv(), config.d_ff].map(Saturating);
    let wide = Saturating(if config.activation == Activation::SwiGlu { 2 } else { 1 });
    if config.bias {
        Saturating(3) * d_model + Saturating(2) * d_kv + wide * d_ff
    } else {
        Saturating(0)
    }
}

fn norm(config: &DecoderConfig, channels: i64) -> Count {
    match config.norm_kind {
        NormKind::LayerNorm => Saturating(2) * Saturating(channels),
        NormKind::RmsNorm => Saturating(channels),
    }
}

#[cfg(test)]
mod tests;
