//! The product of a tile in plain loops.

use super::activations::SomeRows;
use super::layout::{Codes, STEP, Shape, float};
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
                Codes::Bytes => bytes::<M>(out[n], group, codes, x.scale[at]),
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
    let (scales, offsets) = head.split_at(2 * LANES);
    for lane in 0..LANES {
        let half =
            |from: &[u8]| F16(u16::from_le_bytes([from[2 * lane], from[2 * lane + 1]])).get();
        out[lane] = fma::<M>(half(offsets), sum, out[lane]);
        out[lane] = fma::<M>(half(scales) * by, dot[lane] as f32, out[lane]);
    }
    out
}

/// `out + by · x · codes` of one group.
#[inline(always)]
fn bytes<M: Machine>(mut out: Lanes, group: &[u8], x: &[i8], by: f32) -> Lanes {
    let mut dot = [0i32; LANES];
    for (step, x) in group.as_chunks::<STEP>().0.iter().zip(x.as_chunks::<4>().0) {
        for lane in 0..LANES {
            for i in 0..4 {
                dot[lane] += i32::from(step[4 * lane + i].cast_signed()) * i32::from(x[i]);
            }
        }
    }
    for lane in 0..LANES {
        out[lane] = fma::<M>(by, dot[lane] as f32, out[lane]);
    }
    out
}
