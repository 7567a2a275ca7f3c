//! The loops that a fit spends its time in, over contiguous columns: exponentials, logarithms, dot products.
//!
//! Plain loops without branches, which the compiler turns into vector instructions; compiled a second time for
//! processors with AVX2 and fused multiply-add, chosen when the program runs.

/// `a · b + c`, fused where the caller was compiled for it.
#[inline(always)]
fn fma<const FUSED: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Largest argument of [`exp`]; beyond it, and below its negative, the result saturates.
const MAX_EXPONENT: f64 = 700.;

/// Taylor coefficients of `exp` from the 13th to the 2nd.
const EXP: [f64; 12] = [
    1.605_904_383_682_161_3e-10,
    2.087_675_698_786_81e-9,
    2.505_210_838_544_172e-8,
    2.755_731_922_398_589e-7,
    2.755_731_922_398_589_3e-6,
    2.480_158_730_158_73e-5,
    1.984_126_984_126_984e-4,
    1.388_888_888_888_889e-3,
    8.333_333_333_333_333e-3,
    4.166_666_666_666_666_4e-2,
    1.666_666_666_666_666_6e-1,
    0.5,
];

/// `e^x` within two units in the last place: `x = k ln 2 + r`, a polynomial in `r`, and `k` added to the exponent.
#[inline(always)]
fn exp<const FUSED: bool>(x: f64) -> f64 {
    const MAGIC: f64 = 6_755_399_441_055_744.; // 1.5 · 2^52: adding it rounds, and leaves the integer in the low bits
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let x = x.clamp(-MAX_EXPONENT, MAX_EXPONENT);
    let shifted = fma::<FUSED>(x, std::f64::consts::LOG2_E, MAGIC);
    let k = shifted - MAGIC;
    let r = fma::<FUSED>(k, -LN2_LOW, fma::<FUSED>(k, -LN2_HIGH, x));
    let mut p = EXP[0];
    for &c in &EXP[1..] {
        p = fma::<FUSED>(p, r, c);
    }
    let value = fma::<FUSED>(p * r, r, r) + 1.;
    f64::from_bits(value.to_bits().wrapping_add(shifted.to_bits() << 52))
}

/// `ln x` of a positive normal number, within two units in the last place.
#[inline(always)]
fn ln<const FUSED: bool>(x: f64) -> f64 {
    const TWO_52: f64 = 4_503_599_627_370_496.;
    let bits = x.to_bits();
    let exponent = f64::from_bits(0x4330_0000_0000_0000 | (bits >> 52)) - TWO_52 - 1023.;
    let mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    let is_large = mantissa > std::f64::consts::SQRT_2;
    let mantissa = if is_large { 0.5 * mantissa } else { mantissa };
    let exponent = if is_large { exponent + 1. } else { exponent };
    let s = (mantissa - 1.) / (mantissa + 1.);
    let z = s * s;
    let mut p = 1. / 23.;
    for k in [21., 19., 17., 15., 13., 11., 9., 7., 5., 3.] {
        p = fma::<FUSED>(p, z, 1. / k);
    }
    let tail = fma::<FUSED>(2. * s * z, p, 2. * s);
    fma::<FUSED>(exponent, std::f64::consts::LN_2, tail)
}

/// The sum of running sums, halves onto halves.
#[inline(always)]
fn total<const N: usize>(sums: &[f64; N]) -> f64 {
    let mut sums = *sums;
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Defines a kernel twice, and a function that picks.
macro_rules! kernel {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? { $($body:tt)* }) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "a kernel takes its columns one by one")]
        pub(crate) fn $name($($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body<const FUSED: bool>($($arg: $type),*) $(-> $result)? { $($body)* }
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $type),*) $(-> $result)? { body::<true>($($arg),*) }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has what `wide` was compiled for.
                    #[expect(unsafe_code, reason = "a function for newer processors, after asking")]
                    return unsafe { wide($($arg),*) };
                }
            }
            body::<false>($($arg),*)
        }
    };
}

kernel! {
    /// `out = exp(constant + slope · column)`.
    fn exp_linear(constant: f64, slope: f64, column: &[f64], out: &mut [f64]) {
        for (out, &x) in out.iter_mut().zip(column) {
            *out = exp::<FUSED>(fma::<FUSED>(slope, x, constant));
        }
    }
}

kernel! {
    /// `values = exp(values)`.
    fn exp_all(values: &mut [f64]) {
        for value in values {
            *value = exp::<FUSED>(*value);
        }
    }
}

kernel! {
    /// `out = ln(values)`, of positive numbers.
    fn ln_all(values: &[f64], out: &mut [f64]) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = ln::<FUSED>(value);
        }
    }
}

kernel! {
    /// `out += factor · column`.
    fn add_scaled(factor: f64, column: &[f64], out: &mut [f64]) {
        for (out, &x) in out.iter_mut().zip(column) {
            *out = fma::<FUSED>(factor, x, *out);
        }
    }
}

kernel! {
    /// `out = a · b`, element by element.
    fn multiply(a: &[f64], b: &[f64], out: &mut [f64]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = a * b;
        }
    }
}

kernel! {
    /// `out = a - b`, element by element.
    fn subtract(a: &[f64], b: &[f64], out: &mut [f64]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = a - b;
        }
    }
}

