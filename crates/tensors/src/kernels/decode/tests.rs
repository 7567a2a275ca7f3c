use proptest::prelude::*;
use tch::{Kind, Tensor};

use super::*;
use crate::fixtures::randn;
use crate::kernels::machine::tests::at_every_level;

/// Rotation of `x`, `[heads, dim]`, by the tables of one position.
fn turned(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let pairs = cos.size()[0];
    let (a, b) = (x.narrow(1, 0, pairs), x.narrow(1, pairs, pairs));
    let rest = x.narrow(1, 2 * pairs, x.size()[1] - 2 * pairs);
    Tensor::cat(&[&a * cos - &b * sin, &b * cos + &a * sin, rest], 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_is_attention_written_out(
        seed in 0_u64..10_000, n in 1_i64..4, kv in 1_i64..4, group in 1_i64..4, half in 1_i64..20, turned_pairs in 1_i64..20,
        capacity in 1_i64..40, narrow: bool,
    ) {
        let (dim, pairs, heads) = (2 * half, turned_pairs.min(half), kv * group);
        let kind = if narrow { Kind::BFloat16 } else { Kind::Float };
        let tables = |seed: u64| randn(&[n, pairs], seed);
        let (cos, sin) = (tables(seed), tables(seed + 1));
        let (q, k, v) =
            (randn(&[n, heads * dim], seed + 2), randn(&[n, kv * dim], seed + 3), randn(&[n, kv * dim], seed + 4));
        let buffer = |i: u64| randn(&[kv * capacity, dim], seed + 5 + i).to_kind(kind);
        let rows: Vec<(i64, i64)> = (0..n).map(|i| ((seed as i64 + i) % capacity, (seed as i64 + 7 * i) % capacity))
            .map(|(a, b)| (a.min(b), a.max(b))).collect();
        at_every_level(|level| {
            let buffers: Vec<(Tensor, Tensor)> = (0..n as u64).map(|i| (buffer(2 * i), buffer(2 * i + 1))).collect();
            let held: Vec<Held> = buffers.iter().zip(&rows)
                .map(|((keys, values), &(first, row))| Held { keys, values, first, row }).collect();
            let decode = Decode { n_heads: heads, n_kv_heads: kv, head_dim: dim, scale: 0.3, cos: &cos, sin: &sin };
            let got = decode.forward([&q, &k, &v], &held).unwrap();
            for (i, held) in held.iter().enumerate() {
                let i = i as i64;
                let (cos, sin) = (cos.get(i), sin.get(i));
                let own = turned(&k.get(i).view([kv, dim]), &cos, &sin);
                let all = |x: &Tensor| x.view([kv, capacity, dim]).to_kind(Kind::Float);
                // What was written is what the attention saw.
                let stored = all(held.keys).select(1, held.row) - own;
                let rounding = if narrow { 0.05 } else { 1e-5 };
                assert!(stored.abs().max().double_value(&[]) <= rounding, "{level:?}");
                let visible = held.row + 1 - held.first;
                let live = |x: &Tensor| all(x).narrow(1, held.first, visible).repeat_interleave_self_int(group, 0, None);
                let q = turned(&q.get(i).view([heads, dim]), &cos, &sin).unsqueeze(1);
                let p = (q.matmul(&live(held.keys).transpose(1, 2)) * 0.3).softmax(-1, Kind::Float);
                let want = p.matmul(&live(held.values)).view([-1]);
                // f32 sums of 40 numbers.
                let worst = (got.get(i) - want).abs().max().double_value(&[]);
                assert!(worst < 1e-4, "{level:?}: {worst}");
            }
        });
    }
}

#[test]
fn a_row_outside_of_the_buffers_is_refused() {
    let x = randn(&[1, 4], 1);
    let buffer = || randn(&[3, 4], 1);
    let (keys, values, table) = (buffer(), buffer(), randn(&[1, 2], 2));
    let decode =
        Decode { n_heads: 1, n_kv_heads: 1, head_dim: 4, scale: 1.0, cos: &table, sin: &table };
    let held = Held { keys: &keys, values: &values, first: 1, row: 3 };
    let error = decode.forward([&x, &x, &x], &[held]).unwrap_err();
    assert_eq!(error.to_string(), "row must be from first = 1 and below 3, got 3");
}
