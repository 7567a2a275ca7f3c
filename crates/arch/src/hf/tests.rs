mod config;
mod generation;
mod mutations;
mod phi3_small;
mod save;

use std::collections::BTreeMap;
use std::fs;

use forerun_tensors::{SafetensorsFile, save};
use serde_json::{Value, json};
use tch::Tensor;

use super::*;
use crate::config::{Activation, DecoderConfig, NormKind, NormPlacement, Positions};
use crate::decoder::{Decoder, Forward};
use crate::lm::LmFamily;
use crate::testing::{CPU, all_lm_configs, lm, lm_config, max_diff, model, rng, tiny, tokens};

/// A folder with a checkpoint of a small Llama.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    lm(&lm_config(), 1).save(folder.path()).unwrap();
    folder
}

fn load(folder: &Path) -> Result<CausalLm> {
    rng(0); // one thread
    CausalLm::load(folder, &LoadOptions::default())
}

/// A decoder that is shaped like a Llama.
fn like_a_llama() -> DecoderConfig {
    DecoderConfig {
        vocab_size: 37,
        n_kv_heads: 2,
        norm: NormPlacement::Pre,
        norm_kind: NormKind::RmsNorm,
        activation: Activation::SwiGlu,
        positions: Positions::Rope { base: 100.0 },
        ..tiny()
    }
}

/// The error of loading, with the folder left out.
fn message(folder: &Path) -> String {
    let error = load(folder).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.display()), "")
}

fn edit_config(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join(CONFIG);
    let mut fields = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut fields);
    fs::write(&path, fields.to_string()).unwrap();
}

fn edit_tensors(folder: &Path, edit: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let path = folder.join(WEIGHTS);
    let file = SafetensorsFile::open(&path).unwrap();
    let mut all: BTreeMap<String, Tensor> =
        file.names().map(|name| (name.to_owned(), file.tensor(name).unwrap().copy())).collect();
    edit(&mut all);
    save(&path, &all.into_iter().collect::<Vec<_>>(), &BTreeMap::new()).unwrap();
}

fn logits(model: &CausalLm) -> Tensor {
    tch::no_grad(|| model.logits(&tokens(2, 20, 37, &mut rng(2))).unwrap())
}

#[test]
fn weights_in_the_format_of_the_file_are_not_copied() {
    let folder = folder();
    let path = folder.path().join(WEIGHTS);
    let (a, b) = (load(folder.path()).unwrap(), SafetensorsFile::open(&path).unwrap());
    drop(b);
    let tensors = a.named_tensors().unwrap();
    // They lie in the file's order, one after the other: in the map, not in allocations of their own.
    let mut places: Vec<(usize, usize)> = tensors
        .iter()
        .map(|(_, tensor)| (tensor.data_ptr() as usize, tensor.numel() * 4))
        .collect();
    places.sort_unstable();
    assert!(places.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0));
}

#[test]
fn shards_are_one_model() {
    let folder = folder();
    let whole = logits(&load(folder.path()).unwrap());
    let all = load(folder.path()).unwrap().named_tensors().unwrap();
    let (one, two) = all.split_at(5);
    let shard = |name: &str, tensors: &[(String, Tensor)]| {
        save(&folder.path().join(name), tensors, &BTreeMap::new()).unwrap();
    };
    shard("a.safetensors", one);
    shard("b.safetensors", two);
    fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    let index = |edit: &dyn Fn(&mut Value)| {
        let place = |i: usize| if i < 5 { "a.safetensors" } else { "b.safetensors" };
        let map: BTreeMap<&str, &str> =
            all.iter().enumerate().map(|(i, (name, _))| (name.as_str(), place(i))).collect();
        let mut index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
        edit(&mut index);
        fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
    };
    index(&|_| ());
    assert!(logits(&load(folder.path()).unwrap()).equal(&whole));
    // One file beside them goes first, as in transformers.
    let other = lm(&lm_config(), 9);
    shard(WEIGHTS, &other.named_tensors().unwrap());
    assert!(logits(&load(folder.path()).unwrap()).equal(&logits(&other)));
    fs::remove_file(folder.path().join(WEIGHTS)).unwrap();

    let norm = "model.norm.weight";
    index(&|index| index["weight_map"][norm] = json!("../a.safetensors"));
    let want = "`model.safetensors.index.json`: `../a.safetensors` is not the name of a file";
    assert_eq!(message(folder.path()), want);
    index(&|index| index["weight_map"][norm] = json!("c.safetensors"));
    assert!(message(folder.path()).starts_with("`c.safetensors`: "));
    let other = if all[..5].iter().any(|(name, _)| name == norm) { "b" } else { "a" };
    index(&|index| index["weight_map"][norm] = json!(format!("{other}.safetensors")));
    let want = format!("`{other}.safetensors`: tensor `{norm}` is missing");
    assert_eq!(message(folder.path()), want);
    index(&|index| drop(index["weight_map"].as_object_mut().unwrap().remove(norm)));
    let want = "tensor `model.norm.weight` is not what the index says is in this file";
    assert!(message(folder.path()).ends_with(want), "{}", message(folder.path()));
}

