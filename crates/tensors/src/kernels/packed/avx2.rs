//! The product of a tile with AVX2: pairs of products in i16, then pairs of those in i32.

#![expect(unsafe_code, reason = "instructions that plain loops do not become")]

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_sign_epi8, _mm256_srli_epi16,
};
use std::mem::transmute_copy;

use super::activations::SomeRows;
use super::layout::{Codes, SCALES, STEP, Shape};
use super::tile::{LANES, Lanes};
use crate::kernels::machine::PairBytes;

/// Half of a register's bytes, or of a block's rows.
const HALF: usize = STEP / 2;

/// The slices have the lengths that `shape` asks for, as [`super::tile::tile`] asserts.
#[inline(always)]
pub(super) fn tile<const N: usize>(
    _: PairBytes,
    shape: &Shape,
    block: &[u8],
    x: SomeRows<'_>,
) -> [Lanes; N] {
    // Sixteen registers hold the sums of two rows.
    let mut out = [[0.0; LANES]; N];
    let mut pairs = out.chunks_exact_mut(2);
    for (n, pair) in pairs.by_ref().enumerate() {
        pair.copy_from_slice(&few::<2>(shape, block, x.part::<2>(2 * n)));
    }
    for one in pairs.into_remainder() {
        *one = few::<1>(shape, block, x.part::<1>(N - 1))[0];
    }
    out
}

#[inline(always)]
fn few<const N: usize>(shape: &Shape, block: &[u8], x: SomeRows<'_>) -> [Lanes; N] {
    // SAFETY: only [`tile`] calls this, with a proof that the processor has the instructions; its caller has compared the
    // lengths.
    unsafe {
        match shape.codes {
            Codes::Nibbles => nibbles::<N>(shape.group / 8, block.as_ptr(), x),
            Codes::Bytes => bytes::<N, false>(shape.group / 4, block.as_ptr(), x),
            Codes::GroupedBytes => bytes::<N, true>(shape.group / 4, block.as_ptr(), x),
        }
    }
}

/// # Safety
/// `block` has for each of the groups of `x` [`STEP`] bytes of scales and offsets and `steps` times as many of codes; a group
/// of `x` is `8 * steps` wide.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles<const N: usize>(
    steps: usize,
    mut block: *const u8,
    x: SomeRows<'_>,
) -> [Lanes; N] {
    let low = _mm256_set1_epi8(15);
    let mut out = [[_mm256_setzero_ps(); 2]; N];
    let mut codes = x.codes.as_ptr();
    for j in 0..x.groups {
        // SAFETY: the group is there; its codes and numbers of each row, too.
        unsafe {
            let (scale, offset) = (all_halves(block), all_halves(block.add(SCALES)));
            let mut dots = [[_mm256_setzero_si256(); 2]; N];
            for _ in 0..steps {
                block = block.add(STEP);
                for half in 0..2 {
                    let step = _mm256_loadu_si256(block.add(half * HALF).cast());
                    let first = _mm256_and_si256(step, low);
                    let second = _mm256_and_si256(_mm256_srli_epi16::<4>(step), low);
                    for n in 0..N {
                        let x = codes.add(n * x.width);
                        // Four products of at most 15 · 127: far from what i16 holds.
                        let pairs = _mm256_add_epi16(
                            _mm256_maddubs_epi16(first, four(x)),
                            _mm256_maddubs_epi16(second, four(x.add(4))),
                        );
                        dots[n][half] = _mm256_add_epi32(dots[n][half], widened(pairs));
                    }
                }
                codes = codes.add(8);
            }
            block = block.add(STEP);
            for n in 0..N {
                let at = n * x.groups + j;
                let sum = _mm256_set1_ps(*x.sum.get_unchecked(at));
                let by = _mm256_set1_ps(*x.scale.get_unchecked(at));
                for half in 0..2 {
                    let dot = _mm256_cvtepi32_ps(dots[n][half]);
                    out[n][half] = _mm256_fmadd_ps(offset[half], sum, out[n][half]);
                    let by = _mm256_mul_ps(scale[half], by);
                    out[n][half] = _mm256_fmadd_ps(by, dot, out[n][half]);
                }
            }
        }
    }
    lanes(out)
}

