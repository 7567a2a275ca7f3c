//! Attention in bf16 on processors that multiply pairs of bf16 into f32: twice the products of f32 an instruction.
//!
//! Arranged as in f32. Queries, keys, values, probabilities and gradients are rounded to bf16 after bias and rotation, as
//! they are op by op; scores, softmax and sums stay in f32. A sum over two numbers at a time wants them side by side: rows
//! as they are where the sum is over channels, two rows interleaved where it is over keys or queries.

mod backward;
mod forward;
mod pairs;

use super::heads::Geometry;
use super::tile::{LANES, Lanes, transpose};
use crate::kernels::element::Bf16;
use pairs::{Words, interleave_lanes, interleave_rows, round};

pub(super) use backward::backward;
pub(super) use forward::forward;

/// A head's keys, say, `[padded_seq, padded_dim]`.
struct Side {
    rows: Vec<Bf16>,
    /// Two rows interleaved: `[padded_seq / 2, padded_dim]`.
    pairs: Vec<u32>,
}

impl Side {
    fn new(geometry: Geometry) -> Self {
        let n = geometry.padded_seq() * geometry.padded_dim();
        Self { rows: vec![Bf16::default(); n], pairs: vec![0; n / 2] }
    }

    #[inline(always)]
    fn fill(&mut self, from: &[f32], geometry: Geometry) {
        round(from, &mut self.rows);
        interleave_rows(from, geometry.padded_dim(), &mut self.pairs);
    }
}

/// A block of rows as columns, pairs of channels in each lane: `[padded_dim / 2]`.
struct Columns {
    wide: Vec<Lanes>,
    pairs: Vec<Words>,
}

impl Columns {
    fn new(geometry: Geometry) -> Self {
        let dim = geometry.padded_dim();
        Self { wide: vec![[0.0; LANES]; dim], pairs: vec![[0; LANES]; dim / 2] }
    }

    /// Of the first `LANES` of `rows`.
    #[inline(always)]
    fn fill(&mut self, rows: &[f32], width: usize) {
        transpose(rows, width, &mut self.wide);
        interleave_lanes(&self.wide, &mut self.pairs);
    }
}
