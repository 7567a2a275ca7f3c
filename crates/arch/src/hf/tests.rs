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
fn a_saved_model_is_the_same_when_loaded() {
    for config in all_lm_configs() {
        let model = lm(&config, 3);
        let folder = tempfile::tempdir().unwrap();
        if config.family == LmFamily::Phi3Small {
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
fn a_field_that_makes_no_sense_is_named_with_its_file() {
    let check = |edit: fn(&mut Value), want: &str| {
        let folder = folder();
        edit_config(folder.path(), edit);
        assert_eq!(message(folder.path()), format!("`config.json`: {want}"));
    };
    check(|f| f["num_attention_heads"] = json!(0), "`num_attention_heads` must be positive, got 0");
    check(|f| f["hidden_size"] = json!(-32), "`hidden_size` must be positive, got -32");
    check(
        |f| f["num_attention_heads"] = json!(5),
        "`hidden_size` must be a multiple of `num_attention_heads` = 5, got 32",
    );
    check(
        |f| f["head_dim"] = json!(7),
        "`head_dim` must be `hidden_size` / `num_attention_heads` = 8, got 7",
    );
    check(
        |f| f["num_key_value_heads"] = json!(0),
        "`num_key_value_heads` must be positive and below 2^31, got 0",
    );
    check(
        |f| f["num_key_value_heads"] = json!(3),
        "`num_key_value_heads` must be a divisor of n_heads = 4, got 3",
    );
    check(
        |f| f["num_hidden_layers"] = json!(1_u64 << 40),
        "`num_hidden_layers` must be positive and below 2^31, got 1099511627776",
    );
    check(|f| f["rms_norm_eps"] = json!(-1e-5), "`rms_norm_eps` must be in (0, 1), got -0.00001");
    check(|f| f["hidden_act"] = json!("relu"), "`hidden_act` must be `silu`, got `relu`");
    check(
        |f| f["model_type"] = json!("gpt2"),
        "`model_type`: `gpt2` is not one of llama, phi3, phi3small",
    );
    check(
        |f| f["architectures"] = json!(["LlamaForSequenceClassification"]),
        "`architectures`: `LlamaForSequenceClassification` is not one of LlamaForCausalLM, Phi3ForCausalLM, Phi3SmallForCausalLM",
    );
    check(
        |f| f["architectures"] = json!(["Phi3ForCausalLM"]),
        "`architectures`: `Phi3ForCausalLM` is no `llama`",
    );
    check(
        |f| f["rope_scaling"] = json!({ "type": "yarn", "factor": 4.0 }),
        "`rope_scaling.type`: `yarn` is not one of default, linear, llama3",
    );
    check(
        |f| f["rope_parameters"] = json!({ "rope_type": "dynamic" }),
        "`rope_parameters.rope_type`: `dynamic` is not one of default, linear, llama3",
    );
    check(
        |f| f["rope_scaling"] = json!({ "rope_type": "llama3", "factor": 8.0 }),
        "`rope_scaling.low_freq_factor` is missing",
    );
    check(|f| f["rope_theta"] = json!(0.5), "`rope_theta` must be finite and above 1, got 0.5");
    let folder = folder();
    edit_config(folder.path(), |f| f["vocab_size"] = json!("many"));
    let said = message(folder.path());
    assert!(said.starts_with("`config.json`: `vocab_size`: invalid type: string"), "{said}");
    edit_config(folder.path(), |f| drop(f.as_object_mut().unwrap().remove("vocab_size")));
    let said = message(folder.path());
    assert!(
        said.contains("`config.json`: ") && said.contains("missing field `vocab_size`"),
        "{said}"
    );
    edit_config(folder.path(), |f| {
        f["rope_scaling"] = json!({ "type": "linear", "factor": 2.0, "beta": 1 });
    });
    assert!(message(folder.path()).contains("unknown field `beta`"));
}

#[test]
fn the_wrong_sizes_are_found_in_the_tensors() {
    let folder = folder();
    edit_config(folder.path(), |fields| fields["intermediate_size"] = json!(50));
    let want = "`model.safetensors`: tensor `model.layers.0.mlp.gate_proj.weight` has shape [48, 32], the config's is [50, 32]";
    assert_eq!(message(folder.path()), want);
    // No memory is asked for by a number alone.
    edit_config(folder.path(), |fields| {
        fields["intermediate_size"] = json!(48);
        fields["num_hidden_layers"] = json!(2_000_000_000);
    });
    let want = "`model.safetensors`: tensor `model.layers.2.input_layernorm.weight` is missing";
    assert_eq!(message(folder.path()), want);
}

#[test]
fn both_spellings_of_long_rope_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = all_lm_configs().remove(2);
    lm(&config, 4).save(folder.path()).unwrap();
    let (short, long) = (vec![1.0, 1.1, 1.2, 1.3], vec![2.0, 3.0, 4.0, 5.0]);
    let mut read = Vec::new();
    for kind in ["su", "longrope", "yarn"] {
        edit_config(folder.path(), |f| {
            f["rope_scaling"] = json!({ "type": kind, "short_factor": short, "long_factor": long });
        });
        read.push(LmConfig::read(&folder.path().join(CONFIG)).unwrap());
    }
    edit_config(folder.path(), |f| {
        f.as_object_mut().unwrap().remove("rope_scaling");
        f["rope_parameters"] = json!({
            "rope_type": "longrope", "rope_theta": 100.0, "short_factor": short, "long_factor": long,
            "original_max_position_embeddings": 12, "partial_rotary_factor": 1.0,
        });
    });
    read.push(LmConfig::read(&folder.path().join(CONFIG)).unwrap());
    assert!(read.windows(2).all(|pair| pair[0] == pair[1]));
    let crate::lm::RopeScaling::LongRope { scales, .. } = read[0].rope.scaling else { panic!() };
    let want = (1.0 + (64.0_f64 / 12.0).ln() / 12.0_f64.ln()).sqrt();
    assert_eq!(scales, [want, want]);
}

#[test]
fn a_decoder_that_is_shaped_like_a_llama_is_one() {
    let config = DecoderConfig {
        vocab_size: 37,
        n_kv_heads: 2,
        norm: NormPlacement::Pre,
        norm_kind: NormKind::RmsNorm,
        activation: Activation::SwiGlu,
        positions: Positions::Rope { base: 100.0 },
        ..tiny()
    };
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
fn makers_options_are_read() {
    let folder = folder();
    let path = folder.path().join(GENERATION);
    let read = || GenerationDefaults::read(folder.path());
    assert_eq!(read().unwrap().eos_tokens, [2]);
    fs::write(&path, r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 50, "eos_token_id": [7, 8]}"#).unwrap();
    let options = read().unwrap().options(5);
    assert_eq!((options.max_new_tokens, options.temperature), (5, 0.6));
    assert_eq!((options.top_p, options.top_k), (Some(0.9), Some(50)));
    assert_eq!(options.stop_tokens, [7, 8]);
    fs::write(&path, r#"{"temperature": 0.6, "top_k": -1}"#).unwrap();
    let options = read().unwrap().options(5);
    assert_eq!(
        (options.temperature, options.top_k, options.stop_tokens.as_slice()),
        (0.0, None, [2].as_slice())
    );
    fs::write(&path, r#"{"top_p": 1.5}"#).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(
        error.ends_with("generation_config.json`: top_p must be in (0, 1], got 1.5"),
        "{error}"
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(read().unwrap(), GenerationDefaults { eos_tokens: vec![2], ..Default::default() });
}

/// Bytes of a configuration changed at random: an error or a model, never a panic.
#[test]
fn mutated_configurations_do_not_panic() {
    use rand::Rng;
    let folder = folder();
    let path = folder.path().join(CONFIG);
    let sound = fs::read(&path).unwrap();
    let mut rng = rng(7);
    let mut refused = 0;
    let n = if std::env::var_os("RUN_SLOW").is_some() { 40_000 } else { 400 };
    for _ in 0..n {
        let mut text = sound.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..text.len());
            match rng.random_range(0..3) {
                0 => text[at] = rng.random(),
                1 => text[at] = b"0123456789-.e\"{}[],:"[rng.random_range(0..20)],
                _ => drop(text.remove(at)),
            }
        }
        fs::write(&path, text).unwrap();
        refused += i32::from(load(folder.path()).is_err());
    }
    assert!(refused > n / 2);
}

/// A Phi-3-small under its published names, against the same computed from its parts.
#[test]
fn phi_3_small_is_its_parts() {
    use crate::phi3_small::{Phi3SmallAttention, gegelu};
    use crate::{BlockSparse, Linear};
    let mut rng = rng(11);
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    let mut draw = |name: &str, shape: &[i64]| {
        let size = if shape.len() == 1 { 0.3 } else { 0.2 };
        tensors.insert(name.to_owned(), crate::testing::normal(shape, &mut rng) * size);
    };
    draw("model.embed_tokens.weight", &[40, 16]);
    for layer in 0..2 {
        for (part, d_out, d_in) in [
            ("self_attn.query_key_value", 32, 16),
            ("self_attn.dense", 16, 16),
            ("mlp.up_proj", 48, 16),
            ("mlp.down_proj", 16, 24),
        ] {
            draw(&format!("model.layers.{layer}.{part}.weight"), &[d_out, d_in]);
            draw(&format!("model.layers.{layer}.{part}.bias"), &[d_out]);
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            draw(&format!("model.layers.{layer}.{norm}.weight"), &[16]);
            draw(&format!("model.layers.{layer}.{norm}.bias"), &[16]);
        }
    }
    draw("model.final_layernorm.weight", &[16]);
    draw("model.final_layernorm.bias", &[16]);
    let folder = tempfile::tempdir().unwrap();
    let list: Vec<(String, Tensor)> =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    save(&folder.path().join(WEIGHTS), &list, &BTreeMap::new()).unwrap();
    let config = json!({
        "model_type": "phi3small", "architectures": ["Phi3SmallForCausalLM"], "hidden_act": "gegelu",
        "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "ff_intermediate_size": 24, "layer_norm_epsilon": 1e-5, "rope_embedding_base": 1000, "max_position_embeddings": 64,
        "mup_width_multiplier": 4.0, "mup_embedding_multiplier": 3.0, "mup_attn_multiplier": 2.0, "mup_use_scaling": true,
        "gegelu_limit": 1.5, "blocksparse_block_size": 2, "blocksparse_num_local_blocks": 2, "blocksparse_vert_stride": 3,
        "blocksparse_homo_head_pattern": false, "dense_attention_every_n_layers": 2, "dummy_token_indices": [5, 39],
    });
    fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
    let text = tokens(2, 17, 40, &mut rng);
    let got = tch::no_grad(|| load(folder.path()).unwrap().logits(&text).unwrap());

    let linear = |name: &str| {
        let bias = tensors[&format!("{name}.bias")].shallow_clone();
        Linear::new(tensors[&format!("{name}.weight")].shallow_clone(), Some(bias)).unwrap()
    };
    let through = |x: &Tensor, name: &str| {
        let Linear { weight, bias } = linear(name);
        x.linear(&weight, bias.as_ref())
    };
    let norm = |x: &Tensor, name: &str| {
        let Linear { weight, bias } = linear(name);
        x.layer_norm([16], Some(&weight), bias.as_ref(), 1e-5, true)
    };
    let table = &tensors["model.embed_tokens.weight"];
    let mut x = Tensor::embedding(table, &text, -1, false, false) * 3.0;
    for layer in 0..2 {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let sparse = BlockSparse { block_size: 2, n_local_blocks: 2, vertical_stride: 3 };
        let attention = Phi3SmallAttention {
            n_heads: 4,
            n_kv_heads: 2,
            rope_theta: 1000.0,
            mup_attn_multiplier: 2.0,
            block_sparse: Some(sparse).filter(|_| layer == 0),
        };
        let normed = norm(&x, &name("input_layernorm"));
        let (qkv, dense) =
            (linear(&name("self_attn.query_key_value")), linear(&name("self_attn.dense")));
        x += attention.forward(&normed, &qkv, &dense).unwrap();
        let wide = through(&norm(&x, &name("post_attention_layernorm")), &name("mlp.up_proj"));
        x += through(&gegelu(&wide, Some(1.5)).unwrap(), &name("mlp.down_proj"));
    }
    let want = norm(&x, "model.final_layernorm").matmul(&table.tr()) / 4.0;
    let barred = Tensor::from_slice(&[5_i64, 39]);
    assert!(got.index_select(-1, &barred).eq(f64::NEG_INFINITY).all().int64_value(&[]) == 1);
    let kept = |x: &Tensor| x.index_fill(-1, &barred, 0.0);
    // The same sums, some in another order.
    assert!(max_diff(&kept(&got), &kept(&want)) < 1e-4);
}
