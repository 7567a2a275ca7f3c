//! Maximal update parametrisation for Adam: what is divided by which power of the width, so that the
//! best learning rate found at one width holds at another.
//!
//! Yang et al. 2022, *Tensor Programs V*, arXiv:2203.03466, Table 8. With r = `d_model / base_d_model`:
//! matrices inside blocks learn at 1/r of the rate; the head keeps the base width's initialisation and
//! its logits are divided by r; attention scores are q·k / `head_dim` rather than / √`head_dim`. At r = 1
//! only the last differs from the standard parametrisation. We assume that `d_ff` grows with `d_model`.

use crate::config::{DecoderConfig, Parametrisation};
use crate::layout::{Part, Spec};

/// `d_model / base_d_model`; 1 under the standard parametrisation.
pub(crate) fn width_ratio(config: &DecoderConfig) -> f64 {
    match config.parametrisation {
        Parametrisation::Standard => 1.0,
        Parametrisation::Mup { base_d_model } => config.d_model as f64 / base_d_model as f64,
    }
}

/// The width whose initialisation embeddings and head take.
pub(crate) fn init_d_model(config: &DecoderConfig) -> f64 {
    config.d_model as f64 / width_ratio(config)
}

/// What the learning rate of a parameter is multiplied by.
pub(crate) fn lr_multiplier(config: &DecoderConfig, spec: &Spec) -> f64 {
    let hidden = !spec.is_bias
        && matches!(
            spec.part,
            Part::QueryKey | Part::Value | Part::AttentionOut | Part::MlpIn | Part::MlpOut
        );
    if hidden { width_ratio(config).recip() } else { 1.0 }
}

/// What q·k is multiplied by.
pub(crate) fn attention_scale(config: &DecoderConfig) -> f64 {
    let head_dim = config.head_dim() as f64;
    match config.parametrisation {
        Parametrisation::Standard => head_dim.sqrt().recip(),
        Parametrisation::Mup { .. } => head_dim.recip(),
    }
}

/// What the logits are multiplied by.
pub(crate) fn logit_scale(config: &DecoderConfig) -> f64 {
    width_ratio(config).recip()
}

#[cfg(test)]
mod tests;
