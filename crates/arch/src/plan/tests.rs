use proptest::prelude::*;

use super::*;
use crate::testing::{CPU, all_masks, dot, max_diff, normal, oracle, rng, rotated_dot};

#[derive(Clone, Copy, Debug)]
enum Which {
    None,
    Rope,
    Xpos,
    Alibi,
}

fn relative(which: Which) -> Relative {
    match which {
        Which::None => Relative::None,
        Which::Rope => Relative::Rotary(Rotary::rope(4, 100.0, CPU).unwrap()),
        Which::Xpos => Relative::Rotary(Rotary::xpos(4, 100.0, 0.4, 8.0, CPU).unwrap()),
        Which::Alibi => Relative::Alibi(Tensor::from_slice(&alibi::alibi_slopes(4))),
    }
}

fn score(which: Which, head: usize, q: (&[f64], i64), k: (&[f64], i64)) -> f64 {
    match which {
        Which::None => dot(q.0, k.0) * 0.5,
        Which::Rope => rotated_dot(q, k, 100.0, None, |i| (i, i + 2)) * 0.5,
        Which::Xpos => rotated_dot(q, k, 100.0, Some((0.4, 8.0)), |i| (2 * i, 2 * i + 1)) * 0.5,
        Which::Alibi => {
            dot(q.0, k.0) * 0.5 - alibi::alibi_slopes(4)[head] * (q.1 - k.1).abs() as f64
        }
    }
}

fn inputs(seed: u64, seq: i64, kv_heads: i64) -> [Tensor; 3] {
    let mut rng = rng(seed);
    [4, kv_heads, kv_heads].map(|heads| normal(&[2, heads, seq, 4], &mut rng))
}

fn positions() -> impl Strategy<Value = Which> {
    prop_oneof![Just(Which::None), Just(Which::Rope), Just(Which::Xpos), Just(Which::Alibi)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every fast path against the double loop, for every mask, position scheme and head grouping.
    #[test]
    fn attention_equals_the_double_loop(
        seed in 0_u64..1000, seq in 1_i64..20, which in positions(),
        mask in prop::sample::select(all_masks()), kv_heads in prop::sample::select(vec![1, 2, 4]),
    ) {
        let [q, k, v] = inputs(seed, seq, kv_heads);
        let plan = Plan::new(&relative(which), Some(mask), 0..seq, 0..seq, CPU).unwrap();
        let got = plan.attend(&q, &k, &v, 0.5, 0.0).unwrap();
        let want = oracle(&q, &k, &v, &|i, j| mask.sees(i, j), &|h, q, i, k, j| {
            score(which, h, (q, i), (k, j))
        });
        // f32 against f64: softmax of scores up to 20, of values of size 3.
        prop_assert!(max_diff(&got, &want) < 2e-5);
    }

    /// A chunk of queries against more keys, as a cache hands them over.
    #[test]
    fn a_later_chunk_equals_the_same_rows_of_the_whole(
        seed in 0_u64..1000, before in 0_i64..12, chunk in 1_i64..8, which in positions(),
        mask in prop::sample::select(all_masks()),
    ) {
        let seq = before + chunk;
        let [q, k, v] = inputs(seed, seq, 4);
        let relative = relative(which);
        let whole = Plan::new(&relative, Some(mask), 0..seq, 0..seq, CPU).unwrap();
        let whole = whole.attend(&q, &k, &v, 0.5, 0.0).unwrap().narrow(2, before, chunk);
        let first = mask.first_key(before);
        let late = |x: &Tensor, from: i64| x.narrow(2, from, seq - from);
        let part = Plan::new(&relative, Some(mask), before..seq, first..seq, CPU).unwrap();
        let part = part.attend(&late(&q, before), &late(&k, first), &late(&v, first), 0.5, 0.0);
        // As above; both sides are f32.
        prop_assert!(max_diff(&part.unwrap(), &whole) < 2e-5);
    }

    /// Invariant 2.
    #[test]
    fn without_mask_and_positions_attention_commutes_with_permuting_tokens(
        seed in 0_u64..1000, seq in 1_i64..16,
    ) {
        let [q, k, v] = inputs(seed, seq, 4);
        let order = normal(&[seq], &mut rng(seed + 1)).argsort(0, false);
        let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
            let plan = Plan::new(&Relative::None, None, 0..seq, 0..seq, CPU).unwrap();
            plan.attend(q, k, v, 0.5, 0.0).unwrap()
        };
        let permute = |x: &Tensor| x.index_select(2, &order);
        let after = permute(&attend(&q, &k, &v));
        let before = attend(&permute(&q), &permute(&k), &permute(&v));
        // Sums in another order: f32 roundings of values of size 3.
        prop_assert!(max_diff(&after, &before) < 5e-6);
    }
}

#[test]
fn blocks_have_the_gradients_of_a_mask() {
    for which in [Which::None, Which::Rope, Which::Xpos, Which::Alibi] {
        for mask in all_masks() {
            let gradients = |by_blocks: bool| -> Vec<Tensor> {
                let inputs = inputs(5, 11, 2).map(|x| x.set_requires_grad(true));
                let [q, k, v] = &inputs;
                let relative = relative(which);
                let plan = if by_blocks {
                    Plan::new(&relative, Some(mask), 0..11, 0..11, CPU)
                } else {
                    let allowed = Some(mask.allowed(0..11, 0..11, CPU).unwrap());
                    Plan::whole(&relative, Shape::Whole, allowed, 0..11, 0..11, CPU)
                };
                let out = plan.unwrap().attend(q, k, v, 0.5, 0.0).unwrap();
                out.square().sum(Kind::Float).backward();
                inputs.iter().map(Tensor::grad).collect()
            };
            for (a, b) in gradients(true).iter().zip(gradients(false)) {
                // f32 sums of about 40 products of size 10.
                assert!(max_diff(a, &b) < 2e-4, "{which:?} {mask:?}");
            }
        }
    }
}

#[test]
fn an_f32_bias_is_not_rounded_under_autocast() {
    let [q, k, v] = inputs(6, 600, 4).map(|x| x.to_kind(Kind::BFloat16));
    let plan = Plan::new(&relative(Which::Alibi), Some(Mask::Causal), 0..600, 0..600, CPU).unwrap();
    let _autocast = Autocast::enable(CPU, Kind::BFloat16).unwrap();
    let got = plan.attend(&q, &k, &v, 0.5, 0.0).unwrap();
    drop(_autocast);
    let wide = [&q, &k, &v].map(|x| x.to_kind(Kind::Float));
    let want = plan.attend(&wide[0], &wide[1], &wide[2], 0.5, 0.0).unwrap();
    assert_eq!(got.kind(), Kind::BFloat16);
    // bf16 products and values: a few parts in 256 of values of size 3.
    assert!(max_diff(&got, &want) < 0.06);
}

#[test]
fn the_public_form_refuses_heads_that_do_not_fit() {
    let [q, k, v] = inputs(7, 5, 4);
    let message = attend(&q, &k.narrow(1, 0, 3), &v, None, Mask::Causal, 0.5).unwrap_err();
    let want = "k must have shape k and v alike, [2, a divisor of 4, 5, 4], got [2, 3, 5, 4]";
    assert_eq!(message.to_string(), want);
}
