//! Weights rounded to 8 or 4 bits: to the nearest code, or so that the outputs change least.
//!
//! With [`WeightFormat::Int8`] a row has one scale; with [`WeightFormat::Int4`] each group of 32, 64 or 128 columns of a row has a scale and
//! an offset, chosen so that the smallest and the largest weight are met. [`round_to_nearest`] looks at nothing but
//! the weights. [`gptq`] knows the inputs ([`Hessian`]) and makes later columns take back what rounding did to earlier ones;
//! at 4 bits that is clearly better.
//!
//! [`quantize_folder`] does it to a checkpoint in a folder, a tensor at a time.

mod files;
mod folder;
mod gptq;
mod grid;
mod hessian;
mod linear;

use forerun_tensors::kernels::{PackedMatrix, WeightFormat};
use forerun_tensors::{Result, ensure};
use tch::{Kind, Tensor};

pub use files::{PackedTensor, packed_metadata, packed_tensors};
pub use folder::{Method, QuantizeConfig, Quantized, quantize_folder, quantize_folder_watched};
pub use gptq::{Gptq, gptq};
use grid::Grid;
pub use hessian::Hessian;
pub use linear::PackedLinear;

/// Packs `weight`, floating-point `[out, in]`, each number rounded to the nearest that has a code.
///
/// # Errors
/// [`forerun_tensors::Error::Config`] if a weight is not finite, or the group does not divide `in`.
pub fn round_to_nearest(weight: &Tensor, format: WeightFormat) -> Result<PackedMatrix> {
    let weight = checked(weight, format)?;
    let grid = Grid::of(&weight, format)?;
    grid.pack(&grid.codes(&weight)?)
}

/// `weight` as f32, if it can be rounded to `format`.
fn checked(weight: &Tensor, format: WeightFormat) -> Result<Tensor> {
    let (out, columns) = weight.size2()?;
    PackedMatrix::data_shape(format, out, columns)?;
    let weight = weight.f_detach()?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let finite = bool::try_from(weight.f_isfinite()?.f_all()?)?;
    ensure(finite, "weight", "finite", "infinity or nan")?;
    Ok(weight)
}

#[cfg(test)]
mod tests;
