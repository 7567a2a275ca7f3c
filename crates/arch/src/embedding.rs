//! The bottom of a decoder: token embeddings, absolute positions, a norm, dropout.

use forerun_tensors::Result;
use tch::Tensor;

use crate::absolute::Absolute;
use crate::norm::Norm;

/// Turns token ids into the residual stream.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// `[vocab, d_model]`.
    pub(crate) tokens: Tensor,
    /// Multiplies the token part only.
    pub(crate) scale: Option<f64>,
    pub(crate) positions: Option<Absolute>,
    pub(crate) norm: Option<Norm>,
    pub(crate) dropout: f64,
}

impl Embedding {
    /// `tokens` is `[batch, seq]`, its first column at position `offset`; the result
    /// `[batch, seq, d_model]`.
    pub(crate) fn forward(&self, tokens: &Tensor, offset: i64, train: bool) -> Result<Tensor> {
        let mut x = Tensor::f_embedding(&self.tokens, tokens, -1, false, false)?;
        if let Some(scale) = self.scale {
            x = x.f_mul_scalar(scale)?;
        }
        if let Some(positions) = &self.positions {
            x = x.f_add(&positions.rows(offset..offset + tokens.size2()?.1)?)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        dropout(x, self.dropout, train)
    }
}

/// Dropout that costs nothing where it does nothing.
pub(crate) fn dropout(x: Tensor, p: f64, train: bool) -> Result<Tensor> {
    if train && p > 0.0 { Ok(x.f_dropout(p, true)?) } else { Ok(x) }
}
