//! `lora_adapters write MODEL FOLDER`: puts adapters on a checkpoint and writes them to `FOLDER/ours`, with the logits of some tokens.
//! `lora_adapters read MODEL FOLDER`: reads `FOLDER/theirs`, which PEFT wrote, and compares the logits: one JSON object.
//! For `cargo xtask peers lora`.

#![allow(clippy::print_stdout, reason = "a program that answers on standard output")]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use forerun_arch::{CausalLm, LoadOptions, LoraConfig, Targets, load_adapters, save_adapters};
use forerun_tensors::{SafetensorsFile, init, save};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde_json::json;
use tch::{Device, Kind, Tensor};

fn main() -> Result<()> {
    tch::set_num_threads(1);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", model, folder] => write(Path::new(model), Path::new(folder)),
        ["read", model, folder] => read(Path::new(model), Path::new(folder)),
        _ => bail!("usage: lora_adapters write|read MODEL FOLDER"),
    }
}

fn load(model: &Path) -> Result<CausalLm> {
    let options = LoadOptions { kind: Some(Kind::Float), ..LoadOptions::default() };
    Ok(CausalLm::load(model, &options)?)
}

fn write(path: &Path, folder: &Path) -> Result<()> {
    let mut model = load(path)?;
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let vocab = model.config().vocab_size;
    let tokens = Tensor::f_arange(24, (Kind::Int64, Device::Cpu))?.f_mul_scalar(7)?;
    let tokens = tokens.f_remainder(vocab)?.f_view([2, 12])?;
    let _no_grad = tch::no_grad_guard();
    let base = model.logits(&tokens)?;
    let one_map = model.projections().any(|map| map.name().ends_with("qkv_proj"));
    let targets = match one_map {
        true => ["qkv_proj", "gate_up_proj", "down_proj"],
        false => ["q_proj", "v_proj", "down_proj"],
    };
    let targets = Targets::Named(targets.map(str::to_owned).into());
    let config = LoraConfig { rank: 4, alpha: 10.0, targets, ..LoraConfig::default() };
    model.add_adapters(&config, &mut rng)?;
    for adapter in model.adapters().values() {
        // A fresh adapter changes nothing.
        let b = init::normal(&adapter.b().size(), 0.1, &mut rng, Device::Cpu)?;
        adapter.b().shallow_clone().f_copy_(&b)?;
    }
    save_adapters(&folder.join("ours"), &config, path.to_str(), &model.adapters())?;
    let adapted = model.logits(&tokens)?;
    let tensors = [("tokens", tokens), ("base", base), ("adapted", adapted)];
    let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
    save(&folder.join("ours.safetensors"), &tensors, &BTreeMap::new())?;
    Ok(())
}

fn read(path: &Path, folder: &Path) -> Result<()> {
    let mut model = load(path)?;
    model.set_adapters(load_adapters(&folder.join("theirs"))?)?;
    let file = SafetensorsFile::open(&folder.join("theirs.safetensors"))?;
    let _no_grad = tch::no_grad_guard();
    let want = file.tensor("adapted")?;
    let got = model.logits(&file.tensor("tokens")?)?;
    let most = |x: Tensor| -> Result<f64> { Ok(f64::try_from(x.f_abs()?.f_max()?)?) };
    let what = format!("logits with PEFT's adapters here, on {} maps", model.adapters().len());
    let (worst, size) = (most(got.f_sub(&want)?)?, most(want)?);
    println!("{}", json!({ "what": what, "worst": worst, "size": size }));
    Ok(())
}
