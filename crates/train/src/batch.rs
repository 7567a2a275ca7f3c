//! Rows of token ids, split into what the model reads and what it predicts.

use forerun_tensors::IGNORED;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::Sequences;

/// Inputs and targets of some rows; of a stack, as many rows of each member, the first one's first.
#[derive(Debug)]
pub struct Batch {
    /// Token ids that the model reads, i64 `[members * batch, seq]`.
    pub inputs: Tensor,
    /// Token ids that it predicts, i64 `[members * batch, seq]`; [`IGNORED`] where nothing is predicted.
    pub targets: Tensor,
    /// Targets that are not [`IGNORED`], of each member.
    pub n_targets: Vec<i64>,
}

/// Where the members of a stack have their rows from.
pub enum StackData<'a> {
    /// All read the same rows in the same order, fetched once.
    Shared(&'a mut dyn Sequences),
    /// Each member has a source, in the order of the members: another order of the data, or other data.
    Own(Vec<&'a mut dyn Sequences>),
}

impl Batch {
    /// Fetches rows `first_row .. first_row + n` for a single model and moves them to `device`.
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
        let (inputs, targets, n_targets) = fetch(data, first_row, n, seq_len)?;
        let (inputs, targets) = (inputs.f_to_device(device)?, targets.f_to_device(device)?);
        Ok(Self { inputs, targets, n_targets: vec![n_targets] })
    }

    /// As [`Self::fetch`], for each of `members`, whose sources are as many unless they share one.
    pub(crate) fn fetch_stack(
        data: &mut StackData<'_>,
        members: i64,
        first_row: u64,
        n: usize,
        seq_len: i64,
        device: Device,
    ) -> Result<Self> {
        let own = match data {
            StackData::Shared(data) => {
                return Self::fetch(*data, first_row, n, seq_len, device)?.repeated(members);
            }
            StackData::Own(own) => own,
        };
        let parts = own.iter_mut().map(|data| fetch(*data, first_row, n, seq_len));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let joined = |of: fn(&(Tensor, Tensor, i64)) -> &Tensor| {
            Tensor::f_cat(&parts.iter().map(of).collect::<Vec<_>>(), 0)?.f_to_device(device)
        };
        let (inputs, targets) = (joined(|part| &part.0)?, joined(|part| &part.1)?);
        Ok(Self { inputs, targets, n_targets: parts.iter().map(|part| part.2).collect() })
    }

    /// The same rows for each of `members`.
    fn repeated(self, members: i64) -> Result<Self> {
        if members == 1 {
            return Ok(self);
        }
        Ok(Self {
            inputs: self.inputs.f_repeat([members, 1])?,
            targets: self.targets.f_repeat([members, 1])?,
            n_targets: self.n_targets.repeat(members as usize),
        })
    }

    /// Inputs and targets in pieces of `size` rows of each member, the last one perhaps smaller.
    ///
    /// # Errors
    /// [`Error::Tensors`] if libtorch refuses.
    pub fn pieces(&self, size: usize) -> Result<Vec<(Tensor, Tensor)>> {
        let members = self.n_targets.len().max(1) as i64;
        let split = |rows: &Tensor| -> Result<Vec<Tensor>> {
            let by_member = rows.f_unflatten(0, [members, -1])?; // [members, batch, seq]
            let pieces = by_member.f_split(size.max(1) as i64, 1)?;
            Ok(pieces.iter().map(|piece| piece.f_flatten(0, 1)).collect::<Result<_, _>>()?)
        };
        Ok(split(&self.inputs)?.into_iter().zip(split(&self.targets)?).collect())
    }
}

/// Inputs, targets and how many of these count, on the CPU.
fn fetch(
    data: &mut dyn Sequences,
    first_row: u64,
    n: usize,
    seq_len: i64,
) -> Result<(Tensor, Tensor, i64)> {
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
    Ok((inputs.f_contiguous()?, targets.f_contiguous()?, n_targets))
}
