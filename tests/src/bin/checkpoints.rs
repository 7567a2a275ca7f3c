//! `checkpoints write MODEL FOLDER`: loads a checkpoint, saves it to `FOLDER/ours`, and writes its logits on some tokens beside it.
//! `checkpoints read FOLDER`: loads `FOLDER/theirs`, which transformers saved, and compares the logits: one JSON object for each text.
//! For `cargo xtask peers checkpoint`.

#![allow(clippy::print_stdout, reason = "a program that answers on standard output")]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use forerun_arch::{CausalLm, LoadOptions};
use forerun_tensors::{SafetensorsFile, save};
use serde_json::json;
use tch::{Device, Kind, Tensor};

fn main() -> Result<()> {
    tch::set_num_threads(1);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", model, folder] => write(Path::new(model), Path::new(folder)),
        ["read", folder] => read(Path::new(folder)),
        _ => bail!("usage: checkpoints write MODEL FOLDER | read FOLDER"),
    }
}

fn load(model: &Path) -> Result<CausalLm> {
    let options = LoadOptions { kind: Some(Kind::Float), ..LoadOptions::default() };
    Ok(CausalLm::load(model, &options)?)
}

/// Two lengths: LongRoPE's factors change between those of the tiny model, and both are longer than its sliding window.
const LENGTHS: [i64; 2] = [24, 60];

fn write(path: &Path, folder: &Path) -> Result<()> {
    let model = load(path)?;
    model.save(&folder.join("ours"))?;
    let _no_grad = tch::no_grad_guard();
    let mut tensors = Vec::new();
    for length in LENGTHS {
        let tokens = Tensor::f_arange(2 * length, (Kind::Int64, Device::Cpu))?.f_mul_scalar(7)?;
        let tokens = tokens.f_remainder(model.config().vocab_size)?.f_view([2, length])?;
        let logits = model.logits(&tokens)?;
        tensors.push((format!("tokens.{length}"), tokens));
        tensors.push((format!("logits.{length}"), logits));
    }
    save(&folder.join("ours.safetensors"), &tensors, &BTreeMap::new())?;
    Ok(())
}

fn read(folder: &Path) -> Result<()> {
    let theirs = folder.join("theirs");
    let model = load(&theirs)?;
    let mut n_files = 0;
    for entry in std::fs::read_dir(&theirs)? {
        let is_weights = entry?.path().extension().is_some_and(|e| e == "safetensors");
        n_files += usize::from(is_weights);
    }
    let file = SafetensorsFile::open(&folder.join("theirs.safetensors"))?;
    let _no_grad = tch::no_grad_guard();
    let most = |x: Tensor| -> Result<f64> { Ok(f64::try_from(x.f_abs()?.f_max()?)?) };
    for length in LENGTHS {
        let want = file.tensor(&format!("logits.{length}"))?;
        let got = model.logits(&file.tensor(&format!("tokens.{length}"))?)?;
        let what = format!("theirs here, {n_files} files, {length} tokens");
        let (worst, size) = (most(got.f_sub(&want)?)?, most(want)?);
        println!("{}", json!({ "what": what, "worst": worst, "size": size, "files": n_files }));
    }
    Ok(())
}
