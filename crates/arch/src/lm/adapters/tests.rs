use std::path::{Path, PathBuf};

use forerun_tensors::backward;
use forerun_tensors::kernels::WeightFormat;
use tch::{Kind, Tensor};

use crate::testing::{max_diff, normal, rng, tokens};
use crate::{
    CausalLm, LoadOptions, LoraConfig, QuantizeConfig, Targets, load_adapters, save_adapters,
};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/arch").join(name)
}

fn load(name: &str) -> CausalLm {
    let options = LoadOptions { kind: Some(Kind::Float), ..LoadOptions::default() };
    CausalLm::load(&folder(name), &options).unwrap()
}

fn some_tokens(model: &CausalLm) -> Tensor {
    tokens(2, 9, model.config().vocab_size, &mut rng(3))
}

fn config() -> LoraConfig {
    LoraConfig { rank: 3, alpha: 6.0, ..LoraConfig::default() }
}

/// With adapters that do something.
fn adapted(name: &str) -> CausalLm {
    let mut model = load(name);
    model.add_adapters(&config(), &mut rng(1)).unwrap();
    let _no_grad = tch::no_grad_guard();
    for adapter in model.adapters().values() {
        let b = normal(&adapter.b().size(), &mut rng(2)) * 0.1;
        adapter.b().shallow_clone().copy_(&b);
    }
    model
}

const MODELS: [&str; 2] = ["llama_tiny", "phi3_tiny"];

#[test]
fn fresh_adapters_change_nothing_and_are_all_that_is_trained() {
    for name in MODELS {
        let mut model = load(name);
        let tokens = some_tokens(&model);
        let before = model.logits(&tokens).unwrap();
        assert!(!before.requires_grad());
        model.add_adapters(&config(), &mut rng(1)).unwrap();
        let after = model.logits(&tokens).unwrap();
        assert!(after == before && after.requires_grad(), "{name}");
        let parameters = model.adapter_parameters().unwrap();
        assert_eq!(parameters.len(), 2 * model.projections().count());
        let first = model.projections().next().unwrap().name();
        assert!(parameters.get(&format!("base_model.model.{first}.lora_A.weight")).is_some());
    }
}

#[test]
fn training_moves_the_adapters_and_only_them() {
    let mut model = load("llama_tiny");
    model.add_adapters(&LoraConfig { dropout: 0.1, ..config() }, &mut rng(1)).unwrap();
    model.train_adapters(true);
    let weights: Vec<Tensor> =
        model.projections().map(|map| map.linear().unwrap().weight.copy()).collect();
    let parameters = model.adapter_parameters().unwrap();
    let tokens = some_tokens(&model);
    let loss = |model: &CausalLm| {
        let logits = model.logits(&tokens).unwrap().narrow(1, 0, 8).flatten(0, 1);
        logits.cross_entropy_for_logits(&tokens.narrow(1, 1, 8).flatten(0, 1))
    };
    let first = f64::try_from(loss(&model)).unwrap();
    for _ in 0..30 {
        backward(&loss(&model)).unwrap();
        let _no_grad = tch::no_grad_guard();
        for parameter in &parameters {
            let step = parameter.tensor.grad() * 0.5;
            let _ = parameter.tensor.shallow_clone().g_sub_(&step);
        }
        parameters.zero_grad();
    }
    model.train_adapters(false);
    let last = f64::try_from(loss(&model)).unwrap();
    assert!(last < first - 0.1, "{first} to {last}");
    for (map, before) in model.projections().zip(&weights) {
        assert_eq!(&map.linear().unwrap().weight, before);
    }
}

