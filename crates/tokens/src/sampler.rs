//! Which row comes when: every epoch in another order, without keeping any order.

use crate::error::{Result, ensure};
use crate::permutation::Permutation;

/// The endless shuffled stream of rows that all ranks of a run read together.
///
/// Global position `p` belongs to rank `p mod world` and shows row `permutation(p mod n_rows)` of
/// epoch `p div n_rows`. The state is the position alone: a run that stopped at one goes on from it
/// exactly, with any number of ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    n_rows: u64,
    seed: u64,
    rank: u64,
    world: u64,
}

impl Sampler {
    /// The share of `rank` among `world` ranks in the stream of `n_rows` rows shuffled by `seed`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `n_rows` or `world` is 0, `n_rows` is above 2⁶²,
    /// or `rank` is not below `world`.
    pub fn new(n_rows: u64, seed: u64, rank: u64, world: u64) -> Result<Self> {
        ensure((1..=1 << 62).contains(&n_rows), "n_rows", "from 1 to 2^62", n_rows)?;
        ensure(world > 0, "world", "positive", world)?;
        ensure(rank < world, "rank", format!("below {world}"), rank)?;
        Ok(Self { n_rows, seed, rank, world })
    }

    /// Epoch and row at a global position.
    #[must_use]
    pub fn index(&self, global_position: u64) -> (u64, u64) {
        let (epoch, within) = (global_position / self.n_rows, global_position % self.n_rows);
        (epoch, Permutation::new(self.n_rows, self.seed, epoch).at(within))
    }

    /// The global positions from `start` on that are this rank's, in ascending order, without end.
    pub fn positions(&self, start: u64) -> impl Iterator<Item = u64> + use<> {
        let ahead = (self.rank + self.world - start % self.world) % self.world;
        let world = self.world;
        std::iter::successors(start.checked_add(ahead), move |p| p.checked_add(world))
    }

    /// Rows of an epoch.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }
}

#[cfg(test)]
mod tests;
