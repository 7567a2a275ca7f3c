use proptest::prelude::*;

use super::*;
use crate::testing::{CPU, max_diff, normal, rng, rotated_dot};

fn scores(rotary: &Rotary, q: &Tensor, k: &Tensor, offset: i64) -> Tensor {
    let q = rotary.apply(q, offset, Side::Query).unwrap();
    q.matmul(&rotary.apply(k, offset, Side::Key).unwrap().transpose(-1, -2))
}

#[test]
fn bad_arguments_are_refused_by_name() {
    let message = |result: Result<Rotary>| result.unwrap_err().to_string();
    let odd = message(Rotary::rope(7, 1e4, CPU));
    assert_eq!(odd, "head_dim must be positive and even, got 7");
    let flat = message(Rotary::xpos(8, 1e4, 0.0, 512.0, CPU));
    assert_eq!(flat, "gamma must be positive and finite, got 0");
    let rope = Rotary::rope(8, 1e4, CPU).unwrap();
    let x = Tensor::zeros([1, 2, 3, 6], (Kind::Float, CPU));
    let shape = rope.apply(&x, 0, Side::Query).unwrap_err().to_string();
    assert_eq!(shape, "x must have shape [.., seq, 8] at an offset >= 0, got [1, 2, 3, 6]");
}

#[test]
fn a_decay_beyond_the_range_of_f32_is_refused() {
    let xpos = Rotary::xpos(4, 1e4, 0.4, 1.0, CPU).unwrap();
    assert!(xpos.rotation(64).is_ok());
    // ln ζ₀ = ln(0.4 / 1.4) = -1.25276, and 512 tokens lie on either side of the middle: 512 · 1.25276 / 80 = 8.02.
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    let want = "positions.scale_base must be at least 8.1 for 1000 tokens, got 1";
    assert_eq!(xpos.rotation(1000).unwrap_err().to_string(), want);
    let x = Tensor::zeros([1, 1000, 4], (Kind::Float, CPU));
    let want = "positions.scale_base must be at least 7.9 for 1000 tokens, got 1";
    assert_eq!(message(xpos.apply(&x, 0, Side::Key)), want);
    let enough = Rotary::xpos(4, 1e4, 0.4, 8.1, CPU).unwrap();
    let rotated = |side| enough.apply(&x.ones_like(), 0, side).unwrap().isfinite().all();
    assert!(enough.rotation(1000).is_ok());
    assert!([Side::Query, Side::Key].iter().all(|&side| bool::try_from(rotated(side)).unwrap()));
}

#[test]
fn tables_do_not_depend_on_earlier_calls() {
    let x = normal(&[1, 1, 20, 8], &mut rng(1));
    let fresh = Rotary::xpos(8, 1e4, 0.4, 8.0, CPU).unwrap();
    let used = Rotary::xpos(8, 1e4, 0.4, 8.0, CPU).unwrap();
    used.rotation(200).unwrap();
    let rotate = |rotary: &Rotary| rotary.rotation(20).unwrap().apply(&x, &x).unwrap();
    let ((a, b), (c, d)) = (rotate(&fresh), rotate(&used));
    assert!(a.equal(&c) && b.equal(&d));
}

