use proptest::prelude::*;

use super::*;
use crate::config::{DecoderConfig, NormPlacement};
use crate::decoder::Forward;
use crate::testing::{CPU, all_masks, all_positions, max_diff, model, rng, tiny, tokens};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Invariant 6, for every mask, position scheme, and any cut into chunks.
    #[test]
    fn chunks_through_a_cache_equal_one_forward_pass(
        seed in 0_u64..1000, cuts in prop::collection::vec(1_i64..7, 1..6),
        positions in prop::sample::select(all_positions()), mask in prop::sample::select(all_masks()),
        n_kv_heads in prop::sample::select(vec![1, 2, 4]), deep: bool,
    ) {
        let norm = if deep { NormPlacement::Deep } else { NormPlacement::Sub };
        let model = model(&DecoderConfig { positions, n_kv_heads, norm, ..tiny() }, seed);
        let seq = cuts.iter().sum();
        let text = tokens(2, seq, 29, &mut rng(seed));
        let options = Forward { mask, ..Forward::default() };
        let whole = model.logits(&text, &options).unwrap();
        let mut cache = KvCache::new(&model, 2);
        let mut parts = Vec::new();
        for cut in cuts {
            let chunk = text.narrow(1, cache.position(), cut);
            parts.push(model.step(&chunk, &mut cache, mask).unwrap());
        }
        prop_assert_eq!(cache.position(), seq);
        // f32 sums in another order through two layers, logits of size 5.
        prop_assert!(max_diff(&Tensor::cat(&parts, 1), &whole) < 5e-5);
    }
}

#[test]
fn a_windowed_mask_bounds_what_is_held() {
    let model = model(&tiny(), 1);
    let text = tokens(1, 300, 29, &mut rng(2));
    for (mask, most) in
        [(Mask::BlockwiseCausal { block_size: 5 }, 10), (Mask::SlidingWindow { window: 7 }, 7)]
    {
        let mut cache = KvCache::new(&model, 1);
        for position in 0..300 {
            let _ = model.step(&text.narrow(1, position, 1), &mut cache, mask).unwrap();
            assert!(cache.len() <= most, "{mask:?} holds {} at {position}", cache.len());
        }
        assert_eq!(cache.first_position() + cache.len(), 300);
        assert_eq!(cache.capacity, MIN_CAPACITY, "the buffers grew");
    }
}

#[test]
fn keys_are_held_as_they_were_projected() {
    let model = model(&tiny(), 3);
    let text = tokens(2, 6, 29, &mut rng(4));
    let mut cache = KvCache::new(&model, 2);
    assert!(cache.is_empty() && cache.layer(0).unwrap().is_none());
    let _ = model.step(&text, &mut cache, Mask::Causal).unwrap();
    let stream = model.residual_stream(&text, Mask::Causal).unwrap();
    let block = &model.blocks[1];
    let (_, want) =
        block.attention.queries_and_keys(&block.attention_input(&stream[1]).unwrap()).unwrap();
    let (keys, values) = cache.layer(1).unwrap().unwrap();
    // The same f32 operations on the same shapes, but for the order inside attention.
    assert!(max_diff(&keys, &want) < 1e-5);
    assert_eq!(values.size(), [2, 4, 6, 4]);
    assert!(cache.layer(2).unwrap().is_none());
}

#[test]
fn a_wider_mask_after_a_narrow_one_is_refused() {
    let model = model(&tiny(), 5);
    let mut cache = KvCache::new(&model, 1);
    let text = tokens(1, 12, 29, &mut rng(6));
    let narrow = Mask::SlidingWindow { window: 2 };
    let _ = model.step(&text, &mut cache, narrow).unwrap();
    let _ = model.step(&text.narrow(1, 0, 1), &mut cache, narrow).unwrap();
    let error = model.step(&text.narrow(1, 0, 1), &mut cache, Mask::Causal).unwrap_err();
    let want =
        "kv cache: position 13 under Causal sees keys from 0 on, but those before 11 were dropped";
    assert_eq!(error.to_string(), want);
    assert_eq!(cache.position(), 13);
}

#[test]
fn a_failed_step_leaves_the_cache_as_it_was() {
    let model = model(&tiny(), 7);
    let mut cache = KvCache::new(&model, 1);
    let text = tokens(1, 5, 29, &mut rng(8));
    let _ = model.step(&text, &mut cache, Mask::Causal).unwrap();
    let outside = Tensor::from_slice(&[99_i64]).view([1, 1]);
    assert!(model.step(&outside, &mut cache, Mask::Causal).is_err());
    let two = tokens(2, 1, 29, &mut rng(9));
    let error = model.step(&two, &mut cache, Mask::Causal).unwrap_err().to_string();
    assert_eq!(error, "tokens must have shape [1, new] for this cache, got [2, 1]");
    let mut clean = KvCache::new(&model, 1);
    let _ = model.step(&text, &mut clean, Mask::Causal).unwrap();
    let next = Tensor::from_slice(&[7_i64]).view([1, 1]);
    let a = model.step(&next, &mut cache, Mask::Causal).unwrap();
    let b = model.step(&next, &mut clean, Mask::Causal).unwrap();
    assert!(a.equal(&b));
    assert_eq!(next.device(), CPU);
}

#[test]
fn a_failure_while_growing_leaves_every_layer_as_it_was() {
    let model = model(&tiny(), 7);
    let text = tokens(1, 60 + MIN_CAPACITY, 29, &mut rng(8));
    let (mut cache, mut clean) = (KvCache::new(&model, 1), KvCache::new(&model, 1));
    for cache in [&mut cache, &mut clean] {
        let _ = model.step(&text.narrow(1, 0, 60), cache, Mask::Causal).unwrap();
    }
    let sound = cache.layers[1].as_mut().unwrap().values.shallow_clone();
    // As if memory ran out at the second layer.
    cache.layers[1].as_mut().unwrap().values = sound.flatten(0, -1);
    let rest = text.narrow(1, 60, MIN_CAPACITY);
    assert!(model.step(&rest, &mut cache, Mask::Causal).is_err());
    cache.layers[1].as_mut().unwrap().values = sound;
    assert_eq!((cache.position(), cache.capacity), (60, clean.capacity));
    for layer in cache.layers.iter().flatten() {
        assert_eq!(layer.keys.size()[2], clean.capacity);
    }
    let a = model.step(&rest, &mut cache, Mask::Causal).unwrap();
    let b = model.step(&rest, &mut clean, Mask::Causal).unwrap();
    assert!(a.equal(&b));
}
