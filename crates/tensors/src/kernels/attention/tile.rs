//! Small matrix products that stay in registers: [`TILE`] rows of [`LANES`] sums.

use crate::kernels::machine::Machine;
use crate::kernels::math::fma;

/// Numbers that are handled side by side.
pub(crate) const LANES: usize = 16;
/// Rows of sums at a time.
pub(super) const TILE: usize = 8;

pub(super) type Lanes = [f32; LANES];
pub(super) type Tile = [Lanes; TILE];

/// Lanes of four keys in a row. Loops over these are vectorised as they stand; over `LANES` numbers they are unrolled
/// first, and then the compiler gathers one lane of many keys.
pub(super) type Four = [f32; 4 * LANES];

pub(super) fn fours(x: &[Lanes]) -> &[Four] {
    x.as_flattened().as_chunks().0
}

pub(super) fn fours_mut(x: &mut [Lanes]) -> &mut [Four] {
    x.as_flattened_mut().as_chunks_mut().0
}

/// The same for each of four keys.
#[inline(always)]
pub(super) fn four_times(x: &Lanes) -> Four {
    let mut four = [0.0; 4 * LANES];
    for (four, x) in four.iter_mut().zip(x.iter().cycle()) {
        *four = *x;
    }
    four
}

#[inline(always)]
fn add_product<M: Machine>(mut sum: Lanes, a: f32, b: &Lanes) -> Lanes {
    for lane in 0..LANES {
        sum[lane] = fma::<M>(a, b[lane], sum[lane]);
    }
    sum
}

/// `sum[m] += a[m] * b`. Written out, because the compiler keeps a loop's sums in memory.
#[inline(always)]
fn add_outer_product<M: Machine>(sum: Tile, a: &[f32; TILE], b: &Lanes) -> Tile {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sum;
    let &[a0, a1, a2, a3, a4, a5, a6, a7] = a;
    [
        add_product::<M>(s0, a0, b),
        add_product::<M>(s1, a1, b),
        add_product::<M>(s2, a2, b),
        add_product::<M>(s3, a3, b),
        add_product::<M>(s4, a4, b),
        add_product::<M>(s5, a5, b),
        add_product::<M>(s6, a6, b),
        add_product::<M>(s7, a7, b),
    ]
}

/// `out[m] = Σₖ rows[m][k] b[k]`: `rows` holds `TILE` rows that are `width` apart.
#[inline(always)]
pub(super) fn rows_by<M: Machine>(rows: &[f32], width: usize, b: &[Lanes]) -> Tile {
    let n = b.len();
    let row = |m: usize| &rows[m * width..][..n];
    let (r0, r1, r2, r3) = (row(0), row(1), row(2), row(3));
    let (r4, r5, r6, r7) = (row(4), row(5), row(6), row(7));
    let mut sum = [[0.0; LANES]; TILE];
    for k in 0..n {
        let a = [r0[k], r1[k], r2[k], r3[k], r4[k], r5[k], r6[k], r7[k]];
        sum = add_outer_product::<M>(sum, &a, &b[k]);
    }
    sum
}

/// `out[m] = Σₖ a[k][first + m] b[k][column ..]`: `b` has rows of `width`.
#[inline(always)]
pub(super) fn columns_by<M: Machine>(
    a: &[Lanes],
    first: usize,
    b: &[f32],
    width: usize,
    column: usize,
) -> Tile {
    let mut sum = [[0.0; LANES]; TILE];
    for (a, b) in a.iter().zip(b.chunks_exact(width)) {
        if let (Some(a), Some(b)) = (a[first..].first_chunk(), b[column..].first_chunk()) {
            sum = add_outer_product::<M>(sum, a, b);
        }
    }
    sum
}

/// `sum[m] += Σₖ a[k][first + m] b[k][column ..]` over the `TILE` rows k ≤ m: what a query does not see is not touched, so
/// that it may be anything.
#[inline(always)]
pub(super) fn add_triangle<M: Machine>(
    mut sum: Tile,
    a: &[Lanes],
    first: usize,
    b: &[f32],
    width: usize,
    column: usize,
) -> Tile {
    for (k, (a, b)) in a.iter().zip(b.chunks_exact(width)).enumerate() {
        if let Some(b) = b[column..].first_chunk() {
            for m in k..TILE {
                sum[m] = add_product::<M>(sum[m], a[first + m], b);
            }
        }
    }
    sum
}

/// `sum[m][column ..] += Σₖ a[m][k] b[k][column ..]` over `LANES` rows `b`; both have rows of `width`.
#[inline(always)]
pub(super) fn add_rows_by<M: Machine>(
    sum: &mut [f32],
    a: &[Lanes],
    b: &[f32],
    width: usize,
    column: usize,
) {
    let mut total = [[0.0; LANES]; TILE];
    for (total, sum) in total.iter_mut().zip(sum.chunks_exact(width)) {
        total.copy_from_slice(&sum[column..column + LANES]);
    }
    let Some(a) = a.first_chunk::<TILE>() else { return };
    for k in 0..LANES {
        if let Some(b) = b[k * width + column..].first_chunk() {
            let [a0, a1, a2, a3, a4, a5, a6, a7] = a;
            let a = [a0[k], a1[k], a2[k], a3[k], a4[k], a5[k], a6[k], a7[k]];
            total = add_outer_product::<M>(total, &a, b);
        }
    }
    for (total, sum) in total.iter().zip(sum.chunks_exact_mut(width)) {
        sum[column..column + LANES].copy_from_slice(total);
    }
}

/// The first `LANES` of `rows`, each `width` wide, as columns: `to[d][row]`.
#[inline(always)]
pub(super) fn transpose(rows: &[f32], width: usize, to: &mut [Lanes]) {
    for (block, to) in to.chunks_exact_mut(LANES).enumerate() {
        for (i, row) in rows.chunks_exact(width).take(LANES).enumerate() {
            if let Some(row) = row[block * LANES..].first_chunk::<LANES>() {
                for d in 0..LANES {
                    to[d][i] = row[d];
                }
            }
        }
    }
}
