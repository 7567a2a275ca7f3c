//! ALiBi: a penalty on the attention score that is linear in distance, with another slope in each head.
//!
//! Press et al. 2021, arXiv:2108.12409, section 3.

use std::ops::Range;

use forerun_tensors::Result;
use tch::{Device, Kind, Tensor};

/// The slope of each head: 2^(−8(h+1)/n) for a power of two n; for other head counts the authors' rule,
/// the slopes of the next lower power of two and then every other one of the next higher.
#[must_use]
pub fn alibi_slopes(n_heads: i64) -> Vec<f64> {
    let n_heads = n_heads.max(1);
    let geometric = |n: i64| (1..=n).map(move |h| (-8.0 * h as f64 / n as f64).exp2());
    let below = 1_i64 << n_heads.ilog2();
    let rest = geometric(2 * below).step_by(2).take((n_heads - below) as usize);
    geometric(below).chain(rest).collect()
}

/// The penalty −slope · |query − key|, f32 `[1, heads, queries, keys]`.
pub(crate) fn bias(
    slopes: &Tensor,
    queries: Range<i64>,
    keys: Range<i64>,
    device: Device,
) -> Result<Tensor> {
    let f64s = (Kind::Double, device);
    let query = Tensor::f_arange_start(queries.start, queries.end, f64s)?.f_unsqueeze(1)?;
    let key = Tensor::f_arange_start(keys.start, keys.end, f64s)?;
    let distance = query.f_sub(&key)?.f_abs()?.f_neg()?; // [queries, keys]
    let bias = slopes.f_view([1, -1, 1, 1])?.f_mul(&distance)?;
    Ok(bias.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests;
