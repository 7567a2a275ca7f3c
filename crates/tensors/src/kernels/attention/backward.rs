//! Gradients of queries, keys and values.

#[cfg(target_arch = "x86_64")]
use tch::Kind;

use super::forward::hide;
use super::heads::{At, Geometry, load, store};
use super::tile::{
    LANES, Lanes, TILE, add_rows_by, columns_by, four_times, fours, fours_mut, rows_by, transpose,
};
use super::{Call, position_penalty};
use crate::kernels::element::Element;
use crate::kernels::machine::{Job, Machine};
use crate::kernels::math::{exp, fma};
use crate::kernels::rows::{Rows, RowsMut};

/// One sequence: its number, what the forward pass read and wrote, the gradient of its result, and where those of its
/// inputs go.
pub(super) struct Backward<'a, T> {
    pub(super) call: Call<'a>,
    pub(super) qkv: Rows<'a, T>,
    pub(super) out: Rows<'a, T>,
    pub(super) lse: Rows<'a, f32>,
    pub(super) d_out: Rows<'a, T>,
    pub(super) sequence: usize,
    pub(super) d_qkv: RowsMut<'a, T>,
}

/// One head in f32, and its gradients.
struct Scratch {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    out: Vec<f32>,
    d_out: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    /// A block of queries, and of the result's gradient, as columns.
    columns: Vec<Lanes>,
    /// Probabilities, `[key][query]`, and the gradients of the scores.
    p: Vec<Lanes>,
    ds: Vec<Lanes>,
}

impl Scratch {
    fn new(geometry: Geometry) -> Self {
        let (rows, dim) = (geometry.padded_seq(), geometry.padded_dim());
        let matrix = || vec![0.0; rows * dim];
        let columns = |n| vec![[0.0; LANES]; n];
        Self {
            q: matrix(),
            k: matrix(),
            v: matrix(),
            out: matrix(),
            d_out: matrix(),
            dq: matrix(),
            dk: matrix(),
            dv: matrix(),
            columns: columns(dim),
            p: columns(rows),
            ds: columns(rows),
        }
    }
}

impl<T: Element> Job for Backward<'_, T> {
    #[inline(always)]
    fn run<M: Machine>(self) {
        #[cfg(target_arch = "x86_64")]
        if let (Some(dot), Kind::BFloat16) = (M::dot_pairs(), T::KIND) {
            return super::narrow::backward::<M, T>(self, dot);
        }
        let Self { call, qkv, out, lse, d_out, sequence, mut d_qkv } = self;
        let call = &call;
        let geometry = call.geometry;
        let Geometry { seq, n_heads, n_kv_heads, .. } = geometry;
        let mut scratch = Scratch::new(geometry);
        let group = n_heads / n_kv_heads;
        for head in 0..n_heads {
            let [q, k, v] = geometry.columns(head, head / group);
            let (row, bias) = (sequence * seq, call.bias);
            // No closures: what is not sure to be inlined is compiled for the least of processors.
            if head % group == 0 {
                let at = At { row, column: k };
                load::<M, T>(geometry, &qkv, at, bias, call.key_table, 1.0, &mut scratch.k);
                let at = At { row, column: v };
                load::<M, T>(geometry, &qkv, at, bias, None, 1.0, &mut scratch.v);
                scratch.dk.fill(0.0);
                scratch.dv.fill(0.0);
            }
            let at = At { row, column: q };
            load::<M, T>(geometry, &qkv, at, bias, call.query_table, call.scale, &mut scratch.q);
            load::<M, T>(geometry, &out, at, None, None, 1.0, &mut scratch.out);
            load::<M, T>(geometry, &d_out, at, None, None, 1.0, &mut scratch.d_out);
            let lse = lse.row(sequence * n_heads + head);
            for first in (0..seq).step_by(LANES) {
                scores::<M>(&mut scratch, call, head, first, lse);
                gradients::<M>(&mut scratch, geometry.padded_dim(), first);
            }
            // The queries were scaled before they met the keys, so that dk needs no scale.
            let (tables, scale) = ([call.query_table, call.key_table], call.scale);
            store::<M, T>(geometry, &mut scratch.dq, tables[0], scale, &mut d_qkv, q);
            if (head + 1) % group == 0 {
                store::<M, T>(geometry, &mut scratch.dk, tables[1], 1.0, &mut d_qkv, k);
                store::<M, T>(geometry, &mut scratch.dv, None, 1.0, &mut d_qkv, v);
            }
        }
    }
}

