//! Mean loss over a fixed set of rows, without gradients and without dropout.

use forerun_tensors::token_nll;
use serde::Serialize;
use tch::{Kind, Tensor};

use crate::batch::Batch;
use crate::config::TrainConfig;
use crate::error::Result;
use crate::model::{Model, Pass, Sequences};
use crate::step::{enter, hidden_rows};

/// Rows that a model is evaluated on: the first `n_rows` of `data`.
pub struct EvalSet<'a> {
    /// Where the rows come from; usually not shuffled, and never the training data.
    pub data: &'a mut dyn Sequences,
    /// How many rows are read, each `seq_len + 1` tokens.
    pub n_rows: usize,
}

/// Result of [`evaluate`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evaluated {
    /// Mean negative log-likelihood, nats per token.
    pub loss: f64,
    /// Tokens that were predicted.
    pub n_tokens: u64,
}

/// Mean negative log-likelihood of `model` over `set`, token-weighted, at the sequence length, micro-batch size,
/// chunk size and precision of `config`. Sums are in f64.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the set has no rows; else as the model, the data and libtorch say.
pub fn evaluate(
    model: &dyn Model,
    set: &mut EvalSet<'_>,
    config: &TrainConfig,
) -> Result<Evaluated> {
    crate::error::ensure(set.n_rows > 0, "n_rows", "positive", set.n_rows)?;
    let _no_grad = tch::no_grad_guard();
    let device = model.head().device();
    let mut sum = Tensor::f_zeros([0_i64; 0], (Kind::Double, device))?;
    let mut n_tokens = 0;
    for first in (0..set.n_rows).step_by(config.micro_batch_size) {
        let n = config.micro_batch_size.min(set.n_rows - first);
        let batch = Batch::fetch(set.data, first as u64, n, config.seq_len, device)?;
        sum = sum.f_add(&nll_sum(model, &batch, config)?)?;
        n_tokens += batch.n_targets as u64;
    }
    Ok(Evaluated { loss: sum.f_double_value(&[])? / n_tokens as f64, n_tokens })
}

/// Sum over the counted targets, an f64 scalar on the device.
fn nll_sum(model: &dyn Model, batch: &Batch, config: &TrainConfig) -> Result<Tensor> {
    let _autocast = enter(config.precision, batch.inputs.device())?;
    let hidden = hidden_rows(model, &batch.inputs, Pass::default())?;
    let targets = batch.targets.f_view([-1])?;
    let chunk = config.loss_chunk_tokens;
    let nll = token_nll(&hidden, model.head(), &targets, model.logit_scale(), chunk)?; // [batch * seq], 0 for padding
    Ok(nll.f_sum(Kind::Double)?)
}
