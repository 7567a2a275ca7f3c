use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{
    NormParams, NormSums, NormType, add_norm, add_norm_into, norm, norm_backward,
    norm_backward_into, norm_into,
};
use crate::fixtures::{floats, randn};
use crate::kernels::machine::tests::at_every_level;
use crate::kernels::reference::{self, assert_close, empty, kind, parameter, rows};

/// f32 sums of at most 100 numbers of size 1, and a reciprocal root that multiplies them.
const TOLERANCE: f64 = 5e-6;

#[derive(Clone, Debug)]
struct Case {
    /// 0: one parameter for all rows, of one dimension.
    groups: i64,
    rows: i64,
    channels: i64,
    kind: NormType,
    with_bias: bool,
    /// Of x, and of y.
    narrow: [bool; 2],
    apart: bool,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (0..3i64, 1..7i64, 2..100i64);
    let flags = (any::<bool>(), any::<bool>(), any::<[bool; 2]>(), any::<bool>(), 0..1000u64);
    (shape, flags).prop_map(|((groups, rows, channels), flags)| {
        let (layer, with_bias, narrow, apart, seed) = flags;
        let kind = if layer { NormType::Layer } else { NormType::Rms };
        Case { groups, rows: rows * groups.max(1), channels, kind, with_bias, narrow, apart, seed }
    })
}

struct Inputs {
    x: Tensor,
    dy: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Case {
    fn inputs(&self) -> Inputs {
        let shape = [self.rows, self.channels];
        let x = rows(shape, kind(self.narrow[0]), self.apart, self.seed);
        let dy = rows(shape, kind(self.narrow[1]), self.apart, self.seed + 1);
        let weight = parameter(self.groups, self.channels, self.seed + 2);
        let bias = self.with_bias.then(|| parameter(self.groups, self.channels, self.seed + 3));
        Inputs { x, dy, weight, bias }
    }

    fn params<'a>(&self, inputs: &'a Inputs) -> NormParams<'a> {
        let bias = inputs.bias.as_ref();
        NormParams { kind: self.kind, weight: &inputs.weight, bias, eps: 1e-3 }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_passes_equal_libtorchs_operations(case in cases()) {
        let inputs = case.inputs();
        let params = case.params(&inputs);
        let [want_y, want_stats] = [case.channels, 2]
            .map(|width| Tensor::zeros([case.rows, width], (Kind::Double, Device::Cpu)));
        reference::norm_into(&inputs.x, &params, &want_y, &want_stats).unwrap();
        let add = rows([case.rows, case.channels], inputs.x.kind(), false, case.seed + 4);
        let add = case.with_bias.then_some(&add);
        let zeros = |like: &Tensor| like.zeros_like();
        let (want_weight, want_bias) = (zeros(&inputs.weight), inputs.bias.as_ref().map(zeros));
        let want_dx = empty(&inputs.x, Kind::Double);
        let sums = NormSums { d_weight: &want_weight, d_bias: want_bias.as_ref() };
        let (dy, x) = (&inputs.dy, &inputs.x);
        reference::norm_backward_into(dy, x, &want_stats, &params, add, &want_dx, &sums).unwrap();
        at_every_level(|level| {
            let (y, stats) = norm(x, &params, kind(case.narrow[1])).unwrap();
            assert_close(&format!("{level:?} stats"), &stats, &want_stats, TOLERANCE);
            assert_close(&format!("{level:?} y"), &y, &want_y, TOLERANCE);
            let got = norm_backward(dy, x, &stats, &params, add).unwrap();
            assert_close(&format!("{level:?} dx"), &got.dx, &want_dx, 5.0 * TOLERANCE);
            assert_close(&format!("{level:?} dw"), &got.d_weight, &want_weight, 5.0 * TOLERANCE);
            assert_eq!(got.d_bias.is_some(), want_bias.is_some());
            if let (Some(got), Some(want)) = (&got.d_bias, &want_bias) {
                assert_close(&format!("{level:?} db"), got, want, TOLERANCE);
            }
        });
    }

