//! Multi-head self-attention with its projections; grouped key and value heads; Magneto's inner norm.

use forerun_tensors::Result;
use tch::Tensor;

use crate::cache::Slot;
use crate::embedding::dropout;
use crate::linear::Linear;
use crate::norm::Norm;
use crate::plan::Plan;

/// The attention sub-layer of a block.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) q_proj: Linear,
    pub(crate) k_proj: Linear,
    pub(crate) v_proj: Linear,
    pub(crate) out_proj: Linear,
    /// Over all heads together, before the output projection.
    pub(crate) inner_norm: Option<Norm>,
    pub(crate) n_heads: i64,
    pub(crate) n_kv_heads: i64,
    /// What q·k is multiplied by.
    pub(crate) scale: f64,
    /// On the probabilities.
    pub(crate) attention_dropout: f64,
    /// On the output.
    pub(crate) dropout: f64,
}

impl Attention {
    /// `x` is `[batch, seq, d_model]`, and so is the result.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        plan: &Plan,
        train: bool,
        slot: Option<Slot<'_>>,
    ) -> Result<Tensor> {
        let (q, k) = self.queries_and_keys(x)?;
        let v = split_heads(&self.v_proj.forward(x)?, self.n_kv_heads)?;
        let (k, v) = match slot {
            Some(slot) => slot.extend(&k, &v)?,
            None => (k, v),
        };
        let p = if train { self.attention_dropout } else { 0.0 };
        let mixed = plan.attend(&q, &k, &v, self.scale, p)?; // [batch, heads, seq, head_dim]
        let mut joined = mixed.f_transpose(1, 2)?.f_flatten(-2, -1)?; // [batch, seq, d_model]
        if let Some(norm) = &self.inner_norm {
            joined = norm.forward(&joined)?;
        }
        dropout(self.out_proj.forward(&joined)?, self.dropout, train)
    }

    /// Before any rotation: `[batch, heads, seq, head_dim]` and `[batch, kv_heads, seq, head_dim]`.
    pub(crate) fn queries_and_keys(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let q = split_heads(&self.q_proj.forward(x)?, self.n_heads)?;
        Ok((q, split_heads(&self.k_proj.forward(x)?, self.n_kv_heads)?))
    }

    pub(crate) fn share(&self) -> Self {
        Self {
            q_proj: self.q_proj.share(),
            k_proj: self.k_proj.share(),
            v_proj: self.v_proj.share(),
            out_proj: self.out_proj.share(),
            inner_norm: self.inner_norm.as_ref().map(Norm::share),
            ..*self
        }
    }
}

/// `[batch, seq, heads * head_dim]` to `[batch, heads, seq, head_dim]`, a view.
fn split_heads(x: &Tensor, n_heads: i64) -> Result<Tensor> {
    Ok(x.f_unflatten(-1, [n_heads, -1])?.f_transpose(1, 2)?)
}
