use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{cross_entropy_rows, nll_rows};
use crate::cross_entropy::IGNORED;
use crate::fixtures::{floats, randn};
use crate::kernels::machine::tests::at_every_level;
use crate::kernels::reference::{self, assert_close, kind, rows};

fn targets(rows: i64, vocab: i64, seed: u64) -> Tensor {
    let seed = seed as i64;
    let target = |i: i64| if (i + seed) % 5 == 0 { IGNORED } else { (i * 7 + seed) % vocab };
    Tensor::from_slice(&(0..rows).map(target).collect::<Vec<i64>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn loss_and_gradient_equal_libtorchs(
        shape in (1..9i64, 1..90i64),
        narrow: bool,
        apart: bool,
        scale in -2.0..3.0f64,
        seed in 0..1000u64,
    ) {
        let logits = rows([shape.0, shape.1], kind(narrow), apart, seed) * 3.0;
        let targets = targets(shape.0, shape.1, seed);
        let want_grad = logits.to_kind(Kind::Double);
        let want = reference::cross_entropy_rows(&want_grad, &targets, scale).unwrap();
        at_every_level(|level| {
            let got = nll_rows(&logits, &targets, scale).unwrap();
            assert_close(&format!("{level:?} nll"), &got, &want, 3e-6);
            let own = logits.copy();
            assert_eq!(cross_entropy_rows(&own, &targets, scale).unwrap(), got);
            assert_close(&format!("{level:?} gradient"), &own, &want_grad, 2e-6);
        });
    }
}

#[test]
fn nan_infinity_and_far_logits_are_as_in_libtorch() {
    let inf = f32::INFINITY;
    let rows = [
        [1.0, f32::NAN, 0.0],
        [inf, 1.0, 2.0],
        [-inf, 1.0, 2.0],
        [-inf, -inf, -inf],
        [1e30, 0.0, -1e30],
        [0.5, 0.25, 3.0],
    ];
    let logits = Tensor::from_slice2(&rows);
    let targets = Tensor::from_slice(&[0i64, 1, 2, 0, 0, 1]);
    let want_grad = logits.to_kind(Kind::Double);
    let want = reference::cross_entropy_rows(&want_grad, &targets, 1.0).unwrap();
    at_every_level(|level| {
        let own = logits.copy();
        let got = cross_entropy_rows(&own, &targets, 1.0).unwrap();
        assert_close(&format!("{level:?}"), &got, &want, 1e-6);
        assert_close(&format!("{level:?}"), &own, &want_grad, 1e-6);
    });
    assert_eq!(floats(&want).iter().filter(|x| x.is_nan()).count(), 3);
    // Ignored, not even NaN counts.
    let none = Tensor::full([6], IGNORED, (Kind::Int64, Device::Cpu));
    let own = logits.copy();
    assert_eq!(floats(&cross_entropy_rows(&own, &none, 1.0).unwrap()), [0.0; 6]);
    assert_eq!(floats(&own), [0.0; 18]);
}

#[test]
fn a_target_outside_the_vocabulary_changes_nothing() {
    let logits = randn(&[3, 4], 1);
    for target in [-1, 4, i64::MIN] {
        let own = logits.copy();
        let targets = Tensor::from_slice(&[0, target, 1]);
        let message = cross_entropy_rows(&own, &targets, 1.0).unwrap_err().to_string();
        let want = "target must be -100 or in the vocabulary of 4, got ";
        assert_eq!(message, format!("{want}{target}, which is out of bounds"));
        assert_eq!(own, logits);
    }
}

#[test]
fn rows_do_not_depend_on_threads() {
    let logits = randn(&[3000, 50], 1);
    let targets = targets(3000, 50, 1);
    let all = |threads| {
        tch::set_num_threads(threads);
        let own = logits.copy();
        let nll = cross_entropy_rows(&own, &targets, 0.5).unwrap();
        tch::set_num_threads(1);
        (nll, own)
    };
    assert_eq!(all(2), all(1));
}
