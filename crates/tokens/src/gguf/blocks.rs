//! One block of each quantised type to plain floats.
//!
//! The layouts are those of the structures `block_*` in ggml's `ggml-common.h`; the arithmetic has
//! the order of `dequantize_row_*`, so that every float is the same, unless a compiler
//! fuses a multiplication with an addition there. Integers become floats before anything is
//! subtracted, which is exact and keeps the loops free of overflow checks.

/// Half precision to f32, exactly; without branches, so that loops over it vectorise.
pub(super) fn half(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = magnitude & 0x7c00;
    // 112 is the distance of the two formats' exponent biases.
    let normal = (magnitude << 13).wrapping_add(112 << 23);
    let infinite = (magnitude << 13) | 0x7f80_0000; // or not a number
    let tiny = (f32::from(bits & 0x3ff) * f32::from_bits(0x3380_0000)).to_bits(); // 2^-24
    let absolute = if exponent == 0 { tiny } else { normal };
    let absolute = if exponent == 0x7c00 { infinite } else { absolute };
    f32::from_bits(sign | absolute)
}

pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    half(u16::from_le_bytes([block[at], block[at + 1]]))
}

fn low(byte: u8) -> f32 {
    f32::from(byte & 15)
}

fn high(byte: u8) -> f32 {
    f32::from(byte >> 4)
}

pub(super) fn f32(block: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*block);
}

pub(super) fn f16(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = half(u16::from_le_bytes(*block));
}

pub(super) fn bf16(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*block)) << 16);
}

/// A scale, then 32 signed bytes.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (out, &byte) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(byte as i8) * scale;
    }
}

/// A scale, then 16 bytes: the lower halves are the first 16 values.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    let (first, second) = out.split_at_mut(16);
    for ((first, second), &byte) in first.iter_mut().zip(second).zip(&block[2..]) {
        *first = (low(byte) - 8.0) * scale;
        *second = (high(byte) - 8.0) * scale;
    }
}

/// A scale, a minimum, then 16 bytes as in Q4_0.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    let (first, second) = out.split_at_mut(16);
    for ((first, second), &byte) in first.iter_mut().zip(second).zip(&block[4..]) {
        *first = low(byte) * scale + min;
        *second = high(byte) * scale + min;
    }
}

/// The fifth bits of 32 values, each worth 16.
fn fifth_bits(bytes: [u8; 4]) -> [f32; 32] {
    let bits = u32::from_le_bytes(bytes);
    std::array::from_fn(|i| if bits & (1 << i) != 0 { 16.0 } else { 0.0 })
}

/// A scale, 32 fifth bits, then 16 bytes as in Q4_0.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    let fifth = fifth_bits([block[2], block[3], block[4], block[5]]);
    let (first, second) = out.split_at_mut(16);
    for (i, ((first, second), &byte)) in first.iter_mut().zip(second).zip(&block[6..]).enumerate() {
        *first = (low(byte) + fifth[i] - 16.0) * scale;
        *second = (high(byte) + fifth[i + 16] - 16.0) * scale;
    }
}

/// A scale, a minimum, 32 fifth bits, then 16 bytes as in Q4_0.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    let fifth = fifth_bits([block[4], block[5], block[6], block[7]]);
    let (first, second) = out.split_at_mut(16);
    for (i, ((first, second), &byte)) in first.iter_mut().zip(second).zip(&block[8..]).enumerate() {
        *first = (low(byte) + fifth[i]) * scale + min;
        *second = (high(byte) + fifth[i + 16]) * scale + min;
    }
}

/// The scale and the minimum, 6 bits each, of one of the 8 blocks that share 12 bytes.
pub(super) fn scale_and_min(packed: &[u8], block: usize) -> (f32, f32) {
    let (scale, min) = if block < 4 {
        (packed[block] & 63, packed[block + 4] & 63)
    } else {
        let shared = packed[block + 4];
        (
            (shared & 15) | ((packed[block - 4] >> 6) << 4),
            (shared >> 4) | ((packed[block] >> 6) << 4),
        )
    };
    (f32::from(scale), f32::from(min))
}

/// A scale of scales, a scale of minima, 12 bytes of both, then 4 times 32 bytes: their lower
/// halves are one block of 32, their upper halves the next.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    let (packed, quants) = block[4..].split_at(12);
    for (pair, (bytes, out)) in quants.chunks_exact(32).zip(out.chunks_exact_mut(64)).enumerate() {
        let [(s1, m1), (s2, m2)] = [2 * pair, 2 * pair + 1].map(|i| scale_and_min(packed, i));
        let [(s1, m1), (s2, m2)] = [(scale * s1, min * m1), (scale * s2, min * m2)];
        let (first, second) = out.split_at_mut(32);
        for ((first, second), &byte) in first.iter_mut().zip(second).zip(bytes) {
            *first = s1 * low(byte) - m1;
            *second = s2 * high(byte) - m2;
        }
    }
}

/// As Q4_K, with 32 bytes of fifth bits before the rest: bit `i` of each byte is for block `i`.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    let (packed, rest) = block[4..].split_at(12);
    let (fifth, quants) = rest.split_at(32);
    for (pair, (bytes, out)) in quants.chunks_exact(32).zip(out.chunks_exact_mut(64)).enumerate() {
        let [(s1, m1), (s2, m2)] = [2 * pair, 2 * pair + 1].map(|i| scale_and_min(packed, i));
        let [(s1, m1), (s2, m2)] = [(scale * s1, min * m1), (scale * s2, min * m2)];
        let (first, second) = out.split_at_mut(32);
        let outs = first.iter_mut().zip(second);
        for ((first, second), (&byte, &bits)) in outs.zip(bytes.iter().zip(fifth)) {
            let bits = bits >> (2 * pair);
            *first = s1 * (low(byte) + f32::from((bits & 1) << 4)) - m1;
            *second = s2 * (high(byte) + f32::from((bits & 2) << 3)) - m2;
        }
    }
}

/// 128 bytes of the lower 4 bits, 64 of the upper 2, 16 signed scales, then the scale of scales;
/// each half of them makes 128 values.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (lower, rest) = block.split_at(128);
    let (upper, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(16);
    let scale = half_at(scale, 0);
    let halves = lower.chunks_exact(64).zip(upper.chunks_exact(32)).zip(scales.chunks_exact(8));
    for (((lower, upper), scales), out) in halves.zip(out.chunks_exact_mut(128)) {
        let (lower_even, lower_odd) = lower.split_at(32);
        for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
            let lower = if quarter % 2 == 0 { lower_even } else { lower_odd };
            let nibble = 4 * (quarter / 2); // the first two quarters lie in the lower halves
            for (group, out) in out.chunks_exact_mut(16).enumerate() {
                let scale = scale * f32::from(scales[2 * quarter + group] as i8);
                let bytes = lower[16 * group..].iter().zip(&upper[16 * group..]);
                for (out, (&low, &high)) in out.iter_mut().zip(bytes) {
                    let quant = ((low >> nibble) & 15) | (((high >> (2 * quarter)) & 3) << 4);
                    *out = scale * (f32::from(quant) - 32.0);
                }
            }
        }
    }
}
