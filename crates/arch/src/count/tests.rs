use forerun_tensors::Role;
use proptest::prelude::*;

use super::*;
use crate::decoder::Decoder;
use crate::testing::{CPU, all_positions, rng};

fn configs() -> impl Strategy<Value = DecoderConfig> {
    let sizes = (1_i64..40, 1_i64..4, 1_i64..3, 1_i64..30, prop::sample::select(vec![1_i64, 2, 4]));
    let kinds = (
        prop::sample::select(vec![
            NormPlacement::Post,
            NormPlacement::Pre,
            NormPlacement::Sub,
            NormPlacement::Deep,
        ]),
        prop::sample::select(vec![NormKind::LayerNorm, NormKind::RmsNorm]),
        prop::sample::select(vec![Activation::Gelu, Activation::SwiGlu]),
        prop::sample::select(all_positions()),
    );
    (sizes, kinds, any::<(bool, bool, bool)>()).prop_map(|(sizes, kinds, flags)| DecoderConfig {
        vocab_size: sizes.0,
        d_model: 8 * sizes.1,
        n_layers: sizes.2,
        n_heads: 4,
        n_kv_heads: sizes.4,
        d_ff: sizes.3,
        norm: kinds.0,
        norm_kind: kinds.1,
        activation: kinds.2,
        positions: kinds.3,
        tie_embeddings: flags.0,
        bias: flags.1,
        norm_embedding: flags.2,
        ..DecoderConfig::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Invariant 11, exactly.
    #[test]
    fn counts_equal_what_is_built(config in configs(), seq in 1_i64..50) {
        let model = Decoder::new(&config, &mut rng(1), CPU).unwrap();
        prop_assert_eq!(n_params(&config), model.parameters().n_elements());

        let is_outer = |name: &str| name.starts_with("embed_") || name.starts_with("output_");
        let inner = model.parameters().iter().filter(|p| !is_outer(&p.name));
        let inner: i64 = inner.map(|p| p.tensor.numel() as i64).sum();
        prop_assert_eq!(n_non_embedding_params(&config), inner);

        // A product with a weight of n numbers costs 2n forward and 4n backward; a visible key costs a
        // product with its key and one with its value, in every channel.
        let in_blocks = |p: &&forerun_tensors::Parameter| p.role == Role::Matrix && !is_outer(&p.name);
        let weights: i64 =
            model.parameters().iter().filter(in_blocks).map(|p| p.tensor.numel() as i64).sum();
        let products = 6 * (weights + model.head().numel() as i64);
        let pairs: i64 = (0..seq).map(|query| query + 1).sum();
        let attention = 3 * 2 * 2 * config.d_model * config.n_layers * pairs;
        let want = products as f64 + attention as f64 / seq as f64;
        // Two orders of the same few products.
        prop_assert!((flops_per_token(&config, seq) - want).abs() <= 1e-12 * want);
    }
}

#[test]
fn the_default_is_a_gpt_medium() {
    // By hand: 24 · (4·1024² + 2·1024·3072 + 5·1024 + 3072 + 2·(3·1024 + 3072)) + 2·1024.
    let block = 4 * 1024 * 1024 + 2 * 1024 * 3072 + 5 * 1024 + 3072 + 2 * (3 * 1024 + 3072);
    let want = 24 * block + 2 * 1024;
    assert_eq!(n_non_embedding_params(&DecoderConfig::default()), want);
}

#[test]
fn absurd_sizes_saturate() {
    const MOST: i64 = i64::MAX;
    let absurd = DecoderConfig {
        vocab_size: MOST,
        d_model: MOST,
        n_layers: MOST,
        n_heads: 1,
        n_kv_heads: MOST,
        d_ff: MOST,
        positions: crate::Positions::Learned { max_seq_len: MOST, offset: MOST },
        ..DecoderConfig::default()
    };
    assert_eq!((n_params(&absurd), n_non_embedding_params(&absurd)), (MOST, MOST));
    assert!(flops_per_token(&absurd, MOST) > 1e37);
    let one = DecoderConfig { d_model: MOST, ..DecoderConfig::default() };
    assert_eq!(n_params(&one), MOST);
}
