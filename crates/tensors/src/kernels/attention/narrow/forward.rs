//! The mixture of values.

use super::pairs::{Words, columns_by, interleave_lanes, rows_by};
use super::{Columns, Side};
use crate::kernels::attention::forward::{Forward, Place, finish_tile, softmax};
use crate::kernels::attention::heads::{At, Geometry, load};
use crate::kernels::attention::tile::{LANES, Lanes, TILE};
use crate::kernels::element::Element;
use crate::kernels::machine::{DotPairs, Machine};

/// As the job's own in f32.
#[inline(always)]
pub(in crate::kernels::attention) fn forward<M: Machine, T: Element>(
    job: Forward<'_, T>,
    dot: DotPairs,
) {
    let Forward { call, qkv, sequence, mut out, mut lse } = job;
    let (call, geometry) = (&call, call.geometry);
    let Geometry { seq, n_heads, n_kv_heads, .. } = geometry;
    let (rows, dim) = (geometry.padded_seq(), geometry.padded_dim());
    let (mut q, mut v) = (vec![0.0; rows * dim], vec![0.0; rows * dim]);
    let (mut keys, mut values) = (Side::new(geometry), Side::new(geometry));
    let mut queries = Columns::new(geometry);
    let mut p: Vec<Lanes> = vec![[0.0; LANES]; rows];
    let mut shares: Vec<Words> = vec![[0; LANES]; rows / 2];
    let group = n_heads / n_kv_heads;
    let pairs = geometry.head_dim.div_ceil(2);
    for head in 0..n_heads {
        let [own, k_column, v_column] = geometry.columns(head, head / group);
        let (row, bias) = (sequence * seq, call.bias);
        if head % group == 0 {
            // The keys pass through the memory of the queries.
            let at = At { row, column: k_column };
            load::<M, T>(geometry, &qkv, at, bias, call.key_table, 1.0, &mut q);
            keys.fill(&q, geometry);
            let at = At { row, column: v_column };
            load::<M, T>(geometry, &qkv, at, bias, None, 1.0, &mut v);
            values.fill(&v, geometry);
        }
        let at = At { row, column: own };
        load::<M, T>(geometry, &qkv, at, bias, call.query_table, call.scale, &mut q);
        for first in (0..seq).step_by(LANES) {
            queries.fill(&q[first * dim..], dim);
            let p = &mut p[..first + LANES];
            let tiles = p.chunks_exact_mut(TILE).zip(keys.rows.chunks_exact(TILE * dim));
            for (p, keys) in tiles {
                p.copy_from_slice(&rows_by(dot, keys, dim, &queries.pairs[..pairs]));
            }
            let (most, sum) = softmax::<M>(p, call, head, first);
            for (lane, lse) in lse.row(head)[first..].iter_mut().take(LANES).enumerate() {
                *lse = most[lane] + sum[lane].ln();
            }
            interleave_lanes(p, &mut shares);
            for lane in (0..LANES).step_by(TILE) {
                let shares = &shares[..(first + lane) / 2];
                for column in (0..dim).step_by(LANES) {
                    let seen = columns_by(dot, shares, lane, &values.pairs, dim, column);
                    let at = Place { first, lane, own_column: own, column };
                    finish_tile::<M, T>(seen, p, &v, &sum, geometry, at, &mut out);
                }
            }
        }
    }
}
