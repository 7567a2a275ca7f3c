//! `generate_speed SETUP`: loads a model and reads and continues given prompts, as told on standard input. The side of this workspace in
//! `cargo xtask peers generate`; the rivals, in `xtask/peers`, speak the same lines.
//!
//! `--convert FILE FOLDER` makes a Hugging Face folder, f32, of a GGUF file instead.
//!
//! `SETUP` is one JSON object. The program answers with one JSON object a line: once when it is ready, and then after each line `prompt N`
//! (reads N tokens of each of the prompts), `decode N` (continues each, just as long as it was read, by N tokens, greedily),
//! `log_probs FILE` (of each token but the first of the ids in a JSON array), `text N SOURCE` (the ids of N tokens from the middle of a
//! text that was kept for validation) or `bandwidth` (how fast memory is read). It ends with its input.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that answers on its streams"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use forerun_arch::{CausalLm, LmCache, LoadOptions, Map};
use forerun_tensors::{keep_freed_memory, parse_kind};
use forerun_tokens::gguf::Gguf;
use forerun_tokens::{TextSource, Tokenizer, documents};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

#[derive(Debug, Deserialize)]
struct Setup {
    /// A Hugging Face folder or a GGUF file.
    model: PathBuf,
    /// `f32` or `bf16`; `packed` for the weights as they are in a GGUF file.
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
    let setup: Setup = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--convert", file, folder] => return convert(Path::new(file), Path::new(folder)),
        [setup] => serde_json::from_str(setup).context("the set-up is not understood")?,
        _ => bail!("usage: generate_speed SETUP, a JSON object, or --convert FILE FOLDER"),
    };
    tch::set_num_threads(setup.threads);
    keep_freed_memory();
    let model = load(&setup)?;
    let mut writer = Writer { batch_size: setup.batch_size, caches: Vec::new(), last: Vec::new() };
    answer(&json!({
        "ready": true,
        "parameters": parameters(&model),
        "threads": tch::get_num_threads(),
        "versions": format!("forerun {}, libtorch {}", env!("CARGO_PKG_VERSION"), forerun_tensors::LIBTORCH_VERSION),
        "weight_bytes": weight_bytes(&model),
    }));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if let Some(file) = line.strip_prefix("log_probs ") {
            answer(&log_probs(&model, Path::new(file))?);
            continue;
        }
        // A path may hold blanks.
        match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
            ["prompt", n] => answer(&writer.prompt(&model, n.parse()?)?),
            ["decode", n] => answer(&writer.decode(&model, n.parse()?)?),
            ["text", n, source] => answer(&text(&setup.model, source, n.parse()?)?),
            ["bandwidth"] => answer(&json!({ "bytes_per_second": bandwidth()? })),
            _ => bail!("not understood: {line}"),
        }
    }
    Ok(())
}

fn load(setup: &Setup) -> Result<CausalLm> {
    let Setup { model, precision, .. } = setup;
    let is_gguf = model.extension().is_some_and(|extension| extension == "gguf");
    Ok(match (is_gguf, precision.as_str()) {
        (true, "packed") => CausalLm::from_gguf_packed(&Gguf::open(model)?, Kind::BFloat16)?,
        (true, kind) => CausalLm::from_gguf(&Gguf::open(model)?, parse_kind(kind)?, Device::Cpu)?,
        (false, kind) => {
            let options = LoadOptions { kind: Some(parse_kind(kind)?), ..LoadOptions::default() };
            CausalLm::load(model, &options)?
        }
    })
}

fn convert(file: &Path, folder: &Path) -> Result<()> {
    CausalLm::from_gguf(&Gguf::open(file)?, Kind::Float, Device::Cpu)?.save(folder)?;
    Ok(())
}

fn answer(fields: &Value) {
    println!("{fields}");
}

/// Numbers that the model is made of, each counted once.
fn parameters(model: &CausalLm) -> i64 {
    let config = model.config();
    let matrices = model.projections().map(|map| map.d_in() * map.d_out()).sum::<i64>();
    let table = config.vocab_size * config.d_model;
    let tables = if config.tie_embeddings { table } else { 2 * table };
    matrices + tables + (2 * config.n_layers + 1) * config.d_model
}

/// Bytes of the matrices that one step of decoding reads: of the blocks, and the head. Of an embedding table of its own it reads a row.
fn weight_bytes(model: &CausalLm) -> usize {
    let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
    let all = model.projections().chain([model.head()]);
    all.map(|map| match map.map() {
        Map::Plain(linear) => bytes(&linear.weight),
        Map::Packed(packed) => bytes(packed.matrix.data()),
        _ => 0,
    })
    .sum()
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
        let mut ids: Vec<i64> = Vec::with_capacity(n * self.batch_size);
        for _ in 0..n {
            let mut caches: Vec<&mut LmCache> = self.caches.iter_mut().collect();
            let logits = model.step(&self.last, &mut caches)?;
            self.last = Vec::try_from(logits.f_argmax(-1, false)?)?;
            ids.extend(&self.last);
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(json!({ "tokens": n * self.batch_size, "seconds": seconds, "ids": ids }))
    }
}

fn log_probs(model: &CausalLm, file: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let ids: Vec<i64> = serde_json::from_str(&text)?;
    Ok(json!({ "log_probs": model.log_probs(&ids)? }))
}

/// Characters before the text that is taken: beyond what a book begins with.
const SKIPPED: usize = 100_000;

fn text(model: &Path, source: &str, n: usize) -> Result<Value> {
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(model)?)?;
    let filter = BTreeMap::from([("split".to_owned(), "validation".to_owned())]);
    let book = documents(&TextSource { filter, ..TextSource::new(source) })?.next();
    let book = book.with_context(|| format!("`{source}` has no text for validation"))??.text;
    // A token is hardly ever longer.
    let part: String = book.chars().skip(SKIPPED).take(8 * n).collect();
    let mut ids = tokenizer.encode(&part)?;
    ensure!(ids.len() >= n, "`{source}` is too short a text");
    ids.truncate(n);
    Ok(json!({ "ids": ids }))
}

/// Bytes a second at which libtorch adds up f32 that no cache holds, the best of several.
fn bandwidth() -> Result<f64> {
    let numbers = Tensor::f_ones([128 << 20], (Kind::Float, Device::Cpu))?;
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        let start = Instant::now();
        let sum = numbers.f_sum(Kind::Float)?;
        best = best.min(start.elapsed().as_secs_f64());
        ensure!(sum.f_double_value(&[])? > 0.0, "the sum of ones is {sum}");
    }
    Ok((numbers.numel() * 4) as f64 / best)
}
