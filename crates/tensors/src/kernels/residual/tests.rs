use proptest::prelude::*;
use tch::{Kind, Tensor};

use super::{bias_residual, column_sums, column_sums_into};
use crate::fixtures::{floats, randn};
use crate::kernels::machine::tests::at_every_level;
use crate::kernels::reference::{self, assert_close, kind, parameter, rows};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sums_equal_libtorchs(
        shape in (0..3i64, 1..8i64, 1..80i64),
        narrow: [bool; 2],
        with: [bool; 3],
        seed in 0..1000u64,
    ) {
        let (groups, n, channels) = shape;
        let size = [n * groups.max(1), channels];
        let out = rows(size, kind(narrow[0]), with[2], seed);
        let residual = rows(size, kind(narrow[1]), with[2], seed + 1);
        let bias = parameter(groups, channels, seed + 2);
        let bias = with[0].then_some(&bias);
        let residual = with[1].then_some((&residual, 1.25));
        let want = out.to_kind(Kind::Double);
        reference::bias_residual(&want, bias, residual).unwrap();
        let sums = parameter(groups, channels, seed + 3);
        let want_sums = sums.to_kind(Kind::Double);
        reference::column_sums_into(&out, &want_sums).unwrap();
        at_every_level(|level| {
            let got = sums.copy();
            column_sums_into(&out, &got).unwrap();
            assert_close(&format!("{level:?} sums"), &got, &want_sums, 2e-6);
            let mut own = out.zeros_like();
            own.copy_(&out);
            bias_residual(&own, bias, residual).unwrap();
            assert_close(&format!("{level:?}"), &own, &want, 1e-6);
        });
    }
}

#[test]
fn sums_do_not_depend_on_threads() {
    let x = randn(&[4000, 70], 1);
    let all = |threads| {
        tch::set_num_threads(threads);
        let sums = column_sums(&x, 4).unwrap();
        bias_residual(&x.copy(), None, Some((&x, 1.0))).unwrap();
        tch::set_num_threads(1);
        sums
    };
    let one = all(1);
    assert_eq!(one.size(), [4, 70]);
    assert_eq!(all(2), one);
    assert_eq!(all(3), one);
}

#[test]
fn a_group_without_nan_has_sums_without() {
    let x = randn(&[6, 5], 1);
    let _ = x.get(0).fill_(f64::NAN);
    let sums = column_sums(&x, 3).unwrap();
    assert!(floats(&sums.get(0)).iter().all(|x| x.is_nan()));
    assert!(floats(&sums.narrow(0, 1, 2)).iter().all(|x| x.is_finite()));
    let none = Tensor::zeros([0, 5], (Kind::Float, tch::Device::Cpu));
    assert_eq!(floats(&column_sums(&none, 2).unwrap()), [0.0; 10]);
}
