use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use forerun_tensors::kernels::WeightFormat;
use forerun_tensors::{SafetensorsFile, save};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use tch::{Device, Kind, Tensor};

use super::{
    Gptq, Hessian, Method, PackedLinear, QuantizeConfig, Quantized, gptq, packed_tensors,
    quantize_folder, round_to_nearest,
};

fn rng(seed: u64) -> ChaCha20Rng {
    tch::set_num_threads(1);
    ChaCha20Rng::seed_from_u64(seed)
}

fn randn(size: &[i64], seed: u64) -> Tensor {
    forerun_tensors::init::normal(size, 1.0, &mut rng(seed), Device::Cpu).unwrap()
}

fn number(x: &Tensor) -> f64 {
    f64::try_from(x.to_kind(Kind::Double)).unwrap()
}

/// Inputs whose channels differ in size and depend on each other.
fn inputs(rows: i64, channels: i64, seed: u64) -> Tensor {
    let mut rng = rng(seed);
    let sizes: Vec<f32> = (0..channels).map(|_| 2f32.powf(rng.random_range(-3.0..3.0))).collect();
    let mix = randn(&[channels, channels], seed + 1) / (channels as f64).sqrt();
    let own = randn(&[rows, channels], seed + 2);
    (own.matmul(&mix) + own * 0.5) * Tensor::from_slice(&sizes)
}

fn hessian_of(x: &Tensor) -> Hessian {
    let mut hessian = Hessian::new(x.size()[1]).unwrap();
    hessian.add(x).unwrap();
    hessian
}

/// Mean square of what rounding changes in the outputs, relative to them.
fn damage(weight: &Tensor, rounded: &Tensor, x: &Tensor) -> f64 {
    let out = x.matmul(&weight.transpose(0, 1));
    let change = x.matmul(&(rounded - weight).transpose(0, 1));
    number(&(change.square().mean(Kind::Double) / out.square().mean(Kind::Double)))
}

const FORMATS: [WeightFormat; 4] = [
    WeightFormat::Int8,
    WeightFormat::Int4 { group: 32 },
    WeightFormat::Int4 { group: 64 },
    WeightFormat::Int4 { group: 128 },
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_weight_is_moved_further_than_half_a_step(
        format in prop::sample::select(&FORMATS[..]),
        out in 1..40i64,
        groups in 1..4i64,
        shift in -3.0..3.0f64,
        seed in 0..1_000u64,
    ) {
        let columns = 128 * groups;
        let weight = randn(&[out, columns], seed) + shift;
        let rounded = round_to_nearest(&weight, format).unwrap().dequantize(Kind::Float).unwrap();
        let group = match format { WeightFormat::Int4 { group } => group, _ => columns };
        let grouped = weight.view([out, -1, group]);
        let step = match format {
            WeightFormat::Int8 => grouped.abs().amax([2i64].as_slice(), true) / 127.0,
            _ => {
                let last = [2i64].as_slice();
                (grouped.amax(last, true) - grouped.amin(last, true)) / 15.0
            }
        };
        // Scale and offset have 11 bits: the ends of a group may lie 15/4096 of a step and 1/4096 of the offset further.
        let slack = match format {
            WeightFormat::Int8 => Tensor::from(1e-5),
            _ => &step * 0.01 + grouped.abs().amax([2i64].as_slice(), true) / 2000.0,
        };
        let moved = (rounded.view([out, -1, group]) - grouped).abs();
        prop_assert!(bool::try_from(moved.le_tensor(&(step * 0.5 + slack)).all()).unwrap());
    }
}

/// The same cases every time: that it is better is no theorem.
#[test]
fn gptq_changes_the_outputs_less_than_rounding_to_nearest() {
    for seed in 0..8 {
        let (weight, x) = (randn(&[24, 128], seed), inputs(400, 128, seed + 5));
        for format in &FORMATS[1..] {
            let nearest = round_to_nearest(&weight, *format).unwrap();
            let nearest = damage(&weight, &nearest.dequantize(Kind::Float).unwrap(), &x);
            for by_activation in [false, true] {
                let options = Gptq { by_activation, ..Gptq::default() };
                let better = gptq(&weight, &hessian_of(&x), *format, &options).unwrap();
                let better = damage(&weight, &better.dequantize(Kind::Float).unwrap(), &x);
                assert!(better < 0.9 * nearest, "{seed} {format}: {better} against {nearest}");
            }
        }
    }
}

#[test]
fn independent_inputs_leave_gptq_nothing_to_gain() {
    // With a Hessian that is a multiple of the identity no column can make up for another.
    let weight = randn(&[16, 64], 1);
    let x = Tensor::eye(64, (Kind::Float, Device::Cpu));
    for format in [WeightFormat::Int8, WeightFormat::Int4 { group: 32 }] {
        let nearest = round_to_nearest(&weight, format).unwrap();
        let same = gptq(&weight, &hessian_of(&x), format, &Gptq::default()).unwrap();
        assert_eq!(same.data(), nearest.data());
    }
}