/// Probabilities of `LANES` queries from `first` on, and the gradients of their scores.
#[inline(always)]
fn scores<M: Machine>(
    scratch: &mut Scratch,
    call: &Call<'_>,
    head: usize,
    first: usize,
    lse: &[f32],
) {
    let (dim, head_dim) = (call.geometry.padded_dim(), call.geometry.head_dim);
    let Scratch { q, k, v, out, d_out, columns, p, ds, .. } = scratch;
    let (p, ds) = (&mut p[..first + LANES], &mut ds[..first + LANES]);
    transpose(&q[first * dim..], dim, columns);
    for (p, keys) in p.chunks_exact_mut(TILE).zip(k.chunks_exact(TILE * dim)) {
        p.copy_from_slice(&rows_by::<M>(keys, dim, &columns[..head_dim]));
    }
    again::<M>(p, call, head, first, lse);
    transpose(&d_out[first * dim..], dim, columns);
    for (ds, values) in ds.chunks_exact_mut(TILE).zip(v.chunks_exact(TILE * dim)) {
        ds.copy_from_slice(&rows_by::<M>(values, dim, &columns[..head_dim]));
    }
    let inner = inner::<M>(&out[first * dim..], &d_out[first * dim..], dim);
    slopes::<M>(ds, p, &inner);
}

/// From the scores of `LANES` queries from `first` on to their probabilities, again.
#[inline(always)]
pub(super) fn again<M: Machine>(
    p: &mut [Lanes],
    call: &Call<'_>,
    head: usize,
    first: usize,
    lse: &[f32],
) {
    if let Some(slopes) = call.slopes {
        position_penalty::<M>(p, slopes[head], first);
    }
    // Lanes beyond the sequence have no part in anything.
    let mut own_lse = [f32::INFINITY; LANES];
    for (own, lse) in own_lse.iter_mut().zip(&lse[first..]) {
        *own = *lse;
    }
    let own_lse = four_times(&own_lse);
    for p in fours_mut(p) {
        for i in 0..4 * LANES {
            p[i] = exp::<M>(p[i] - own_lse[i]);
        }
    }
    hide(&mut p[first..], 0.0);
}

/// Of `LANES` rows: result times its gradient, which is the mean of the probabilities' gradients.
#[inline(always)]
pub(super) fn inner<M: Machine>(out: &[f32], d_out: &[f32], dim: usize) -> Lanes {
    let mut inner = [0.0; LANES];
    let rows = out.chunks_exact(dim).zip(d_out.chunks_exact(dim));
    for (inner, (out, d_out)) in inner.iter_mut().zip(rows) {
        *inner = dot::<M>(out, d_out);
    }
    inner
}

/// From the gradients of probabilities to those of scores.
#[inline(always)]
pub(super) fn slopes<M: Machine>(ds: &mut [Lanes], p: &[Lanes], inner: &Lanes) {
    let inner = four_times(inner);
    for (ds, p) in fours_mut(ds).iter_mut().zip(fours(p)) {
        for i in 0..4 * LANES {
            ds[i] = p[i] * (ds[i] - inner[i]);
        }
    }
}

/// From the gradients of the scores to those of queries (set), keys and values (added).
#[inline(always)]
fn gradients<M: Machine>(scratch: &mut Scratch, dim: usize, first: usize) {
    let Scratch { q, k, d_out, dq, dk, dv, p, ds, .. } = scratch;
    let (p, ds) = (&p[..first + LANES], &ds[..first + LANES]);
    for row in (0..LANES).step_by(TILE) {
        for column in (0..dim).step_by(LANES) {
            let sums = columns_by::<M>(ds, row, k, dim, column);
            for (sums, dq) in sums.iter().zip(dq[(first + row) * dim..].chunks_exact_mut(dim)) {
                dq[column..column + LANES].copy_from_slice(sums);
            }
        }
    }
    let (q, d_out) = (&q[first * dim..], &d_out[first * dim..]);
    let rows = dk.chunks_exact_mut(TILE * dim).zip(dv.chunks_exact_mut(TILE * dim));
    for ((p, ds), (dk, dv)) in p.chunks_exact(TILE).zip(ds.chunks_exact(TILE)).zip(rows) {
        for column in (0..dim).step_by(LANES) {
            add_rows_by::<M>(dv, p, d_out, dim, column);
            add_rows_by::<M>(dk, ds, q, dim, column);
        }
    }
}

#[inline(always)]
fn dot<M: Machine>(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sum[lane] = fma::<M>(a[lane], b[lane], sum[lane]);
        }
    }
    sum.iter().sum()
}
