//! Work with one model: continue text, measure perplexity, quantise, evaluate. What `cargo xtask generate` and its
//! neighbours start.

mod evaluate;
mod generate;
mod perplexity;
pub(crate) mod quantize;
pub(crate) mod texts;

use anyhow::{Result, ensure};
use clap::Args;
use forerun_tensors::parse_device;
use tch::Device;

use crate::environment;
use crate::plan::counted;
use crate::pretrained::{Place, Precision, Pretrained};

pub(crate) use evaluate::{EvaluateArgs, evaluate};
pub(crate) use generate::{GenerateArgs, generate};
pub(crate) use perplexity::{PerplexityArgs, perplexity};
pub(crate) use quantize::{QuantizeArgs, quantize};

/// Which model, and how it is computed.
#[derive(Args, Debug)]
struct ModelArgs {
    /// A folder in the layout of Hugging Face (or with one .gguf file), a .gguf file, or a name that `cargo xtask
    /// model` lists.
    #[arg(value_name = "MODEL")]
    model: String,
    /// Format of the weights; packed ones stay packed [default: that of the files; f32 for GGUF]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// A tokenizer.json, or `bytes`, in place of the model's own.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<String>,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of libtorch [default: one a core]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
}

/// A note if a prompt and what follows it may be more than the model was made for.
fn length_note(pretrained: &Pretrained, n_prompt: usize, n_new: usize) -> Option<String> {
    let made_for = usize::try_from(pretrained.model.config().max_seq_len).unwrap_or(usize::MAX);
    (n_prompt.saturating_add(n_new) > made_for).then(|| {
        format!(
            "note: with a prompt of {} and {} the text may outgrow the {made_for} tokens that the model was made for",
            counted(n_prompt as u64, "token"),
            counted(n_new as u64, "new one")
        )
    })
}

impl ModelArgs {
    /// Sets the number of threads, and loads.
    fn load(&self) -> Result<Pretrained> {
        let device = self.prepare()?;
        Place::find(&self.model)?.load(self.precision, device, self.tokenizer.as_deref())
    }

    fn prepare(&self) -> Result<Device> {
        ensure!(self.threads != Some(0), "--threads must be at least 1, got 0");
        let threads = self.threads.map_or_else(environment::cores, usize::from);
        tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
        forerun_tensors::keep_freed_memory(); // the next token needs the same buffers again
        Ok(parse_device(&self.device)?)
    }
}
