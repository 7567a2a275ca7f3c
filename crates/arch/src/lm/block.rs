//! One pre-norm block.

use forerun_tensors::Result;
use tch::Tensor;

use super::attention::{Context, LmAttention};
use super::mlp::LmMlp;
use super::norm::LmNorm;
use super::projection::Projection;

/// A block of a model.
#[derive(Debug)]
pub(crate) struct LmBlock {
    pub(crate) attention_norm: LmNorm,
    pub(crate) attention: LmAttention,
    pub(crate) mlp_norm: LmNorm,
    pub(crate) mlp: LmMlp,
}

/// The residual stream between two blocks: f32 `[rows, d_model]`, with what the last block adds still apart, so that the sum and the norm that
/// follows are one pass.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) x: Tensor,
    pub(crate) change: Option<Tensor>,
}

impl LmBlock {
    pub(crate) fn forward(
        &self,
        layer: usize,
        stream: Stream,
        context: &mut Context<'_, '_>,
    ) -> Result<Stream> {
        let pass = context.pass;
        let (x, normed) = stream.normed(&self.attention_norm, context)?;
        let attended = self.attention.forward(layer, &normed, context)?;
        let (x, normed) = self.mlp_norm.add(&x, &attended, pass)?;
        Ok(Stream { x, change: Some(self.mlp.forward(&normed, pass)?) })
    }

    pub(crate) fn projections(&self) -> impl Iterator<Item = &Projection> {
        let attention = self.attention.qkv.maps.iter().chain([&self.attention.out]);
        attention.chain(self.mlp.gate_up.maps.iter()).chain([&self.mlp.down])
    }

    pub(crate) fn projections_mut(&mut self) -> impl Iterator<Item = &mut Projection> {
        let attention = self.attention.qkv.maps.iter_mut().chain([&mut self.attention.out]);
        attention.chain(self.mlp.gate_up.maps.iter_mut()).chain([&mut self.mlp.down])
    }
}

impl Stream {
    /// The sum, and its norm.
    pub(crate) fn normed(
        self,
        norm: &LmNorm,
        context: &Context<'_, '_>,
    ) -> Result<(Tensor, Tensor)> {
        match &self.change {
            Some(change) => norm.add(&self.x, change, context.pass),
            None => {
                let normed = norm.forward(&self.x, context.pass)?;
                Ok((self.x, normed))
            }
        }
    }

    /// The sum alone.
    pub(crate) fn sum(&self) -> Result<Tensor> {
        match &self.change {
            Some(change) => Ok(self.x.f_add(change)?),
            None => Ok(self.x.shallow_clone()),
        }
    }
}
