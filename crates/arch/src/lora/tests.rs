use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tch::{Device, Kind, Tensor};

use super::{Adapter, LoraConfig, Targets, load_adapters, parameter_name, save_adapters};

fn rng(seed: u64) -> ChaCha20Rng {
    tch::set_num_threads(1);
    ChaCha20Rng::seed_from_u64(seed)
}

fn randn(size: &[i64], seed: u64) -> Tensor {
    forerun_tensors::init::normal(size, 1.0, &mut rng(seed), Device::Cpu).unwrap()
}

fn config(rank: i64, alpha: f64, rank_stabilised: bool) -> LoraConfig {
    LoraConfig { rank, alpha, rank_stabilised, ..LoraConfig::default() }
}

/// An adapter that does something.
fn trained(config: &LoraConfig, [out, columns]: [i64; 2], seed: u64) -> Adapter {
    let (a, b) = (randn(&[config.rank, columns], seed), randn(&[out, config.rank], seed + 1));
    Adapter::from_tensors(config, a, b).unwrap()
}

fn plain(x: &Tensor, weight: &Tensor) -> Tensor {
    x.linear(weight, None::<&Tensor>)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    f64::try_from((a - b).abs().max().to_kind(Kind::Double)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn merged_and_unmerged_maps_agree_and_the_weights_come_back(
        out in 1..20i64,
        columns in 1..20i64,
        rank in 1..6i64,
        alpha in 0.5..20.0f64,
        stabilised: bool,
        seed in 0..1_000u64,
    ) {
        let config = config(rank, alpha, stabilised);
        let mut adapter = trained(&config, [out, columns], seed);
        prop_assert_eq!(adapter.size(), [out, columns]);
        let weight = randn(&[out, columns], seed + 2);
        let x = randn(&[2, 3, columns], seed + 3);
        let _no_grad = tch::no_grad_guard();
        let apart = adapter.add(plain(&x, &weight), &x).unwrap();
        let mut merged = weight.shallow_clone();
        adapter.merge(&mut merged).unwrap();
        adapter.merge(&mut merged).unwrap(); // the second time does nothing
        let together = adapter.add(plain(&x, &merged), &x).unwrap();
        // Some 2^-22 of the sum of the sizes of the terms.
        let scale = config.scale() * f64::from(rank as i32) + 1.0;
        prop_assert!(distance(&apart, &together) < 2e-5 * scale * columns as f64);
        adapter.unmerge(&mut merged);
        prop_assert!(merged == weight && merged.data_ptr() == weight.data_ptr());
    }

    #[test]
    fn a_fresh_adapter_changes_nothing(seed in 0..1_000u64, rank in 1..9i64) {
        let mut adapter =
            Adapter::new(&config(rank, 16.0, false), [5, 7], &mut rng(seed), Device::Cpu).unwrap();
        adapter.set_training(true);
        let (x, weight) = (randn(&[4, 7], seed), randn(&[5, 7], seed + 1));
        let base = plain(&x, &weight);
        prop_assert_eq!(&adapter.add(base.copy(), &x).unwrap(), &base);
        // U(-1/√in, 1/√in), and not all zeros.
        let largest = f64::try_from(adapter.a().abs().max()).unwrap();
        prop_assert!(largest <= 7f64.powf(-0.5) && largest > 0.0);
    }
}

/// Central differences of `loss` in each entry of `x`.
fn differences(x: &Tensor, loss: impl Fn() -> f64) -> Tensor {
    const STEP: f64 = 1e-2;
    let _no_grad = tch::no_grad_guard();
    let entries = x.view(-1);
    let slope = |i: i64| {
        let mut entry = entries.get(i);
        let before = entry.copy();
        let at = |mut entry: Tensor, shift: f64| {
            entry.copy_(&(&before + shift));
            loss()
        };
        let rise = at(entry.shallow_clone(), STEP) - at(entry.shallow_clone(), -STEP);
        entry.copy_(&before);
        rise / (2.0 * STEP)
    };
    let slopes: Vec<f64> = (0..x.numel() as i64).map(slope).collect();
    Tensor::from_slice(&slopes).view_as(x)
}

#[test]
fn gradients_are_finite_differences_and_the_weights_have_none() {
    let config = config(2, 3.0, false);
    let adapter = trained(&config, [4, 5], 1);
    let weight = randn(&[4, 5], 3);
    let (x, dy) = (randn(&[6, 5], 4), randn(&[6, 4], 5));
    let loss = || (adapter.add(plain(&x, &weight), &x).unwrap() * &dy).sum(Kind::Float);
    forerun_tensors::backward(&loss()).unwrap();
    assert!(!weight.requires_grad());
    for matrix in [adapter.a(), adapter.b()] {
        // The loss is linear in each entry: the difference is exact up to rounding.
        let want = differences(matrix, || f64::try_from(loss()).unwrap());
        assert!(distance(&matrix.grad(), &want) < 1e-2, "{} {want}", matrix.grad());
    }
}

#[test]
fn dropout_acts_in_training_only_and_on_the_adapter_alone() {
    let config = LoraConfig { dropout: 0.5, ..config(2, 2.0, false) };
    let mut adapter = trained(&config, [4, 50], 1);
    let (x, weight) = (randn(&[3, 50], 2), randn(&[4, 50], 3));
    let base = plain(&x, &weight);
    let evaluated = adapter.add(base.shallow_clone(), &x).unwrap();
    assert_eq!(adapter.add(base.shallow_clone(), &x).unwrap(), evaluated);
    adapter.set_training(true);
    assert_ne!(adapter.add(base.shallow_clone(), &x).unwrap(), evaluated);
    // Where B is zero, dropped or not makes no difference.
    let fresh = Adapter::new(&config, [4, 50], &mut rng(1), Device::Cpu).unwrap();
    assert_eq!(fresh.add(base.shallow_clone(), &x).unwrap(), base);
}

#[test]
fn targets_are_chosen_by_the_end_of_their_names() {
    let modules = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.q_projection",
        "model.layers.1.self_attn.q_proj",
    ];
    let chosen = |targets| LoraConfig { targets, ..LoraConfig::default() }.choose(&modules);
    assert_eq!(chosen(Targets::AllLinear).unwrap(), modules);
    let named = |name: &str| chosen(Targets::Named(vec![name.to_owned()]));
    assert_eq!(named("q_proj").unwrap(), [modules[0], modules[2]]);
    assert_eq!(named("layers.1.self_attn.q_proj").unwrap(), [modules[2]]);
    let message = named("_proj").unwrap_err().to_string();
    assert_eq!(message, "targets must be names of linear maps of the model, got `_proj`");
}