    #[test]
    fn a_sum_with_its_norm_is_the_norm_of_the_sum(case in cases(), in_place: bool) {
        let inputs = case.inputs();
        let params = case.params(&inputs);
        let (x, change) = (&inputs.x, &inputs.dy);
        let bias = inputs.bias.as_ref();
        let sum = empty(x, x.kind());
        let y = empty(x, Kind::Float);
        let stats = Tensor::zeros([case.rows, 2], (Kind::Float, Device::Cpu));
        reference::add_norm_into(x, change, bias, 0.7, &params, &sum, &y, &stats).unwrap();
        at_every_level(|level| {
            let own = if in_place && change.kind() == x.kind() {
                change.contiguous().copy()
            } else {
                empty(x, x.kind())
            };
            let change = if floats(&own)[0].is_nan() { change } else { &own };
            let got_y = empty(x, Kind::Float);
            let got_stats = empty(&stats, Kind::Float);
            add_norm_into(x, change, bias, 0.7, &params, &own, &got_y, &got_stats).unwrap();
            assert_close(&format!("{level:?} sum"), &own, &sum, TOLERANCE);
            // Where a bf16 sum was rounded the other way, the norm sees another number.
            let tolerance = if x.kind() == Kind::BFloat16 { 0.02 } else { TOLERANCE };
            assert_close(&format!("{level:?} y"), &got_y, &y, 2.0 * tolerance);
        });
    }
}

#[test]
fn gradients_are_those_of_libtorchs_autograd() {
    for kind in [NormType::Layer, NormType::Rms] {
        let leaf =
            |shape: &[i64], seed| randn(shape, seed).to_kind(Kind::Double).set_requires_grad(true);
        let (x, weight, bias) = (leaf(&[6, 48], 1), leaf(&[48], 2), leaf(&[48], 3));
        let y = match kind {
            NormType::Layer => x.layer_norm([48], Some(&weight), Some(&bias), 1e-5, false),
            NormType::Rms => x.rms_norm([48], Some(&weight), 1e-5) + &bias,
        };
        let dy = randn(&[6, 48], 4);
        (&y * &dy).sum(Kind::Double).backward();
        let narrow = |x: &Tensor| x.detach().to_kind(Kind::Float);
        let (x32, weight32, bias32) = (narrow(&x), narrow(&weight), narrow(&bias));
        let params = NormParams { kind, weight: &weight32, bias: Some(&bias32), eps: 1e-5 };
        let (got_y, stats) = norm(&x32, &params, Kind::Float).unwrap();
        let got = norm_backward(&dy, &x32, &stats, &params, None).unwrap();
        assert_close("y", &got_y, &y, TOLERANCE);
        assert_close("dx", &got.dx, &x.grad(), TOLERANCE);
        assert_close("dw", &got.d_weight, &weight.grad(), TOLERANCE);
        assert_close("db", &got.d_bias.unwrap(), &bias.grad(), TOLERANCE);
    }
}

#[test]
fn a_gradient_may_be_added_in_place_and_sums_are_added_to() {
    let (x, dy, weight) = (randn(&[4, 20], 1), randn(&[4, 20], 2), randn(&[20], 3));
    let params = NormParams { kind: NormType::Layer, weight: &weight, bias: None, eps: 1e-5 };
    let (_, stats) = norm(&x, &params, Kind::Float).unwrap();
    let add = randn(&[4, 20], 4);
    let want = norm_backward(&dy, &x, &stats, &params, Some(&add)).unwrap();
    let d_weight = randn(&[20], 5);
    let before = d_weight.copy();
    let sums = NormSums { d_weight: &d_weight, d_bias: None };
    norm_backward_into(&dy, &x, &stats, &params, Some(&add), &add, &sums).unwrap();
    assert_eq!(add, want.dx);
    assert_close("sum", &d_weight, &(before + want.d_weight), 1e-6);
}

#[test]
fn one_group_does_not_see_the_nan_of_another() {
    let (x, weight) = (randn(&[8, 40], 1), randn(&[2, 40], 2));
    let dy = randn(&[8, 40], 3);
    let params = NormParams { kind: NormType::Layer, weight: &weight, bias: None, eps: 1e-5 };
    let run = |x: &Tensor| {
        let (y, stats) = norm(x, &params, Kind::Float).unwrap();
        let grads = norm_backward(&dy, x, &stats, &params, None).unwrap();
        [y.narrow(0, 4, 4), grads.dx.narrow(0, 4, 4), grads.d_weight.narrow(0, 1, 1)]
    };
    let want = run(&x);
    let _ = x.get(1).narrow(0, 7, 1).fill_(f64::NAN);
    assert_eq!(run(&x), want);
    let (y, _) = norm(&x, &params, Kind::Float).unwrap();
    assert!(floats(&y.get(1)).iter().all(|x| x.is_nan()));
    assert!(floats(&y.get(0)).iter().all(|x| x.is_finite()));
}

