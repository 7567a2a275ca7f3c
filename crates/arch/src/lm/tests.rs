use std::ops::ControlFlow;

use forerun_tensors::Error as TensorError;
use forerun_tensors::kernels::WeightFormat;
use proptest::prelude::*;

use super::*;
use crate::generate::Chosen;
use crate::linear::Linear;
use crate::quantize::QuantizeConfig;
use crate::sample::Generation;
use crate::testing::{CPU, all_lm_configs, lm, lm_config, max_diff, rng, tokens};

fn go_on(_: Chosen) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn greedy(max_new_tokens: usize) -> Generation {
    Generation { max_new_tokens, temperature: 0.0, ..Generation::default() }
}

fn ids(n: i64, seed: u64) -> Vec<i64> {
    Vec::try_from(tokens(1, n, 37, &mut rng(seed)).view([-1])).unwrap()
}

/// Logits after each token of one text, `[seq, vocab]`, without a cache.
fn whole(model: &CausalLm, text: &[i64]) -> Tensor {
    tch::no_grad(|| model.logits(&Tensor::from_slice(text).unsqueeze(0)).unwrap().squeeze_dim(0))
}

/// The largest difference, infinite logits apart, which must be the same ones.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let infinite = a.isinf();
    assert!(infinite.equal(&b.isinf()));
    max_diff(&a.masked_fill(&infinite, 0.0), &b.masked_fill(&infinite, 0.0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Invariant 6: a text in pieces of any lengths gives what it gives at once.
    #[test]
    fn pieces_equal_the_whole(
        seed in 0_u64..10_000, config in prop::sample::select(all_lm_configs()), cuts in prop::collection::vec(1_i64..12, 1..6),
        room in 0_usize..40,
    ) {
        let model = lm(&config, seed);
        let text = ids(cuts.iter().sum(), seed);
        let mut cache = LmCache::new(&model, room);
        let mut at = 0;
        for n in cuts {
            let piece = &text[at as usize..(at + n) as usize];
            let logits = model.extend(piece, &mut cache).unwrap();
            at += n;
            let want = whole(&model, &text[..at as usize]).get(at - 1);
            // Sums in another order, through two layers; logits of size 5.
            prop_assert!(apart(&logits, &want) < 2e-4);
        }
        prop_assert_eq!(cache.position(), at);
    }

    /// Invariant 5: texts side by side are written as each on its own.
    #[test]
    fn a_batch_is_its_texts_one_by_one(
        seed in 0_u64..10_000, config in prop::sample::select(all_lm_configs()), lengths in prop::collection::vec(1_i64..9, 1..6),
        temperature in prop::sample::select(vec![0.0, 1.5]),
    ) {
        let model = lm(&config, seed);
        let prompts: Vec<Vec<i64>> =
            lengths.iter().enumerate().map(|(i, &n)| ids(n, seed + i as u64)).collect();
        let options = Generation { temperature, stop_tokens: vec![0, 1, 2], ..greedy(9) };
        let texts: Vec<&[i64]> = prompts.iter().map(Vec::as_slice).collect();
        let mut rngs: Vec<_> = (0..texts.len()).map(|i| rng(seed + i as u64)).collect();
        let together = model.generate_batch(&texts, &options, &mut rngs, &mut |_, chosen| go_on(chosen)).unwrap();
        for (i, (text, together)) in texts.iter().zip(together).enumerate() {
            let alone = model.generate(text, &options, &mut rng(seed + i as u64), &mut go_on).unwrap();
            prop_assert_eq!(together, alone);
        }
    }

    /// Invariant 1: a later token changes nothing before it.
    #[test]
    fn no_token_sees_a_later_one(seed in 0_u64..10_000, config in prop::sample::select(all_lm_configs()), at in 0_i64..9) {
        let model = lm(&config, seed);
        let (a, b) = (ids(10, seed), ids(10, seed + 1));
        let mixed = [&a[..=at as usize], &b[at as usize + 1..]].concat();
        let [a, mixed] = [a, mixed].map(|text| whole(&model, &text).narrow(0, 0, at + 1));
        prop_assert!(apart(&a, &mixed) < 1e-5);
    }
}

#[test]
fn greedy_takes_the_best_token_of_a_forward_pass() {
    for (seed, config) in all_lm_configs().iter().enumerate() {
        let model = lm(config, seed as u64);
        let mut text = ids(7, 3);
        let mut seen = Vec::new();
        let mut on_token = |chosen| {
            seen.push(chosen);
            ControlFlow::Continue(())
        };
        let new = model.generate(&text, &greedy(9), &mut rng(1), &mut on_token).unwrap();
        assert_eq!(new.len(), 9);
        for (token, chosen) in new.into_iter().zip(seen) {
            let last = whole(&model, &text).get(text.len() as i64 - 1);
            assert_eq!(token, i64::try_from(last.argmax(-1, false)).unwrap());
            let log_prob = last.log_softmax(-1, Kind::Float).double_value(&[token]);
            assert!(chosen.token == token && (chosen.log_prob - log_prob).abs() < 1e-4);
            text.push(token);
        }
    }
}

#[test]
fn a_text_is_as_likely_as_its_logits_say() {
    for (seed, config) in all_lm_configs().iter().enumerate() {
        let model = lm(config, seed as u64);
        let text: Vec<i64> = ids(21, 4).into_iter().filter(|id| ![3, 30].contains(id)).collect();
        let got = model.log_probs(&text).unwrap();
        let log_probs = whole(&model, &text).log_softmax(-1, Kind::Float);
        assert_eq!(got.len(), text.len() - 1);
        for (i, (got, &next)) in got.into_iter().zip(&text[1..]).enumerate() {
            let want = log_probs.double_value(&[i as i64, next]);
            assert!((got - want).abs() < 1e-4, "{got}, not {want}");
        }
        assert!(model.log_probs(&text[..1]).unwrap().is_empty());
    }
}

#[test]
fn a_padded_batch_is_its_texts_one_by_one() {
    for config in all_lm_configs() {
        let model = lm(&config, 3);
        let (short, long) = (ids(5, 1), ids(9, 2));
        let padded = [&[7; 4], short.as_slice(), &long].concat();
        let tokens = Tensor::from_slice(&padded).view([2, 9]);
        let got = tch::no_grad(|| model.logits_padded(&tokens, &[4, 0]));
        if config.phi3_small().is_some() {
            assert!(got.is_err());
            continue;
        }
        let got = got.unwrap();
        // Sums in another order.
        assert!(max_diff(&got.get(0).narrow(0, 4, 5), &whole(&model, &short)) < 1e-4);
        assert!(max_diff(&got.get(1), &whole(&model, &long)) < 1e-4);
        assert!(model.logits_padded(&tokens, &[9, 0]).is_err());
        assert!(model.logits_padded(&tokens, &[0]).is_err());
    }
}

#[test]
fn longer_texts_than_a_chunk_are_read_in_chunks() {
    for window in [None, Some(40)] {
        let config = LmConfig { sliding_window: window, family: LmFamily::Phi3, ..lm_config() };
        let model = lm(&config, 5);
        let text = ids(2 * forward::CHUNK + 3, 6);
        let mut cache = LmCache::new(&model, text.len());
        let got = model.extend(&text, &mut cache).unwrap();
        let want = whole(&model, &text).get(text.len() as i64 - 1);
        assert!(max_diff(&got, &want) < 2e-4);
        let log_probs = model.log_probs(&text).unwrap();
        let all = whole(&model, &text).log_softmax(-1, Kind::Float);
        for at in [0, 127, 128, 511, 512, 700, 1025] {
            let want = all.double_value(&[at as i64, text[at + 1]]);
            assert!((log_probs[at] - want).abs() < 2e-4, "token {at}");
        }
    }
}

#[test]
fn a_windowed_cache_does_not_grow() {
    let config = LmConfig { sliding_window: Some(5), family: LmFamily::Phi3, ..lm_config() };
    let model = lm(&config, 1);
    let mut cache = LmCache::new(&model, 0);
    let text = ids(400, 2);
    let _ = model.extend(&text[..3], &mut cache).unwrap();
    let after_three = cache.n_bytes();
    for token in &text[3..] {
        let _ = model.extend(&[*token], &mut cache).unwrap();
    }
    assert_eq!((cache.n_bytes(), cache.position()), (after_three, 400));
    assert!(cache.first_position() >= 395);
    // And it knows all that a window over the whole text shows.
    let got = model.extend(&[7], &mut cache).unwrap();
    let text = [text.as_slice(), &[7]].concat();
    assert!(max_diff(&got, &whole(&model, &text).get(400)) < 2e-4);
}

#[test]
fn narrow_weights_compute_nearly_the_same() {
    for (kind, tolerance) in [(Kind::BFloat16, 0.15), (Kind::Half, 0.03)] {
        for config in all_lm_configs() {
            let wide = lm(&config, 8);
            let mut drawn = Vec::new();
            for (name, tensor) in wide.tensors() {
                drawn.push((name, tensor.to_kind(kind)));
            }
            let narrow = CausalLm::new(config.clone(), &mut rng(8), kind, CPU).unwrap();
            let _guard = tch::no_grad_guard();
            for ((_, to), (_, from)) in narrow.tensors().iter().zip(&drawn) {
                to.shallow_clone().copy_(from);
            }
            let text = ids(20, 9);
            let want = whole(&wide, &text);
            let got = whole(&narrow, &text);
            // Rounding of weights and of what goes into each product; logits of size 5.
            assert!(apart(&got, &want) < tolerance, "{kind:?} {}", apart(&got, &want));
            let mut cache = LmCache::new(&narrow, 20);
            let _ = narrow.extend(&text[..15], &mut cache).unwrap();
            for (i, &token) in text.iter().enumerate().skip(15) {
                let logits = narrow.extend(&[token], &mut cache).unwrap();
                let same = config.rope.range(i as i64 + 1) == config.rope.range(20);
                assert!(!same || apart(&logits, &want.get(i as i64)) < tolerance, "{kind:?}");
            }
        }
    }
}

#[test]
fn without_a_bound_only_the_callback_ends_the_text() {
    for config in all_lm_configs() {
        let model = lm(&config, 3);
        let (prompt, bound) = (ids(5, 2), 2 * config.max_seq_len as usize);
        let all = model.generate(&prompt, &greedy(bound), &mut rng(1), &mut go_on).unwrap();
        assert_eq!(all.len(), bound); // beyond the length that the model was made for
        let mut left = bound;
        let mut until_then = |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let unbounded = greedy(usize::MAX);
        let new = model.generate(&prompt, &unbounded, &mut rng(1), &mut until_then).unwrap();
        assert_eq!(new, all);
    }
}

#[test]
fn a_cache_takes_what_is_expected_and_no_more_than_is_needed() {
    let model = lm(&lm_config(), 1);
    let after = |n_tokens: usize, n_read: i64| {
        let mut cache = LmCache::new(&model, n_tokens);
        let _ = model.extend(&ids(n_read, 1), &mut cache).unwrap();
        cache.n_bytes()
    };
    let row = 2 * 2 * 2 * 8 * 4; // keys and values, layers, heads, channels, f32
    assert_eq!(after(100, 7), 100 * row);
    assert_eq!(after(100, 100), 100 * row);
    assert!(after(100, 101) <= 202 * row);
    // A number that nobody will reach costs address space, not more than 1 GiB of it.
    assert!(after(usize::MAX, 7) <= 1 << 30);
}

#[test]
fn long_rope_reads_short_texts_as_long_ones_in_a_batch_that_is_filled_up_far() {
    let config = all_lm_configs().remove(2); // its first training had 12 tokens
    let model = lm(&config, 2);
    let text = ids(9, 1);
    let alone = whole(&model, &text);
    let filled = |n: i64| whole(&model, &[text.as_slice(), &ids(n, 5)].concat()).narrow(0, 0, 9);
    assert!(max_diff(&filled(3), &alone) < 1e-4);
    assert!(max_diff(&filled(4), &alone) > 1e-2);
}

#[test]
fn up_to_eight_texts_side_by_side_have_the_very_logits_of_one() {
    for (seed, config) in all_lm_configs().iter().enumerate() {
        let model = lm(config, seed as u64);
        for n_texts in [2, 8, 9] {
            let texts: Vec<Vec<i64>> = (0..n_texts).map(|i| ids(2 + i % 5, i as u64)).collect();
            let read = |text: &Vec<i64>| {
                let mut cache = LmCache::new(&model, 20);
                let _ = model.extend(text, &mut cache).unwrap();
                cache
            };
            let tokens = ids(n_texts, 99);
            let mut caches: Vec<LmCache> = texts.iter().map(read).collect();
            let together = model.step(&tokens, &mut caches.iter_mut().collect::<Vec<_>>()).unwrap();
            for (i, text) in texts.iter().enumerate() {
                let alone = model.step(&tokens[i..=i], &mut [&mut read(text)]).unwrap().get(0);
                let row = together.get(i as i64);
                assert!(n_texts > 8 || row.equal(&alone), "{n_texts} {i}");
                // Sums in another order, through two layers; logits of size 5.
                assert!(apart(&row, &alone) < 2e-4, "{n_texts} {i}");
            }
        }
    }
}

/// The kernels for few rows and for the attention of one token, on plain and on packed weights.
#[test]
fn a_step_does_not_depend_on_the_number_of_threads() {
    let config = LmConfig {
        vocab_size: 200,
        d_model: 64,
        n_heads: 8,
        n_kv_heads: 4,
        d_ff: 160,
        ..lm_config()
    };
    let mut model = lm(&config, 1);
    for packed in [false, true] {
        if packed {
            let format = WeightFormat::Int4 { group: 32 };
            model.pack(&QuantizeConfig::nearest(format), &mut |_| Ok(None)).unwrap();
        }
        let run = |threads| {
            tch::set_num_threads(1);
            let mut caches: Vec<LmCache> = (0..3)
                .map(|i| {
                    let mut cache = LmCache::new(&model, 400);
                    let _ = model.extend(&ids(100 + 90 * i, i as u64), &mut cache).unwrap();
                    cache
                })
                .collect();
            let mut caches: Vec<&mut LmCache> = caches.iter_mut().collect();
            tch::set_num_threads(threads);
            let logits = model.step(&[5, 6, 7], &mut caches).unwrap();
            tch::set_num_threads(1);
            logits
        };
        let one = run(1);
        for threads in [2, 3, 7] {
            assert!(run(threads).equal(&one), "{threads} threads");
        }
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let model = lm(&lm_config(), 1);
    let run = |prompt: &[i64], options: Generation| {
        model.generate(prompt, &options, &mut rng(1), &mut go_on).unwrap_err().to_string()
    };
    assert_eq!(run(&[], greedy(3)), "prompt must be at least one token, got none");
    assert_eq!(run(&[5, 37], greedy(3)), "token id must be from 0 to 36, got 37");
    let narrow =
        Generation { mask: forerun_tensors::Mask::SlidingWindow { window: 3 }, ..greedy(3) };
    let want = "mask must be Causal: the window of a loaded model is its own, got SlidingWindow { window: 3 }";
    assert_eq!(run(&[5], narrow), want);
    let shape = model.logits(&Tensor::from_slice(&[1_i64])).unwrap_err();
    assert!(matches!(shape, crate::Error::Tensors(TensorError::Shape { arg: "tokens", .. })));
    let mut cache = LmCache::new(&model, 3);
    assert!(model.step(&[1, 2], &mut [&mut cache]).is_err());
    // A refused token leaves the cache as it was.
    let _ = model.extend(&[1, 2], &mut cache).unwrap();
    assert!(model.extend(&[99], &mut cache).is_err());
    let got = model.extend(&[3], &mut cache).unwrap();
    assert!(max_diff(&got, &whole(&model, &[1, 2, 3]).get(2)) < 2e-4);
}

#[test]
fn projections_are_named_and_can_be_exchanged() {
    let mut model = lm(&lm_config(), 1);
    let names: Vec<&str> = model.projections().map(Projection::name).collect();
    assert_eq!(names.len(), 14);
    assert_eq!(names[0], "model.layers.0.self_attn.q_proj");
    assert_eq!(names[13], "model.layers.1.mlp.down_proj");
    let text = ids(6, 1);
    let before = whole(&model, &text);
    for projection in model.projections_mut().filter(|p| p.name().ends_with("down_proj")) {
        assert_eq!((projection.d_out(), projection.d_in()), (32, 48));
        let weight = projection.linear().unwrap().weight.zeros_like();
        projection.exchange(Linear { weight, bias: None }).unwrap();
    }
    assert!(max_diff(&before, &whole(&model, &text)) > 0.01);
}
