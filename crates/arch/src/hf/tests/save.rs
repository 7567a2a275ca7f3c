//! What is written.

use super::*;
use crate::lm::{LmRope, RopeScaling};
use crate::lora::LoraConfig;

#[test]
fn a_saved_model_is_the_same_when_loaded() {
    for config in all_lm_configs() {
        let model = lm(&config, 3);
        let folder = tempfile::tempdir().unwrap();
        if config.phi3_small().is_some() {
            let error = model.save(folder.path()).unwrap_err().to_string();
            assert!(error.starts_with("family must be"), "{error}");
            continue;
        }
        let hash = model.save(folder.path()).unwrap();
        let loaded = load(folder.path()).unwrap();
        assert_eq!(loaded.config(), &config);
        assert!(logits(&loaded).equal(&logits(&model)));
        assert_eq!(loaded.save(&folder.path().join("again")).unwrap(), hash);
        let bf16 = LoadOptions { kind: Some(Kind::BFloat16), ..LoadOptions::default() };
        let bf16 = CausalLm::load(folder.path(), &bf16).unwrap();
        assert_eq!(
            (bf16.kind(), bf16.named_tensors().unwrap()[0].1.kind()),
            (Kind::BFloat16, Kind::BFloat16)
        );
        assert!(max_diff(&logits(&bf16), &logits(&model)) < 0.15);
    }
}

#[test]
fn heads_may_be_wider_or_narrower_than_the_stream() {
    for (family, head_dim) in [(LmFamily::Llama, 4), (LmFamily::Llama, 12), (LmFamily::Phi3, 12)] {
        let rope = LmRope { rotary_dim: head_dim, ..lm_config().rope };
        let config = LmConfig { family, head_dim, rope, ..lm_config() };
        let model = lm(&config, 3);
        let folder = tempfile::tempdir().unwrap();
        model.save(folder.path()).unwrap();
        let loaded = load(folder.path()).unwrap();
        assert_eq!(loaded.config(), &config);
        assert!(logits(&loaded).equal(&logits(&model)));
    }
}

#[test]
fn what_would_be_lost_is_refused() {
    let refused = |config: LmConfig, want: &str| {
        let folder = tempfile::tempdir().unwrap();
        let message = lm(&config, 1).save(folder.path()).unwrap_err().to_string();
        assert!(message.ends_with(want), "{message}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    };
    let rope = |scaling| LmRope { scaling, ..lm_config().rope };
    let divided = RopeScaling::Divided { factors: vec![1.0, 2.0, 3.0, 4.0] };
    let want = "`rope_scaling` cannot be the divisors of frequencies in a GGUF file";
    refused(LmConfig { rope: rope(divided), ..lm_config() }, want);
    let want = "the family's files cannot hold all of the hyperparameters";
    refused(LmConfig { sliding_window: Some(4), ..lm_config() }, want);
    refused(LmConfig { family: LmFamily::Phi3, attention_bias: true, ..lm_config() }, want);

    // An adapter that is not part of the weights.
    let mut model = lm(&lm_config(), 1);
    model.add_adapters(&LoraConfig::default(), &mut rng(1)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let message = model.save(folder.path()).unwrap_err().to_string();
    let want = "adapter of `model.layers.0.self_attn.q_proj` must be merged or taken off, got one on top of the weights";
    assert_eq!(message, want);
    model.merge_adapters().unwrap();
    model.save(folder.path()).unwrap();
    assert!(logits(&load(folder.path()).unwrap()).equal(&logits(&model)));
}

#[test]
fn a_folder_with_an_index_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join(INDEX);
    fs::write(&index, "{}").unwrap();
    let message = lm(&lm_config(), 1).save(folder.path()).unwrap_err().to_string();
    assert!(message.contains(INDEX), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// transformers 4 refuses a `rope_scaling` with more than these three fields.
#[test]
fn long_rope_has_the_three_fields_that_all_versions_read() {
    let mut config = all_lm_configs().remove(2);
    let original = 12;
    let computed = RopeScaling::long_rope_scale(config.max_seq_len as f64 / 12.0, original);
    for (scale, n_fields) in [(computed, 3), (1.2, 4)] {
        let RopeScaling::LongRope { scales, .. } = &mut config.rope.scaling else { panic!() };
        *scales = [scale, scale];
        let folder = tempfile::tempdir().unwrap();
        lm(&config, 4).save(folder.path()).unwrap();
        let path = folder.path().join(CONFIG);
        let fields: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let scaling = fields["rope_scaling"].as_object().unwrap();
        assert_eq!(scaling.len(), n_fields, "{scaling:?}");
        assert_eq!(scaling["type"], "longrope");
        assert_eq!(LmConfig::read(&path).unwrap(), config);
    }
}
