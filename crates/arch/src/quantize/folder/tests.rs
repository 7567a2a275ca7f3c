use tch::Device;

use super::*;
use crate::config::{Activation, DecoderConfig, NormKind, NormPlacement, Positions};
use crate::decoder::Decoder;
use crate::hf::WEIGHTS;
use crate::lm::{LmConfig, LmFamily, LmRope};
use crate::quantize::packed_tensors;
use crate::testing::{lm, lm_config, phi3_small_checkpoint, rng, tokens};

const INT4: WeightFormat = WeightFormat::Int4 { group: 64 };

/// A shape whose widths can be divided into groups.
fn shape(family: LmFamily) -> LmConfig {
    LmConfig {
        family,
        d_model: 64,
        n_layers: 2,
        head_dim: 16,
        d_ff: 128,
        rope: LmRope { rotary_dim: 16, ..lm_config().rope },
        ..lm_config()
    }
}

/// A checkpoint of the family, bf16, in one file or several; returns its tensors.
fn checkpoint(folder: &Path, family: LmFamily, files: usize) -> BTreeMap<String, Tensor> {
    let wide = lm(&shape(family), 1);
    let model = CausalLm::new(
        shape(wide.config().family.clone()),
        &mut rng(1),
        Kind::BFloat16,
        Device::Cpu,
    );
    let model = model.unwrap();
    for ((_, to), (_, from)) in model.tensors().iter().zip(wide.tensors()) {
        to.shallow_clone().copy_(&from);
    }
    model.save(folder).unwrap();
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    let file = SafetensorsFile::open(&folder.join(WEIGHTS)).unwrap();
    let list: Vec<(String, Tensor)> =
        file.names().map(|name| (name.to_owned(), file.tensor(name).unwrap())).collect();
    if files > 1 {
        fs::remove_file(folder.join(WEIGHTS)).unwrap();
        let mut map = BTreeMap::new();
        for (i, part) in list.chunks(list.len().div_ceil(files)).enumerate() {
            let name = format!("model-{:05}-of-{files:05}.safetensors", i + 1);
            forerun_tensors::save(&folder.join(&name), part, &BTreeMap::new()).unwrap();
            map.extend(part.iter().map(|(tensor, _)| (tensor.clone(), name.clone())));
        }
        let index = json!({ "metadata": {}, "weight_map": map });
        fs::write(folder.join(INDEX), index.to_string()).unwrap();
    }
    list.into_iter().collect()
}

fn quantize(from: &Path, to: &Path, config: &QuantizeConfig) -> Result<Quantized> {
    quantize_folder(from, to, config, &mut |_| Ok(None))
}

fn load(folder: &Path) -> CausalLm {
    CausalLm::load(folder, &LoadOptions::default()).unwrap()
}

fn logits(model: &CausalLm) -> Tensor {
    tch::no_grad(|| model.logits(&tokens(2, 20, 37, &mut rng(2))).unwrap())
}

#[test]
fn a_folder_is_quantised_file_by_file() {
    for files in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let tensors = checkpoint(&from, LmFamily::Phi3, files);
        let done = quantize(&from, &to, &QuantizeConfig::nearest(INT4)).unwrap();
        assert_eq!((done.n_packed, done.n_copied), (2 * 4 + 2, 2 * 2 + 1));
        let mut seen = 0;
        for (_, file) in weight_files(&to).unwrap().files {
            let packed = packed_tensors(&file).unwrap();
            for name in file.names() {
                let before = &tensors[name];
                seen += 1;
                let Some(packed) = packed.get(name) else {
                    assert_eq!(&file.tensor(name).unwrap(), before);
                    continue;
                };
                let matrix = packed.read(&file, name).unwrap();
                let table = name.contains("embed") || name.contains("lm_head");
                let format = if table { WeightFormat::Int8 } else { INT4 };
                assert_eq!(matrix.format(), format);
                assert_eq!(matrix.data(), round_to_nearest(before, format).unwrap().data());
            }
        }
        assert_eq!(seen, tensors.len());
        let config = fs::read_to_string(to.join(CONFIG)).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["vocab_size"], 37);
        assert_eq!(config["quantization_config"]["blocks"], "int4-g64");
        assert!(to.join("tokenizer.json").exists() && to.join("generation_config.json").exists());
        assert_eq!(to.join(INDEX).exists(), files > 1);
    }
}

