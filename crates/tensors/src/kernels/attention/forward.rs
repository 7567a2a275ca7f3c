//! The mixture of values.

#[cfg(target_arch = "x86_64")]
use tch::Kind;

use super::heads::{At, Geometry, load};
use super::tile::{
    Four, LANES, Lanes, TILE, Tile, add_triangle, columns_by, four_times, fours, fours_mut,
    rows_by, transpose,
};
use super::{Call, position_penalty};
use crate::kernels::element::Element;
use crate::kernels::machine::{Job, Machine};
use crate::kernels::math::exp;
use crate::kernels::rows::{Rows, RowsMut};

/// One sequence: its number, and where its results go.
pub(super) struct Forward<'a, T> {
    pub(super) call: Call<'a>,
    pub(super) qkv: Rows<'a, T>,
    pub(super) sequence: usize,
    pub(super) out: RowsMut<'a, T>,
    /// The logarithms of the sums, a row for each head.
    pub(super) lse: RowsMut<'a, f32>,
}

struct Scratch {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// A block of queries as columns.
    q_columns: Vec<Lanes>,
    /// Probabilities, `[key][query]`.
    p: Vec<Lanes>,
}

impl<T: Element> Job for Forward<'_, T> {
    #[inline(always)]
    fn run<M: Machine>(self) {
        #[cfg(target_arch = "x86_64")]
        if let (Some(dot), Kind::BFloat16) = (M::dot_pairs(), T::KIND) {
            return super::narrow::forward::<M, T>(self, dot);
        }
        let Self { call, qkv, sequence, mut out, mut lse } = self;
        let call = &call;
        let geometry = call.geometry;
        let (rows, dim) = (geometry.padded_seq(), geometry.padded_dim());
        let matrix = || vec![0.0; rows * dim];
        let columns = |n| vec![[0.0; LANES]; n];
        let mut scratch = Scratch {
            q: matrix(),
            k: matrix(),
            v: matrix(),
            q_columns: columns(dim),
            p: columns(rows),
        };
        let Geometry { seq, n_heads, n_kv_heads, .. } = geometry;
        let group = n_heads / n_kv_heads;
        for head in 0..n_heads {
            let [q, k, v] = geometry.columns(head, head / group);
            let (row, bias) = (sequence * seq, call.bias);
            // No closure: what is not sure to be inlined is compiled for the least of processors.
            let at = At { row, column: q };
            load::<M, T>(geometry, &qkv, at, bias, call.query_table, call.scale, &mut scratch.q);
            if head % group == 0 {
                let at = At { row, column: k };
                load::<M, T>(geometry, &qkv, at, bias, call.key_table, 1.0, &mut scratch.k);
                let at = At { row, column: v };
                load::<M, T>(geometry, &qkv, at, bias, None, 1.0, &mut scratch.v);
            }
            for first in (0..seq).step_by(LANES) {
                let (most, sum) = probabilities::<M>(&mut scratch, call, head, first);
                for (lane, lse) in lse.row(head)[first..].iter_mut().take(LANES).enumerate() {
                    *lse = most[lane] + sum[lane].ln();
                }
                mix::<M, T>(&scratch, &sum, geometry, first, &mut out, q);
            }
        }
    }
}

/// Of `LANES` queries from `first` on: exp(score − largest) into `p`, the largest, and the sum.
#[inline(always)]
fn probabilities<M: Machine>(
    scratch: &mut Scratch,
    call: &Call<'_>,
    head: usize,
    first: usize,
) -> (Lanes, Lanes) {
    let dim = call.geometry.padded_dim();
    transpose(&scratch.q[first * dim..], dim, &mut scratch.q_columns);
    let p = &mut scratch.p[..first + LANES];
    let queries = &scratch.q_columns[..call.geometry.head_dim];
    for (p, keys) in p.chunks_exact_mut(TILE).zip(scratch.k.chunks_exact(TILE * dim)) {
        p.copy_from_slice(&rows_by::<M>(keys, dim, queries));
    }
    softmax::<M>(p, call, head, first)
}

