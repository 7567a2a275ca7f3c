use std::path::Path;

use forerun_tensors::kernels::WeightFormat;
use tch::{Kind, Tensor};

use crate::testing::{max_diff, rng, tokens};
use crate::{CausalLm, Gptq, LmCache, LoadOptions, Method, QuantizeConfig, quantize_folder};

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/arch").join(name)
}

fn load(folder: &Path) -> CausalLm {
    let options = LoadOptions { kind: Some(Kind::Float), ..LoadOptions::default() };
    CausalLm::load(folder, &options).unwrap()
}

fn ids(model: &CausalLm, n: i64, seed: u64) -> Vec<i64> {
    Vec::try_from(tokens(1, n, model.config().vocab_size, &mut rng(seed)).get(0)).unwrap()
}

fn logits(model: &CausalLm, ids: &[i64]) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    model.logits(&Tensor::from_slice(ids).unsqueeze(0)).unwrap()
}

fn largest(x: &Tensor) -> f64 {
    f64::try_from(x.abs().max()).unwrap()
}

const MODELS: [&str; 2] = ["llama_tiny", "phi3_tiny"];

#[test]
fn eight_bits_change_little() {
    for name in MODELS {
        let mut model = load(&folder(name));
        let ids = ids(&model, 12, 1);
        let before = logits(&model, &ids);
        model.pack(&QuantizeConfig::nearest(WeightFormat::Int8), &mut |_| Ok(None)).unwrap();
        let after = logits(&model, &ids);
        let mean_square = |x: Tensor| f64::try_from(x.square().mean(Kind::Double)).unwrap();
        let share = (mean_square(after - &before) / mean_square(before)).sqrt();
        assert!(share > 1e-4 && share < 0.05, "{name}: {share}");
    }
}

#[test]
fn token_by_token_is_as_all_at_once() {
    for name in MODELS {
        let mut model = load(&folder(name));
        model.pack(&QuantizeConfig::nearest(WeightFormat::Int8), &mut |_| Ok(None)).unwrap();
        let ids = ids(&model, 12, 1);
        let want = logits(&model, &ids).get(0);
        let mut cache = LmCache::new(&model, ids.len());
        for (i, &id) in ids.iter().enumerate() {
            let got = model.extend(&[id], &mut cache).unwrap();
            let (error, size) = (max_diff(&got, &want.get(i as i64)), largest(&want));
            // Rounding an activation to 8 bits may go the other way after a sum in another order.
            assert!(error < 0.02 * size, "{name} {i}: {error} of {size}");
        }
    }
}

#[test]
fn a_quantised_folder_loads_as_what_packing_in_memory_gives() {
    for name in MODELS {
        let from = folder(name);
        let to = tempfile::tempdir().unwrap();
        let to = to.path().join("packed");
        let config = QuantizeConfig::nearest(WeightFormat::Int8);
        quantize_folder(&from, &to, &config, &mut |_| Ok(None)).unwrap();
        let loaded = load(&to);
        let mut packed = load(&from);
        packed.pack(&config, &mut |_| Ok(None)).unwrap();
        let ids = ids(&loaded, 9, 2);
        assert_eq!(logits(&loaded, &ids), logits(&packed, &ids), "{name}");
        let twice = packed.pack(&config, &mut |_| Ok(None)).unwrap_err().to_string();
        assert!(twice.ends_with("must be a matrix of numbers, got a packed one"), "{twice}");
    }
}

#[test]
fn calibration_sees_every_map_once_a_token() {
    let mut model = load(&folder("llama_tiny"));
    let (long, short) = (ids(&model, 20, 1), ids(&model, 5, 2));
    let found = model.calibrate(&[&long, &short], &|_| true).unwrap();
    assert_eq!(found.len(), model.projections().count());
    assert!(found.values().all(|hessian| hessian.rows() == 25));
    let some = model.calibrate(&[&long], &|name| name.contains("layers.1.")).unwrap();
    assert!(some.keys().all(|name| name.contains("layers.1.")) && !some.is_empty());
    let none = model.calibrate(&[], &|_| true).unwrap_err().to_string();
    assert_eq!(none, "texts must be at least one, got none");
}

#[test]
fn packing_with_a_method_that_needs_calibration_asks_for_it() {
    let mut model = load(&folder("llama_tiny"));
    let config = QuantizeConfig {
        method: Method::Gptq(Gptq::default()),
        ..QuantizeConfig::nearest(WeightFormat::Int8)
    };
    let refused = model.pack(&config, &mut |_| Ok(None)).unwrap_err().to_string();
    let want = "model.layers.0.self_attn.q_proj must be calibrated, got no hessian";
    assert_eq!(refused, want);
    let text = ids(&model, 60, 3);
    let mut hessians = model.calibrate(&[&text], &|_| true).unwrap();
    model.pack(&config, &mut |name| Ok(hessians.remove(name))).unwrap();
    assert!(hessians.is_empty());
}
