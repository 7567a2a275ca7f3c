use proptest::prelude::*;
use tch::{Kind, Tensor};

use super::*;
use crate::fixtures::randn;
use crate::kernels::machine::tests::on_every_level;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_are_libtorch_s(
        seed in 0_u64..10_000, rows in 1_i64..10, width in prop_oneof![1_i64..70, 1_500_i64..1_700], outs in prop::collection::vec(1_i64..75, 1..4),
        kind in prop::sample::select(vec![Kind::Float, Kind::BFloat16, Kind::Half]), biased: bool,
    ) {
        let x = randn(&[rows, width], seed);
        let weights: Vec<Tensor> =
            outs.iter().map(|&out| randn(&[out, width], seed + out as u64).to_kind(kind)).collect();
        let biases: Vec<Tensor> = outs.iter().map(|&out| randn(&[out], seed + 1)).collect();
        let factor = |(weight, bias)| Factor { weight, bias: Some(bias).filter(|_| biased) };
        let factors: Vec<Factor> = weights.iter().zip(&biases).map(factor).collect();
        for got in on_every_level(|| few_rows(&x, &factors).unwrap()) {
            for ((got, weight), bias) in got.iter().zip(&weights).zip(&biases) {
                let product = x.to_kind(Kind::Double).matmul(&weight.to_kind(Kind::Double).tr());
                let want = if biased { product + bias } else { product };
                let worst = f64::try_from((got - want).abs().max()).unwrap();
                // Products of normal numbers in f32.
                let allowed = 2e-6 * (width as f64).max(50.0);
                prop_assert!(worst < allowed, "{worst}");
            }
        }
    }
}

/// A text is continued in the same way alone and beside others.
#[test]
fn a_row_does_not_depend_on_those_beside_it() {
    for (width, kind) in [(576, Kind::Float), (1_600, Kind::Float), (1_601, Kind::BFloat16)] {
        let (x, weight) = (randn(&[9, width], 1), randn(&[37, width], 2).to_kind(kind));
        let factor = [Factor { weight: &weight, bias: None }];
        let together = few_rows(&x, &factor).unwrap().remove(0);
        for row in 0..9 {
            let alone = few_rows(&x.narrow(0, row, 1), &factor).unwrap().remove(0);
            assert_eq!(alone, together.narrow(0, row, 1), "row {row} of {width} columns");
        }
    }
}

#[test]
fn a_slice_of_rows_and_of_a_matrix_is_read_where_it_lies() {
    let (x, weight) = (randn(&[3, 40], 1), randn(&[50, 40], 2));
    let (x, weight) = (x.narrow(1, 8, 24), weight.narrow(1, 8, 24).narrow(0, 5, 33));
    let got = few_rows(&x, &[Factor { weight: &weight, bias: None }]).unwrap().remove(0);
    assert!((got - x.matmul(&weight.tr())).abs().max().double_value(&[]) < 1e-5);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (x, weight) = (randn(&[2, 8], 1), randn(&[5, 9], 2));
    let message = |weight: &Tensor, bias: Option<&Tensor>| {
        few_rows(&x, &[Factor { weight, bias }]).unwrap_err().to_string()
    };
    assert_eq!(message(&weight, None), "weight must have shape [5, 8], got [5, 9]");
    let double = randn(&[5, 8], 2).to_kind(Kind::Double);
    assert_eq!(
        message(&double, None),
        "kind of weight must be Float, BFloat16 or Half, got Double"
    );
    let short = randn(&[4], 3);
    let fits = randn(&[5, 8], 2);
    assert!(message(&fits, Some(&short)).starts_with("bias must have shape [5]"));
}
