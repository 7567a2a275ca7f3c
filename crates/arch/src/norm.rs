//! LayerNorm and RMSNorm over the last dimension, computed in f32 whatever the input's kind.

use forerun_tensors::Result;
use tch::{Kind, Tensor};

use crate::config::NormKind;

/// A norm with its parameters.
#[derive(Debug)]
pub(crate) struct Norm {
    kind: NormKind,
    /// `[channels]`.
    weight: Tensor,
    /// `[channels]`; only a LayerNorm has one.
    bias: Option<Tensor>,
    eps: f64,
}

impl Norm {
    pub(crate) fn new(kind: NormKind, weight: Tensor, bias: Option<Tensor>, eps: f64) -> Self {
        Self { kind, weight, bias, eps }
    }

    /// `x` is `[.., channels]`; the result has its shape and kind.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let channels = self.weight.size();
        match self.kind {
            // libtorch's kernel takes a bf16 input with f32 parameters and accumulates in f32.
            NormKind::LayerNorm => Ok(x.f_layer_norm(
                channels,
                Some(&self.weight),
                self.bias.as_ref(),
                self.eps,
                true,
            )?),
            NormKind::RmsNorm => {
                let wide = x.f_to_kind(Kind::Float)?;
                let normed = wide.f_rms_norm(channels, Some(&self.weight), self.eps)?;
                Ok(normed.f_to_kind(x.kind())?)
            }
        }
    }

    /// The same parameters, for a closure that must own what it captures.
    pub(crate) fn share(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Self { kind: self.kind, weight: self.weight.shallow_clone(), bias, eps: self.eps }
    }
}

#[cfg(test)]
mod tests;