#[test]
fn a_wrong_tensor_is_named_with_its_file() {
    let check = |edit: fn(&mut BTreeMap<String, Tensor>), want: &str| {
        let folder = folder();
        edit_tensors(folder.path(), edit);
        assert_eq!(message(folder.path()), format!("`model.safetensors`: tensor {want}"));
    };
    check(
        |all| drop(all.remove("model.layers.1.mlp.up_proj.weight")),
        "`model.layers.1.mlp.up_proj.weight` is missing",
    );
    check(
        |all| drop(all.insert("extra".to_owned(), Tensor::from_slice(&[1.0_f32]))),
        "`extra` is unexpected: the model has no tensor of that name",
    );
    check(
        |all| {
            let norm = all.get_mut("model.norm.weight").unwrap();
            *norm = norm.narrow(0, 0, 31);
        },
        "`model.norm.weight` has shape [31], the config's is [32]",
    );
    check(
        |all| {
            let norm = all.get_mut("lm_head.weight").unwrap();
            *norm = norm.to_kind(Kind::Int64);
        },
        "`lm_head.weight` has kind Int64, which no weight can have",
    );
    // A table of old checkpoints.
    let folder = folder();
    edit_tensors(folder.path(), |all| {
        let name = "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned();
        all.insert(name, Tensor::from_slice(&[1.0_f32]));
    });
    assert!(load(folder.path()).is_ok());
    fs::write(folder.path().join(WEIGHTS), b"\x10\0\0\0\0\0\0\0not a header....").unwrap();
    assert!(message(folder.path()).starts_with("`model.safetensors`: no safetensors file"));
    fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    assert!(message(folder.path()).starts_with("`model.safetensors`: "));
}

#[test]
fn a_tied_head_may_be_stored_too_if_it_is_the_same() {
    let folder = folder();
    edit_config(folder.path(), |fields| fields["tie_word_embeddings"] = json!(true));
    let want = "`model.safetensors`: tensor `lm_head.weight` differs from the embedding table, to which the config ties it";
    assert_eq!(message(folder.path()), want);
    edit_tensors(folder.path(), |all| {
        let embedding = all["model.embed_tokens.weight"].copy();
        all.insert("lm_head.weight".to_owned(), embedding);
    });
    let stored = logits(&load(folder.path()).unwrap());
    edit_tensors(folder.path(), |all| drop(all.remove("lm_head.weight")));
    assert!(logits(&load(folder.path()).unwrap()).equal(&stored));
}

#[test]
fn a_decoder_that_is_shaped_like_a_llama_is_one() {
    let config = like_a_llama();
    for (bias, tie_embeddings) in [(true, false), (false, true)] {
        let own = model(&DecoderConfig { bias, tie_embeddings, ..config.clone() }, 5);
        let folder = tempfile::tempdir().unwrap();
        crate::save_checkpoint(&own, folder.path()).unwrap();
        let loaded = load(folder.path()).unwrap();
        let text = tokens(2, 20, 37, &mut rng(6));
        let want = tch::no_grad(|| own.logits(&text, &Forward::default()).unwrap());
        let got = tch::no_grad(|| loaded.logits(&text).unwrap());
        // The same sums in another order.
        assert!(max_diff(&got, &want) < 1e-4);
        let again = folder.path().join("hf");
        loaded.save(&again).unwrap();
        assert!(tch::no_grad(|| load(&again).unwrap().logits(&text).unwrap()).equal(&got));
    }
    let folder = tempfile::tempdir().unwrap();
    let own = Decoder::new(&DecoderConfig { norm: NormPlacement::Sub, ..config }, &mut rng(1), CPU);
    crate::save_checkpoint(&own.unwrap(), folder.path()).unwrap();
    let want = "`config.json`: the decoder is not shaped like a Llama: `norm` must be pre";
    assert_eq!(message(folder.path()), want);
}

#[test]
fn names_of_a_decoder_and_of_a_llama_are_each_others() {
    let own = DecoderConfig { bias: true, tie_embeddings: false, ..like_a_llama() };
    for (name, _) in model(&own, 1).parameters().named_tensors() {
        let published = decoder::published_name(&name);
        assert_ne!(published, name);
        assert_eq!(decoder::own_name(&published), name);
    }
}
