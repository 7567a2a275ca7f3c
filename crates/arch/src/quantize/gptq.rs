//! Rounding that later columns make up for.
//!
//! Frantar et al. 2022, *GPTQ: accurate post-training quantization for generative pre-trained transformers*,
//! arXiv:2210.17323, algorithm 1, with the order of columns by their activations from the authors' code. The
//! groups keep the columns that lie side by side in the matrix, also where these are rounded in another order: their grids are
//! then those of the weights as they were.

use forerun_tensors::kernels::{PackedMatrix, WeightFormat};
use forerun_tensors::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::grid::{Grid, group_of, range};
use super::{Hessian, checked};

/// Options of [`gptq`]; [`Default`] is the authors' code's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gptq {
    /// Added to the diagonal of the Hessian, in units of its mean.
    pub damping: f64,
    /// Whether columns with large inputs are rounded first, while most others are left to make up for it.
    pub by_activation: bool,
}

impl Default for Gptq {
    fn default() -> Self {
        Self { damping: 0.01, by_activation: true }
    }
}

/// Columns whose errors reach the later ones together.
const BLOCK: i64 = 128;

/// Packs `weight`, floating-point `[out, in]`, rounded so that its products with inputs like those that `hessian` has seen
/// change little. Beside them it takes up to three f64 matrices of the Hessian's size and some
/// five f32 matrices of the weights'.
///
/// # Errors
/// [`forerun_tensors::Error::Config`] if a weight is not finite, the group does not divide `in`, or the Hessian is of
/// another width, has seen nothing, or is not finite.
pub fn gptq(
    weight: &Tensor,
    hessian: &Hessian,
    format: WeightFormat,
    options: &Gptq,
) -> Result<PackedMatrix> {
    let weight = checked(weight, format)?;
    let columns = weight.size2()?.1;
    let damping = options.damping;
    ensure(damping > 0.0 && damping.is_finite(), "damping", "positive and finite", damping)?;
    ensure(
        hessian.channels() == columns,
        "hessian",
        &format!("{columns} wide"),
        hessian.channels(),
    )?;
    let mean = hessian.mean()?;
    let finite = bool::try_from(mean.f_isfinite()?.f_all()?)?;
    ensure(finite, "hessian", "finite", "infinity or nan")?;
    let order = order_of(&mean, options)?;
    let upper = inverse_root(mean, &order, damping)?;
    let grid = Grid::of(&weight, format)?;
    let rows = weight.f_transpose(0, 1)?.f_index_select(0, &order)?.f_contiguous()?; // [in, out]
    let columns = Vec::<i64>::try_from(&order)?;
    let codes = Rounding::new(&grid, columns)?.run(rows, &upper)?;
    let back = order.f_argsort(0, false)?;
    grid.pack(&codes.f_index_select(0, &back)?.f_transpose(0, 1)?)
}

/// The order in which columns are rounded.
fn order_of(mean: &Tensor, options: &Gptq) -> Result<Tensor> {
    let diagonal = mean.f_diagonal(0, 0, 1)?;
    Ok(match options.by_activation {
        true => diagonal.f_argsort_stable(true, 0, true)?,
        false => Tensor::f_arange(diagonal.size1()?, (Kind::Int64, Device::Cpu))?,
    })
}

/// The upper triangular U with `UᵀU` the inverse of the damped Hessian in this order: f32 `[in, in]`.
fn inverse_root(mean: Tensor, order: &Tensor, damping: f64) -> Result<Tensor> {
    let damp = mean.f_trace()?.f_div_scalar(mean.size2()?.0)?.f_mul_scalar(damping)?;
    // A channel that was always zero may be rounded anyhow; one that all are needs some damping.
    let damp = damp.f_clamp_min(f64::MIN_POSITIVE.sqrt())?;
    // Half a gigabyte each for the widest map of Phi-3-mini: none is kept longer than it is needed.
    let mut matrix = mean;
    matrix = matrix.f_index_select(0, order)?;
    matrix = matrix.f_index_select(1, order)?;
    let _ = matrix.f_diagonal(0, 0, 1)?.f_add_(&damp)?;
    matrix = matrix.f_linalg_cholesky(false)?;
    matrix = matrix.f_cholesky_inverse(false)?;
    matrix = matrix.f_linalg_cholesky(true)?;
    Ok(matrix.f_to_kind(Kind::Float)?)
}

