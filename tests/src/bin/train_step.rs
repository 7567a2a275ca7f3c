//! `train_step SETUP`: trains a decoder on given tokens, a few steps at a time, as told on standard input. The side of
//! this workspace in `cargo xtask peers train`; the rivals, in `xtask/peers/train/`, speak the same lines.
//!
//! `SETUP` is one JSON object. The program answers with one JSON object a line: once when it is ready, and then after
//! each line `steps N` (N training steps) or `products` (the rate of plain matrix products). It ends with its input.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that answers on its streams"
)]

use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use forerun_arch::{
    Activation, Decoder, DecoderConfig, NormKind, NormPlacement, Positions, flops_per_token,
};
use forerun_tensors::keep_freed_memory;
use forerun_tests::Language;
use forerun_train::{
    Batch, BoxError, Model, Optimiser, OptimiserConfig, Precision, Sequences, TrainConfig,
    accumulate_gradients,
};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// What is trained, the same for every program that takes part.
#[derive(Debug, Deserialize)]
struct Setup {
    block: Block,
    precision: Precision,
    threads: i32,
    /// Rows of `seq_len + 1` token ids, 16 bits each, little-endian.
    tokens: PathBuf,
    vocab_size: i64,
    d_model: i64,
    n_layers: i64,
    n_heads: i64,
    d_ff: i64,
    seq_len: i64,
    batch_size: usize,
    #[serde(flatten)]
    optimiser: Hyper,
}

#[derive(Debug, Deserialize)]
struct Hyper {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
}

/// Whose block it is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Block {
    /// torchscale's: sub-LN, GELU, xPos.
    Magneto,
    /// `nn.TransformerEncoder`'s: pre-LN, GELU, here with learned positions.
    Gpt,
    /// Llama's: pre-RMSNorm, SwiGLU, RoPE, no biases.
    Llama,
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
    let argument = std::env::args().nth(1).context("usage: train_step SETUP, a JSON object")?;
    let setup: Setup = serde_json::from_str(&argument).context("the set-up is not understood")?;
    tch::set_num_threads(setup.threads);
    keep_freed_memory(); // as the workers of experiments do
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let decoder = Decoder::new(&decoder_config(&setup), &mut rng, Device::Cpu)?;
    let mut trainer = Trainer::new(&decoder, &setup)?;
    answer(&json!({
        "ready": true,
        "parameters": decoder.parameters().iter().map(|p| p.tensor.numel()).sum::<usize>(),
        "threads": tch::get_num_threads(),
        "versions": format!("forerun {}, libtorch {}", env!("CARGO_PKG_VERSION"), forerun_tensors::LIBTORCH_VERSION),
        "flops_per_token": flops_per_token(decoder.config(), setup.seq_len),
    }));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["steps", n] => answer(&trainer.steps(n.parse()?)?),
            ["products"] => answer(&products(&setup)?),
            _ => bail!("not understood: {line}"),
        }
    }
    Ok(())
}

fn answer(fields: &Value) {
    println!("{fields}");
}

fn decoder_config(setup: &Setup) -> DecoderConfig {
    let &Setup { vocab_size, d_model, n_layers, n_heads, d_ff, seq_len, .. } = setup;
    let sizes =
        DecoderConfig { vocab_size, d_model, n_layers, n_heads, d_ff, ..DecoderConfig::default() };
    match setup.block {
        Block::Magneto => sizes,
        Block::Gpt => DecoderConfig {
            norm: NormPlacement::Pre,
            positions: Positions::Learned { max_seq_len: seq_len, offset: 0 },
            ..sizes
        },
        Block::Llama => DecoderConfig {
            norm: NormPlacement::Pre,
            norm_kind: NormKind::RmsNorm,
            norm_eps: 1e-6,
            activation: Activation::SwiGlu,
            positions: Positions::Rope { base: 10_000.0 },
            bias: false,
            ..sizes
        },
    }
}

/// One model in training.
struct Trainer<'a> {
    model: Language<'a>,
    config: TrainConfig,
    /// Made with the first step, so that its moments count as memory of the steps, as PyTorch's do.
    optimiser: Option<Optimiser>,
    rows: Rows,
    next_row: u64,
}

