use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::error::Result;
use crate::init;
use crate::kernels::Pairs;
use crate::kernels::machine::tests::at_every_level;

/// Everything that a call may have, for `batch` sequences.
struct Case {
    seq: i64,
    heads: [i64; 2],
    head_dim: i64,
    pairs: Option<Pairs>,
    alibi: bool,
    bias: bool,
}

/// Tables of a rotation with a factor, so that the two sides differ.
struct Tables {
    pairs: Pairs,
    tables: [Tensor; 4],
}

const BATCH: i64 = 2;

fn normal(shape: &[i64], seed: u64) -> Tensor {
    init::normal(shape, 1.0, &mut ChaCha20Rng::seed_from_u64(seed), Device::Cpu).unwrap()
}

impl Case {
    fn width(&self) -> i64 {
        (self.heads[0] + 2 * self.heads[1]) * self.head_dim
    }

    fn tables(&self) -> Option<Tables> {
        let table = |seed| normal(&[self.seq, self.head_dim / 2], seed);
        self.pairs.map(|pairs| Tables { pairs, tables: [10, 11, 12, 13].map(table) })
    }
}

fn attention<'a>(
    case: &Case,
    tables: Option<&'a Tables>,
    bias: Option<&'a Tensor>,
    slopes: Option<&'a [f32]>,
) -> Attention<'a> {
    let turn = |side: usize| {
        tables.map(|Tables { pairs, tables }| Turn {
            pairs: *pairs,
            cos: &tables[side],
            sin: &tables[side + 1],
        })
    };
    let [n_heads, n_kv_heads] = case.heads;
    let (query_turn, key_turn) = (turn(0), turn(2));
    Attention { seq: case.seq, n_heads, n_kv_heads, scale: 0.3, bias, query_turn, key_turn, slopes }
}

fn turned(x: &Tensor, tables: Option<&Tables>, side: usize) -> Tensor {
    let Some(Tables { pairs, tables }) = tables else { return x.shallow_clone() };
    let (cos, sin) = (tables[side].to_kind(Kind::Double), tables[side + 1].to_kind(Kind::Double));
    let split: [Tensor; 2] = match pairs {
        Pairs::Interleaved => [x.slice(-1, 0, None, 2), x.slice(-1, 1, None, 2)],
        Pairs::HalfSplit => x.chunk(2, -1).try_into().unwrap(),
    };
    let [a, b] = split;
    let parts = [&a * &cos - &b * &sin, &b * &cos + &a * &sin];
    match pairs {
        Pairs::Interleaved => Tensor::stack(&parts, -1).flatten(-2, -1),
        Pairs::HalfSplit => Tensor::cat(&parts, -1),
    }
}

/// The definition, in f64: the result as rows.
fn oracle(
    case: &Case,
    qkv: &Tensor,
    bias: Option<&Tensor>,
    tables: Option<&Tables>,
    slopes: Option<&[f32]>,
) -> Tensor {
    let mut x = qkv.to_kind(Kind::Double);
    if let Some(bias) = bias {
        x = &x + bias.to_kind(Kind::Double);
    }
    let [heads, kv_heads] = case.heads;
    let x = x.view([BATCH, case.seq, -1, case.head_dim]).transpose(1, 2);
    let parts = x.split_with_sizes([heads, kv_heads, kv_heads], 1);
    let group = heads / kv_heads;
    let wide = |x: &Tensor| x.repeat_interleave_self_int(group, 1, None);
    let (q, k) = (turned(&parts[0], tables, 0), turned(&parts[1], tables, 2));
    let mut scores = q.matmul(&wide(&k).transpose(-1, -2)) * 0.3;
    let position = Tensor::arange(case.seq, (Kind::Double, Device::Cpu));
    let distance = position.unsqueeze(1) - position;
    if let Some(slopes) = slopes {
        let slopes = Tensor::from_slice(slopes).to_kind(Kind::Double).view([1, -1, 1, 1]);
        scores = &scores - slopes * &distance;
    }
    let scores = scores.masked_fill(&distance.lt(0.0), f64::NEG_INFINITY);
    let mixed = scores.softmax(-1, Kind::Double).matmul(&wide(&parts[2]));
    mixed.transpose(1, 2).reshape([BATCH * case.seq, -1])
}

fn worst(got: &Tensor, want: &Tensor) -> f64 {
    let diff = (got.to_kind(Kind::Double) - want.to_kind(Kind::Double)).abs().max();
    f64::try_from(diff).unwrap() / f64::try_from(want.abs().max()).unwrap()
}

fn check(case: &Case, kind: Kind, tolerance: f64) {
    let qkv = normal(&[BATCH * case.seq, case.width()], 1).to_kind(kind);
    let bias = case.bias.then(|| normal(&[case.width()], 2));
    let slopes: Vec<f32> = (0..case.heads[0]).map(|head| 0.5 / (head + 1) as f32).collect();
    let slopes = case.alibi.then_some(slopes.as_slice());
    let tables = case.tables();
    let wide = qkv.to_kind(Kind::Double).set_requires_grad(true);
    let want = oracle(case, &wide, bias.as_ref(), tables.as_ref(), slopes);
    let d_out = normal(&want.size(), 3).to_kind(kind);
    (want.shallow_clone() * d_out.to_kind(Kind::Double)).sum(Kind::Double).backward();

    let call = attention(case, tables.as_ref(), bias.as_ref(), slopes);
    let (out, lse) = call.forward(&qkv).unwrap();
    let d_qkv = qkv.empty_like();
    call.backward_into(&qkv, &out, &lse, &d_out, &d_qkv).unwrap();
    assert_eq!(out.kind(), kind);
    let found = [worst(&out, &want.detach()), worst(&d_qkv, &wide.grad())];
    let name = format!("{:?} {}, {:?}", case.heads, case.seq, case.pairs);
    assert!(found[0] < tolerance && found[1] < tolerance, "{found:?}: {name}");
}

