use proptest::prelude::*;
use tch::Device;

use super::*;
use crate::testing::{max_diff, normal, rng};

fn check(kind: NormKind, x: &Tensor, seed: u64) -> (Tensor, Tensor) {
    let mut rng = rng(seed);
    let channels = x.size()[x.dim() - 1];
    let (weight, bias) = (normal(&[channels], &mut rng), normal(&[channels], &mut rng));
    let (mean, shift) = match kind {
        NormKind::LayerNorm => (x.mean_dim(-1, true, None), Some(bias)),
        NormKind::RmsNorm => (Tensor::zeros([1], (Kind::Float, Device::Cpu)), None),
    };
    let centred = x - mean;
    let size = (centred.square().mean_dim(-1, true, None) + 1e-5).sqrt();
    let mut want = centred / size * &weight;
    if let Some(shift) = &shift {
        want += shift;
    }
    let norm = Norm::new(kind, weight, shift, 1e-5);
    (norm.forward(x).unwrap(), want)
}

#[test]
fn both_norms_equal_their_formulas() {
    let x = normal(&[2, 3, 8], &mut rng(1));
    for kind in [NormKind::LayerNorm, NormKind::RmsNorm] {
        let (got, want) = check(kind, &x, 2);
        // A handful of f32 roundings of numbers of size 1.
        assert!(max_diff(&got, &want) < 2e-6, "{kind:?}");
    }
}

#[test]
fn bf16_comes_back_as_bf16_but_is_computed_in_f32() {
    // 256 equal entries and one small one: a bf16 mean of squares would lose the small one.
    let x = normal(&[4, 300], &mut rng(3)).to_kind(Kind::BFloat16);
    for kind in [NormKind::LayerNorm, NormKind::RmsNorm] {
        let (got, _) = check(kind, &x, 4);
        let (_, want) = check(kind, &x.to_kind(Kind::Float), 4);
        assert_eq!(got.kind(), Kind::BFloat16);
        // One rounding to 8 bits of numbers below 16.
        assert!(max_diff(&got, &want) < 16.0 / 256.0, "{kind:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn rms_norm_ignores_a_positive_factor(seed in 0_u64..1000, exponent in -3.0_f64..3.0) {
        let x = normal(&[2, 3, 16], &mut rng(seed));
        let factor = exponent.exp();
        let (plain, _) = check(NormKind::RmsNorm, &x, seed);
        let (scaled, _) = check(NormKind::RmsNorm, &(x * factor), seed);
        // eps = 1e-5 beside a mean square of at least about 0.2·e⁻⁶ = 5e-4: 1 % of a value of size 3.
        let tolerance = 3e-2 * (1.0 / (factor * factor)).clamp(1e-3, 1.0) + 1e-5;
        prop_assert!(max_diff(&plain, &scaled) < tolerance);
    }
}
