//! Sums over a row: sixteen partial sums side by side, added up by halves at the end, so that the compiler may
//! vectorise and every processor adds in the same order.

use std::hint::black_box;

use super::element::Element;
use super::machine::Machine;
use super::math::fma;

const LANES: usize = 16;

type Lanes = [f32; LANES];

/// Their sum, by halves.
#[inline(always)]
fn fold(lanes: &Lanes) -> f32 {
    // Or else the compiler lets this tree of sums decide how it keeps the lanes in the loop before: in pairs.
    let lanes = black_box(lanes);
    let (mut eight, mut four) = ([0.0; 8], [0.0; 4]);
    for i in 0..8 {
        eight[i] = lanes[i] + lanes[i + 8];
    }
    for i in 0..4 {
        four[i] = eight[i] + eight[i + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

#[inline(always)]
pub(super) fn sum<X: Element>(x: &[X]) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for x in chunks {
        for i in 0..LANES {
            lanes[i] += x[i].get();
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x.get();
    }
    fold(&lanes)
}

/// Sum of `(x - mean)^2`.
#[inline(always)]
pub(super) fn centred_square<M: Machine, X: Element>(x: &[X], mean: f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for x in chunks {
        for i in 0..LANES {
            let centred = x[i].get() - mean;
            lanes[i] = fma::<M>(centred, centred, lanes[i]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        let centred = x.get() - mean;
        *lane = fma::<M>(centred, centred, *lane);
    }
    fold(&lanes)
}

/// Sums of `dy * weight` and of `dy * weight * (x - mean)`.
#[inline(always)]
pub(super) fn dot<M: Machine, D: Element, X: Element>(
    dy: &[D],
    weight: &[f32],
    x: &[X],
    mean: f32,
) -> [f32; 2] {
    let (dys, dy_rest) = dy.as_chunks::<LANES>();
    let (weights, weight_rest) = weight.as_chunks::<LANES>();
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (mut plain, mut centred) = ([0.0; LANES], [0.0; LANES]);
    for ((dy, weight), x) in dys.iter().zip(weights).zip(xs) {
        for i in 0..LANES {
            let g = dy[i].get() * weight[i];
            plain[i] += g;
            centred[i] = fma::<M>(g, x[i].get() - mean, centred[i]);
        }
    }
    for (i, ((dy, weight), x)) in dy_rest.iter().zip(weight_rest).zip(x_rest).enumerate() {
        let g = dy.get() * weight;
        plain[i] += g;
        centred[i] = fma::<M>(g, x.get() - mean, centred[i]);
    }
    [fold(&plain), fold(&centred)]
}

/// The largest of `scale * x`, NaN apart; minus infinity for an empty row.
#[inline(always)]
pub(super) fn largest<X: Element>(x: &[X], scale: f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for x in chunks {
        for i in 0..LANES {
            let x = scale * x[i].get();
            lanes[i] = if x > lanes[i] { x } else { lanes[i] };
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        let x = scale * x.get();
        *lane = if x > *lane { x } else { *lane };
    }
    let mut most = f32::NEG_INFINITY;
    for &lane in black_box(&lanes) {
        most = if lane > most { lane } else { most };
    }
    most
}

/// `sums += x`, as far as `sums` reaches.
#[inline(always)]
pub(super) fn accumulate<X: Element>(sums: &mut [f32], x: &[X]) {
    let n = sums.len();
    let x = &x[..n];
    for i in 0..n {
        sums[i] += x[i].get();
    }
}