/// Rounds column after column.
struct Rounding {
    /// The column of the matrix that is rounded i-th.
    order: Vec<usize>,
    group: usize,
    /// `[groups, out]`.
    scale: Vec<f32>,
    offset: Vec<f32>,
    low: f32,
    high: f32,
    out: usize,
}

impl Rounding {
    fn new(grid: &Grid, order: Vec<i64>) -> Result<Self> {
        let by_group = |x: &Tensor| -> Result<Vec<f32>> {
            Ok(Vec::try_from(x.f_transpose(0, 1)?.f_contiguous()?.f_flatten(0, -1)?)?)
        };
        let (low, high) = range(grid.format);
        let group = group_of(grid.format, order.len() as i64) as usize;
        let order = order.into_iter().map(|column| column as usize).collect();
        let (scale, offset) = (by_group(&grid.scale)?, by_group(&grid.offset)?);
        Ok(Self { order, group, scale, offset, low, high, out: grid.scale.size2()?.0 as usize })
    }

    /// `weights` has a row for each column, in order, `[in, out]`, and is spoilt; so has the result, whole numbers.
    fn run(&self, weights: Tensor, upper: &Tensor) -> Result<Tensor> {
        let n = self.order.len() as i64;
        let mut codes = Vec::with_capacity(weights.numel());
        for start in (0..n).step_by(BLOCK as usize) {
            let len = BLOCK.min(n - start);
            let corner = upper.f_narrow(0, start, len)?; // [len, in]
            let own = Vec::<f32>::try_from(
                corner.f_narrow(1, start, len)?.f_contiguous()?.f_flatten(0, -1)?,
            )?;
            let mut rows =
                Vec::<f32>::try_from(weights.f_narrow(0, start, len)?.f_flatten(0, -1)?)?;
            let errors = self.block(start as usize, &mut rows, &own, &mut codes);
            let rest = n - start - len;
            if rest > 0 {
                let errors = Tensor::f_from_slice(&errors)?.f_view([len, -1])?;
                let weight_of = corner.f_narrow(1, start + len, rest)?.f_transpose(0, 1)?;
                let change = weight_of.f_matmul(&errors)?; // [rest, out]
                let _ = weights.f_narrow(0, start + len, rest)?.f_sub_(&change)?;
            }
        }
        Ok(Tensor::f_from_slice(&codes)?.f_view(weights.size().as_slice())?)
    }

    /// Rounds the rows of a block, `[len, out]`, appends their codes, and returns the errors that the rows of later blocks are
    /// to make up for. `upper` is the block's corner of U, `[len, len]`.
    fn block(
        &self,
        start: usize,
        rows: &mut [f32],
        upper: &[f32],
        codes: &mut Vec<f32>,
    ) -> Vec<f32> {
        let len = rows.len() / self.out;
        let mut errors = vec![0.0; rows.len()];
        for i in 0..len {
            let (done, later) = rows.split_at_mut((i + 1) * self.out);
            let error = &mut errors[i * self.out..][..self.out];
            let weights = &done[i * self.out..];
            self.column(self.order[start + i], weights, upper[i * len + i], error, codes);
            for (j, later) in later.chunks_exact_mut(self.out).enumerate() {
                let factor = upper[i * len + i + 1 + j];
                for (weight, error) in later.iter_mut().zip(error.iter()) {
                    *weight -= factor * error;
                }
            }
        }
        errors
    }

    fn column(
        &self,
        column: usize,
        weights: &[f32],
        d: f32,
        error: &mut [f32],
        codes: &mut Vec<f32>,
    ) {
        let at = column / self.group * self.out;
        let (scale, offset) = (&self.scale[at..][..self.out], &self.offset[at..][..self.out]);
        for (i, &weight) in weights.iter().enumerate() {
            let step = if scale[i] == 0.0 { 1.0 } else { scale[i] };
            let code = ((weight - offset[i]) / step).round_ties_even().clamp(self.low, self.high);
            error[i] = (weight - (scale[i] * code + offset[i])) / d;
            codes.push(code);
        }
    }
}

#[cfg(test)]
mod tests;
