//! From the columns of a matrix to the rows of one head in f32, rotated, and back.

use super::tile::LANES;
use crate::kernels::Pairs;
use crate::kernels::element::Element;
use crate::kernels::machine::Machine;
use crate::kernels::math::fma;
use crate::kernels::rows::{Rows, RowsMut};

/// Sizes that the loops need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) seq: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
}

impl Geometry {
    /// Columns of queries, keys and values together.
    pub(super) fn width(self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }

    /// Columns of the result.
    pub(super) fn d_model(self) -> usize {
        self.n_heads * self.head_dim
    }

    pub(super) fn padded_seq(self) -> usize {
        self.seq.next_multiple_of(LANES)
    }

    pub(super) fn padded_dim(self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// First column of a query head, a key head, a value head.
    pub(super) fn columns(self, head: usize, kv_head: usize) -> [usize; 3] {
        let key = self.n_heads + kv_head;
        [head, key, key + self.n_kv_heads].map(|head| head * self.head_dim)
    }
}

/// Cosines and sines of each position's pairs, `[seq, head_dim / 2]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    pub(super) pairs: Pairs,
    pub(super) cos: Rows<'a, f32>,
    pub(super) sin: Rows<'a, f32>,
}

impl Table<'_> {
    /// Turns the row of position `at`; `sign` −1 is the transposed matrix, which gradients go through.
    #[inline(always)]
    fn turn<M: Machine>(&self, row: &mut [f32], at: usize, sign: f32) {
        let half = row.len() / 2;
        let (cos, sin) = (&self.cos.row(at)[..half], &self.sin.row(at)[..half]);
        match self.pairs {
            Pairs::HalfSplit => {
                let (a, b) = row.split_at_mut(half);
                for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                    let (x, y, sin) = (*a, *b, sign * sin);
                    *a = fma::<M>(x, cos, -(y * sin));
                    *b = fma::<M>(y, cos, x * sin);
                }
            }
            Pairs::Interleaved => {
                let (pairs, _) = row.as_chunks_mut::<2>();
                for (([a, b], &cos), &sin) in pairs.iter_mut().zip(cos).zip(sin) {
                    let (x, y, sin) = (*a, *b, sign * sin);
                    *a = fma::<M>(x, cos, -(y * sin));
                    *b = fma::<M>(y, cos, x * sin);
                }
            }
        }
    }
}

/// The sequence and the head of it that are read: from this row and this column on.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) row: usize,
    pub(super) column: usize,
}

/// Rows of a head: biased, turned, times `scale`. `to` has a row for each token, padded; the padding stays as it is.
#[inline(always)]
pub(super) fn load<M: Machine, T: Element>(
    geometry: Geometry,
    from: &Rows<'_, T>,
    at: At,
    bias: Option<&[f32]>,
    table: Option<Table<'_>>,
    scale: f32,
    to: &mut [f32],
) {
    let Geometry { seq, head_dim, .. } = geometry;
    let bias = bias.map(|bias| &bias[at.column..at.column + head_dim]);
    for (position, to) in to.chunks_exact_mut(geometry.padded_dim()).take(seq).enumerate() {
        let from = &from.row(at.row + position)[at.column..at.column + head_dim];
        let to = &mut to[..head_dim];
        for (from, to) in from.iter().zip(to.iter_mut()) {
            *to = from.get() * scale;
        }
        if let Some(bias) = bias {
            for (bias, to) in bias.iter().zip(to.iter_mut()) {
                *to = fma::<M>(*bias, scale, *to);
            }
        }
        if let Some(table) = table {
            table.turn::<M>(to, position, 1.0);
        }
    }
}

/// The way back of [`load`] for gradients, which are spoilt; `to` has the rows of one sequence.
#[inline(always)]
pub(super) fn store<M: Machine, T: Element>(
    geometry: Geometry,
    from: &mut [f32],
    table: Option<Table<'_>>,
    scale: f32,
    to: &mut RowsMut<'_, T>,
    column: usize,
) {
    let Geometry { seq, head_dim, .. } = geometry;
    for (position, from) in from.chunks_exact_mut(geometry.padded_dim()).take(seq).enumerate() {
        let from = &mut from[..head_dim];
        if let Some(table) = table {
            table.turn::<M>(from, position, -1.0);
        }
        let to = &mut to.row(position)[column..column + head_dim];
        for (from, to) in from.iter().zip(to) {
            *to = T::put(*from * scale);
        }
    }
}
