//! The nonlinearities and their derivatives, along rows.

use crate::kernels::element::Element;
use crate::kernels::machine::Machine;
use crate::kernels::math::{fma, normal_cdf, normal_density, sigmoid};

/// A nonlinearity of one number.
pub(super) trait Function {
    fn value<M: Machine>(x: f32) -> f32;
    /// Value and derivative.
    fn both<M: Machine>(x: f32) -> (f32, f32);
}

pub(super) struct Gelu;
pub(super) struct Relu;
pub(super) struct Swish;

impl Function for Gelu {
    #[inline(always)]
    fn value<M: Machine>(x: f32) -> f32 {
        x * normal_cdf::<M>(x)
    }

    #[inline(always)]
    fn both<M: Machine>(x: f32) -> (f32, f32) {
        let below = normal_cdf::<M>(x);
        (x * below, fma::<M>(x, normal_density::<M>(x), below))
    }
}

impl Function for Relu {
    #[inline(always)]
    fn value<M: Machine>(x: f32) -> f32 {
        // NaN stays NaN.
        if x < 0.0 { 0.0 } else { x }
    }

    #[inline(always)]
    fn both<M: Machine>(x: f32) -> (f32, f32) {
        (Self::value::<M>(x), if x > 0.0 { 1.0 } else { 0.0 })
    }
}

impl Function for Swish {
    #[inline(always)]
    fn value<M: Machine>(x: f32) -> f32 {
        x * sigmoid::<M>(x)
    }

    #[inline(always)]
    fn both<M: Machine>(x: f32) -> (f32, f32) {
        let gate = sigmoid::<M>(x);
        (x * gate, gate * fma::<M>(x, 1.0 - gate, 1.0))
    }
}

/// `F(u + bias) * (gate + gate_bias)`.
#[inline(always)]
pub(super) fn values<M: Machine, F: Function, U: Element, O: Element>(
    u: &[U],
    bias: &[f32],
    gate: Option<(&[U], &[f32])>,
    out: &mut [O],
) {
    let n = out.len();
    let (u, bias) = (&u[..n], &bias[..n]);
    match gate {
        Some((gate, gate_bias)) => {
            let (gate, gate_bias) = (&gate[..n], &gate_bias[..n]);
            for i in 0..n {
                let value = F::value::<M>(u[i].get() + bias[i]);
                out[i] = O::put(value * (gate[i].get() + gate_bias[i]));
            }
        }
        None => {
            for i in 0..n {
                out[i] = O::put(F::value::<M>(u[i].get() + bias[i]));
            }
        }
    }
}

/// Values and derivatives of `F(u + bias)`.
#[inline(always)]
pub(super) fn both<M: Machine, F: Function, U: Element>(
    u: &[U],
    bias: &[f32],
    value: &mut [f32],
    slope: &mut [f32],
) {
    let n = u.len();
    let (bias, value, slope) = (&bias[..n], &mut value[..n], &mut slope[..n]);
    for i in 0..n {
        (value[i], slope[i]) = F::both::<M>(u[i].get() + bias[i]);
    }
}
