//! Rows of token ids, split into what the model reads and what it predicts.

use forerun_tensors::IGNORED;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::Sequences;

/// Inputs and targets of some rows.
#[derive(Debug)]
pub struct Batch {
    /// Token ids that the model reads, i64 `[batch, seq]`.
    pub inputs: Tensor,
    /// Token ids that it predicts, i64 `[batch, seq]`; [`IGNORED`] where nothing is predicted.
    pub targets: Tensor,
    /// Targets that are not [`IGNORED`].
    pub n_targets: i64,
}

impl Batch {
    /// Fetches rows `first_row .. first_row + n` and moves them to `device`.
    ///
    /// # Errors
    /// [`Error::Caller`] if the source fails, [`Error::Rows`] if it gives something else than i64
    /// `[n, seq_len + 1]` or rows without a single target.
    pub fn fetch(
        data: &mut dyn Sequences,
        first_row: u64,
        n: usize,
        seq_len: i64,
        device: Device,
    ) -> Result<Self> {
        let refuse =
            |reason| Error::Rows { first_row, end_row: first_row.saturating_add(n as u64), reason };
        let rows = data.rows(first_row, n).map_err(Error::data)?; // [batch, seq + 1]
        let shape = rows.size();
        if shape != [n as i64, seq_len + 1] || rows.f_kind()? != Kind::Int64 {
            let kind = rows.f_kind()?;
            let want = [n as i64, seq_len + 1];
            return Err(refuse(format!("want Int64 {want:?}, got {kind:?} {shape:?}")));
        }
        let targets = rows.f_narrow(1, 1, seq_len)?;
        let n_targets = targets.f_ne(IGNORED)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        if n_targets == 0 {
            return Err(refuse("nothing to predict".to_owned()));
        }
        let inputs = rows.f_narrow(1, 0, seq_len)?;
        let inputs = inputs.f_masked_fill(&inputs.f_eq(IGNORED)?, 0)?;
        let inputs = inputs.f_contiguous()?.f_to_device(device)?;
        let targets = targets.f_contiguous()?.f_to_device(device)?;
        Ok(Self { inputs, targets, n_targets })
    }

    /// Inputs and targets in pieces of `size` rows, the last one perhaps smaller.
    ///
    /// # Errors
    /// [`Error::Tensors`] if libtorch refuses.
    pub fn pieces(&self, size: usize) -> Result<Vec<(Tensor, Tensor)>> {
        let size = size.max(1) as i64;
        let inputs = self.inputs.f_split(size, 0)?;
        let targets = self.targets.f_split(size, 0)?;
        Ok(inputs.into_iter().zip(targets).collect())
    }
}
