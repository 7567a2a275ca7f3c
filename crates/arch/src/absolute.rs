//! Absolute positions, added to the token embeddings: a learned table, or sines and cosines.

use std::ops::Range;

use forerun_tensors::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// Where the rows come from.
#[derive(Debug)]
pub(crate) enum Absolute {
    /// `table` is `[offset + max_seq_len, d_model]`; of a stack it has the members before that.
    Learned { table: Tensor, offset: i64 },
    /// Vaswani et al. 2017, section 3.5: sin in even channels, cos in odd ones.
    Sinusoidal { d_model: i64, device: Device },
}

impl Absolute {
    /// The rows of these positions, `[positions, d_model]`; from the tables of a stack `[members, positions, d_model]`.
    pub(crate) fn rows(&self, positions: Range<i64>) -> Result<Tensor> {
        match self {
            Self::Learned { table, offset } => {
                let size = table.size();
                let max_seq_len = size[size.len() - 2] - offset;
                ensure_fits(positions.end, max_seq_len)?;
                let rows = positions.end - positions.start;
                Ok(table.f_narrow(-2, offset + positions.start, rows)?)
            }
            Self::Sinusoidal { d_model, device } => sinusoidal(positions, *d_model, *device),
        }
    }
}

/// Checks that a learned table has a row for each of `seq_len` positions.
pub(crate) fn ensure_fits(seq_len: i64, max_seq_len: i64) -> Result<()> {
    let want = format!("at least the sequence of {seq_len} tokens");
    ensure(seq_len <= max_seq_len, "positions.max_seq_len", &want, max_seq_len)
}

fn sinusoidal(positions: Range<i64>, d_model: i64, device: Device) -> Result<Tensor> {
    let f64s = (Kind::Double, device);
    let position = Tensor::f_arange_start(positions.start, positions.end, f64s)?;
    let exponent = Tensor::f_arange(d_model / 2, f64s)?.f_mul_scalar(-2.0 / d_model as f64)?;
    let angle = position.f_outer(&exponent.f_mul_scalar(10_000_f64.ln())?.f_exp()?)?;
    let pairs = Tensor::f_stack(&[angle.f_sin()?, angle.f_cos()?], -1)?; // [positions, d_model / 2, 2]
    Ok(pairs.f_flatten(-2, -1)?.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests;
