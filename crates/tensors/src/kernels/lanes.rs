//! Sums over a row: sixteen partial sums side by side, added up by halves at the end, so that the compiler may
//! vectorise and every processor adds in the same order.

use std::hint::black_box;

use super::element::Element;
use super::machine::Machine;
use super::math::fma;

pub(super) const LANES: usize = 16;

/// By value from function to function: the compiler keeps them in a register, which it often does not do with two arrays
/// that one loop changes.
pub(super) type Lanes = [f32; LANES];

#[inline(always)]
pub(super) fn load<X: Element>(x: &[X; LANES]) -> Lanes {
    let mut lanes = [0.0; LANES];
    for i in 0..LANES {
        lanes[i] = x[i].get();
    }
    lanes
}

#[inline(always)]
pub(super) fn plus(mut a: Lanes, b: Lanes) -> Lanes {
    for i in 0..LANES {
        a[i] += b[i];
    }
    a
}

#[inline(always)]
fn times(mut a: Lanes, b: Lanes) -> Lanes {
    for i in 0..LANES {
        a[i] *= b[i];
    }
    a
}

#[inline(always)]
fn less(mut a: Lanes, b: f32) -> Lanes {
    for i in 0..LANES {
        a[i] -= b;
    }
    a
}

#[inline(always)]
fn scaled(mut a: Lanes, b: f32) -> Lanes {
    for i in 0..LANES {
        a[i] *= b;
    }
    a
}

/// `sum + a * b`.
#[inline(always)]
pub(super) fn add_product<M: Machine>(mut sum: Lanes, a: Lanes, b: Lanes) -> Lanes {
    for i in 0..LANES {
        sum[i] = fma::<M>(a[i], b[i], sum[i]);
    }
    sum
}

/// The larger one, or `b` where `a` is NaN.
#[inline(always)]
fn larger(a: Lanes, mut b: Lanes) -> Lanes {
    for i in 0..LANES {
        b[i] = if a[i] > b[i] { a[i] } else { b[i] };
    }
    b
}

/// Their sum, by halves.
#[inline(always)]
pub(super) fn fold(lanes: &Lanes) -> f32 {
    // Or else the compiler lets this tree of sums decide how it keeps the lanes in the loop before: in pairs. A copy, because
    // what is lent out the loop writes back to memory in each turn.
    let lanes = black_box(*lanes);
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
        lanes = plus(lanes, load(x));
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
        let centred = less(load(x), mean);
        lanes = add_product::<M>(lanes, centred, centred);
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
        let g = times(load(dy), *weight);
        plain = plus(plain, g);
        centred = add_product::<M>(centred, g, less(load(x), mean));
    }
    let rest = dy_rest.iter().zip(weight_rest).zip(x_rest);
    for ((plain, centred), ((dy, weight), x)) in plain.iter_mut().zip(&mut centred).zip(rest) {
        let g = dy.get() * weight;
        *plain += g;
        *centred = fma::<M>(g, x.get() - mean, *centred);
    }
    [fold(&plain), fold(&centred)]
}

/// The largest of `scale * x`, NaN apart; minus infinity for an empty row.
#[inline(always)]
pub(super) fn largest<X: Element>(x: &[X], scale: f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for x in chunks {
        lanes = larger(scaled(load(x), scale), lanes);
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        let x = scale * x.get();
        *lane = if x > *lane { x } else { *lane };
    }
    let lanes = black_box(lanes);
    let max = |a: f32, b: f32| if a > b { a } else { b };
    let (mut eight, mut four) = ([0.0; 8], [0.0; 4]);
    for i in 0..8 {
        eight[i] = max(lanes[i], lanes[i + 8]);
    }
    for i in 0..4 {
        four[i] = max(eight[i], eight[i + 4]);
    }
    max(max(four[0], four[2]), max(four[1], four[3]))
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
