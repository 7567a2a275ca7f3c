//! The product of a tile in plain loops.

use super::activations::SomeRows;
use super::layout::{Codes, SCALES, STEP, Shape, float};
use super::tile::{LANES, Lanes};
use crate::kernels::element::{Element, F16};
use crate::kernels::machine::Machine;
use crate::kernels::math::fma;

#[inline(always)]
pub(super) fn tile<M: Machine, const N: usize>(
    shape: &Shape,
    block: &[u8],
    x: SomeRows<'_>,
) -> [Lanes; N] {
    let mut out = [[0.0; LANES]; N];
    for n in 0..N {
        let codes = &x.codes[n * x.width..][..x.width];
        for j in 0..x.groups {
            let group = &block[shape.head() + j * shape.group_bytes()..][..shape.group_bytes()];
            let codes = &codes[j * shape.group..][..shape.group];
            let at = n * x.groups + j;
            out[n] = match shape.codes {
                Codes::Nibbles => nibbles::<M>(out[n], group, codes, [x.scale[at], x.sum[at]]),
                Codes::Bytes => bytes::<M>(out[n], group, codes, [x.scale[at]; LANES]),
                Codes::GroupedBytes => {
                    let (scales, group) = group.split_at(SCALES);
                    let by = halves(scales).map(|scale| scale * x.scale[at]);
                    bytes::<M>(out[n], group, codes, by)
                }
            };
        }
        if shape.codes == Codes::Bytes {
            for lane in 0..LANES {
                out[n][lane] *= float(block, lane);
            }
        }
    }
    out
}

/// `out + scale · x · codes + offset · sum` of one group.
#[inline(always)]
fn nibbles<M: Machine>(mut out: Lanes, group: &[u8], x: &[i8], [by, sum]: [f32; 2]) -> Lanes {
    let (head, steps) = group.split_at(STEP);
    let mut dot = [0i32; LANES];
    for (step, x) in steps.as_chunks::<STEP>().0.iter().zip(x.as_chunks::<8>().0) {
        for lane in 0..LANES {
            for i in 0..4 {
                let byte = step[4 * lane + i];
                dot[lane] += i32::from(byte & 15) * i32::from(x[i]);
                dot[lane] += i32::from(byte >> 4) * i32::from(x[4 + i]);
            }
        }
    }
    let (scales, offsets) = head.split_at(SCALES);
    let (scales, offsets) = (halves(scales), halves(offsets));
    for lane in 0..LANES {
        out[lane] = fma::<M>(offsets[lane], sum, out[lane]);
        out[lane] = fma::<M>(scales[lane] * by, dot[lane] as f32, out[lane]);
    }
    out
}

/// One f16 for each row.
#[inline(always)]
fn halves(from: &[u8]) -> Lanes {
    let mut out = [0.0; LANES];
    for (out, bytes) in out.iter_mut().zip(from.as_chunks::<2>().0) {
        *out = F16(u16::from_le_bytes(*bytes)).get();
    }
    out
}

/// `out + by · x · codes` of one group.
#[inline(always)]
fn bytes<M: Machine>(mut out: Lanes, group: &[u8], x: &[i8], by: Lanes) -> Lanes {
    let mut dot = [0i32; LANES];
    for (step, x) in group.as_chunks::<STEP>().0.iter().zip(x.as_chunks::<4>().0) {
        for lane in 0..LANES {
            for i in 0..4 {
                dot[lane] += i32::from(step[4 * lane + i].cast_signed()) * i32::from(x[i]);
            }
        }
    }
    for lane in 0..LANES {
        out[lane] = fma::<M>(by[lane], dot[lane] as f32, out[lane]);
    }
    out
}