/// From the scores of `LANES` queries from `first` on: exp(score − largest) in their place, the largest, and the sum.
#[inline(always)]
pub(super) fn softmax<M: Machine>(
    p: &mut [Lanes],
    call: &Call<'_>,
    head: usize,
    first: usize,
) -> (Lanes, Lanes) {
    if let Some(slopes) = call.slopes {
        position_penalty::<M>(p, slopes[head], first);
    }
    hide(&mut p[first..], f32::NEG_INFINITY);
    let mut most = [f32::NEG_INFINITY; 4 * LANES];
    for p in fours(p) {
        for (most, &p) in most.iter_mut().zip(p) {
            *most = if p > *most { p } else { *most };
        }
    }
    let most = fold(&most, f32::max);
    let each = four_times(&most);
    let mut sum = [0.0; 4 * LANES];
    for p in fours_mut(p) {
        for i in 0..4 * LANES {
            p[i] = exp::<M>(p[i] - each[i]);
            sum[i] += p[i];
        }
    }
    let sum = fold(&sum, |a, b| a + b);
    (most, sum)
}

/// One number for each lane, of those of four keys.
#[inline(always)]
fn fold(four: &Four, with: impl Fn(f32, f32) -> f32) -> Lanes {
    let mut lanes = [0.0; LANES];
    for (lane, lanes) in lanes.iter_mut().enumerate() {
        let of = |key: usize| four[key * LANES + lane];
        *lanes = with(with(of(0), of(1)), with(of(2), of(3)));
    }
    lanes
}

/// Puts `value` where a key comes after the query; `p` starts at the keys of the queries themselves.
#[inline(always)]
pub(super) fn hide(p: &mut [Lanes], value: f32) {
    for (key, p) in p.iter_mut().enumerate() {
        for (query, p) in p.iter_mut().enumerate() {
            *p = if key > query { value } else { *p };
        }
    }
}

/// `out = p · v / sum`, row by row, for `LANES` queries from `first` on.
#[inline(always)]
fn mix<M: Machine, T: Element>(
    scratch: &Scratch,
    sum: &Lanes,
    geometry: Geometry,
    first: usize,
    out: &mut RowsMut<'_, T>,
    own_column: usize,
) {
    let (dim, p, v) = (geometry.padded_dim(), &scratch.p, &scratch.v);
    for lane in (0..LANES).step_by(TILE) {
        for column in (0..dim).step_by(LANES) {
            let seen = columns_by::<M>(&p[..first + lane], lane, v, dim, column);
            let at = Place { first, lane, own_column, column };
            finish_tile::<M, T>(seen, p, v, sum, geometry, at, out);
        }
    }
}

/// A tile of the mixture: its first query, the first lane of the tile, the first column of the head, that of the tile in it.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) first: usize,
    pub(super) lane: usize,
    pub(super) own_column: usize,
    pub(super) column: usize,
}

/// Adds to a tile that has the keys before its queries those of the queries themselves, divides and writes it.
#[inline(always)]
pub(super) fn finish_tile<M: Machine, T: Element>(
    seen: Tile,
    p: &[Lanes],
    v: &[f32],
    sum: &Lanes,
    geometry: Geometry,
    Place { first, lane, own_column, column }: Place,
    out: &mut RowsMut<'_, T>,
) {
    let dim = geometry.padded_dim();
    let own = first + lane;
    let mut mixed = [[0.0; LANES]; TILE];
    // A copy: what is read by a variable index would be summed in memory.
    mixed.copy_from_slice(&add_triangle::<M>(
        seen,
        &p[own..own + TILE],
        lane,
        &v[own * dim..],
        dim,
        column,
    ));
    for (i, mixed) in (lane..).zip(&mixed).take_while(|(i, _)| first + i < geometry.seq) {
        let share = 1.0 / sum[i];
        let row = &mut out.row(first + i)[own_column..own_column + geometry.head_dim];
        for (out, mixed) in row[column..].iter_mut().zip(mixed) {
            *out = T::put(mixed * share);
        }
    }
}
