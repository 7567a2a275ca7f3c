//! The bottom of a decoder: token embeddings, absolute positions, a norm, dropout.

use forerun_tensors::Result;
use tch::Tensor;

use crate::absolute::Absolute;
use crate::norm::Norm;
use crate::stack::look_up;

/// Turns token ids into the residual stream.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// `[vocab, d_model]`; of a stack `[members, vocab, d_model]`.
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
        let mut x = look_up(&self.tokens, tokens)?;
        if let Some(scale) = self.scale {
            x = x.f_mul_scalar(scale)?;
        }
        if let Some(positions) = &self.positions {
            x = add_positions(&x, &positions.rows(offset..offset + tokens.size2()?.1)?)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        dropout(x, self.dropout, train)
    }
}

/// `x` is `[batch, seq, d_model]`; `rows` `[seq, d_model]`, or `[members, seq, d_model]` where each member of a
/// stack has a table of its own.
fn add_positions(x: &Tensor, rows: &Tensor) -> Result<Tensor> {
    let &[members, seq, d_model] = rows.size().as_slice() else { return Ok(x.f_add(rows)?) };
    let texts = x.f_view([members, -1, seq, d_model])?;
    Ok(texts.f_add(&rows.f_unsqueeze(1)?)?.f_view(x.size().as_slice())?)
}

/// Dropout that costs nothing where it does nothing.
pub(crate) fn dropout(x: Tensor, p: f64, train: bool) -> Result<Tensor> {
    if train && p > 0.0 { Ok(x.f_dropout(p, true)?) } else { Ok(x) }
}
