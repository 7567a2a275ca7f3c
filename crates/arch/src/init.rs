//! Initialisation: how each parameter is drawn from the generator handed in.
//!
//! | part | [`Init::Paper`] | [`Init::Torchscale`] | [`Init::Normal`] |
//! |---|---|---|---|
//! | query, key | Xavier normal | U(±1/√fan_in) | N(0, std) |
//! | value, attention output, MLP | Xavier normal · g | U(±1/√fan_in) · g | N(0, std), outputs /√(2 · layers) |
//! | their biases | 0 | U(±1/√fan_in), · g where the matrix is | 0 |
//! | embeddings, head | N(0, 1/√d_model) | N(0, 1/√d_model) | N(0, std) |
//!
//! g is γ = √ln(2 · layers) under Sub-LN (Magneto, Fig. 2), 1/(8 · layers)^¼ under DeepNorm, else 1.
//! The papers do not state how embeddings are drawn: there both columns follow TorchScale. Under muP
//! `d_model` means the base width for embeddings and head, and std shrinks by √r for matrices.

use forerun_tensors::Result;
use forerun_tensors::init::{normal, uniform, xavier_normal};
use rand::Rng;
use tch::{Device, Kind, Tensor};

use crate::config::{DecoderConfig, Init, NormPlacement};
use crate::gains::Gains;
use crate::layout::{Part, Spec};
use crate::mup;

/// Draws one parameter; f32 on `device`.
pub(crate) fn draw(
    config: &DecoderConfig,
    spec: &Spec,
    rng: &mut impl Rng,
    device: Device,
) -> Result<Tensor> {
    let shape = spec.shape.as_slice();
    match spec.part {
        Part::NormWeight => Ok(Tensor::f_ones(shape, (Kind::Float, device))?),
        Part::NormBias => Ok(Tensor::f_zeros(shape, (Kind::Float, device))?),
        Part::Embedding | Part::Positions | Part::Head => {
            normal(shape, table_std(config), rng, device)
        }
        _ if spec.is_bias => draw_bias(config, spec, rng, device),
        _ => match config.init {
            Init::Paper => xavier_normal(shape, gain(config, spec.part), rng, device),
            Init::Torchscale => {
                let bound = gain(config, spec.part) / (spec.fan_in as f64).sqrt();
                uniform(shape, bound, rng, device)
            }
            Init::Normal { std } => normal(shape, normal_std(config, spec.part, std), rng, device),
        },
    }
}

fn draw_bias(
    config: &DecoderConfig,
    spec: &Spec,
    rng: &mut impl Rng,
    device: Device,
) -> Result<Tensor> {
    if config.init == Init::Torchscale {
        let bound = gain(config, spec.part) / (spec.fan_in as f64).sqrt();
        return uniform(&spec.shape, bound, rng, device);
    }
    Ok(Tensor::f_zeros(spec.shape.as_slice(), (Kind::Float, device))?)
}

/// γ or 1/div for the parts that Magneto and DeepNorm scale.
fn gain(config: &DecoderConfig, part: Part) -> f64 {
    match (config.norm, part) {
        (_, Part::QueryKey) => 1.0,
        (NormPlacement::Sub, _) => Gains::single(config.n_layers).gamma,
        (NormPlacement::Deep, _) => Gains::single(config.n_layers).beta,
        (NormPlacement::Pre | NormPlacement::Post, _) => 1.0,
    }
}

fn table_std(config: &DecoderConfig) -> f64 {
    match config.init {
        Init::Normal { std } => std,
        Init::Paper | Init::Torchscale => mup::init_d_model(config).sqrt().recip(),
    }
}

fn normal_std(config: &DecoderConfig, part: Part, std: f64) -> f64 {
    let is_output = matches!(part, Part::AttentionOut | Part::MlpOut);
    let depth = if is_output { (2.0 * config.n_layers as f64).sqrt() } else { 1.0 };
    std / depth / mup::width_ratio(config).sqrt()
}

#[cfg(test)]
mod tests;