impl<'a> Trainer<'a> {
    fn new(decoder: &'a Decoder, setup: &Setup) -> Result<Self> {
        let &Hyper { lr, beta1, beta2, eps, weight_decay } = &setup.optimiser;
        let optimiser = OptimiserConfig {
            lr,
            beta1,
            beta2,
            eps,
            weight_decay,
            decay_norms_biases_embeddings: true, // all parameters alike, as the rivals do
        };
        let mut config: TrainConfig = serde_json::from_value(json!({
            "seq_len": setup.seq_len,
            "batch_size": setup.batch_size,
            "micro_batch_size": setup.batch_size,
            "steps": 1,
            "optimiser": optimiser,
        }))?;
        config.precision = setup.precision;
        Ok(Self {
            model: Language { decoder, op_by_op: false },
            config,
            optimiser: None,
            rows: Rows::read(setup)?,
            next_row: 0,
        })
    }

    /// `n` steps: how long they took, and the loss of each.
    fn steps(&mut self, n: usize) -> Result<Value> {
        let start = Instant::now();
        let losses = (0..n).map(|_| self.step()).collect::<Result<Vec<f64>>>()?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(json!({"steps": n, "seconds": seconds, "losses": losses}))
    }

    fn step(&mut self) -> Result<f64> {
        let Self { model, config, optimiser, .. } = self;
        let batch = Batch::fetch(
            &mut self.rows,
            self.next_row,
            config.batch_size,
            config.seq_len,
            Device::Cpu,
        )?;
        self.next_row += config.batch_size as u64;
        if optimiser.is_none() {
            *optimiser = Some(Optimiser::new(model.parameters(), &config.optimiser)?);
        }
        let optimiser = optimiser.as_mut().context("the optimiser was just made")?;
        model.parameters().zero_grad();
        let loss = accumulate_gradients(model, &batch, config)?;
        optimiser.step(config.optimiser.lr)?;
        Ok(loss.f_double_value(&[])?)
    }
}

/// The rows of the file of tokens, from its start again at its end.
struct Rows {
    ids: Vec<i64>,
    width: usize,
}

impl Rows {
    fn read(setup: &Setup) -> Result<Self> {
        let bytes = std::fs::read(&setup.tokens)
            .with_context(|| format!("cannot read `{}`", setup.tokens.display()))?;
        let ids: Vec<i64> =
            bytes.chunks_exact(2).map(|id| i64::from(u16::from_le_bytes([id[0], id[1]]))).collect();
        let width = usize::try_from(setup.seq_len)? + 1;
        let whole = !ids.is_empty() && ids.len().is_multiple_of(width);
        ensure!(whole, "`{}` does not hold rows of {width} tokens", setup.tokens.display());
        Ok(Self { ids, width })
    }
}

impl Sequences for Rows {
    fn rows(&mut self, first_index: u64, n: usize) -> Result<Tensor, BoxError> {
        let (n_rows, width) = (self.ids.len() / self.width, self.width);
        let rows = (0..n).flat_map(|i| {
            let row = (first_index as usize + i) % n_rows;
            self.ids[row * width..][..width].iter().copied()
        });
        let ids: Vec<i64> = rows.collect();
        Ok(Tensor::f_from_slice(&ids)?.f_view([n as i64, width as i64])?)
    }
}

/// GFLOP per second of plain matrix products in the precision of the set-up: a large square one, and the three of a
/// step's largest layers.
fn products(setup: &Setup) -> Result<Value> {
    let tokens = setup.batch_size as i64 * setup.seq_len;
    let &Setup { d_model, d_ff, vocab_size, .. } = setup;
    let kind = match setup.precision {
        Precision::F32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    };
    let rate = |m, k, n| product_rate(m, k, n, kind);
    Ok(json!({
        "square": rate(1024, 1024, 1024)?,
        "attention": rate(tokens, d_model, d_model)?,
        "mlp": rate(tokens, d_model, d_ff)?,
        "head": rate(tokens, d_model, vocab_size)?,
    }))
}

/// The best of many, a quarter of a second long.
fn product_rate(m: i64, k: i64, n: i64, kind: Kind) -> Result<f64> {
    let _no_grad = tch::no_grad_guard();
    let a = Tensor::f_ones([m, k], (kind, Device::Cpu))?;
    let b = Tensor::f_ones([n, k], (kind, Device::Cpu))?.f_tr()?; // as a linear layer has it
    let out = Tensor::f_zeros([m, n], (kind, Device::Cpu))?;
    let mut fastest = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.25 {
        let before = Instant::now();
        let _ = a.f_matmul_out(&out, &b)?;
        fastest = fastest.min(before.elapsed().as_secs_f64());
    }
    Ok(2.0 * (m * k * n) as f64 / fastest / 1e9)
}
