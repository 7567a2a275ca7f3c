use proptest::prelude::*;
use tch::{Kind, Tensor};

use super::{Pairs, Turn, merge_heads, split_heads, split_heads_backward_into, split_heads_into};
use crate::fixtures::{floats, randn};
use crate::kernels::machine::tests::at_every_level;
use crate::kernels::reference::{self, assert_close, empty, kind, parameter, rows};

#[derive(Clone, Debug)]
struct Case {
    groups: i64,
    /// batch, heads, seq, head_dim.
    size: [i64; 4],
    pairs: Option<Pairs>,
    narrow: bool,
    apart: bool,
    with_bias: bool,
    /// The heads are a view of `[batch, seq, heads, head_dim]`.
    merged: bool,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let pairs =
        prop_oneof![Just(None), Just(Some(Pairs::Interleaved)), Just(Some(Pairs::HalfSplit))];
    let shape = (0..3i64, 1..4i64, 1..4i64, 1..7i64, 1..20i64);
    (shape, pairs, any::<[bool; 4]>(), 0..1000u64).prop_map(|(shape, pairs, flags, seed)| {
        let (groups, batch, heads, seq, half) = shape;
        let [narrow, apart, with_bias, merged] = flags;
        let size = [batch * groups.max(1), heads, seq, 2 * half];
        Case { groups, size, pairs, narrow, apart, with_bias, merged, seed }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_ways_equal_libtorchs_operations(case in cases()) {
        let [batch, heads, seq, head_dim] = case.size;
        let shape = [batch * seq, heads * head_dim];
        let x = rows(shape, kind(case.narrow), case.apart, case.seed);
        let bias = parameter(case.groups, shape[1], case.seed + 1);
        let bias = case.with_bias.then_some(&bias);
        let table = |seed| randn(&[seq, head_dim], case.seed + seed);
        let (cos, sin) = (table(2).slice(1, 0, head_dim, 2), table(3).narrow(1, 0, head_dim / 2));
        let turn = case.pairs.map(|pairs| Turn { pairs, cos: &cos, sin: &sin });
        let turn = turn.as_ref();
        let want = randn(&case.size, 0).to_kind(Kind::Double);
        reference::split_heads_into(&x, bias, turn, &want).unwrap();
        let d_heads = randn(&case.size, case.seed + 4).to_kind(kind(case.narrow));
        let (want_dx, want_sums) = (empty(&x, Kind::Double), bias.map(Tensor::zeros_like));
        let sums = want_sums.as_ref();
        reference::split_heads_backward_into(&d_heads, turn, &want_dx, sums).unwrap();
        at_every_level(|level| {
            let level = format!("{level:?}");
            let got = if case.merged {
                let own = x.contiguous().copy();
                let view = own.view([batch, seq, heads, head_dim]).transpose(1, 2);
                split_heads_into(&own, bias, turn, &view).unwrap();
                view
            } else {
                split_heads(&x, bias, turn, batch, heads).unwrap()
            };
            assert_close(&level, &got, &want, 2e-6);
            let dx = rows(shape, kind(case.narrow), case.apart, 0);
            let sums = bias.map(Tensor::zeros_like);
            let given = if case.merged {
                d_heads.transpose(1, 2).contiguous().transpose(1, 2)
            } else {
                d_heads.shallow_clone()
            };
            split_heads_backward_into(&given, turn, &dx, sums.as_ref()).unwrap();
            assert_close(&level, &dx, &want_dx, 2e-6);
            if let (Some(got), Some(want)) = (&sums, &want_sums) {
                let rounded = if case.narrow { 0.03 } else { 0.0 };
                assert_close(&level, got, want, 5e-6 + rounded);
            }
        });
    }
}

#[test]
fn merging_undoes_splitting_bit_for_bit() {
    let x = randn(&[6, 20], 1);
    let heads = split_heads(&x, None, None, 2, 5).unwrap();
    assert_eq!(heads, x.view([2, 3, 5, 4]).transpose(1, 2));
    assert_eq!(merge_heads(&heads).unwrap(), x);
}

#[test]
fn what_is_beside_a_slice_of_columns_stays() {
    let wide = randn(&[6, 30], 1);
    let before = wide.copy();
    let d_heads = randn(&[2, 5, 3, 4], 2);
    split_heads_backward_into(&d_heads, None, &wide.narrow(1, 5, 20), None).unwrap();
    assert_eq!(wide.narrow(1, 0, 5), before.narrow(1, 0, 5));
    assert_eq!(wide.narrow(1, 25, 5), before.narrow(1, 25, 5));
    assert_eq!(wide.narrow(1, 5, 20), merge_heads(&d_heads).unwrap());
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let x = randn(&[6, 20], 1);
    let check = |result: crate::Result<Tensor>, want: &str| {
        assert_eq!(result.unwrap_err().to_string(), want);
    };
    check(split_heads(&x, None, None, 4, 5), "x must have shape [4, 20], got [6, 20]");
    let three = randn(&[3, 20], 1);
    check(
        split_heads(&x, Some(&three), None, 2, 5),
        "batch must be a multiple of the 3 groups, got 2",
    );
    let table = randn(&[3, 3], 1);
    let turn = Turn { pairs: Pairs::HalfSplit, cos: &table, sin: &table };
    check(split_heads(&x, None, Some(&turn), 2, 5), "cos must have shape [3, 2], got [3, 3]");
    let odd = randn(&[3, 2], 1);
    let turn = Turn { pairs: Pairs::HalfSplit, cos: &odd, sin: &odd };
    check(
        split_heads(&x, None, Some(&turn), 2, 4),
        "heads must have shape an even head_dim, got [5]",
    );
    let crossed = randn(&[2, 6, 5, 4], 1).transpose(0, 1).narrow(0, 0, 2).narrow(1, 0, 2);
    let result = split_heads_into(&randn(&[10, 8], 1), None, None, &crossed);
    let message = result.unwrap_err().to_string();
    assert!(message.contains("one batch entry after the other"), "{message}");
}

#[test]
fn a_nan_stays_in_its_head() {
    let x = randn(&[4, 8], 1);
    let _ = x.get(1).narrow(0, 1, 1).fill_(f64::NAN);
    let heads = split_heads(&x, None, None, 2, 2).unwrap();
    assert_eq!(floats(&heads).iter().filter(|x| x.is_nan()).count(), 1);
}
