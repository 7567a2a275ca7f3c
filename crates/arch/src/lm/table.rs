//! The embedding table of a model.

use forerun_tensors::Result;
use forerun_tensors::kernels::PackedMatrix;
use tch::{Kind, Tensor};

/// The embedding table, `[vocab, d_model]`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Table {
    /// Numbers.
    Plain(Tensor),
    /// 4 or 8 bits a number.
    Packed(PackedMatrix),
}

impl Table {
    /// The vectors of `tokens`, i64 `[n]`: f32 `[n, d_model]`.
    pub(crate) fn look_up(&self, tokens: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(table) => {
                let rows = Tensor::f_embedding(table, tokens, -1, false, false)?;
                Ok(rows.f_to_kind(Kind::Float)?)
            }
            Self::Packed(table) => table.look_up(tokens, Kind::Float),
        }
    }

    /// A handle to the same numbers.
    #[must_use]
    pub fn share(&self) -> Self {
        match self {
            Self::Plain(table) => Self::Plain(table.shallow_clone()),
            Self::Packed(table) => Self::Packed(table.share()),
        }
    }
}
