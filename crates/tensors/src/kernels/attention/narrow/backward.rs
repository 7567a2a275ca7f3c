//! Gradients of queries, keys and values.

use super::pairs::{Words, add_rows_by, columns_by, interleave_lanes, round, rows_by};
use super::{Columns, Side};
use crate::kernels::attention::backward::{Backward, again, inner, slopes};
use crate::kernels::attention::heads::{At, Geometry, load, store};
use crate::kernels::attention::tile::{LANES, Lanes, TILE};
use crate::kernels::element::{Bf16, Element};
use crate::kernels::machine::{DotPairs, Machine};

/// One head, and its gradients.
struct Scratch {
    q: Vec<f32>,
    out: Vec<f32>,
    d_out: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    queries: Side,
    keys: Side,
    values: Side,
    d_outs: Side,
    /// A block of queries, and of the result's gradient.
    columns: Columns,
    /// Probabilities, `[key][query]`, and the gradients of the scores.
    p: Vec<Lanes>,
    ds: Vec<Lanes>,
    narrow_p: Vec<[Bf16; LANES]>,
    narrow_ds: Vec<[Bf16; LANES]>,
    /// Pairs of keys.
    ds_pairs: Vec<Words>,
}

impl Scratch {
    fn new(geometry: Geometry) -> Self {
        let (rows, dim) = (geometry.padded_seq(), geometry.padded_dim());
        let matrix = || vec![0.0; rows * dim];
        let side = || Side::new(geometry);
        let lanes = || vec![[0.0; LANES]; rows];
        let narrow = || vec![[Bf16::default(); LANES]; rows];
        Self {
            q: matrix(),
            out: matrix(),
            d_out: matrix(),
            dq: matrix(),
            dk: matrix(),
            dv: matrix(),
            queries: side(),
            keys: side(),
            values: side(),
            d_outs: side(),
            columns: Columns::new(geometry),
            p: lanes(),
            ds: lanes(),
            narrow_p: narrow(),
            narrow_ds: narrow(),
            ds_pairs: vec![[0; LANES]; rows / 2],
        }
    }
}

/// As the job's own in f32.
#[inline(always)]
pub(in crate::kernels::attention) fn backward<M: Machine, T: Element>(
    job: Backward<'_, T>,
    dot: DotPairs,
) {
    let Backward { call, qkv, out, lse, d_out, sequence, mut d_qkv } = job;
    let (call, geometry) = (&call, call.geometry);
    let Geometry { seq, n_heads, n_kv_heads, .. } = geometry;
    let mut scratch = Scratch::new(geometry);
    let group = n_heads / n_kv_heads;
    for head in 0..n_heads {
        let [q, k, v] = geometry.columns(head, head / group);
        let (row, bias) = (sequence * seq, call.bias);
        if head % group == 0 {
            // Keys and values pass through the memory of the queries.
            let at = At { row, column: k };
            load::<M, T>(geometry, &qkv, at, bias, call.key_table, 1.0, &mut scratch.q);
            scratch.keys.fill(&scratch.q, geometry);
            let at = At { row, column: v };
            load::<M, T>(geometry, &qkv, at, bias, None, 1.0, &mut scratch.q);
            scratch.values.fill(&scratch.q, geometry);
            scratch.dk.fill(0.0);
            scratch.dv.fill(0.0);
        }
        let at = At { row, column: q };
        load::<M, T>(geometry, &qkv, at, bias, call.query_table, call.scale, &mut scratch.q);
        scratch.queries.fill(&scratch.q, geometry);
        load::<M, T>(geometry, &out, at, None, None, 1.0, &mut scratch.out);
        load::<M, T>(geometry, &d_out, at, None, None, 1.0, &mut scratch.d_out);
        scratch.d_outs.fill(&scratch.d_out, geometry);
        let lse = lse.row(sequence * n_heads + head);
        for first in (0..seq).step_by(LANES) {
            scores::<M>(&mut scratch, dot, call, head, first, lse);
            gradients(&mut scratch, dot, geometry.padded_dim(), first);
        }
        let (tables, scale) = ([call.query_table, call.key_table], call.scale);
        store::<M, T>(geometry, &mut scratch.dq, tables[0], scale, &mut d_qkv, q);
        if (head + 1) % group == 0 {
            store::<M, T>(geometry, &mut scratch.dk, tables[1], 1.0, &mut d_qkv, k);
            store::<M, T>(geometry, &mut scratch.dv, None, 1.0, &mut d_qkv, v);
        }
    }
}