#[test]
fn bad_hyperparameters_are_refused_by_name() {
    let refused = |config: LoraConfig, want: &str| {
        let made = Adapter::new(&config, [2, 3], &mut rng(1), Device::Cpu);
        assert_eq!(made.unwrap_err().to_string(), want);
    };
    refused(config(0, 1.0, false), "rank must be positive, got 0");
    refused(config(1, 0.0, false), "alpha must be positive and finite, got 0");
    let config = LoraConfig { dropout: 1.0, ..LoraConfig::default() };
    refused(config, "dropout must be at least 0, below 1, got 1");
    let targets = Targets::Named(vec![]);
    refused(
        LoraConfig { targets, ..LoraConfig::default() },
        "targets must be at least one name, got none",
    );
}

fn two(config: &LoraConfig) -> BTreeMap<String, Adapter> {
    let adapter = |name: &str, seed| (name.to_owned(), trained(config, [6, 4], seed));
    BTreeMap::from([
        adapter("model.layers.0.self_attn.q_proj", 1),
        adapter("model.layers.1.mlp.down_proj", 3),
    ])
}

#[test]
fn adapters_are_saved_as_peft_names_them_and_loaded_back() {
    let folder = tempfile::tempdir().unwrap();
    for targets in [Targets::AllLinear, Targets::Named(vec!["down_proj".into(), "q_proj".into()])] {
        let config = LoraConfig { alpha: 12.5, dropout: 0.1, targets, ..config(3, 1.0, true) };
        let adapters = two(&config);
        let named = adapters.iter().map(|(name, adapter)| (name.clone(), adapter)).collect();
        save_adapters(folder.path(), &config, Some("a/model"), &named).unwrap();
        let path = folder.path().join("adapter_model.safetensors");
        let file = forerun_tensors::SafetensorsFile::open(&path).unwrap();
        let first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        assert_eq!(file.names().next(), Some(first));
        assert_eq!(file.shape(first).unwrap(), [3, 4]);
        let loaded = load_adapters(folder.path()).unwrap();
        let names = vec!["down_proj".to_owned(), "q_proj".to_owned()];
        assert_eq!(loaded.config, LoraConfig { targets: Targets::Named(names), ..config });
        assert_eq!(loaded.base_model.as_deref(), Some("a/model"));
        assert_eq!(loaded.adapters.len(), 2);
        for (name, adapter) in &adapters {
            let again = &loaded.adapters[name];
            assert!(again.a() == adapter.a() && again.b() == adapter.b());
            assert!(again.a().requires_grad() && again.b().requires_grad());
        }
    }
}

#[test]
fn files_that_mean_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let adapters = two(&config(3, 1.0, false));
    let named = adapters.iter().map(|(name, adapter)| (name.clone(), adapter)).collect();
    save_adapters(folder.path(), &config(3, 1.0, false), None, &named).unwrap();
    let path = folder.path().join("adapter_config.json");
    let text = fs::read_to_string(&path).unwrap();
    let refused = |from: &str, to: &str, want: &str| {
        assert!(text.contains(from));
        fs::write(&path, text.replace(from, to)).unwrap();
        let message = load_adapters(folder.path()).unwrap_err().to_string();
        assert!(message.ends_with(want), "{message}");
    };
    refused("\"LORA\"", "\"IA3\"", "`peft_type` must be \"LORA\", got \"IA3\"");
    refused("\"use_dora\": false", "\"use_dora\": true", "`use_dora` is not supported, got true");
    refused("\"rank_pattern\": {}", "\"rank_pattern\": {\"q\": 1}", "got {\"q\":1}");
    refused("\"none\"", "\"all\"", "`bias` must be \"none\", got \"all\"");
    refused("\"r\": 3", "\"r\": null", "`r` must be a number, got null");
    refused("\"r\": 3", "\"r\": 2", "does not fit: a must be [2, in], got [3, 4]");
    refused(
        "{",
        "[",
        "adapter_config.json`: invalid type: sequence, expected a map at line 1 column 0",
    );
    fs::write(&path, &text).unwrap();
    let file = folder.path().join("adapter_model.safetensors");
    let one = |name: String| {
        let tensors = [(name, randn(&[3, 4], 1))];
        forerun_tensors::save(&file, &tensors, &BTreeMap::new()).unwrap();
        load_adapters(folder.path()).unwrap_err().to_string()
    };
    let message = one(parameter_name("x", 'A'));
    assert!(message.ends_with("tensor `base_model.model.x.lora_B.weight` is missing"), "{message}");
    let message = one("base_model.model.x.lora_magnitude_vector".to_owned());
    assert!(
        message.ends_with("is unexpected: no matrix of an adapter to a linear map"),
        "{message}"
    );
}