#[test]
fn gradients_equal_differences() {
    for rotary in [Rotary::rope(6, 1e4, CPU), Rotary::xpos(6, 1e4, 0.4, 8.0, CPU)] {
        let rotary = rotary.unwrap();
        let mut rng = rng(2);
        let x = normal(&[1, 2, 5, 6], &mut rng).set_requires_grad(true);
        let (weights, step) = (normal(&[1, 2, 5, 6], &mut rng), normal(&[1, 2, 5, 6], &mut rng));
        let value = |x: &Tensor| {
            let turned = rotary.apply(x, 3, Side::Key).unwrap();
            (turned * &weights).sum(Kind::Double)
        };
        value(&x).backward();
        // The map is linear: the difference is exact up to f32 rounding of sums of size 10.
        let slope = f64::try_from((x.grad() * &step).sum(Kind::Double)).unwrap();
        let difference = f64::try_from(value(&(&x + &step)) - value(&x)).unwrap();
        assert!((slope - difference).abs() < 1e-4, "{slope} {difference}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Invariant 3. Angles are f64 before they are rounded, so a shift costs an f32 rounding only.
    #[test]
    fn scores_do_not_change_when_both_offsets_shift(
        seed in 0_u64..1000, shift in 1_i64..300, seq in 1_i64..12, is_xpos: bool,
    ) {
        let rotary =
            if is_xpos { Rotary::xpos(8, 1e4, 0.4, 16.0, CPU) } else { Rotary::rope(8, 1e4, CPU) };
        let rotary = rotary.unwrap();
        let mut rng = rng(seed);
        let (q, k) = (normal(&[1, 2, seq, 8], &mut rng), normal(&[1, 2, seq, 8], &mut rng));
        let (here, there) = (scores(&rotary, &q, &k, 0), scores(&rotary, &q, &k, shift));
        // Channels cancel ζ^p against ζ^−p to 1e-7 relative, in sums of size 10 · 3.5^(12/16).
        prop_assert!(max_diff(&here, &there) < 2e-5);
    }

    /// Invariant 4. The two pair channels differently, so RoPE sees them permuted.
    #[test]
    fn xpos_without_decay_is_rope(seed in 0_u64..1000, seq in 1_i64..12, offset in 0_i64..50) {
        let xpos = Rotary::xpos(8, 1e4, 0.4, 1e30, CPU).unwrap();
        let rope = Rotary::rope(8, 1e4, CPU).unwrap();
        let halves = Tensor::from_slice(&[0_i64, 2, 4, 6, 1, 3, 5, 7]);
        let x = normal(&[2, 2, seq, 8], &mut rng(seed));
        for side in [Side::Query, Side::Key] {
            let a = xpos.apply(&x, offset, side).unwrap().index_select(-1, &halves);
            let b = rope.apply(&x.index_select(-1, &halves), offset, side).unwrap();
            // The same products in another order: two roundings of numbers below 8.
            prop_assert!(max_diff(&a, &b) < 2e-6);
        }
    }

    /// The closed form of the score, which a wrong sign in either exponent breaks.
    #[test]
    fn scores_equal_the_closed_form(seed in 0_u64..1000, seq in 1_i64..10, offset in 0_i64..40) {
        let mut rng = rng(seed);
        let (q, k) = (normal(&[1, 1, seq, 6], &mut rng), normal(&[1, 1, seq, 6], &mut rng));
        let rows = |x: &Tensor| -> Vec<Vec<f64>> {
            Vec::try_from(x.view([seq, 6]).to_kind(Kind::Double)).unwrap()
        };
        let (q_rows, k_rows) = (rows(&q), rows(&k));
        let rope = Rotary::rope(6, 100.0, CPU).unwrap();
        let xpos = Rotary::xpos(6, 100.0, 0.4, 8.0, CPU).unwrap();
        let (rope, xpos) = (scores(&rope, &q, &k, offset), scores(&xpos, &q, &k, offset));
        for m in 0..seq {
            for n in 0..seq {
                let (a, b) = ((&q_rows[m as usize][..], m), (&k_rows[n as usize][..], n));
                let want = rotated_dot(a, b, 100.0, Some((0.4, 8.0)), |i| (2 * i, 2 * i + 1));
                // f32 sums of six products of size up to 10 · 3.5^(9/8).
                prop_assert!((xpos.double_value(&[0, 0, m, n]) - want).abs() < 5e-5);
                let want = rotated_dot(a, b, 100.0, None, |i| (i, i + 3));
                prop_assert!((rope.double_value(&[0, 0, m, n]) - want).abs() < 5e-5);
            }
        }
    }
}