/// What is quantised in files loads, and is what is quantised in memory.
fn check(from: &Path, calibrated: bool) {
    let to = tempfile::tempdir().unwrap();
    let to = to.path().join("to");
    let method = if calibrated { Method::Gptq(Gptq::default()) } else { Method::Nearest };
    for blocks in [WeightFormat::Int8, WeightFormat::Int4 { group: 32 }] {
        let config = QuantizeConfig { method, ..QuantizeConfig::nearest(blocks) };
        let text: Vec<i64> = (0..36).filter(|id| *id != 5).collect();
        let mut model = load(from);
        let calibrate = |model: &mut CausalLm| model.calibrate(&[&text], &|_| calibrated).unwrap();
        let mut hessians = calibrate(&mut model);
        quantize_folder(from, &to, &config, &mut |name| Ok(hessians.remove(name))).unwrap();
        assert!(hessians.is_empty(), "all maps are asked for by their own names");
        let mut hessians = calibrate(&mut model);
        model.pack(&config, &mut |name| Ok(hessians.remove(name))).unwrap();
        // Packed tables do not say in which format the rest was.
        let options = LoadOptions { kind: Some(model.kind()), ..LoadOptions::default() };
        let loaded = CausalLm::load(&to, &options).unwrap();
        assert!(logits(&loaded).equal(&logits(&model)));
        fs::remove_dir_all(&to).unwrap();
    }
}

#[test]
fn every_family_is_quantised_into_what_can_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    for calibrated in [false, true] {
        for (name, family) in [("llama", LmFamily::Llama), ("phi3", LmFamily::Phi3)] {
            let from = folder.path().join(name);
            if !from.exists() {
                let _ = checkpoint(&from, family, 1);
            }
            check(&from, calibrated);
        }
    }
}

#[test]
fn a_phi_3_small_is_quantised_with_its_rows_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let _ = phi3_small_checkpoint(folder.path(), 64, 96);
    check(folder.path(), false);
    check(folder.path(), true);
}

#[test]
fn a_decoder_is_quantised_under_its_own_names() {
    let config = DecoderConfig {
        vocab_size: 37,
        d_model: 64,
        n_layers: 2,
        n_heads: 4,
        d_ff: 96,
        norm: NormPlacement::Pre,
        norm_kind: NormKind::RmsNorm,
        activation: Activation::SwiGlu,
        positions: Positions::Rope { base: 100.0 },
        ..DecoderConfig::default()
    };
    for (bias, tie_embeddings) in [(true, false), (false, true)] {
        let config = DecoderConfig { bias, tie_embeddings, ..config.clone() };
        let folder = tempfile::tempdir().unwrap();
        let model = Decoder::new(&config, &mut rng(1), Device::Cpu).unwrap();
        crate::save_checkpoint(&model, folder.path()).unwrap();
        check(folder.path(), false);
        check(folder.path(), true);
    }
    // Not one that could not be loaded.
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let config = DecoderConfig { norm: NormPlacement::Sub, ..config };
    let model = Decoder::new(&config, &mut rng(1), Device::Cpu).unwrap();
    crate::save_checkpoint(&model, &from).unwrap();
    let message = quantize(&from, &to, &QuantizeConfig::nearest(INT4)).unwrap_err().to_string();
    assert!(message.ends_with("`norm` must be pre"), "{message}");
}

#[test]
fn calibrated_weights_are_asked_for_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let _ = checkpoint(&from, LmFamily::Phi3, 1);
    let config =
        QuantizeConfig { method: Method::Gptq(Gptq::default()), ..QuantizeConfig::nearest(INT4) };
    // Without: an error that names the first, and no folder.
    let message = quantize(&from, &to, &config).unwrap_err().to_string();
    assert!(
        message.ends_with("tensor `model.layers.0.mlp.down_proj.weight` has no calibration"),
        "{message}"
    );
    assert!(!to.exists());
}

