//! The product of a tile with AVX-512's instruction that multiplies sixteen times four bytes and adds them up.

#![expect(unsafe_code, reason = "an instruction that plain loops do not become")]

use std::arch::x86_64::{
    __m512, __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_and_si512, _mm512_cvtepi32_ps,
    _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_srli_epi16, _mm512_xor_si512,
};
use std::mem::transmute_copy;

use super::activations::SomeRows;
use super::layout::{Codes, SCALES, STEP, Shape};
use super::tile::Lanes;
use crate::kernels::machine::DotBytes;

/// The slices have the lengths that `shape` asks for, as [`super::tile::tile`] asserts.
#[inline(always)]
pub(super) fn tile<const N: usize>(
    _: DotBytes,
    shape: &Shape,
    block: &[u8],
    x: SomeRows<'_>,
) -> [Lanes; N] {
    // SAFETY: the proof says that the processor has the instructions; the caller has compared the lengths.
    unsafe {
        match shape.codes {
            Codes::Nibbles => nibbles::<N>(shape.group / 8, block.as_ptr(), x),
            Codes::Bytes => bytes::<N, false>(shape.group / 4, block.as_ptr(), x),
            Codes::GroupedBytes => bytes::<N, true>(shape.group / 4, block.as_ptr(), x),
        }
    }
}

/// # Safety
/// `block` has for each of the groups of `x` one register of scales and offsets and `steps` of codes; a group of `x` is
/// `8 * steps` wide.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn nibbles<const N: usize>(
    steps: usize,
    mut block: *const u8,
    x: SomeRows<'_>,
) -> [Lanes; N] {
    let low = _mm512_set1_epi8(15);
    let mut out = [_mm512_setzero_ps(); N];
    let mut codes = x.codes.as_ptr();
    for j in 0..x.groups {
        // SAFETY: the group is there; its codes and numbers of each row, too.
        unsafe {
            let (scale, offset) = (halves(block), halves(block.add(SCALES)));
            // Two sums a row, so that one instruction need not wait for the other.
            let mut dots = [[_mm512_setzero_si512(); 2]; N];
            for _ in 0..steps {
                block = block.add(STEP);
                let step = _mm512_loadu_si512(block.cast());
                let first = _mm512_and_si512(step, low);
                let second = _mm512_and_si512(_mm512_srli_epi16::<4>(step), low);
                for n in 0..N {
                    let x = codes.add(n * x.width);
                    dots[n][0] = _mm512_dpbusd_epi32(dots[n][0], first, four(x));
                    // Where there are other rows to go on with, one sum is enough.
                    let sum = usize::from(N < 4);
                    dots[n][sum] = _mm512_dpbusd_epi32(dots[n][sum], second, four(x.add(4)));
                }
                codes = codes.add(8);
            }
            block = block.add(STEP);
            for n in 0..N {
                let at = n * x.groups + j;
                let mut dot = dots[n][0];
                if N < 4 {
                    dot = _mm512_add_epi32(dot, dots[n][1]);
                }
                let sum = _mm512_set1_ps(*x.sum.get_unchecked(at));
                let by = _mm512_mul_ps(scale, _mm512_set1_ps(*x.scale.get_unchecked(at)));
                out[n] = _mm512_fmadd_ps(offset, sum, out[n]);
                out[n] = _mm512_fmadd_ps(by, _mm512_cvtepi32_ps(dot), out[n]);
            }
        }
    }
    lanes(out)
}

/// # Safety
/// `block` has for each of the groups of `x` `steps` of codes, with [`SCALES`] bytes before each if they are `GROUPED`, else with one
/// register of scales before all; a group of `x` is `4 * steps` wide.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn bytes<const N: usize, const GROUPED: bool>(
    steps: usize,
    mut block: *const u8,
    x: SomeRows<'_>,
) -> [Lanes; N] {
    // The instruction wants one factor without a sign: the weight plus 128, for which `shift` makes up.
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut out = [_mm512_setzero_ps(); N];
    // SAFETY: as in `nibbles`.
    unsafe {
        let mut scale = _mm512_setzero_ps();
        if !GROUPED {
            scale = _mm512_loadu_ps(block.cast());
            block = block.add(STEP);
        }
        let mut codes = x.codes.as_ptr();
        for j in 0..x.groups {
            if GROUPED {
                scale = halves(block);
                block = block.add(SCALES);
            }
            let mut dots = [_mm512_setzero_si512(); N];
            for n in 0..N {
                dots[n] = _mm512_set1_epi32(*x.shift.get_unchecked(n * x.groups + j));
            }
            for _ in 0..steps {
                let step = _mm512_xor_si512(_mm512_loadu_si512(block.cast()), flip);
                block = block.add(STEP);
                for n in 0..N {
                    dots[n] = _mm512_dpbusd_epi32(dots[n], step, four(codes.add(n * x.width)));
                }
                codes = codes.add(4);
            }
            for n in 0..N {
                let mut by = _mm512_set1_ps(*x.scale.get_unchecked(n * x.groups + j));
                if GROUPED {
                    by = _mm512_mul_ps(scale, by);
                }
                out[n] = _mm512_fmadd_ps(by, _mm512_cvtepi32_ps(dots[n]), out[n]);
            }
        }
        if !GROUPED {
            for n in 0..N {
                out[n] = _mm512_mul_ps(scale, out[n]);
            }
        }
    }
    lanes(out)
}

/// Four codes in each lane.
///
/// # Safety
/// There are four from `x` on.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn four(x: *const i8) -> __m512i {
    // SAFETY: the caller's.
    _mm512_set1_epi32(unsafe { x.cast::<i32>().read_unaligned() })
}

/// Sixteen f16 as f32.
///
/// # Safety
/// There are sixteen from `from` on.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn halves(from: *const u8) -> __m512 {
    // SAFETY: the caller's.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn lanes<const N: usize>(out: [__m512; N]) -> [Lanes; N] {
    // SAFETY: the same numbers, and an array of arrays has no gaps.
    unsafe { transmute_copy::<[__m512; N], [Lanes; N]>(&out) }
}
