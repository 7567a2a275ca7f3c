//! The parts of Phi-3-small that no other model has: GEGLU with a bound, and attention with its weights in groups.

use forerun_tensors::{Error as TensorError, Mask, Result, ensure};
use tch::{Kind, Tensor};

use crate::block_sparse::BlockSparse;
use crate::lm::{
    Context, Joined, Linear, LmAttention, LmRope, Pass, Pattern, Projection, RopeScaling,
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
        let qkv = ungrouped(query_key_value, self.n_heads, self.n_kv_heads, head_dim)?;
        let attention = LmAttention {
            qkv: joined_qkv("query_key_value", qkv, self.n_heads, self.n_kv_heads, head_dim)?,
            out: Projection::new("dense", dense.share())?,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
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

/// Rows of a matrix in groups, one a key head, brought into the order of all queries, all keys, all values.
pub(crate) fn ungrouped(
    linear: &Linear,
    n_heads: i64,
    n_kv_heads: i64,
    head_dim: i64,
) -> Result<Linear> {
    let rows = (n_heads + 2 * n_kv_heads) * head_dim;
    if linear.weight.size2()?.0 != rows {
        let want = format!("[{rows}, d_model]");
        return Err(TensorError::Shape { arg: "query_key_value", want, got: linear.weight.size() });
    }
    let group = n_heads / n_kv_heads;
    let ungroup = |x: &Tensor| -> Result<Tensor> {
        let by_group = x.f_unflatten(0, [n_kv_heads, group + 2, head_dim])?;
        let part = |from, n| by_group.f_narrow(1, from, n)?.f_flatten(0, 2);
        Ok(Tensor::f_cat(&[part(0, group)?, part(group, 1)?, part(group + 1, 1)?], 0)?)
    };
    let bias = linear.bias.as_ref().map(ungroup).transpose()?;
    Ok(Linear { weight: ungroup(&linear.weight)?, bias })
}

/// Queries, keys and values in one matrix.
pub(crate) fn joined_qkv(
    name: &str,
    linear: Linear,
    n_heads: i64,
    n_kv_heads: i64,
    head_dim: i64,
) -> Result<Joined> {
    let widths = vec![n_heads * head_dim, n_kv_heads * head_dim, n_kv_heads * head_dim];
    Ok(Joined { maps: vec![Projection::new(name, linear)?], widths })
}

/// Rows of a matrix of which even ones are the gate: gates first, then the linear part.
pub(crate) fn uninterleaved(linear: &Linear) -> Result<Linear> {
    let sort = |x: &Tensor| -> Result<Tensor> {
        let part = |from: i64| x.f_slice(0, from, None, 2);
        Ok(Tensor::f_cat(&[part(0)?, part(1)?], 0)?)
    };
    let bias = linear.bias.as_ref().map(sort).transpose()?;
    Ok(Linear { weight: sort(&linear.weight)?, bias })
}

impl Linear {
    /// The same tensors.
    #[must_use]
    pub fn share(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Self { weight: self.weight.shallow_clone(), bias }
    }

    /// Of a matrix and a bias of any floating-point kind.
    ///
    /// # Errors
    /// [`TensorError::Tch`] if the bias cannot be converted.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let bias = bias.map(|bias| bias.f_to_kind(Kind::Float)).transpose()?;
        Ok(Self { weight, bias })
    }
}

#[cfg(test)]
mod tests;
