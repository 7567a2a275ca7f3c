use std::f64::consts::TAU;

use super::*;
use crate::testing::lm_config;

#[test]
fn llama3_blends_between_the_two_wavelengths() {
    // The rule in the form in which it is published: by wavelength.
    let (factor, low, high, original) = (8.0, 1.0, 4.0, 64.0);
    let mut in_the_band = 0;
    for i in 0..400 {
        let frequency = f64::from((-0.02 * f64::from(i)).exp() as f32);
        let wavelength = TAU / frequency;
        let want = if wavelength > original / low {
            frequency / factor
        } else if wavelength < original / high {
            frequency
        } else {
            in_the_band += 1;
            let smooth = (original / wavelength - low) / (high - low);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        };
        let got = f64::from(llama3(frequency as f32, factor, [low, high], original as i64));
        // Roundings of f32.
        assert!((got - want).abs() < 1e-6 * want, "{wavelength}: {got}, not {want}");
    }
    assert!(in_the_band > 50);
}

#[test]
fn the_factors_of_long_rope_change_with_the_length() {
    let rope = LmRope {
        theta: 100.0,
        rotary_dim: 4,
        scaling: RopeScaling::LongRope {
            short_factors: vec![1.0, 2.0],
            long_factors: vec![4.0, 8.0],
            original_max_seq_len: 16,
            scales: [1.25, 1.5],
        },
    };
    assert_eq!(rope.frequencies(rope.range(16)).unwrap(), (vec![1.0, 0.05], 1.25));
    assert_eq!(rope.frequencies(rope.range(17)).unwrap(), (vec![0.25, 0.0125], 1.5));
    let linear = LmRope { scaling: RopeScaling::Linear { factor: 2.0 }, ..rope };
    assert_eq!(linear.frequencies(linear.range(i64::MAX)).unwrap(), (vec![0.5, 0.05], 1.0));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let check = |change: fn(&mut LmConfig), want: &str| {
        let mut config = lm_config();
        change(&mut config);
        assert_eq!(config.validate().unwrap_err().to_string(), want);
    };
    check(|c| c.n_heads = 0, "n_heads must be positive and below 2^31, got 0");
    check(|c| c.d_ff = -3, "d_ff must be positive and below 2^31, got -3");
    check(
        |c| c.vocab_size = 1 << 40,
        "vocab_size must be positive and below 2^31, got 1099511627776",
    );
    check(|c| c.n_kv_heads = 3, "n_kv_heads must be a divisor of n_heads = 4, got 3");
    check(|c| c.norm_eps = f64::NAN, "norm_eps must be in (0, 1), got NaN");
    check(|c| c.rope.theta = 1.0, "rope.theta must be finite and above 1, got 1");
    let want = "rope.rotary_dim must be positive, even and at most head_dim = 8, got 10";
    check(|c| c.rope.rotary_dim = 10, want);
    let scaling = |c: &mut LmConfig| {
        let (short_factors, long_factors) = (vec![1.0; 4], vec![1.0; 3]);
        c.rope.scaling = RopeScaling::LongRope {
            short_factors,
            long_factors,
            original_max_seq_len: 8,
            scales: [1.0, 1.0],
        };
    };
    check(scaling, "rope.long_factors must be 4 numbers, one for each pair, got 3");
}

#[test]
fn what_only_phi_3_small_has_is_checked_too() {
    let refused = |edit: fn(&mut Phi3Small), want: &str| {
        let mut config = crate::testing::all_lm_configs().pop().unwrap();
        let LmFamily::Phi3Small(small) = &mut config.family else { panic!() };
        edit(small);
        assert_eq!(config.validate().unwrap_err().to_string(), want);
    };
    let every = "dense_attention_every_n_layers must be positive, got 0";
    refused(|small| small.dense_attention_every_n_layers = 0, every);
    refused(|small| small.block_sparse.block_size = 0, "block_size must be positive, got 0");
    let width = "mup_width_multiplier must be positive and finite, got 0";
    refused(|small| small.mup_width_multiplier = 0.0, width);
    let limit = "gegelu_limit must be positive and finite, got -1";
    refused(|small| small.gegelu_limit = Some(-1.0), limit);
    let token = "dummy_tokens must be token ids, from 0 to 36, got 37";
    refused(|small| small.dummy_tokens = vec![3, 37], token);
}