/// Four groups of one parameter and two of another would be read beyond the end of the smaller.
#[test]
fn parameters_of_one_call_have_the_same_groups() {
    let (x, four, two) = (randn(&[4, 6], 1), randn(&[4, 6], 2), randn(&[2, 6], 3));
    let (y, stats) = (x.zeros_like(), x.zeros_like().narrow(1, 0, 2));
    let mixed = NormParams { kind: NormType::Layer, weight: &four, bias: Some(&two), eps: 1e-5 };
    let message = norm_into(&x, &mixed, &y, &stats).unwrap_err().to_string();
    let want =
        "bias of the norm must have shape [6] or [4, 6], as the other parameters, got [2, 6]";
    assert_eq!(message, want);
    // Nor are sums of more groups filled in part; one sum for all groups is.
    let one = randn(&[6], 4);
    let params = |weight| NormParams { kind: NormType::Layer, weight, bias: None, eps: 1e-5 };
    let sums = |d_weight| NormSums { d_weight, d_bias: None };
    let run = |params: &NormParams<'_>, sums: &NormSums<'_>| {
        norm_backward_into(&x, &x, &stats, params, None, &y, sums)
    };
    let message = run(&params(&one), &sums(&four)).unwrap_err().to_string();
    assert!(
        message.starts_with("d_weight of the norm must have shape [6], as the other"),
        "{message}"
    );
    run(&params(&four), &sums(&one)).unwrap();
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let (x, weight) = (randn(&[4, 6], 1), randn(&[6], 2));
    let params = |weight| NormParams { kind: NormType::Rms, weight, bias: None, eps: 1e-5 };
    let check = |result: crate::Result<()>, want: &str| {
        assert_eq!(result.unwrap_err().to_string(), want);
    };
    let (y, stats) = (x.zeros_like(), x.zeros_like().narrow(1, 0, 2));
    let wide = randn(&[7], 1);
    check(
        norm_into(&x, &params(&wide), &y, &stats),
        "weight of the norm must have shape [6] or [groups, 6], groups dividing 4, got [7]",
    );
    let three = randn(&[3, 6], 1);
    check(
        norm_into(&x, &params(&three), &y, &stats),
        "weight of the norm must have shape [6] or [groups, 6], groups dividing 4, got [3, 6]",
    );
    let double = weight.to_kind(Kind::Double);
    check(
        norm_into(&x, &params(&double), &y, &stats),
        "kind of weight of the norm must be Float, got Double",
    );
    check(
        norm_into(&x.to_kind(Kind::Half), &params(&weight), &y, &stats),
        "kind of x must be Float or BFloat16, got Half",
    );
    check(
        norm_into(&x, &params(&weight), &x, &stats),
        "y overlaps with another argument or with itself",
    );
    check(
        norm_into(&x, &params(&weight), &y.narrow(0, 0, 1).expand([4, 6], false), &stats),
        "y overlaps with another argument or with itself",
    );
    check(
        norm_into(&x, &params(&weight), &y.narrow(0, 0, 3), &stats),
        "y must have shape [4, 6], got [3, 6]",
    );
    check(
        norm_into(&x.transpose(0, 1), &params(&weight), &y, &stats),
        "x must have shape [rows, channels], each row contiguous, got [6, 4]",
    );
    let sparse = x.to_sparse(None, None::<i64>, None);
    check(norm_into(&sparse, &params(&weight), &y, &stats), "x must be dense, got layout Sparse");
    assert!(
        norm(&Tensor::zeros([0, 6], (Kind::Float, Device::Cpu)), &params(&weight), Kind::Float)
            .is_ok()
    );
    let (sum, normed, _) = add_norm(&x, &y, 1.0, &params(&weight), Kind::BFloat16).unwrap();
    assert_eq!((sum.kind(), normed.kind()), (Kind::Float, Kind::BFloat16));
}