/// Probabilities of `LANES` queries from `first` on, and the gradients of their scores.
#[inline(always)]
fn scores<M: Machine>(
    scratch: &mut Scratch,
    dot: DotPairs,
    call: &super::super::Call<'_>,
    head: usize,
    first: usize,
    lse: &[f32],
) {
    let (dim, pairs) = (call.geometry.padded_dim(), call.geometry.head_dim.div_ceil(2));
    let Scratch { q, out, d_out, keys, values, columns, p, ds, .. } = scratch;
    let (p, ds) = (&mut p[..first + LANES], &mut ds[..first + LANES]);
    columns.fill(&q[first * dim..], dim);
    for (p, keys) in p.chunks_exact_mut(TILE).zip(keys.rows.chunks_exact(TILE * dim)) {
        p.copy_from_slice(&rows_by(dot, keys, dim, &columns.pairs[..pairs]));
    }
    again::<M>(p, call, head, first, lse);
    columns.fill(&d_out[first * dim..], dim);
    for (ds, values) in ds.chunks_exact_mut(TILE).zip(values.rows.chunks_exact(TILE * dim)) {
        ds.copy_from_slice(&rows_by(dot, values, dim, &columns.pairs[..pairs]));
    }
    let inner = inner::<M>(&out[first * dim..], &d_out[first * dim..], dim);
    slopes::<M>(ds, p, &inner);
}

/// From the gradients of the scores to those of queries (set), keys and values (added).
#[inline(always)]
fn gradients(scratch: &mut Scratch, dot: DotPairs, dim: usize, first: usize) {
    let Scratch { queries, keys, d_outs, dq, dk, dv, p, ds, .. } = scratch;
    let (p, ds) = (&p[..first + LANES], &ds[..first + LANES]);
    let Scratch { narrow_p, narrow_ds, ds_pairs, .. } = scratch;
    round(p.as_flattened(), narrow_p.as_flattened_mut());
    round(ds.as_flattened(), narrow_ds.as_flattened_mut());
    interleave_lanes(ds, ds_pairs);
    let ds_pairs = &ds_pairs[..(first + LANES) / 2];
    for row in (0..LANES).step_by(TILE) {
        for column in (0..dim).step_by(LANES) {
            let sums = columns_by(dot, ds_pairs, row, &keys.pairs, dim, column);
            for (sums, dq) in sums.iter().zip(dq[(first + row) * dim..].chunks_exact_mut(dim)) {
                dq[column..column + LANES].copy_from_slice(sums);
            }
        }
    }
    let at = first / 2 * dim;
    let (q, d_out) = (&queries.pairs[at..], &d_outs.pairs[at..]);
    let rows = dk.chunks_exact_mut(TILE * dim).zip(dv.chunks_exact_mut(TILE * dim));
    let (p, _) = narrow_p[..first + LANES].as_chunks::<TILE>();
    let (ds, _) = narrow_ds[..first + LANES].as_chunks::<TILE>();
    for ((p, ds), (dk, dv)) in p.iter().zip(ds).zip(rows) {
        for column in (0..dim).step_by(LANES) {
            add_rows_by(dot, dv, p, d_out, dim, column);
            add_rows_by(dot, dk, ds, q, dim, column);
        }
    }
}