#[test]
fn merged_models_agree_and_unmerging_restores_every_bit() {
    for name in MODELS {
        let bare = load(name);
        let tokens = some_tokens(&bare);
        let _no_grad = tch::no_grad_guard();
        let before = bare.logits(&tokens).unwrap();
        let mut model = adapted(name);
        let apart = model.logits(&tokens).unwrap();
        assert!(max_diff(&apart, &before) > 1e-2, "the adapters do something");
        model.merge_adapters().unwrap();
        let merged = model.logits(&tokens).unwrap();
        let size = f64::try_from(apart.abs().max()).unwrap();
        assert!(max_diff(&merged, &apart) < 2e-5 * size, "{name}");
        model.unmerge_adapters();
        assert_eq!(model.logits(&tokens).unwrap(), apart);
        model.merge_adapters().unwrap();
        assert_eq!(model.take_adapters().unwrap().len(), model.projections().count());
        assert_eq!(model.logits(&tokens).unwrap(), before, "taken off while merged");
    }
}

#[test]
fn the_cache_sees_the_adapters_too() {
    let model = adapted("llama_tiny");
    let tokens = some_tokens(&model).narrow(0, 0, 1);
    let _no_grad = tch::no_grad_guard();
    let whole = model.logits(&tokens).unwrap().get(0).log_softmax(-1, Kind::Float);
    let ids = Vec::<i64>::try_from(tokens.get(0)).unwrap();
    let log_probs = model.log_probs(&ids).unwrap();
    for (i, log_prob) in log_probs.iter().enumerate() {
        let want = whole.double_value(&[i as i64, ids[i + 1]]);
        assert!((log_prob - want).abs() < 1e-4, "{log_prob} {want}");
    }
}

#[test]
fn saved_adapters_go_back_to_their_maps() {
    let model = adapted("llama_tiny");
    let folder = tempfile::tempdir().unwrap();
    save_adapters(folder.path(), &config(), Some("llama_tiny"), &model.adapters()).unwrap();
    let mut again = load("llama_tiny");
    again.set_adapters(load_adapters(folder.path()).unwrap()).unwrap();
    let tokens = some_tokens(&model);
    assert_eq!(again.logits(&tokens).unwrap(), model.logits(&tokens).unwrap());
    let twice = again.set_adapters(load_adapters(folder.path()).unwrap()).unwrap_err();
    let want = "adapters must be none yet, got one of `model.layers.0.self_attn.q_proj`";
    assert_eq!(twice.to_string(), want);
    let other = load("phi3_tiny").set_adapters(load_adapters(folder.path()).unwrap()).unwrap_err();
    let want = "must be for a linear map of the blocks, got ";
    assert!(other.to_string().contains(want), "{other}");
}

#[test]
fn named_targets_are_the_only_ones() {
    let mut model = load("llama_tiny");
    let named =
        |name: &str| LoraConfig { targets: Targets::Named(vec![name.to_owned()]), ..config() };
    let refused = model.add_adapters(&named("lm_head"), &mut rng(1)).unwrap_err().to_string();
    assert_eq!(refused, "targets must be names of linear maps of the model, got `lm_head`");
    model.add_adapters(&named("v_proj"), &mut rng(1)).unwrap();
    assert!(model.adapters().keys().all(|name| name.ends_with(".self_attn.v_proj")));
    assert_eq!(model.adapters().len() as i64, model.config().n_layers);
}

#[test]
fn packed_weights_are_adapted_and_trained_but_not_merged() {
    let mut model = load("llama_tiny");
    let packed = QuantizeConfig::nearest(WeightFormat::Int8);
    model.pack(&packed, &mut |_| Ok(None)).unwrap();
    model.add_adapters(&config(), &mut rng(1)).unwrap();
    let tokens = some_tokens(&model);
    backward(&model.logits(&tokens).unwrap().square().mean(Kind::Float)).unwrap();
    for parameter in &model.adapter_parameters().unwrap() {
        let gradient = parameter.tensor.grad();
        // That of A goes through B, which is zero yet.
        let moved = f64::try_from(gradient.abs().max()).unwrap() > 0.0;
        assert_eq!(moved, parameter.name.contains("lora_B"), "{}", parameter.name);
    }
    let refused = model.merge_adapters().unwrap_err().to_string();
    assert!(
        refused.ends_with("must be numbers, to merge an adapter into, got packed"),
        "{refused}"
    );
}
