//! Everything that decides the course of a training run, checked once before it starts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result, ensure};
use crate::schedule::Schedule;

/// Hyperparameters of a training run. Where a stack is trained they hold for each of its members: `batch_size` counts
/// the sequences of one member, and so on.
///
/// What a run computes depends on this, on the model, on the data and on libtorch's generator, and on nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Tokens that are predicted in one sequence.
    pub seq_len: i64,
    /// Sequences per update, over all micro-batches (and, later, over all ranks).
    pub batch_size: usize,
    /// Sequences per forward and backward pass; divides `batch_size`. Smaller needs less memory and gives the same
    /// gradient up to rounding.
    pub micro_batch_size: usize,
    /// Updates of the whole run.
    pub steps: u64,
    /// AdamW and its peak learning rate.
    pub optimiser: OptimiserConfig,
    /// How the learning rate falls from its peak.
    #[serde(default)]
    pub schedule: Schedule,
    /// Updates over which the learning rate rises linearly to its peak.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Gradients are scaled down to this global norm; absent: they are left alone.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// Precision of the forward and backward passes.
    #[serde(default)]
    pub precision: Precision,
    /// Whether the model keeps few activations and computes the others again in the backward pass: less memory for
    /// about a third more time, and the same gradient up to rounding.
    #[serde(default)]
    pub activation_checkpointing: bool,
    /// Tokens whose logits exist at one time.
    #[serde(default = "loss_chunk_tokens")]
    pub loss_chunk_tokens: i64,
    /// Updates between two evaluations; 0: only one, at the end.
    #[serde(default)]
    pub eval_every: u64,
    /// Updates between two checkpoints; 0: none at all. The end of the run gets one in any other case.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// Newest checkpoints that are kept. The last but one is what a damaged last one falls back to.
    #[serde(default = "keep_checkpoints")]
    pub keep_checkpoints: usize,
    /// Mean loss in nats per token above which the run counts as diverged.
    #[serde(default = "max_loss")]
    pub max_loss: f64,
    /// What the device can do at this precision, in FLOP per second; gives model FLOP utilisation.
    #[serde(default)]
    pub peak_flops: Option<f64>,
}

/// Hyperparameters of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, as in PyTorch: the decay is scaled by the
/// learning rate). Defaults of a file are those of Brown et al. 2020, arXiv:2005.14165, appendix B.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    /// Peak learning rate; a parameter's own multiplier comes on top.
    pub lr: f64,
    /// Decay of the first moment.
    #[serde(default = "beta1")]
    pub beta1: f64,
    /// Decay of the second moment.
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// Added to the root of the second moment.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Decoupled weight decay of matrices.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Whether norms, biases and embeddings decay too.
    #[serde(default)]
    pub decay_norms_biases_embeddings: bool,
}

/// Precision of the forward and backward passes. Weights, gradients and moments are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// Matrix products in bfloat16 under libtorch's autocast.
    Bf16,
}

fn loss_chunk_tokens() -> i64 {
    1024
}
fn keep_checkpoints() -> usize {
    2
}
/// Far above the loss of a uniform guess over any vocabulary (12.5 nats at 256 k tokens).
fn max_loss() -> f64 {
    30.0
}
fn beta1() -> f64 {
    0.9
}
fn beta2() -> f64 {
    0.95
}
fn eps() -> f64 {
    1e-8
}
fn weight_decay() -> f64 {
    0.1
}

impl TrainConfig {
    /// Checks every field and the rules between them.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        ensure(self.seq_len > 0, "seq_len", "positive", self.seq_len)?;
        ensure(self.batch_size > 0, "batch_size", "positive", self.batch_size)?;
        let whole = self.batch_size.is_multiple_of(self.micro_batch_size);
        let want = format!("a divisor of batch_size ({})", self.batch_size);
        ensure(whole, "micro_batch_size", want, self.micro_batch_size)?;
        ensure(self.steps > 0, "steps", "positive", self.steps)?;
        self.optimiser.validate()?;
        self.schedule.validate(self.warmup_steps, self.steps)?;
        positive_if_given("clip_norm", self.clip_norm)?;
        ensure(
            self.loss_chunk_tokens > 0,
            "loss_chunk_tokens",
            "positive",
            self.loss_chunk_tokens,
        )?;
        ensure(self.keep_checkpoints > 0, "keep_checkpoints", "positive", self.keep_checkpoints)?;
        positive_if_given("max_loss", Some(self.max_loss))?;
        positive_if_given("peak_flops", self.peak_flops)
    }

    /// Learning rate of the update that follows `step` updates.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.optimiser.lr * self.schedule.fraction(step, self.warmup_steps, self.steps)
    }

    /// The fields that decide what the run computes, by dotted path; those that only decide what is kept or shown
    /// are left out, and may change between a checkpoint and its resumption.
    pub(crate) fn fields(&self) -> Result<BTreeMap<String, Value>> {
        let value = serde_json::to_value(self).map_err(|error| Error::Config {
            field: "config",
            want: "representable as JSON".to_owned(),
            got: error.to_string(),
        })?;
        let mut fields = BTreeMap::new();
        flatten(String::new(), value, &mut fields);
        for free in ["checkpoint_every", "keep_checkpoints", "peak_flops"] {
            fields.remove(free);
        }
        Ok(fields)
    }
}

impl OptimiserConfig {
    /// The defaults of [`OptimiserConfig`] with a peak learning rate.
    pub fn with_lr(lr: f64) -> Self {
        Self {
            lr,
            beta1: beta1(),
            beta2: beta2(),
            eps: eps(),
            weight_decay: weight_decay(),
            decay_norms_biases_embeddings: false,
        }
    }

    fn validate(&self) -> Result<()> {
        let (lr, eps, decay) = (self.lr, self.eps, self.weight_decay);
        ensure(lr > 0.0 && lr.is_finite(), "optimiser.lr", "finite and above 0", lr)?;
        for (field, beta) in [("optimiser.beta1", self.beta1), ("optimiser.beta2", self.beta2)] {
            ensure((0.0..1.0).contains(&beta), field, "at least 0 and below 1", beta)?;
        }
        ensure(eps > 0.0 && eps.is_finite(), "optimiser.eps", "finite and above 0", eps)?;
        let sound = decay >= 0.0 && decay.is_finite();
        ensure(sound, "optimiser.weight_decay", "finite and at least 0", decay)
    }
}

fn positive_if_given(field: &'static str, value: Option<f64>) -> Result<()> {
    match value {
        Some(value) => ensure(value > 0.0 && value.is_finite(), field, "finite and above 0", value),
        None => Ok(()),
    }
}

fn flatten(path: String, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                flatten(path, value, into);
            }
        }
        leaf => {
            into.insert(path, leaf);
        }
    }
}

#[cfg(test)]
mod tests;
