//! LayerNorm and RMSNorm over the last dimension, computed in f32 whatever the input's kind.

use forerun_tensors::Result;
use tch::{Kind, Tensor};

use crate::config::NormKind;
use crate::stack::by_member;

/// A norm with its parameters, of one model or of a stack.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) kind: NormKind,
    /// `[channels]`; of a stack `[members, channels]`.
    pub(crate) weight: Tensor,
    /// As `weight`; only a LayerNorm has one.
    pub(crate) bias: Option<Tensor>,
    pub(crate) eps: f64,
}

impl Norm {
    pub(crate) fn new(kind: NormKind, weight: Tensor, bias: Option<Tensor>, eps: f64) -> Self {
        Self { kind, weight, bias, eps }
    }

    /// `x` is `[.., channels]`; the result has its shape and kind. In a stack the first size of `x` is a multiple
    /// of the members, whose rows follow one another.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let &[members, channels] = self.weight.size().as_slice() {
            return self.forward_stack(x, members, channels);
        }
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

    /// libtorch's kernels take one weight for all rows; here each member has its own.
    fn forward_stack(&self, x: &Tensor, members: i64, channels: i64) -> Result<Tensor> {
        let wide = x.f_to_kind(Kind::Float)?;
        let normed = match self.kind {
            NormKind::LayerNorm => {
                wide.f_layer_norm([channels], None::<&Tensor>, None::<&Tensor>, self.eps, true)?
            }
            NormKind::RmsNorm => wide.f_rms_norm([channels], None::<&Tensor>, self.eps)?,
        };
        let rows = by_member(&normed, members)?; // [members, rows, channels]
        let weight = self.weight.f_unsqueeze(1)?;
        let scaled = match &self.bias {
            Some(bias) => bias.f_unsqueeze(1)?.f_addcmul(&rows, &weight)?,
            None => rows.f_mul(&weight)?,
        };
        Ok(scaled.f_view(x.size().as_slice())?.f_to_kind(x.kind())?)
    }

    /// The same parameters, for a closure that must own what it captures.
    pub(crate) fn share(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Self { kind: self.kind, weight: self.weight.shallow_clone(), bias, eps: self.eps }
    }
}

#[cfg(test)]
mod tests;