#[test]
fn constant_and_dead_channels_are_no_trouble() {
    let weight = Tensor::full([20, 64], 0.75, (Kind::Float, Device::Cpu));
    let x = Tensor::zeros([10, 64], (Kind::Float, Device::Cpu));
    let format = WeightFormat::Int4 { group: 32 };
    let rounded = gptq(&weight, &hessian_of(&x), format, &Gptq::default()).unwrap();
    assert_eq!(rounded.dequantize(Kind::Float).unwrap(), weight);
    assert_eq!(round_to_nearest(&weight, format).unwrap().data(), rounded.data());
}

#[test]
fn a_hessian_is_the_same_however_the_rows_come() {
    let x = inputs(30, 8, 1);
    let mut parts = Hessian::new(8).unwrap();
    parts.add(&x.narrow(0, 0, 10)).unwrap();
    parts.add(&x.narrow(0, 10, 20).view([4, 5, 8])).unwrap();
    assert_eq!((parts.rows(), parts.channels()), (30, 8));
    let want = x.to_kind(Kind::Double);
    let want = want.transpose(0, 1).matmul(&want) / 30.0;
    let distance = number(&(parts.mean().unwrap() - &want).abs().max());
    assert!(distance < 1e-5 * number(&want.abs().max()), "{distance}");
}

#[test]
fn the_packed_product_is_the_reference_up_to_rounded_activations() {
    let weight = randn(&[50, 256], 1);
    let bias = Some(randn(&[50], 2));
    let x = inputs(9, 256, 3);
    for format in FORMATS {
        let matrix = round_to_nearest(&weight, format).unwrap();
        let linear = PackedLinear { matrix, bias: bias.as_ref().map(Tensor::shallow_clone) };
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            let x = x.to_kind(kind);
            let got = linear.forward(&x).unwrap();
            assert_eq!(got.kind(), kind);
            let want = linear.reference(&x.to_kind(Kind::Float)).unwrap();
            let error =
                (got - &want).square().mean(Kind::Double) / want.square().mean(Kind::Double);
            // Up to 128 channels, some 64 times as large as others, share a scale of 8 bits.
            assert!(number(&error) < 1e-3, "{format} {kind:?}: {error}");
        }
    }
}

#[test]
fn gradients_go_through_the_weights_as_numbers() {
    let matrix = round_to_nearest(&randn(&[20, 64], 1), WeightFormat::Int4 { group: 32 }).unwrap();
    let weight = matrix.dequantize(Kind::Float).unwrap();
    let linear = PackedLinear { matrix, bias: None };
    let x = randn(&[3, 64], 2).set_requires_grad(true);
    let y = linear.forward(&x).unwrap();
    let dy = randn(&[3, 20], 3);
    forerun_tensors::backward(&(y * &dy).sum(Kind::Float)).unwrap();
    let distance = number(&(x.grad() - dy.matmul(&weight)).abs().max());
    assert!(distance < 1e-4, "{distance}");
}

/// A checkpoint of two blocks in one or two files.
fn checkpoint(folder: &Path, files: usize) -> BTreeMap<String, Tensor> {
    fs::create_dir_all(folder).unwrap();
    let mut tensors = BTreeMap::new();
    let mut put = |name: &str, tensor: Tensor| {
        tensors.insert(name.to_owned(), tensor.to_kind(Kind::BFloat16));
    };
    put("model.embed_tokens.weight", randn(&[40, 64], 1));
    put("model.norm.weight", randn(&[64], 2));
    for layer in 0..2 {
        let name = |rest: &str| format!("model.layers.{layer}.{rest}");
        put(&name("self_attn.qkv_proj.weight"), randn(&[96, 64], 3 + layer));
        put(&name("self_attn.qkv_proj.bias"), randn(&[96], 5 + layer));
        put(&name("mlp.down_proj.weight"), randn(&[64, 128], 7 + layer));
        put(&name("input_layernorm.weight"), randn(&[64], 9 + layer));
    }
    let list: Vec<(String, Tensor)> =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    fs::write(folder.join("config.json"), r#"{"model_type": "phi3", "vocab_size": 40}"#).unwrap();
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    if files == 1 {
        save(&folder.join("model.safetensors"), &list, &BTreeMap::new()).unwrap();
        return tensors;
    }
    let mut map = BTreeMap::new();
    for (i, part) in list.chunks(list.len().div_ceil(files)).enumerate() {
        let name = format!("model-{:05}-of-{files:05}.safetensors", i + 1);
        save(&folder.join(&name), part, &BTreeMap::new()).unwrap();
        map.extend(part.iter().map(|(tensor, _)| (tensor.clone(), name.clone())));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    tensors
}

fn quantize(from: &Path, to: &Path, config: &QuantizeConfig) -> crate::Result<Quantized> {
    quantize_folder(from, to, config, &mut |_| Ok(None))
}

#[test]
fn a_folder_is_quantised_file_by_file() {
    let format = WeightFormat::Int4 { group: 64 };
    for files in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let tensors = checkpoint(&from, files);
        let done = quantize(&from, &to, &QuantizeConfig::nearest(format)).unwrap();
        assert_eq!((done.n_packed, done.n_copied), (5, 5));
        let mut seen = 0;
        for entry in fs::read_dir(&to).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "safetensors") {
                continue;
            }
            let file = SafetensorsFile::open(&path).unwrap();
            let packed = packed_tensors(&file).unwrap();
            for name in file.names() {
                let before = &tensors[name];
                seen += 1;
                let Some(packed) = packed.get(name) else {
                    assert_eq!(&file.tensor(name).unwrap(), before);
                    continue;
                };
                let matrix = packed.read(&file, name).unwrap();
                let format = if name.contains("embed") { WeightFormat::Int8 } else { format };
                assert_eq!(matrix.format(), format);
                assert_eq!(matrix.data(), round_to_nearest(before, format).unwrap().data());
            }
        }
        assert_eq!(seen, tensors.len());
        let config = fs::read_to_string(to.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["vocab_size"], 40);
        assert_eq!(config["quantization_config"]["blocks"], "int4-g64");
        assert!(to.join("tokenizer.json").exists());
        assert_eq!(to.join("model.safetensors.index.json").exists(), files > 1);
    }
}

