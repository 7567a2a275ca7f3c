//! What is trained: the same sizes, tokens and optimiser for every program.

use std::fs;
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::Precision;
use crate::disk;

pub(super) const VOCAB_SIZE: u32 = 8192;
pub(super) const D_MODEL: u32 = 256;
pub(super) const N_LAYERS: u32 = 4;
pub(super) const N_HEADS: u32 = 4;
pub(super) const SEQ_LEN: u32 = 256;
pub(super) const BATCH_SIZE: u32 = 8;

/// Whose block is trained, by its rival and by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Block {
    /// torchscale's: Magneto's sub-LN, GELU, xPos
    Magneto,
    /// nn.TransformerEncoder's: pre-LN, GELU, learned positions
    Gpt,
    /// Hugging Face's Llama: pre-RMSNorm, SwiGLU, RoPE, no biases
    Llama,
}

impl Block {
    pub(super) const ALL: [Self; 3] = [Self::Magneto, Self::Gpt, Self::Llama];

    /// As the programs know it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Magneto => "magneto",
            Self::Gpt => "gpt",
            Self::Llama => "llama",
        }
    }

    /// The rival, and its program in `xtask/peers/train/`.
    pub(super) fn rival(self) -> (&'static str, &'static str) {
        match self {
            Self::Magneto => ("torchscale", "torchscale_decoder.py"),
            Self::Gpt => ("nn.TransformerEncoder", "transformer_encoder.py"),
            Self::Llama => ("transformers Llama", "llama.py"),
        }
    }

    /// SwiGLU has three matrices for the two of GELU, so two thirds of the width.
    pub(super) fn d_ff(self) -> u32 {
        match self {
            Self::Magneto | Self::Gpt => 1024,
            Self::Llama => 682,
        }
    }
}

/// What one program gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup<'a> {
    pub(super) block: Block,
    pub(super) precision: Precision,
    pub(super) threads: u32,
    pub(super) tokens: &'a Path,
    /// Not told to the program: the rival gets it through its environment.
    pub(super) rivals_keep_memory: bool,
}

impl Setup<'_> {
    /// Its first argument.
    pub(super) fn json(&self) -> Value {
        json!({
            "block": self.block.name(),
            "precision": self.precision.name(),
            "threads": self.threads,
            "tokens": self.tokens,
            "vocab_size": VOCAB_SIZE,
            "d_model": D_MODEL,
            "n_layers": N_LAYERS,
            "n_heads": N_HEADS,
            "d_ff": self.block.d_ff(),
            "seq_len": SEQ_LEN,
            "batch_size": BATCH_SIZE,
            "lr": 1e-3,
            "beta1": 0.9,
            "beta2": 0.95,
            "eps": 1e-8,
            "weight_decay": 0.1,
        })
    }
}

/// Batches in the file; then it starts again.
const BATCHES: u32 = 32;

/// Writes the tokens that every program trains on.
pub(super) fn write_tokens(path: &Path) -> Result<()> {
    let bytes: Vec<u8> = tokens().flat_map(u16::to_le_bytes).collect();
    fs::write(path, bytes).map_err(|error| disk::explain(error, path))
}

/// Random, but frequent ids more often than rare ones (id `i` about as `1/(i+1)`), so that a model that trains soon does
/// better than the logarithm of the vocabulary, and one that does not shows.
pub(super) fn tokens() -> impl Iterator<Item = u16> {
    let mut state = 1_u64;
    (0..BATCHES * BATCH_SIZE * (SEQ_LEN + 1)).map(move |_| {
        // Knuth's MMIX generator; its upper half is what is random.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = (state >> 11) as f64 / (1_u64 << 53) as f64;
        let id = (f64::from(VOCAB_SIZE).ln() * uniform).exp() - 1.0;
        (id as u32).min(VOCAB_SIZE - 1) as u16
    })
}
