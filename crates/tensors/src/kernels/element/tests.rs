use super::{Bf16, Element};
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
