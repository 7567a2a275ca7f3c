//! The numbers that have a code.

use forerun_tensors::Result;
use forerun_tensors::kernels::{PackedMatrix, WeightFormat};
use tch::{Kind, Tensor};

/// A weight is `scale * code + offset`; both f32 `[out, groups]`, with groups rounded to f16.
#[derive(Debug)]
pub(super) struct Grid {
    pub(super) format: WeightFormat,
    pub(super) scale: Tensor,
    pub(super) offset: Tensor,
}

/// The codes of a format.
pub(super) fn range(format: WeightFormat) -> (f32, f32) {
    match format {
        WeightFormat::Int8 | WeightFormat::Int8Grouped => (-127.0, 127.0),
        WeightFormat::Int4 { .. } => (0.0, 15.0),
    }
}

/// Columns that share a scale.
pub(super) fn group_of(format: WeightFormat, columns: i64) -> i64 {
    match format {
        WeightFormat::Int8 => columns,
        WeightFormat::Int8Grouped => 32,
        WeightFormat::Int4 { group } => group,
    }
}

impl Grid {
    /// The grid that meets the smallest and the largest number of each group of `weight`, f32 `[out, in]`.
    pub(super) fn of(weight: &Tensor, format: WeightFormat) -> Result<Self> {
        let (out, columns) = weight.size2()?;
        let grouped = weight.f_view([out, -1, group_of(format, columns)])?;
        let last = [2i64].as_slice();
        let (scale, offset) = match format {
            WeightFormat::Int8 | WeightFormat::Int8Grouped => {
                let largest = grouped.f_abs()?.f_amax(last, false)?;
                let scale = largest.f_div_scalar(127.0)?;
                let grouped = format == WeightFormat::Int8Grouped;
                let scale = if grouped { narrow(&scale)? } else { scale };
                let offset = scale.f_zeros_like()?;
                (scale, offset)
            }
            WeightFormat::Int4 { .. } => {
                let (low, high) = (grouped.f_amin(last, false)?, grouped.f_amax(last, false)?);
                let scale = high.f_sub(&low)?.f_div_scalar(15.0)?;
                (narrow(&scale)?, narrow(&low)?)
            }
        };
        Ok(Self { format, scale, offset })
    }

    /// The nearest codes, f32 `[out, in]`.
    pub(super) fn codes(&self, weight: &Tensor) -> Result<Tensor> {
        let (out, groups) = self.scale.size2()?;
        let grouped = weight.f_view([out, groups, -1])?;
        let (low, high) = range(self.format);
        let step = self.scale.f_masked_fill(&self.scale.f_eq(0.0)?, 1.0)?;
        let from = grouped.f_sub(&self.offset.f_unsqueeze(2)?)?;
        let codes = from.f_div(&step.f_unsqueeze(2)?)?.f_round()?;
        Ok(codes.f_clamp(f64::from(low), f64::from(high))?.f_view(weight.size().as_slice())?)
    }

    /// Packs `codes`, whole numbers `[out, in]`.
    pub(super) fn pack(&self, codes: &Tensor) -> Result<PackedMatrix> {
        Ok(match self.format {
            WeightFormat::Int8 => {
                let codes = codes.f_to_kind(Kind::Int8)?.f_contiguous()?;
                PackedMatrix::int8(&codes, &self.scale.f_flatten(0, -1)?)?
            }
            WeightFormat::Int8Grouped => {
                let codes = codes.f_to_kind(Kind::Int8)?.f_contiguous()?;
                PackedMatrix::int8_grouped(&codes, &self.scale)?
            }
            WeightFormat::Int4 { group } => {
                let codes = codes.f_to_kind(Kind::Uint8)?.f_contiguous()?;
                PackedMatrix::int4(&codes, &self.scale, &self.offset, group)?
            }
        })
    }
}

/// Rounded to f16.
fn narrow(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_to_kind(Kind::Half)?.f_to_kind(Kind::Float)?)
}
