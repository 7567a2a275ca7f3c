//! Tiles as those of `tile`, of bf16 with sums in f32: two products a lane and instruction.

#![expect(unsafe_code, reason = "an instruction that plain loops do not become")]

use crate::kernels::attention::tile::{LANES, Lanes, TILE, Tile};
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::mem::transmute;

use crate::kernels::element::{Bf16, Element};
use crate::kernels::machine::DotPairs;

/// A pair of numbers in each lane, the first in the lower half.
pub(super) type Words = [u32; LANES];

/// `to[i]` = (`a[i]`, `b[i]`).
#[inline(always)]
pub(super) fn interleave(a: &[f32], b: &[f32], to: &mut [u32]) {
    let n = to.len();
    let (a, b) = (&a[..n], &b[..n]);
    for i in 0..n {
        to[i] = u32::from(Bf16::put(a[i]).0) | u32::from(Bf16::put(b[i]).0) << 16;
    }
}

/// Every second row with the one after it.
#[inline(always)]
pub(super) fn interleave_rows(from: &[f32], width: usize, to: &mut [u32]) {
    for (from, to) in from.chunks_exact(2 * width).zip(to.chunks_exact_mut(width)) {
        let (a, b) = from.split_at(width);
        interleave(a, b, to);
    }
}

/// The same for rows of `LANES`.
#[inline(always)]
pub(super) fn interleave_lanes(from: &[Lanes], to: &mut [Words]) {
    for (from, to) in from.as_chunks::<2>().0.iter().zip(to) {
        interleave(&from[0], &from[1], to);
    }
}

#[inline(always)]
pub(super) fn round(from: &[f32], to: &mut [Bf16]) {
    for (from, to) in from.iter().zip(to) {
        *to = Bf16::put(*from);
    }
}

/// `out[m] = Σₖ rows[m][k] b[k]`: `rows` holds `TILE` rows that are `width` apart, `b` pairs of `k`.
#[inline(always)]
pub(super) fn rows_by(_: DotPairs, rows: &[Bf16], width: usize, b: &[Words]) -> Tile {
    assert!(rows.len() >= (TILE - 1) * width + 2 * b.len());
    // SAFETY: the proof says that the processor has the instructions; every pair read is in `rows`.
    unsafe { rows_by_dot(rows, width, b) }
}

/// `out[m] = Σₖ a[k][first + m] b[k][column ..]`: pairs of `k`; `b` has rows of `width`.
#[inline(always)]
pub(super) fn columns_by(
    _: DotPairs,
    a: &[Words],
    first: usize,
    b: &[u32],
    width: usize,
    column: usize,
) -> Tile {
    assert!(first + TILE <= LANES && column + LANES <= width && b.len() >= a.len() * width);
    // SAFETY: as above; every row of `a` has a row of `b`, of which `LANES` words from `column` on are read.
    unsafe { columns_by_dot(a, first, b, width, column) }
}

/// `sum[m][column ..] += Σₖ a[m][k] b[k][column ..]` over `LANES` rows `b` in pairs; `sum` and `b` have rows of `width`.
#[inline(always)]
pub(super) fn add_rows_by(
    _: DotPairs,
    sum: &mut [f32],
    a: &[[Bf16; LANES]; TILE],
    b: &[u32],
    width: usize,
    column: usize,
) {
    assert!(column + LANES <= width);
    assert!(sum.len() >= TILE * width && b.len() >= LANES / 2 * width);
    // SAFETY: as above; of `TILE` rows of `sum` and `LANES / 2` of `b`, `LANES` numbers from `column` on are used.
    unsafe { add_rows_by_dot(sum, a, b, width, column) }
}

/// `sum += pair · b`, lane by lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn dot(sum: __m512, pair: u32, b: __m512bh) -> __m512 {
    // SAFETY: both are 512 bits.
    let pair = unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair as i32)) };
    _mm512_dpbf16_ps(sum, pair, b)
}

/// # Safety
/// `b` has `LANES` words.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn words(b: *const u32) -> __m512bh {
    // SAFETY: the caller's; and both are 512 bits.
    unsafe { transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.cast())) }
}

/// # Safety
/// As [`rows_by`] asserts.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rows_by_dot(rows: &[Bf16], width: usize, b: &[Words]) -> Tile {
    let rows = rows.as_ptr();
    let mut sum = [_mm512_setzero_ps(); TILE];
    for (k, b) in b.iter().enumerate() {
        // SAFETY: `b` is that long, and the pair is in row m.
        unsafe {
            let b = words(b.as_ptr());
            for m in 0..TILE {
                let pair = rows.add(m * width + 2 * k).cast::<u32>().read_unaligned();
                sum[m] = dot(sum[m], pair, b);
            }
        }
    }
    // SAFETY: the same numbers.
    unsafe { transmute::<[__m512; TILE], Tile>(sum) }
}

/// # Safety
/// As [`columns_by`] asserts.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn columns_by_dot(
    a: &[Words],
    first: usize,
    b: &[u32],
    width: usize,
    column: usize,
) -> Tile {
    let b = b.as_ptr();
    let mut sum = [_mm512_setzero_ps(); TILE];
    for (k, a) in a.iter().enumerate() {
        // SAFETY: row k of `b` is there, and `LANES` words of it; `first + m` is a lane.
        unsafe {
            let b = words(b.add(k * width + column));
            for m in 0..TILE {
                sum[m] = dot(sum[m], *a.get_unchecked(first + m), b);
            }
        }
    }
    // SAFETY: the same numbers.
    unsafe { transmute::<[__m512; TILE], Tile>(sum) }
}

/// # Safety
/// As [`add_rows_by`] asserts.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn add_rows_by_dot(
    sum: &mut [f32],
    a: &[[Bf16; LANES]; TILE],
    b: &[u32],
    width: usize,
    column: usize,
) {
    let (sum, b) = (sum.as_mut_ptr(), b.as_ptr());
    let mut total = [_mm512_setzero_ps(); TILE];
    // SAFETY: row m of `sum` and row k of `b` are there, with `LANES` numbers from `column` on; the pair is in row m of `a`.
    unsafe {
        for m in 0..TILE {
            total[m] = _mm512_loadu_ps(sum.add(m * width + column));
        }
        for k in 0..LANES / 2 {
            let b = words(b.add(k * width + column));
            for m in 0..TILE {
                let pair = a[m].as_ptr().add(2 * k).cast::<u32>().read_unaligned();
                total[m] = dot(total[m], pair, b);
            }
        }
        for m in 0..TILE {
            _mm512_storeu_ps(sum.add(m * width + column), total[m]);
        }
    }
}
