//! A linear layer: a matrix and an optional bias, of one model or of a stack.

use forerun_tensors::Result;
use tch::Tensor;

use crate::stack::by_member;

/// `x · weightᵀ + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`; of a stack `[members, out, in]`.
    pub(crate) weight: Tensor,
    /// `[out]`; of a stack `[members, out]`.
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `x` is `[.., in]`; the result is `[.., out]`. In a stack the first size of `x` is a multiple of the
    /// members, whose rows follow one another.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        product(x, &self.weight, self.bias.as_ref())
    }

    /// The same parameters, for a closure that must own what it captures.
    pub(crate) fn share(&self) -> Self {
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
