//! A tiny model with drawn weights, to try commands on: it has everything that a trained one has, but knowledge.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use forerun_arch::{CausalLm, LmConfig, LmFamily, LmRope, RopeScaling};
use forerun_runs::atomic::write_atomic;
use forerun_runs::seed::Seed;
use forerun_tokens::{BpeConfig, Tokenizer, train_bpe};
use tch::{Device, Kind};

/// Bytes, and one token for the end of a text.
const VOCAB: u32 = 257;

const TEMPLATE: &str = r#"{
  "eos_token": "<|endoftext|>",
  "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
}
"#;

/// A Llama of two narrow blocks over bytes. Groups of 128 do not divide its width, those of 32 and 64 do.
pub(crate) fn config() -> LmConfig {
    LmConfig {
        family: LmFamily::Llama,
        vocab_size: i64::from(VOCAB),
        d_model: 64,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 16,
        d_ff: 128,
        norm_eps: 1e-5,
        rope: LmRope { theta: 10_000.0, rotary_dim: 16, scaling: RopeScaling::None },
        sliding_window: None,
        max_seq_len: 512,
        tie_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        bos_token: None,
        eos_tokens: vec![256],
        pad_token: None,
    }
}

/// Writes the model that `seed` draws to `folder`, as Hugging Face lays checkpoints out: weights, tokenizer, chat template.
///
/// # Errors
/// If the folder cannot be written.
pub fn write_drawn(folder: &Path, seed: u64) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let mut rng = Seed::new(seed).stream("drawn");
    CausalLm::new(config(), &mut rng, Kind::Float, Device::Cpu)?.save(folder)?;
    tokenizer()?.save(folder.join("tokenizer.json"))?;
    Ok(write_atomic(&folder.join("tokenizer_config.json"), TEMPLATE.as_bytes())?)
}

/// Bytes, as a `tokenizer.json` says it.
pub(crate) fn tokenizer() -> Result<Tokenizer> {
    Ok(train_bpe([Ok("a")], &BpeConfig { vocab_size: VOCAB, min_frequency: 1 })?)
}
