use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{
    Activation, ActivationSums, Gate, Middle, activation, activation_backward,
    activation_backward_into, activation_backward_swap, activation_into,
};
use crate::fixtures::{floats, randn};
use crate::kernels::machine::tests::at_every_level;
use crate::kernels::reference::{self, assert_close, empty, kind, parameter, rows};
use crate::kernels::{NormParams, NormSums, NormType};

const TOLERANCE: f64 = 5e-6;

#[derive(Clone, Debug)]
struct Case {
    /// 0: one parameter for all rows, of one dimension.
    groups: i64,
    rows: i64,
    channels: i64,
    kind: Activation,
    norm: Option<NormType>,
    with_bias: bool,
    with_gate: bool,
    in_place: bool,
    /// Of u, and of a.
    narrow: [bool; 2],
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let kinds =
        prop_oneof![Just(Activation::Gelu), Just(Activation::Relu), Just(Activation::Swish)];
    let norms = prop_oneof![Just(None), Just(Some(NormType::Layer)), Just(Some(NormType::Rms))];
    let shape = (0..3i64, 1..6i64, 2..90i64);
    (shape, kinds, norms, any::<[bool; 5]>(), 0..1000u64).prop_map(
        |((groups, rows, channels), kind, norm, flags, seed)| {
            let [with_bias, with_gate, in_place, u, a] = flags;
            let (rows, narrow) = (rows * groups.max(1), [u, a]);
            let flags = (with_bias, with_gate, in_place);
            let (with_bias, with_gate, in_place) = flags;
            Case {
                groups,
                rows,
                channels,
                kind,
                norm,
                with_bias,
                with_gate,
                in_place,
                narrow,
                seed,
            }
        },
    )
}

/// Everything a [`Middle`] borrows.
struct Inputs {
    u: Tensor,
    gate: Tensor,
    da: Tensor,
    bias: Tensor,
    gate_bias: Tensor,
    weight: Tensor,
    shift: Tensor,
}

impl Case {
    fn inputs(&self) -> Inputs {
        let shape = [self.rows, self.channels];
        let parameter = |i| parameter(self.groups, self.channels, self.seed + i);
        Inputs {
            u: rows(shape, kind(self.narrow[0]), false, self.seed) * 2.0,
            gate: rows(shape, kind(self.narrow[0]), true, self.seed + 1),
            da: rows(shape, kind(self.narrow[1]), true, self.seed + 2),
            bias: parameter(3),
            gate_bias: parameter(4),
            weight: parameter(5),
            shift: parameter(6),
        }
    }

    fn middle<'a>(&self, inputs: &'a Inputs) -> Middle<'a> {
        let bias = self.with_bias.then_some(&inputs.bias);
        let gate_bias = self.with_bias.then_some(&inputs.gate_bias);
        let gate = Gate { u: &inputs.gate, bias: gate_bias };
        let norm = self.norm.map(|kind| NormParams {
            kind,
            weight: &inputs.weight,
            bias: self.with_bias.then_some(&inputs.shift),
            eps: 1e-2,
        });
        Middle { kind: self.kind, u: &inputs.u, bias, gate: self.with_gate.then_some(gate), norm }
    }
}

/// What a backward pass writes.
struct Outs {
    du: Tensor,
    d_gate: Tensor,
    sums: [Tensor; 4],
}

impl Outs {
    fn new(inputs: &Inputs, kind: Kind) -> Self {
        let sums = [(); 4].map(|()| inputs.bias.zeros_like());
        Self { du: empty(&inputs.u, kind), d_gate: empty(&inputs.gate, kind), sums }
    }

    fn sums<'a>(&'a self, middle: &Middle<'_>) -> ActivationSums<'a> {
        let [d_bias, d_gate_bias, d_weight, d_shift] = &self.sums;
        let d_shift = middle.norm.and_then(|norm| norm.bias.map(|_| d_shift));
        ActivationSums {
            d_bias: middle.bias.map(|_| d_bias),
            d_gate_bias: middle.gate.and_then(|gate| gate.bias.map(|_| d_gate_bias)),
            norm: middle.norm.map(|_| NormSums { d_weight, d_bias: d_shift }),
        }
    }

    fn d_gate<'a>(&'a self, middle: &Middle<'_>) -> Option<&'a Tensor> {
        middle.gate.map(|_| &self.d_gate)
    }
}