#[test]
fn calibrated_weights_are_asked_for_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    checkpoint(&from, 1);
    let config = QuantizeConfig {
        method: Method::Gptq(Gptq::default()),
        ..QuantizeConfig::nearest(WeightFormat::Int4 { group: 32 })
    };
    let mut asked = Vec::new();
    quantize_folder(&from, &to, &config, &mut |name| {
        asked.push(name.to_owned());
        let channels = if name.ends_with("down_proj") { 128 } else { 64 };
        Ok(Some(hessian_of(&inputs(50, channels, 1))))
    })
    .unwrap();
    asked.sort();
    let want = [0, 1].map(|layer| {
        ["mlp.down_proj", "self_attn.qkv_proj"].map(|name| format!("model.layers.{layer}.{name}"))
    });
    assert_eq!(asked, want.concat());
    // Without: an error that names the first, and no folder.
    fs::remove_dir_all(&to).unwrap();
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
    checkpoint(&from, 2);
    let config = |group| QuantizeConfig::nearest(WeightFormat::Int4 { group });
    let refused = |group: i64, want: &str| {
        let message = quantize(&from, &to, &config(group)).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    };
    refused(128, "qkv_proj.weight` group must be a divisor of the 64 columns, got 128");
    refused(16, "group must be 32, 64 or 128, got 16");
    assert!(!to.exists());
    fs::create_dir(&to).unwrap();
    refused(64, "File exists");
    fs::remove_dir(&to).unwrap();

    // A tensor that the index expects elsewhere.
    let index = from.join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let first = "model-00001-of-00002.safetensors";
    let moved = text.replacen("model-00002-of-00002.safetensors", first, 1);
    fs::write(&index, moved).unwrap();
    refused(64, "is missing");
    fs::write(&index, text.replace(first, "../x.safetensors")).unwrap();
    refused(64, "names no file for tensor");
    fs::write(&index, "{}").unwrap();
    refused(64, "has no `weight_map`");
    fs::write(&index, text).unwrap();
    quantize(&from, &to, &config(64)).unwrap();
    let again = quantize(&to, &folder.path().join("again"), &config(64)).unwrap_err().to_string();
    assert!(again.ends_with("is of a model that is quantised already"), "{again}");
}

#[test]
fn metadata_that_lies_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let data = [("w".to_owned(), Tensor::zeros([1, 960], (Kind::Uint8, Device::Cpu)))];
    let refused = |packed: &str, want: &str| {
        let metadata = BTreeMap::from([("forerun.packed".to_owned(), packed.to_owned())]);
        save(&path, &data, &metadata).unwrap();
        let file = SafetensorsFile::open(&path).unwrap();
        let outcome = packed_tensors(&file).and_then(|packed| packed["w"].read(&file, "w"));
        let message = outcome.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    };
    refused("[]", "its metadata `forerun.packed` cannot be read");
    refused(r#"{"w": {"format": "int3", "size": [4, 96]}}"#, "got `int3`");
    refused(r#"{"v": {"format": "int8", "size": [4, 96]}}"#, "tensor `v` is missing");
    refused(
        r#"{"w": {"format": "int8", "size": [4, 96]}}"#,
        "tensor `w` is no int8 matrix of [4, 96]",
    );
    refused(r#"{"w": {"format": "int4-g32", "size": [40, 96]}}"#, "[3, 960]");
    refused(r#"{"w": {"format": "int4-g32", "size": [-1, 96]}}"#, "must be positive");
}
