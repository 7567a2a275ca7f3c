//! `generate_speed SETUP`: loads a checkpoint and reads and continues given prompts, as told on standard input. The side of this workspace in
//! `cargo xtask peers generate`; the rivals, in `xtask/peers/generate/`, speak the same lines.
//!
//! `--make DIR` writes a checkpoint of SmolLM2-135M's shape instead.
//!
//! `SETUP` is one JSON object. The program answers with one JSON object a line: once when it is ready, and then after each line `prompt N`
//! (reads N tokens of each of the prompts), `decode N` (continues each, just as long as it was read, by N tokens, greedily) or
//! `bandwidth` (how fast memory is read). It ends with its input.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that answers on its streams"
)]

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use forerun_arch::{CausalLm, LmCache, LmConfig, LmFamily, LmRope, LoadOptions, RopeScaling};
use forerun_tensors::kernels::{Factor, few_rows};
use forerun_tensors::{keep_freed_memory, parse_kind};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

#[derive(Debug, Deserialize)]
struct Setup {
    /// A Hugging Face folder.
    folder: PathBuf,
    /// `f32` or `bf16`.
    precision: String,
    threads: i32,
    batch_size: usize,
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: what libtorch says goes on with its own stack.
            eprintln!("{}", format!("{error:#}").lines().next().unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, folder] = arguments.as_slice()
        && flag == "--make"
    {
        return make(Path::new(folder));
    }
    let [argument] = arguments.as_slice() else {
        bail!("usage: generate_speed SETUP, a JSON object, or --make DIR");
    };
    let setup: Setup = serde_json::from_str(argument).context("the set-up is not understood")?;
    tch::set_num_threads(setup.threads);
    keep_freed_memory();
    let kind = parse_kind(&setup.precision)?;
    let options = LoadOptions { kind: Some(kind), ..LoadOptions::default() };
    let model = CausalLm::load(&setup.folder, &options)?;
    let mut writer = Writer { batch_size: setup.batch_size, caches: Vec::new(), last: Vec::new() };
    answer(&json!({
        "ready": true,
        "parameters": parameters(&model)?,
        "threads": tch::get_num_threads(),
        "versions": format!("forerun {}, libtorch {}", env!("CARGO_PKG_VERSION"), forerun_tensors::LIBTORCH_VERSION),
        "weight_bytes": parameters(&model)? * kind.elt_size_in_bytes(),
    }));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["prompt", n] => answer(&writer.prompt(&model, n.parse()?)?),
            ["decode", n] => answer(&writer.decode(&model, n.parse()?)?),
            ["bandwidth"] => answer(&json!({ "bytes_per_second": bandwidth()? })),
            _ => bail!("not understood: {line}"),
        }
    }
    Ok(())
}

/// A checkpoint of SmolLM2-135M's shape with drawn weights, f32.
fn make(folder: &Path) -> Result<()> {
    let config = LmConfig {
        family: LmFamily::Llama,
        vocab_size: 49_152,
        d_model: 576,
        n_layers: 30,
        n_heads: 9,
        n_kv_heads: 3,
        head_dim: 64,
        d_ff: 1536,
        norm_eps: 1e-5,
        rope: LmRope { theta: 100_000.0, rotary_dim: 64, scaling: RopeScaling::None },
        sliding_window: None,
        max_seq_len: 8192,
        tie_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        bos_token: Some(1),
        eos_tokens: vec![2],
        pad_token: Some(2),
    };
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    CausalLm::new(config, &mut rng, Kind::Float, Device::Cpu)?.save(folder)?;
    Ok(())
}

fn answer(fields: &Value) {
    println!("{fields}");
}

fn parameters(model: &CausalLm) -> Result<usize> {
    Ok(model.named_tensors()?.iter().map(|(_, tensor)| tensor.numel()).sum())
}

/// Texts side by side.
struct Writer {
    batch_size: usize,
    caches: Vec<LmCache>,
    /// The token that each text ends with, not yet read.
    last: Vec<i64>,
}

impl Writer {
    fn prompt(&mut self, model: &CausalLm, n: usize) -> Result<Value> {
        let vocab = model.config().vocab_size;
        let start = Instant::now();
        self.caches = (0..self.batch_size).map(|_| LmCache::new(model, n + 1024)).collect();
        self.last.clear();
        for (row, cache) in self.caches.iter_mut().enumerate() {
            // The same formula in every program.
            let prompt: Vec<i64> =
                (0..n).map(|i| (7 + 31 * i as i64 + 101 * row as i64) % vocab).collect();
            let logits = model.extend(&prompt, cache)?;
            self.last.push(i64::try_from(logits.f_argmax(-1, false)?)?);
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(json!({ "tokens": n * self.batch_size, "seconds": seconds, "ids": self.last }))
    }

    fn decode(&mut self, model: &CausalLm, n: usize) -> Result<Value> {
        ensure!(!self.caches.is_empty(), "nothing was read yet");
        let start = Instant::now();
        let mut ids: Vec<i64> = Vec::new();
        for _ in 0..n {
            let mut caches: Vec<&mut LmCache> = self.caches.iter_mut().collect();
            let logits = model.step(&self.last, &mut caches)?;
            self.last = Vec::try_from(logits.f_argmax(-1, false)?)?;
            ids.extend(self.last.first());
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(json!({ "tokens": n * self.batch_size, "seconds": seconds, "ids": ids }))
    }
}

/// Bytes a second at which the product of one row reads a matrix that no cache holds, the best of several.
fn bandwidth() -> Result<f64> {
    let weight = Tensor::f_ones([32_768, 4096], (Kind::Float, Device::Cpu))?;
    let x = Tensor::f_ones([1, 4096], (Kind::Float, Device::Cpu))?;
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        let start = Instant::now();
        few_rows(&x, &[Factor { weight: &weight, bias: None }])?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok((weight.numel() * 4) as f64 / best)
}
