//! A linear layer: a matrix and an optional bias, of one model or of a stack.

use forerun_tensors::Result;
use tch::{Kind, Tensor};

use crate::stack::by_member;

/// `x · weightᵀ + bias`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`, f32, bf16 or f16; in a stack of decoders `[members, out, in]`.
    pub weight: Tensor,
    /// f32 `[out]`; in a stack `[members, out]`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// Of a matrix and a bias of any floating-point kind.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Tch`] if the bias cannot be converted.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let bias = bias.map(|bias| bias.f_to_kind(Kind::Float)).transpose()?;
        Ok(Self { weight, bias })
    }

    /// `x` is `[.., in]`; the result is `[.., out]`. In a stack the first size of `x` is a multiple of the
    /// members, whose rows follow one another.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        product(x, &self.weight, self.bias.as_ref())
    }

    /// As [`Self::forward`] for one matrix, computed in the format of the weights; the result has the format of `x`.
    pub(crate) fn forward_narrow(&self, x: &Tensor) -> Result<Tensor> {
        let (kind, own) = (x.kind(), self.weight.kind());
        let bias = self.bias.as_ref().map(|bias| bias.f_to_kind(own)).transpose()?;
        let product = x.f_to_kind(own)?.f_linear(&self.weight, bias.as_ref())?;
        Ok(product.f_to_kind(kind)?)
    }

    /// The same tensors.
    #[must_use]
    pub fn share(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Self { weight: self.weight.shallow_clone(), bias }
    }
}

/// `x · weightᵀ + bias` for `weight` as [`Linear`] has it.
pub(crate) fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let &[members, out, _] = weight.size().as_slice() else {
        return Ok(x.f_linear(weight, bias)?);
    };
    let rows = by_member(x, members)?; // [members, rows, in]
    let transposed = weight.f_transpose(1, 2)?;
    let result = match bias {
        Some(bias) => bias.f_unsqueeze(1)?.f_baddbmm(&rows, &transposed, 1, 1)?,
        None => rows.f_bmm(&transposed)?,
    };
    let mut shape = x.size();
    shape.pop();
    shape.push(out);
    Ok(result.f_view(shape.as_slice())?)
}

#[cfg(test)]
mod tests;
