//! Functions of one f32 that vectorise: no branches, no tables, no calls.
//!
//! The coefficients are our own weighted least-squares fits to the functions in f64 (relative error, points denser at
//! the ends); errors are against f64 over the whole range, in units of 2⁻²⁴ of the value.

use super::machine::Machine;

/// `a * b + c`.
#[inline(always)]
pub(super) fn fma<M: Machine>(a: f32, b: f32, c: f32) -> f32 {
    if M::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `c[0] + c[1] x + …`, by Horner's rule.
#[inline(always)]
fn polynomial<M: Machine, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = fma::<M>(sum, x, c[i]);
    }
    sum
}

/// eˣ to 3 units; 0 below -87 and infinity above 88.72, so that nothing is subnormal. NaN stays NaN.
#[inline(always)]
pub(super) fn exp<M: Machine>(x: f32) -> f32 {
    const LOWEST: f32 = -87.0;
    const HIGHEST: f32 = 88.72;
    // 1.5 * 2^23: a number of ordinary size added to it is rounded to an integer.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the first has few enough bits that its product with an exponent is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const TAIL: [f32; 5] =
        [0.499_999_94, 0.166_665_2, 0.041_668_393, 0.008_368_781, 0.001_381_446_8];
    let rounded = fma::<M>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = fma::<M>(n, -LN_2_LOW, fma::<M>(n, -LN_2_HIGH, x));
    let tail = polynomial::<M, 5>(r, TAIL);
    let mantissa = fma::<M>(r * r, tail, r) + 1.0;
    // The low bits of `rounded` are n: into the exponent with them.
    let scaled =
        f32::from_bits(mantissa.to_bits().wrapping_add(rounded.to_bits().wrapping_shl(23)));
    let scaled = if x < LOWEST { 0.0 } else { scaled };
    let scaled = if x > HIGHEST { f32::INFINITY } else { scaled };
    if x.is_nan() { x } else { scaled }
}

/// The error function, to 6 units. NaN stays NaN.
#[inline(always)]
pub(super) fn erf<M: Machine>(x: f32) -> f32 {
    // From here on it rounds to 1.
    const ONE: f32 = 3.925;
    const ABOVE: [f32; 6] = [
        std::f32::consts::FRAC_2_SQRT_PI,
        0.190_594_08,
        0.052_769_344,
        0.003_772_565_2,
        0.000_284_844_08,
        0.000_002_046_028,
    ];
    const BELOW: [f32; 6] =
        [1.0, 0.502_242_3, 0.114_182_86, 0.014_983_229, 0.001_163_861_7, 0.000_038_047_81];
    let square = x * x;
    let ratio = x * polynomial::<M, 6>(square, ABOVE) / polynomial::<M, 6>(square, BELOW);
    let ratio = if x > ONE { 1.0 } else { ratio };
    if x < -ONE { -1.0 } else { ratio }
}

/// The distribution function of the standard normal, with an error of some 2⁻²⁴ of 1.
#[inline(always)]
pub(super) fn normal_cdf<M: Machine>(x: f32) -> f32 {
    fma::<M>(erf::<M>(x * std::f32::consts::FRAC_1_SQRT_2), 0.5, 0.5)
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(super) fn sigmoid<M: Machine>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<M>(-x))
}

/// The density of the standard normal.
#[inline(always)]
pub(super) fn normal_density<M: Machine>(x: f32) -> f32 {
    const SCALE: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
    SCALE * exp::<M>(-0.5 * x * x)
}

#[cfg(test)]
mod tests;