fn assert_alike(level: &str, got: &Outs, want: &Outs, tolerance: f64) {
    assert_close(&format!("{level} du"), &got.du, &want.du, tolerance);
    assert_close(&format!("{level} d_gate"), &got.d_gate, &want.d_gate, tolerance);
    for (i, (a, b)) in got.sums.iter().zip(&want.sums).enumerate() {
        assert_close(&format!("{level} sum {i}"), a, b, 2.0 * tolerance);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_passes_equal_libtorchs_operations(case in cases()) {
        let inputs = case.inputs();
        let middle = case.middle(&inputs);
        let want_a = empty(&inputs.u, Kind::Double);
        let stats = Tensor::zeros([case.rows, 2], (Kind::Float, Device::Cpu));
        let stats = middle.norm.map(|_| &stats);
        reference::activation_into(&middle, &want_a, stats).unwrap();
        let want = Outs::new(&inputs, Kind::Double);
        let (sums, d_gate) = (want.sums(&middle), want.d_gate(&middle));
        reference::activation_backward_into(&inputs.da, &middle, stats, &want.du, d_gate, &sums)
            .unwrap();
        at_every_level(|level| {
            let level = format!("{level:?}");
            let (a, got_stats) = activation(&middle, inputs.da.kind()).unwrap();
            assert_close(&level, &a, &want_a, 2.0 * TOLERANCE);
            if let (Some(got), Some(want)) = (&got_stats, stats) {
                assert_close(&level, got, want, 2.0 * TOLERANCE);
            }
            let mut got = Outs::new(&inputs, inputs.u.kind());
            let mut middle = middle;
            if case.in_place {
                (got.du, got.d_gate) = (inputs.u.copy(), inputs.gate.contiguous().copy());
            }
            let (du, d_gate) = (got.du.shallow_clone(), got.d_gate.shallow_clone());
            if case.in_place {
                middle.u = &du;
                middle.gate = middle.gate.map(|gate| Gate { u: &d_gate, ..gate });
            }
            let (sums, out) = (got.sums(&middle), got.d_gate(&middle));
            let stats = got_stats.as_ref();
            activation_backward_into(&inputs.da, &middle, stats, &got.du, out, &sums).unwrap();
            if middle.gate.is_none() {
                got.d_gate = want.d_gate.shallow_clone();
            }
            assert_alike(&level, &got, &want, 10.0 * TOLERANCE);

            let middle = case.middle(&inputs);
            let (other, swapped) = (Outs::new(&inputs, inputs.u.kind()), inputs.da.copy());
            let (sums, out) = (other.sums(&middle), other.d_gate(&middle));
            activation_backward_swap(&swapped, &middle, stats, &other.du, out, &sums).unwrap();
            assert_close(&level, &swapped, &want_a, 2.0 * TOLERANCE);
            assert!(other.du.equal(&got.du) && middle.gate.is_none_or(|_| other.d_gate.equal(&got.d_gate)));
        });
    }
}

#[test]
fn gradients_are_those_of_libtorchs_autograd() {
    for kind in [Activation::Gelu, Activation::Relu, Activation::Swish] {
        let leaf =
            |shape: &[i64], seed| randn(shape, seed).to_kind(Kind::Double).set_requires_grad(true);
        let (u, bias, gate) = (leaf(&[5, 33], 1), leaf(&[33], 2), leaf(&[5, 33], 3));
        let biased = &u + &bias;
        let active = match kind {
            Activation::Gelu => biased.gelu("none"),
            Activation::Relu => biased.relu(),
            Activation::Swish => biased.silu(),
        };
        let a = active * &gate;
        let da = randn(&[5, 33], 4);
        (&a * &da).sum(Kind::Double).backward();
        let narrow = |x: &Tensor| x.detach().to_kind(Kind::Float);
        let (u32, bias32, gate32) = (narrow(&u), narrow(&bias), narrow(&gate));
        let gate32 = Gate { u: &gate32, bias: None };
        let middle = Middle { kind, u: &u32, bias: Some(&bias32), gate: Some(gate32), norm: None };
        let (got, stats) = activation(&middle, Kind::Float).unwrap();
        assert!(stats.is_none());
        assert_close("a", &got, &a, TOLERANCE);
        let got = activation_backward(&da, &middle, None).unwrap();
        assert_close("du", &got.du, &u.grad(), TOLERANCE);
        assert_close("d_gate", &got.d_gate.unwrap(), &gate.grad(), TOLERANCE);
        assert_close("d_bias", &got.d_bias.unwrap(), &bias.grad(), TOLERANCE);
        assert!(got.d_gate_bias.is_none() && got.d_norm_weight.is_none());
        assert!(got.d_norm_bias.is_none());
    }
}

#[test]
fn nan_stays_in_its_row_and_far_numbers_are_exact() {
    for kind in [Activation::Gelu, Activation::Relu, Activation::Swish] {
        let u = Tensor::from_slice2(&[[f32::NAN, 1e4, -1e4], [1.0, 1e30, -1e30]]);
        let middle = Middle { kind, u: &u, bias: None, gate: None, norm: None };
        let (a, _) = activation(&middle, Kind::Float).unwrap();
        let a = floats(&a);
        assert!(a[0].is_nan(), "{kind:?}");
        assert_eq!((a[1], a[2].abs(), a[4] as f32, a[5].abs()), (1e4, 0.0, 1e30, 0.0), "{kind:?}");
        let got = activation_backward(&u.ones_like(), &middle, None).unwrap();
        let du = floats(&got.du);
        assert!(kind == Activation::Relu || du[0].is_nan());
        assert_eq!((du[1], du[2], du[4], du[5]), (1.0, 0.0, 1.0, 0.0), "{kind:?}");
    }
}

#[test]
fn what_belongs_together_must_be_there_together() {
    let (u, weight) = (randn(&[2, 4], 1), randn(&[4], 2));
    let plain = Middle { kind: Activation::Gelu, u: &u, bias: None, gate: None, norm: None };
    let norm = NormParams { kind: NormType::Rms, weight: &weight, bias: None, eps: 1e-5 };
    let normed = Middle { norm: Some(norm), ..plain };
    let gated = Middle { gate: Some(Gate { u: &u, bias: None }), ..plain };
    let (a, stats) = (u.zeros_like(), u.zeros_like().narrow(1, 0, 2));
    let check = |result: crate::Result<()>, want: &str| {
        assert_eq!(result.unwrap_err().to_string(), want);
    };
    check(
        activation_into(&plain, &a, Some(&stats)),
        "stats must be absent without a norm, got there",
    );
    check(activation_into(&normed, &a, None), "stats must be there, for the norm, got absent");
    let sums = ActivationSums::default();
    check(
        activation_backward_into(&u, &gated, None, &a, None, &sums),
        "d_gate must be there if a gate is, got absent",
    );
    check(
        activation_backward_into(&u, &plain, None, &a, Some(&stats), &sums),
        "d_gate must be there if a gate is, got there",
    );
}
