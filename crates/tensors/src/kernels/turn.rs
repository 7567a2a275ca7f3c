//! The rotation of queries and keys.

use tch::Tensor;

/// Which channels of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// 2i and 2i + 1.
    Interleaved,
    /// i and i + `head_dim`/2.
    HalfSplit,
}

/// A rotation of the channel pairs (a, b) of each head: `(a cos - b sin, b cos + a sin)`; the tables may hold a
/// factor, as those of xPos do.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// Which channels are a pair.
    pub pairs: Pairs,
    /// f32 `[seq, head_dim / 2]`, each row contiguous.
    pub cos: &'a Tensor,
    /// As `cos`.
    pub sin: &'a Tensor,
}
