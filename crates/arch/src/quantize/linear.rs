//! A linear map with packed weights.

use forerun_tensors::kernels::{PackedMatrix, packed_linear};
use forerun_tensors::{Error, Result, custom_function};
use tch::{Kind, Tensor};

/// `x · weightᵀ + bias` with packed weights, on the CPU.
#[derive(Debug)]
pub struct PackedLinear {
    /// `[out, in]`.
    pub matrix: PackedMatrix,
    /// f32 `[out]`.
    pub bias: Option<Tensor>,
}

impl PackedLinear {
    /// `x` is `[rows, in]` of any floating-point kind; the result is `[rows, out]` of the same kind. A gradient of `x` goes
    /// through the weights as numbers, as if `x` had not been rounded.
    ///
    /// # Errors
    /// [`Error::Config`] if `x` has other channels, or is not on the CPU.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut outs = Self::forward_together(&[self], x)?;
        Ok(outs.swap_remove(0))
    }

    /// As [`Self::forward`] for several maps of one input, which is rounded once.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_together(own: &[&Self], x: &Tensor) -> Result<Vec<Tensor>> {
        let kind = x.f_kind()?;
        let direct = matches!(kind, Kind::Float | Kind::BFloat16);
        let x = x.f_to_kind(if direct { kind } else { Kind::Float })?.f_contiguous()?;
        let matrices: Vec<&PackedMatrix> = own.iter().map(|own| &own.matrix).collect();
        let products = match x.requires_grad() {
            true => {
                matrices.iter().map(|matrix| with_gradient(matrix, &x)).collect::<Result<_>>()?
            }
            false => packed_linear(&x, &matrices)?,
        };
        let finish = |(own, product): (&&Self, Tensor)| match &own.bias {
            Some(bias) => {
                Ok(product.f_add(&bias.f_to_kind(product.f_kind()?)?)?.f_to_kind(kind)?)
            }
            None => Ok(product.f_to_kind(kind)?),
        };
        own.iter().zip(products).map(finish).collect()
    }

    /// The same without the packed kernel: the weights as numbers, in the kind of `x` (f32 or bf16), in libtorch's product. It differs by the
    /// rounding of the activations.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn reference(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let bias = self.bias.as_ref().map(|bias| bias.f_to_kind(kind)).transpose()?;
        Ok(x.f_linear(&self.matrix.dequantize(kind)?, bias.as_ref())?)
    }

    /// A handle to the same weights.
    #[must_use]
    pub fn share(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Self { matrix: self.matrix.share(), bias }
    }
}

/// The product as a function of `x`, for a graph.
fn with_gradient(matrix: &PackedMatrix, x: &Tensor) -> Result<Tensor> {
    let product = packed_linear(&x.f_detach()?, &[matrix])?;
    let matrix = matrix.share();
    let mut outs = custom_function(&[x], product, move |gradients| {
        let Some(gradient) = gradients.first() else { return Ok(vec![None]) };
        let weight = matrix.dequantize(gradient.f_kind()?)?;
        Ok(vec![Some(gradient.f_matmul(&weight)?)])
    })?;
    let missing = || Error::Foreign("a product is missing".to_owned());
    outs.pop().ok_or_else(missing)
}