#[test]
fn mistakes_are_named_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let _ = checkpoint(&from, LmFamily::Phi3, 2);
    let config = |group| QuantizeConfig::nearest(WeightFormat::Int4 { group });
    let refused = |group: i64, want: &str| {
        let message = quantize(&from, &to, &config(group)).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    };
    refused(128, "` group must be a divisor of the 64 columns, got 128");
    refused(16, "group must be 32, 64 or 128, got 16");
    assert!(!to.exists());
    fs::create_dir(&to).unwrap();
    refused(64, "File exists");
    fs::remove_dir(&to).unwrap();

    // A tensor that the index expects elsewhere.
    let index = from.join(INDEX);
    let text = fs::read_to_string(&index).unwrap();
    let first = "model-00001-of-00002.safetensors";
    let moved = text.replacen("model-00002-of-00002.safetensors", first, 1);
    fs::write(&index, moved).unwrap();
    refused(64, "is missing");
    fs::write(&index, text.replace(first, "../x.safetensors")).unwrap();
    refused(64, "is not the name of a file");
    fs::write(&index, "{}").unwrap();
    refused(64, "missing field `weight_map`");
    fs::write(&index, &text).unwrap();
    // A model that could not be loaded.
    let file = fs::read(from.join(CONFIG)).unwrap();
    let mut fields: Value = serde_json::from_slice(&file).unwrap();
    fields["num_hidden_layers"] = json!(3);
    fs::write(from.join(CONFIG), fields.to_string()).unwrap();
    refused(64, "tensor `model.layers.2.input_layernorm.weight` is missing");
    assert!(!to.exists());
    fs::write(from.join(CONFIG), file).unwrap();
    quantize(&from, &to, &config(64)).unwrap();
    let again = quantize(&to, &folder.path().join("again"), &config(64)).unwrap_err().to_string();
    assert!(again.ends_with("is of a model that is quantised already"), "{again}");
}

#[test]
fn the_loader_and_the_quantiser_read_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let _ = checkpoint(&from, LmFamily::Llama, 2);
    let other = lm(&shape(LmFamily::Llama), 9).named_tensors().unwrap();
    forerun_tensors::save(&from.join(WEIGHTS), &other, &BTreeMap::new()).unwrap();
    let config = QuantizeConfig::nearest(INT4);
    quantize(&from, &to, &config).unwrap();
    let mut model = load(&from);
    assert_eq!(model.kind(), Kind::Float); // of the one file
    model.pack(&config, &mut |_| Ok(None)).unwrap();
    let wide = LoadOptions { kind: Some(Kind::Float), ..LoadOptions::default() };
    let loaded = CausalLm::load(&to, &wide).unwrap();
    assert!(logits(&loaded).equal(&logits(&model)));
}

#[test]
fn whoever_watches_is_told_of_every_tensor_and_may_end_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let n_tensors = checkpoint(&from, LmFamily::Llama, 2).len();
    let config = QuantizeConfig::nearest(INT4);
    let mut told = Vec::new();
    let mut watched = |end: usize| {
        told.clear();
        let outcome =
            quantize_folder_watched(&from, &to, &config, &mut |_| Ok(None), &mut |done, all| {
                told.push((done, all));
                if done == end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        (outcome, told.clone())
    };
    let (outcome, told) = watched(3);
    match outcome {
        Err(Error::Io { path, source }) => {
            assert_eq!((path, source.kind()), (to.clone(), io::ErrorKind::Interrupted));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(told, [0, 1, 2, 3].map(|done| (done, n_tensors)));
    assert!(!to.exists());
    let (outcome, told) = watched(usize::MAX);
    assert_eq!(outcome.unwrap(), quantize(&from, &folder.path().join("again"), &config).unwrap());
    assert_eq!(told, (0..n_tensors).map(|done| (done, n_tensors)).collect::<Vec<_>>());
}

#[cfg(target_os = "linux")]
mod memory;
