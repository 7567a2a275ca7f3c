//! The norms of a pretrained model, in f32.

use forerun_tensors::Result;
use forerun_tensors::kernels::{self, NormParams, NormType};
use tch::{Kind, Tensor};

use super::pass::Pass;

/// A norm over the channels of f32 rows.
#[derive(Debug)]
pub(crate) struct LmNorm {
    pub(crate) name: String,
    /// f32 `[channels]`.
    pub(crate) weight: Tensor,
    /// As `weight`; a norm with one is a LayerNorm, one without an RMSNorm.
    pub(crate) bias: Option<Tensor>,
    pub(crate) eps: f64,
}

impl LmNorm {
    /// Of `x`, f32 `[rows, channels]`, in the format that the pass multiplies in.
    pub(crate) fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        if pass.fast {
            return Ok(kernels::norm(x, &self.params(), pass.kind)?.0);
        }
        let normed = match &self.bias {
            Some(bias) => {
                let channels = self.weight.size();
                x.f_layer_norm(channels, Some(&self.weight), Some(bias), self.eps, true)?
            }
            None => {
                // Written out in the order of transformers, so that f32 rounds alike.
                let square = x.f_square()?.f_mean_dim([-1_i64].as_slice(), true, Kind::Float)?;
                x.f_mul(&square.f_add_scalar(self.eps)?.f_rsqrt()?)?.f_mul(&self.weight)?
            }
        };
        Ok(normed.f_to_kind(pass.kind)?)
    }

    /// `x + change`, and the norm of that.
    pub(crate) fn add(&self, x: &Tensor, change: &Tensor, pass: Pass) -> Result<(Tensor, Tensor)> {
        if pass.fast && change.kind() != Kind::Half {
            let (sum, y, _) = kernels::add_norm(x, change, 1.0, &self.params(), pass.kind)?;
            return Ok((sum, y));
        }
        let sum = x.f_add(change)?;
        let y = self.forward(&sum, pass)?;
        Ok((sum, y))
    }

    fn params(&self) -> NormParams<'_> {
        let kind = if self.bias.is_some() { NormType::Layer } else { NormType::Rms };
        NormParams { kind, weight: &self.weight, bias: self.bias.as_ref(), eps: self.eps }
    }
}