kernel! {
    /// `out = a / b`, element by element.
    fn divide(a: &[f64], b: &[f64], out: &mut [f64]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = a / b;
        }
    }
}

kernel! {
    /// `Σ a b c`, in eight running sums.
    fn dot3(a: &[f64], b: &[f64], c: &[f64]) -> f64 {
        let n = a.len().min(b.len()).min(c.len());
        let whole = n - n % 8;
        let tail: f64 = (whole..n).map(|i| a[i] * b[i] * c[i]).sum();
        let mut sums = [0.; 8];
        let chunks = a[..whole].chunks_exact(8).zip(b[..whole].chunks_exact(8));
        for ((a, b), c) in chunks.zip(c[..whole].chunks_exact(8)) {
            for lane in 0..8 {
                sums[lane] = fma::<FUSED>(a[lane] * b[lane], c[lane], sums[lane]);
            }
        }
        tail + ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))
    }
}

kernel! {
    /// `Σ a b`, in sixteen running sums, so that no addition waits for the one before it.
    fn dot(a: &[f64], b: &[f64]) -> f64 {
        let n = a.len().min(b.len());
        let ((a, a_tail), (b, b_tail)) = (a[..n].as_chunks::<16>(), b[..n].as_chunks::<16>());
        let tail: f64 = a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum();
        let mut sums = [0.; 16];
        for (a, b) in a.iter().zip(b) {
            for lane in 0..16 {
                sums[lane] = fma::<FUSED>(a[lane], b[lane], sums[lane]);
            }
        }
        tail + total(&sums)
    }
}

kernel! {
    /// `Σ left right` of four columns at once, each in eight running sums.
    fn dot4(left: &[f64], right: [&[f64]; 4]) -> [f64; 4] {
        let n = left.len();
        let (left, left_tail) = left.as_chunks::<8>();
        let [a, b, c, d] = right.map(|column| column[..n].as_chunks::<8>());
        let mut sums = [[0.; 8]; 4];
        for ((((left, a), b), c), d) in left.iter().zip(a.0).zip(b.0).zip(c.0).zip(d.0) {
            for lane in 0..8 {
                sums[0][lane] = fma::<FUSED>(left[lane], a[lane], sums[0][lane]);
                sums[1][lane] = fma::<FUSED>(left[lane], b[lane], sums[1][lane]);
                sums[2][lane] = fma::<FUSED>(left[lane], c[lane], sums[2][lane]);
                sums[3][lane] = fma::<FUSED>(left[lane], d[lane], sums[3][lane]);
            }
        }
        let mut out = [0.; 4];
        for ((out, sums), tail) in out.iter_mut().zip(&sums).zip([a.1, b.1, c.1, d.1]) {
            let rest: f64 = left_tail.iter().zip(tail).map(|(a, b)| a * b).sum();
            *out = rest + total(sums);
        }
        out
    }
}

/// What [`robust`] needs to know of an objective.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Robust {
    /// Where the loss turns from square to linear.
    pub(crate) delta: f64,
    /// 0 for Newton's weights, 1 for the weights that majorise (iterated least squares), between for a mixture.
    pub(crate) blend: f64,
}

kernel! {
    /// Huber's loss of `residuals`: writes `w ψ` and the weights of the quadratic model, returns `Σ w ρ`.
    fn robust(rule: Robust, residuals: &[f64], weights: &[f64], slope: &mut [f64], curvature: &mut [f64]) -> f64 {
        let Robust { delta, blend } = rule;
        let n = residuals.len();
        let (weights, slope, curvature) = (&weights[..n], &mut slope[..n], &mut curvature[..n]);
        let mut sums = [0.; 4];
        for start in (0..n).step_by(4) {
            for (lane, sum) in sums.iter_mut().enumerate().take(n - start) {
                let i = start + lane;
                let (r, w) = (residuals[i], weights[i]);
                let psi = r.max(-delta).min(delta);
                let size = r.abs();
                *sum = fma::<FUSED>(w * psi, r - 0.5 * psi, *sum);
                slope[i] = w * psi;
                curvature[i] = if size <= delta { w } else { w * blend * (delta / size) };
            }
        }
        (sums[0] + sums[2]) + (sums[1] + sums[3])
    }
}

kernel! {
    /// `Σ w ρ` alone.
    fn robust_value(delta: f64, residuals: &[f64], weights: &[f64]) -> f64 {
        let mut sums = [0.; 4];
        let (r_chunks, w_chunks) = (residuals.chunks_exact(4), weights.chunks_exact(4));
        let tail: f64 = r_chunks
            .remainder()
            .iter()
            .zip(w_chunks.remainder())
            .map(|(r, w)| {
                let psi = r.max(-delta).min(delta);
                w * psi * (r - 0.5 * psi)
            })
            .sum();
        for (r, w) in r_chunks.zip(w_chunks) {
            for lane in 0..4 {
                let psi = r[lane].max(-delta).min(delta);
                sums[lane] = fma::<FUSED>(w[lane] * psi, r[lane] - 0.5 * psi, sums[lane]);
            }
        }
        tail + (sums[0] + sums[2]) + (sums[1] + sums[3])
    }
}

#[cfg(test)]
mod tests;
