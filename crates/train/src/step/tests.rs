use proptest::prelude::*;
use tch::IndexOp;

use super::*;

fn gradients(values: &[Vec<f32>]) -> Vec<Tensor> {
    values.iter().map(|v| Tensor::from_slice(v)).collect()
}

fn flat(tensors: &[Tensor]) -> Vec<f64> {
    tensors.iter().flat_map(|t| Vec::<f32>::try_from(t).unwrap()).map(f64::from).collect()
}

/// The obvious way, in f64.
fn oracle(values: &[f64], max_norm: f64) -> (f64, Vec<f64>) {
    let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let factor = (max_norm / (norm + 1e-6)).min(1.0);
    (norm, values.iter().map(|v| v * factor).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn clipping_equals_the_obvious_way(
        values in prop::collection::vec(prop::collection::vec(-3.0_f32..3.0, 1..9), 1..5),
        max_norm in 0.01..20.0_f64,
    ) {
        let mut clipped = gradients(&values);
        let (norm, expected) = oracle(&flat(&clipped), max_norm);
        let got = clip_gradients(&mut clipped, Some(max_norm)).unwrap();
        // f32 sums of at most 32 terms: a few units of 6e-8 relative.
        prop_assert!((got - norm).abs() <= 1e-6 * norm, "{got} {norm}");
        for (got, expected) in flat(&clipped).iter().zip(&expected) {
            prop_assert!((got - expected).abs() <= 1e-6 * expected.abs() + 1e-9, "{got} {expected}");
        }
        let (clipped_norm, _) = oracle(&flat(&clipped), 1.0);
        prop_assert!(clipped_norm <= max_norm * (1.0 + 1e-6));
    }
}

#[test]
fn gradients_within_the_bound_and_gradients_without_a_bound_keep_their_bits() {
    for max_norm in [Some(5.1), None] {
        let mut untouched = gradients(&[vec![3.0], vec![4.0, 0.0]]);
        let norm = clip_gradients(&mut untouched, max_norm).unwrap();
        assert_eq!(norm, 5.0);
        assert_eq!(flat(&untouched), [3.0, 4.0, 0.0]);
        assert_eq!(untouched[1].i(0).double_value(&[]), 4.0);
    }
}
