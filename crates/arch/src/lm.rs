//! Pretrained causal language models of the Llama and Phi-3 families: pre-norm, rotary positions, gated MLP.
//!
//! Unlike a [`crate::Decoder`], whose options are those of papers about training, a [`CausalLm`] takes its shape and its weights from a
//! checkpoint, holds them in f32, bf16 or f16 as they lie in the mapped file, and is arranged for generating text. Norms,
//! softmax, rotation and the residual stream are computed in f32 whatever the weights are.

mod adapters;
mod attention;
mod block;
mod build;
mod cache;
mod calibration;
mod config;
mod forward;
mod generate;
mod mlp;
mod norm;
mod packing;
mod pass;
mod projection;
mod rope;
mod score;
mod table;

use tch::{Device, Kind, Tensor};

use block::LmBlock;
use norm::LmNorm;

pub use cache::LmCache;
pub use calibration::Calibration;
pub use config::{LmConfig, LmFamily, LmRope, Phi3Small, RopeScaling};
pub use projection::{Map, Projection};
pub use table::Table;

pub(crate) use attention::{Context, LmAttention, Pattern, Sight, Work};
pub(crate) use build::Source;
pub(crate) use mlp::gegelu_of;
pub(crate) use pass::Pass;
pub(crate) use projection::Joined;
pub(crate) use rope::RopeTables;

/// A causal language model of the Llama or Phi-3 family, with its weights. The [crate](crate) shows how one is loaded and used.
#[derive(Debug)]
pub struct CausalLm {
    config: LmConfig,
    kind: Kind,
    device: Device,
    /// `[vocab, d_model]`, of `kind` if it is not packed.
    embedding: Table,
    blocks: Vec<LmBlock>,
    final_norm: LmNorm,
    head: Projection,
    rope: RopeTables,
    /// i64, the token ids whose logits are minus infinity.
    barred: Option<Tensor>,
}

impl CausalLm {
    /// What the model is made of.
    #[must_use]
    pub fn config(&self) -> &LmConfig {
        &self.config
    }

    /// The format of the weight matrices. Those of the norms are always f32.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where the model lives.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// The token embeddings, `[vocab, d_model]`.
    #[must_use]
    pub fn embedding(&self) -> &Table {
        &self.embedding
    }

    /// The output projection, `[vocab, d_model]`: the embedding table itself if the two are tied.
    #[must_use]
    pub fn head(&self) -> &Projection {
        &self.head
    }

    /// What the logits are multiplied by: 1 but for Phi-3-small.
    #[must_use]
    pub fn logit_scale(&self) -> f64 {
        self.config.phi3_small().map_or(1.0, |small| 1.0 / small.mup_width_multiplier)
    }

    /// Every linear map of the blocks with its name in the checkpoint (`model.layers.0.self_attn.q_proj`, or
    /// `…qkv_proj` where the three lie in one matrix), to be looked at.
    pub fn projections(&self) -> impl Iterator<Item = &Projection> {
        self.blocks.iter().flat_map(LmBlock::projections)
    }

    /// As [`Self::projections`], to be exchanged for others of the same shape.
    pub fn projections_mut(&mut self) -> impl Iterator<Item = &mut Projection> {
        self.blocks.iter_mut().flat_map(LmBlock::projections_mut)
    }
}

#[cfg(test)]
mod tests;
