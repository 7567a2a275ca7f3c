//! The parts of Phi-3-small that no other model has: GEGLU with a bound, and attention with its weights in groups.

use forerun_tensors::{Error as TensorError, Mask, Result, ensure};
use tch::Tensor;

use crate::block_sparse::BlockSparse;
use crate::linear::Linear;
use crate::lm::{
    Context, Joined, LmAttention, LmConfig, LmRope, Pass, Pattern, Projection, RopeScaling,
    RopeTables, Sight, Work, gegelu_of,
};

/// GEGLU of `x`, `[.., 2 * d_ff]`, in which even channels are the gate `a` and odd ones the linear part `b`:
/// `a · sigmoid(1.702 a) · (b + 1)`, with `a` at most `limit` and `b` within ±`limit`; what is infinite stays so.
///
/// # Errors
/// [`TensorError::Tch`] if the channels are not even in number.
pub fn gegelu(x: &Tensor, limit: Option<f64>) -> Result<Tensor> {
    let part = |from: i64| x.f_slice(-1, from, None, 2);
    gegelu_of(&part(0)?, &part(1)?, limit)
}

/// Shape of a Phi-3-small attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phi3SmallAttention {
    /// Query heads.
    pub n_heads: i64,
    /// Key and value heads, a divisor of `n_heads`.
    pub n_kv_heads: i64,
    /// Wavelength base θ; 1e6 in Phi-3-small.
    pub rope_theta: f64,
    /// Divided by the channels of a head, it multiplies the scores; 1 in Phi-3-small.
    pub mup_attn_multiplier: f64,
    /// Which keys a sparse layer sees; none for a dense layer.
    pub block_sparse: Option<BlockSparse>,
}

impl Phi3SmallAttention {
    /// The attention of one layer: `x` is `[batch, seq, d_model]`, and so is the result. `query_key_value` has for each key head its query
    /// heads, then the key head, then the value head.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if the weights do not fit.
    pub fn forward(&self, x: &Tensor, query_key_value: &Linear, dense: &Linear) -> Result<Tensor> {
        let (batch, seq, d_model) = x.size3()?;
        let &Self { n_heads, n_kv_heads, .. } = self;
        let divides = n_kv_heads > 0 && n_heads > 0 && n_heads % n_kv_heads == 0;
        ensure(divides, "n_kv_heads", &format!("a divisor of {n_heads}"), n_kv_heads)?;
        let head_dim = d_model / n_heads;
        let (d_q, d_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let qkv = Linear {
            weight: ungrouped(&query_key_value.weight, n_heads, n_kv_heads, head_dim)?,
            bias: query_key_value
                .bias
                .as_ref()
                .map(|bias| ungrouped(bias, n_heads, n_kv_heads, head_dim))
                .transpose()?,
        };
        let attention = LmAttention {
            qkv: Joined {
                maps: vec![Projection::new("query_key_value", qkv)?],
                widths: vec![d_q, d_kv, d_kv],
            },
            out: Projection::new("dense", dense.share())?,
            n_heads,
            n_kv_heads,
            head_dim,
            scale: self.mup_attn_multiplier / head_dim as f64,
            pattern: self.block_sparse.map_or(Pattern::Dense(Mask::Causal), Pattern::Sparse),
        };
        let (theta, scaling) = (self.rope_theta, RopeScaling::None);
        let tables = RopeTables::new(LmRope { theta, rotary_dim: head_dim, scaling }, x.device());
        let rotation = tables.rows(tables.range(seq), 0..seq)?;
        let sight = Sight::new(0..seq, 0..seq, x.device());
        let pass = Pass::differentiable(x.kind());
        let mut context = Context { pass, rotation, work: Work::Whole { batch, sight } };
        let y = attention.forward(0, &x.f_flatten(0, 1)?, &mut context)?;
        Ok(y.f_view([batch, seq, d_model])?)
    }
}

/// The rows of a matrix, or the entries of its bias, of the linear map `name` in the order in which a model holds them. The checkpoint's
/// is another one only for two maps of Phi-3-small.
pub(crate) fn in_model_order(config: &LmConfig, name: &str, rows: &Tensor) -> Result<Tensor> {
    match config.phi3_small() {
        Some(_) if name.ends_with(".query_key_value") => {
            ungrouped(rows, config.n_heads, config.n_kv_heads, config.head_dim)
        }
        Some(_) if name.ends_with(".mlp.up_proj") => uninterleaved(rows),
        _ => Ok(rows.shallow_clone()),
    }
}

/// Rows in groups, one a key head, brought into the order of all queries, all keys, all values.
fn ungrouped(rows: &Tensor, n_heads: i64, n_kv_heads: i64, head_dim: i64) -> Result<Tensor> {
    let n = (n_heads + 2 * n_kv_heads) * head_dim;
    if rows.size().first() != Some(&n) {
        let want = format!("[{n}, ..]");
        return Err(TensorError::Shape { arg: "query_key_value", want, got: rows.size() });
    }
    let group = n_heads / n_kv_heads;
    let by_group = rows.f_unflatten(0, [n_kv_heads, group + 2, head_dim])?;
    let part = |from, n| by_group.f_narrow(1, from, n)?.f_flatten(0, 2);
    Ok(Tensor::f_cat(&[part(0, group)?, part(group, 1)?, part(group + 1, 1)?], 0)?)
}

/// Rows of which even ones are the gate: gates first, then the linear part.
fn uninterleaved(rows: &Tensor) -> Result<Tensor> {
    let part = |from: i64| rows.f_slice(0, from, None, 2);
    Ok(Tensor::f_cat(&[part(0)?, part(1)?], 0)?)
}

#[cfg(test)]
mod tests;