#[test]
fn result_and_gradient_are_those_of_the_definition() {
    at_every_level(|_| {
        let pairs = [None, Some(Pairs::Interleaved), Some(Pairs::HalfSplit)];
        for (seq, head_dim) in [(1, 4), (5, 16), (16, 24), (33, 6), (40, 32)] {
            for heads in [[1, 1], [4, 2], [3, 1]] {
                for (turn, pairs) in pairs.into_iter().enumerate() {
                    let (alibi, bias) = (pairs.is_none(), turn != 1);
                    let case = Case { seq, heads, head_dim, pairs, alibi, bias };
                    // Sums of some forty f32 products.
                    check(&case, Kind::Float, 1e-5);
                    // 8 bits of what goes into each of seven products, of scores up to some ten.
                    check(&case, Kind::BFloat16, 0.06);
                }
            }
        }
    });
}

#[test]
fn a_later_token_changes_nothing_before_it_and_other_sequences_nothing() {
    let case = Case { seq: 21, heads: [2, 2], head_dim: 8, pairs: None, alibi: true, bias: false };
    let slopes = [0.5, 0.25];
    let call = attention(&case, None, None, Some(&slopes));
    let qkv = normal(&[BATCH * 21, case.width()], 1);
    let (before, _) = call.forward(&qkv).unwrap();
    let _ = qkv.narrow(0, 18, 3).fill_(3.0);
    let (after, _) = call.forward(&qkv).unwrap();
    for rows in [0..18, 21..42] {
        let own = |x: &Tensor| x.slice(0, rows.start, rows.end, 1);
        assert!(own(&before).equal(&own(&after)));
    }
    assert!(!before.narrow(0, 18, 3).equal(&after.narrow(0, 18, 3)));
}

/// What comes later may be anything, not only small.
#[test]
fn nothing_that_is_not_a_number_reaches_an_earlier_query() {
    let case =
        Case { seq: 41, heads: [2, 1], head_dim: 20, pairs: None, alibi: false, bias: false };
    let call = attention(&case, None, None, None);
    for kind in [Kind::Float, Kind::BFloat16] {
        let qkv = normal(&[BATCH * 41, case.width()], 1).to_kind(kind);
        let (before, _) = call.forward(&qkv).unwrap();
        for token in [0, 7, 8, 15, 16, 30, 40] {
            for value in [f64::NAN, f64::INFINITY] {
                let spoilt = qkv.copy();
                let _ = spoilt.get(token).fill_(value);
                at_every_level(|level| {
                    let (after, _) = call.forward(&spoilt).unwrap();
                    let all_finite = |rows: Tensor| bool::try_from(rows.isfinite().all()).unwrap();
                    let place = format!("{value} at {token}, {kind:?}, {level:?}");
                    assert!(all_finite(after.narrow(0, 0, token)), "{place}");
                    assert!(!all_finite(after.narrow(0, token, 1)), "{place}");
                    let other = |x: &Tensor| x.narrow(0, 41, 41);
                    assert!(all_finite(other(&after)), "{place}");
                });
            }
        }
        assert!(bool::try_from(before.isfinite().all()).unwrap());
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let case = Case { seq: 37, heads: [4, 2], head_dim: 8, pairs: None, alibi: false, bias: true };
    let (qkv, bias) = (normal(&[7 * 37, case.width()], 1), normal(&[case.width()], 2));
    let call = attention(&case, None, Some(&bias), None);
    let all = |threads| {
        tch::set_num_threads(threads);
        let (out, lse) = call.forward(&qkv).unwrap();
        let d_qkv = qkv.empty_like();
        call.backward_into(&qkv, &out, &lse, &out, &d_qkv).unwrap();
        tch::set_num_threads(1);
        (out, lse, d_qkv)
    };
    let one = all(1);
    assert_eq!(all(2), one);
    assert_eq!(all(3), one);
}

/// Far from 0 the exponential of a score would overflow.
#[test]
fn large_scores_do_no_harm() {
    let case = Case { seq: 9, heads: [1, 1], head_dim: 4, pairs: None, alibi: false, bias: false };
    let call = attention(&case, None, None, None);
    let qkv = normal(&[BATCH * 9, 12], 1) * 100.0;
    let (out, lse) = call.forward(&qkv).unwrap();
    let want = oracle(&case, &qkv, None, None, None);
    assert!(worst(&out, &want) < 1e-4);
    assert!(bool::try_from(lse.isfinite().all()).unwrap());
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = Case { seq: 5, heads: [2, 1], head_dim: 4, pairs: None, alibi: false, bias: false };
    let call = attention(&case, None, None, None);
    let message = |answer: Result<(Tensor, Tensor)>| answer.unwrap_err().to_string();
    let text = message(call.forward(&normal(&[11, 16], 1)));
    assert_eq!(text, "qkv must have shape [batch * 5, 4 * head_dim], got [11, 16]");
    let text = message(Attention { n_kv_heads: 3, ..call }.forward(&normal(&[10, 16], 1)));
    assert_eq!(text, "n_kv_heads must be a divisor of 2, got 3");
    let text = message(Attention { slopes: Some(&[1.0]), ..call }.forward(&normal(&[10, 16], 1)));
    assert_eq!(text, "slopes must be one of each of 2 heads, got 1");
}
