use super::{Bf16, Element, F16};
use crate::fixtures::{floats, randn};
use tch::{Kind, Tensor};

#[test]
fn rounding_to_bf16_is_libtorchs() {
    let ties = [1.003_906_3, 1.011_718_8, 3.0e38, -0.0, 1e-40, f32::MAX, f32::INFINITY, f32::NAN];
    let x = Tensor::cat(&[randn(&[1000], 1), Tensor::from_slice(&ties)], 0);
    let want = floats(&x.to_kind(Kind::BFloat16));
    for (x, want) in floats(&x).into_iter().zip(want) {
        let got = f64::from(Bf16::put(x as f32).get());
        assert!(got == want || (got.is_nan() && want.is_nan()), "{x}: {got}, not {want}");
    }
}

#[test]
fn every_f16_is_read_as_libtorch_does_and_written_back() {
    let bits: Vec<i16> = (i16::MIN..=i16::MAX).collect();
    let halves = Tensor::from_slice(&bits).view_dtype(Kind::Half);
    for (bits, want) in bits.into_iter().zip(floats(&halves)) {
        let half = F16(bits as u16);
        let got = f64::from(half.get());
        assert!(got == want || (got.is_nan() && want.is_nan()), "{bits:x}: {got}, not {want}");
        assert!(got.is_nan() || F16::put(half.get()) == half, "{bits:x}");
    }
}

#[test]
fn rounding_to_f16_is_libtorchs() {
    let edges = [
        65_519.0,
        65_520.0,
        1e30,
        6.1e-5,
        3.0e-8,
        2.9e-8,
        5.9e-8,
        1.000_488_3,
        -0.0,
        2049.0,
        f32::NAN,
    ];
    let scales = [1.0, 1e-4, 1e-6, 1e4].map(|scale| randn(&[500], 1) * scale);
    let x = Tensor::cat(&[Tensor::cat(&scales, 0), Tensor::from_slice(&edges)], 0);
    let want = floats(&x.to_kind(Kind::Half));
    for (x, want) in floats(&x).into_iter().zip(want) {
        let got = f64::from(F16::put(x as f32).get());
        assert!(got == want || (got.is_nan() && want.is_nan()), "{x:e}: {got}, not {want}");
    }
}
