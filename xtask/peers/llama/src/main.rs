//! llama.cpp reading and continuing prompts, told by lines on standard input.
//!
//! One JSON object as the first argument sets it up. It answers with one JSON object a line: once when it is ready, and then
//! after each line `prompt N` (reads N tokens of each prompt), `decode N` (continues each by N tokens, greedily) or
//! `log_probs FILE` (of each token but the first of the ids in a JSON array). It ends with its input.
//!
//! `--q4_0 FROM TO` rounds a GGUF file to llama.cpp's format Q4_0 instead.

use std::ffi::CString;
use std::io::BufRead;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct Setup {
    /// A GGUF file.
    model: PathBuf,
    threads: i32,
    batch_size: u32,
    /// Of each text, with what it is continued by.
    tokens: u32,
}

/// Tokens that go to llama.cpp at once; within, it has its own idea.
const BATCH: u32 = 2048;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let mut backend = LlamaBackend::init().context("llama.cpp does not start")?;
    backend.void_logs();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let setup: Setup = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--q4_0", from, to] => return quantize(from, to),
        [setup] => serde_json::from_str(setup).context("the set-up is not understood")?,
        _ => bail!("usage: forerun-peer-llama SETUP, a JSON object, or --q4_0 FROM TO"),
    };
    let model = LlamaModel::load_from_file(&backend, &setup.model, &LlamaModelParams::default())
        .with_context(|| format!("cannot load `{}`", setup.model.display()))?;
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(setup.batch_size * setup.tokens.next_multiple_of(256)))
        .with_n_batch(BATCH)
        .with_n_seq_max(setup.batch_size)
        .with_n_threads(setup.threads)
        .with_n_threads_batch(setup.threads);
    let context = model.new_context(&backend, params).context("cannot make a context")?;
    let mut writer = Writer::new(&model, context, setup.batch_size as usize);
    answer(&json!({
        "ready": true,
        "parameters": model.n_params(),
        "weight_bytes": model.size(),
        "threads": setup.threads,
        "versions": format!("llama-cpp-2 0.1.160, {}", system()),
    }));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if let Some(file) = line.strip_prefix("log_probs ") {
            answer(&writer.log_probs(Path::new(file))?);
            continue;
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["prompt", n] => answer(&writer.prompt(n.parse()?)?),
            ["decode", n] => answer(&writer.decode(n.parse()?)?),
            _ => bail!("not understood: {line}"),
        }
    }
    Ok(())
}

fn answer(fields: &Value) {
    println!("{fields}");
}

/// The instructions that llama.cpp was compiled for.
fn system() -> String {
    // SAFETY: a text that lives as long as the program.
    let text = unsafe { std::ffi::CStr::from_ptr(llama_cpp_sys_2::llama_print_system_info()) };
    let text = text.to_string_lossy();
    let has = |part: &&str| part.ends_with("= 1");
    let parts: Vec<&str> = text.split('|').map(str::trim).filter(has).collect();
    parts.iter().map(|part| part.trim_end_matches("= 1").trim()).collect::<Vec<_>>().join(" ")
}

fn quantize(from: &str, to: &str) -> Result<()> {
    let (from_c, to_c) = (CString::new(from)?, CString::new(to)?);
    // SAFETY: both texts outlive the call, and the parameters are llama.cpp's own.
    let status = unsafe {
        let mut params = llama_cpp_sys_2::llama_model_quantize_default_params();
        params.ftype = llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q4_0;
        params.allow_requantize = true;
        llama_cpp_sys_2::llama_model_quantize(from_c.as_ptr(), to_c.as_ptr(), &raw const params)
    };
    ensure!(status == 0, "cannot round `{from}` to Q4_0: llama.cpp says {status}");
    Ok(())
}

/// Texts side by side.
struct Writer<'a> {
    model: &'a LlamaModel,
    context: LlamaContext<'a>,
    batch: LlamaBatch<'a>,
    batch_size: usize,
    /// The token that each text ends with, not yet read, and its place.
    last: Vec<i32>,
    position: i32,
}

impl<'a> Writer<'a> {
    fn new(model: &'a LlamaModel, context: LlamaContext<'a>, batch_size: usize) -> Self {
        let batch = LlamaBatch::new(BATCH as usize, 1);
        Self { model, context, batch, batch_size, last: Vec::new(), position: 0 }
    }

    fn prompt(&mut self, n: usize) -> Result<Value> {
        let vocab = self.model.n_vocab() as usize;
        self.context.clear_kv_cache();
        let start = Instant::now();
        let per_call = (BATCH as usize / n.max(1)).clamp(1, self.batch_size);
        self.last.clear();
        for first in (0..self.batch_size).step_by(per_call) {
            let rows = first..self.batch_size.min(first + per_call);
            self.batch.clear();
            for row in rows.clone() {
                // The same formula in every program.
                let ids = (0..n).map(|i| LlamaToken(((7 + 31 * i + 101 * row) % vocab) as i32));
                self.batch.add_sequence(&ids.collect::<Vec<_>>(), row as i32, false)?;
            }
            self.context.decode(&mut self.batch)?;
            self.last.extend((1..=rows.len()).map(|row| likeliest(&self.context, row * n - 1)));
        }
        self.position = n as i32;
        let seconds = start.elapsed().as_secs_f64();
        Ok(json!({ "tokens": n * self.batch_size, "seconds": seconds, "ids": self.last }))
    }

    fn decode(&mut self, n: usize) -> Result<Value> {
        ensure!(!self.last.is_empty(), "nothing was read yet");
        let start = Instant::now();
        let mut ids: Vec<i32> = Vec::with_capacity(n * self.batch_size);
        for _ in 0..n {
            self.batch.clear();
            for (row, &id) in self.last.iter().enumerate() {
                self.batch.add(LlamaToken(id), self.position, &[row as i32], true)?;
            }
            self.context.decode(&mut self.batch)?;
            self.position += 1;
            for (row, last) in self.last.iter_mut().enumerate() {
                *last = likeliest(&self.context, row);
            }
            ids.extend(&self.last);
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(json!({ "tokens": n * self.batch_size, "seconds": seconds, "ids": ids }))
    }

    fn log_probs(&mut self, file: &Path) -> Result<Value> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read `{}`", file.display()))?;
        let ids: Vec<i32> = serde_json::from_str(&text)?;
        let room = self.context.n_ctx() as usize / self.batch_size;
        ensure!(ids.len() <= room.min(BATCH as usize), "a text of more than {room} tokens");
        self.context.clear_kv_cache();
        self.batch.clear();
        let tokens: Vec<LlamaToken> = ids.iter().map(|&id| LlamaToken(id)).collect();
        self.batch.add_sequence(&tokens, 0, true)?;
        self.context.decode(&mut self.batch)?;
        let log_prob = |(row, &next): (usize, &i32)| {
            let logits = self.context.get_logits_ith(row as i32);
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
            f64::from(logits[next as usize] - largest) - sum.ln()
        };
        let found: Vec<f64> = ids.iter().skip(1).enumerate().map(log_prob).collect();
        Ok(json!({ "log_probs": found }))
    }
}

/// The likeliest token after the one that was added in this place.
fn likeliest(context: &LlamaContext<'_>, place: usize) -> i32 {
    let logits = context.get_logits_ith(place as i32);
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&x| x == largest).unwrap_or(0) as i32
}
