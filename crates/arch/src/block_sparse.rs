//! Phi-3-small's attention over blocks: near blocks, and of the far ones every so many, other ones for each head.

use std::ops::Range;

use forerun_tensors::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// Which blocks of keys a block of queries sees.
///
/// Block Q of queries sees block K of keys if `K <= Q` and either `Q - K < n_local_blocks` or `vertical_stride` divides `K + head + 1`, heads
/// counted from 0; inside of blocks attention is causal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSparse {
    /// Tokens of a block; 64 in Phi-3-small.
    pub block_size: i64,
    /// Blocks that are near, the query's own included; 16 in Phi-3-small.
    pub n_local_blocks: i64,
    /// Of the far blocks one of so many is seen; 8 in Phi-3-small.
    pub vertical_stride: i64,
}

impl BlockSparse {
    /// Checks the sizes.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] names the one that is not positive.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in [
            ("block_size", self.block_size),
            ("n_local_blocks", self.n_local_blocks),
            ("vertical_stride", self.vertical_stride),
        ] {
            ensure(value > 0, field, "positive", value)?;
        }
        Ok(())
    }

    /// Which blocks see which: bool `[heads, blocks, blocks]`, queries in rows.
    ///
    /// # Errors
    /// As [`Self::validate`].
    pub fn blocks(&self, n_heads: i64, n_blocks: i64, device: Device) -> Result<Tensor> {
        self.validate()?;
        let block = Tensor::f_arange(n_blocks, (Kind::Int64, device))?;
        self.seen(n_heads, &block, &block)
    }

    /// Which keys queries see, by absolute position: bool `[heads, queries, keys]`.
    ///
    /// # Errors
    /// As [`Self::validate`].
    pub fn allowed(
        &self,
        n_heads: i64,
        queries: Range<i64>,
        keys: Range<i64>,
        device: Device,
    ) -> Result<Tensor> {
        self.validate()?;
        let positions = |range: Range<i64>| {
            Tensor::f_arange_start(range.start, range.end, (Kind::Int64, device))
        };
        let (queries, keys) = (positions(queries)?, positions(keys)?);
        let block = |positions: &Tensor| positions.f_floor_divide_scalar(self.block_size);
        let seen = self.seen(n_heads, &block(&queries)?, &block(&keys)?)?;
        let causal = keys.f_unsqueeze(0)?.f_le_tensor(&queries.f_unsqueeze(1)?)?;
        Ok(seen.f_logical_and(&causal)?)
    }

    /// For the blocks of queries and of keys, each i64 `[n]`: bool `[heads, queries, keys]`.
    fn seen(&self, n_heads: i64, queries: &Tensor, keys: &Tensor) -> Result<Tensor> {
        let (q, k) = (queries.f_unsqueeze(1)?, keys.f_unsqueeze(0)?);
        let head =
            Tensor::f_arange(n_heads, (Kind::Int64, keys.device()))?.f_view([n_heads, 1, 1])?;
        let near = q.f_sub(&k)?.f_lt(self.n_local_blocks)?; // [queries, keys]
        let nth = k.f_add(&head)?.f_add_scalar(1)?.f_remainder(self.vertical_stride)?;
        let far = nth.f_eq(0)?; // [heads, 1, keys]
        Ok(near.f_logical_or(&far)?.f_logical_and(&k.f_le_tensor(&q)?)?)
    }
}

#[cfg(test)]
mod tests;