/// # Safety
/// `block` has for each of the groups of `x` `steps` times [`STEP`] bytes of codes, with [`SCALES`] before each if they are `GROUPED`, else
/// with [`STEP`] bytes of scales before all; a group of `x` is `4 * steps` wide.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn bytes<const N: usize, const GROUPED: bool>(
    steps: usize,
    mut block: *const u8,
    x: SomeRows<'_>,
) -> [Lanes; N] {
    let mut out = [[_mm256_setzero_ps(); 2]; N];
    // SAFETY: as in `nibbles`.
    unsafe {
        let mut scale = [_mm256_setzero_ps(); 2];
        if !GROUPED {
            scale = [_mm256_loadu_ps(block.cast()), _mm256_loadu_ps(block.add(HALF).cast())];
            block = block.add(STEP);
        }
        let mut codes = x.codes.as_ptr();
        for j in 0..x.groups {
            if GROUPED {
                scale = all_halves(block);
                block = block.add(SCALES);
            }
            let mut dots = [[_mm256_setzero_si256(); 2]; N];
            for _ in 0..steps {
                for half in 0..2 {
                    let step = _mm256_loadu_si256(block.add(half * HALF).cast());
                    // One factor must be without a sign: the other takes it. Two products of 127 · 127 fit.
                    let size = _mm256_abs_epi8(step);
                    for n in 0..N {
                        let x = _mm256_sign_epi8(four(codes.add(n * x.width)), step);
                        let pairs = _mm256_maddubs_epi16(size, x);
                        dots[n][half] = _mm256_add_epi32(dots[n][half], widened(pairs));
                    }
                }
                block = block.add(STEP);
                codes = codes.add(4);
            }
            for n in 0..N {
                let by = _mm256_set1_ps(*x.scale.get_unchecked(n * x.groups + j));
                for half in 0..2 {
                    let dot = _mm256_cvtepi32_ps(dots[n][half]);
                    let by = if GROUPED { _mm256_mul_ps(scale[half], by) } else { by };
                    out[n][half] = _mm256_fmadd_ps(by, dot, out[n][half]);
                }
            }
        }
        if !GROUPED {
            for n in 0..N {
                for half in 0..2 {
                    out[n][half] = _mm256_mul_ps(scale[half], out[n][half]);
                }
            }
        }
    }
    lanes(out)
}

/// Sums of pairs.
#[inline]
#[target_feature(enable = "avx2")]
fn widened(pairs: __m256i) -> __m256i {
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// Four codes in each lane.
///
/// # Safety
/// There are four from `x` on.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four(x: *const i8) -> __m256i {
    // SAFETY: the caller's.
    _mm256_set1_epi32(unsafe { x.cast::<i32>().read_unaligned() })
}

/// Eight f16 as f32.
///
/// # Safety
/// There are eight from `from` on.
#[inline]
#[target_feature(enable = "f16c")]
unsafe fn halves(from: *const u8) -> __m256 {
    // SAFETY: the caller's.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
}

/// Sixteen.
///
/// # Safety
/// There are sixteen from `from` on.
#[inline]
#[target_feature(enable = "f16c")]
unsafe fn all_halves(from: *const u8) -> [__m256; 2] {
    // SAFETY: the caller's.
    unsafe { [halves(from), halves(from.add(LANES))] }
}

#[inline]
#[target_feature(enable = "avx2")]
fn lanes<const N: usize>(out: [[__m256; 2]; N]) -> [Lanes; N] {
    // SAFETY: the same numbers, and arrays of arrays have no gaps.
    unsafe { transmute_copy::<[[__m256; 2]; N], [Lanes; N]>(&out) }
}
