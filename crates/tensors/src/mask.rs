//! Which keys a query may attend to, by absolute position.
//!
//! Blockwise causal attention is that of LeX (Sun et al. 2022, *A Length-Extrapolatable Transformer*,
//! arXiv:2212.10554, section 3.3), which the paper uses at inference only, with blocks of half the
//! training length.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Result, ensure};

/// An attention pattern. Every one is causal: no query sees a later key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mask {
    /// Every key up to the query itself.
    #[default]
    Causal,
    /// The query's own block up to itself, and the whole block before.
    BlockwiseCausal {
        /// Positions per block; positive. The paper takes half the training length.
        block_size: i64,
    },
    /// The last `window` keys, the query's own included.
    SlidingWindow {
        /// How many keys a query sees; positive.
        window: i64,
    },
}

impl Mask {
    /// Checks the sizes, for a config that holds a mask.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) names the size that is not positive.
    pub fn validate(self) -> Result<()> {
        match self {
            Self::Causal => Ok(()),
            Self::BlockwiseCausal { block_size } => {
                ensure(block_size > 0, "block_size", "positive", block_size)
            }
            Self::SlidingWindow { window } => ensure(window > 0, "window", "positive", window),
        }
    }

    /// The pattern as a tensor: bool `[queries, keys]`, true where attention is allowed. Both ranges are
    /// absolute positions, so a chunk of queries against a cache of keys is one call.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if a size is not positive or a range is negative or reversed.
    pub fn allowed(self, queries: Range<i64>, keys: Range<i64>, device: Device) -> Result<Tensor> {
        self.validate()?;
        let row = positions("queries", &queries, device)?.f_unsqueeze(1)?; // [queries, 1]
        let column = positions("keys", &keys, device)?.f_unsqueeze(0)?; // [1, keys]
        let causal = column.f_le_tensor(&row)?; // [queries, keys]
        // The lowest key that a query sees, worked out per row, is cheaper than a full table of blocks.
        let first = match self {
            Self::Causal => return Ok(causal),
            Self::BlockwiseCausal { block_size } => {
                row.f_floor_divide_scalar(block_size)?.f_sub_scalar(1)?.f_mul_scalar(block_size)?
            }
            Self::SlidingWindow { window } => row.f_sub_scalar(window)?.f_add_scalar(1)?,
        };
        Ok(causal.f_logical_and(&column.f_ge_tensor(&first)?)?)
    }

    /// The lowest key position that `query` sees: what a cache must still hold. A size below 1 counts as 1.
    pub fn first_key(self, query: i64) -> i64 {
        match self {
            Self::Causal => 0,
            Self::BlockwiseCausal { block_size } => {
                let block_size = block_size.max(1);
                ((query / block_size - 1).saturating_mul(block_size)).max(0)
            }
            Self::SlidingWindow { window } => {
                query.saturating_sub(window.max(1)).saturating_add(1).max(0)
            }
        }
    }

    /// Whether the query at one position sees the key at another: the definition, kept as the oracle of
    /// [`allowed`](Self::allowed). Positions are not negative; a size below 1 counts as 1.
    pub fn sees(self, query: i64, key: i64) -> bool {
        key <= query
            && match self {
                Self::Causal => true,
                Self::BlockwiseCausal { block_size } => {
                    query / block_size.max(1) - key / block_size.max(1) <= 1
                }
                Self::SlidingWindow { window } => query - key < window.max(1),
            }
    }
}

fn positions(field: &str, range: &Range<i64>, device: Device) -> Result<Tensor> {
    let &Range { start, end } = range;
    ensure(
        0 <= start && start <= end,
        field,
        "a rising range from 0 or above",
        format!("{range:?}"),
    )?;
    Ok(Tensor::f_arange_start(start, end, (Kind::Int64, device))?)
}

#[cfg(test)]
mod tests;
