//! Mean loss over a fixed set of rows, without gradients and without dropout.

use serde::Serialize;
use tch::{Kind, Tensor};

use crate::batch::Batch;
use crate::config::TrainConfig;
use crate::error::{Error, Result, ensure};
use crate::members::{Members, read};
use crate::model::{Model, Pass, Sequences};
use crate::step::{enter, hidden_rows};

/// Rows that a model is evaluated on: the first `n_rows` of `data`.
pub struct EvalSet<'a> {
    /// Where the rows come from; usually not shuffled, and never the training data.
    pub data: &'a mut dyn Sequences,
    /// How many rows are read, each `seq_len + 1` tokens.
    pub n_rows: usize,
}

/// Result of [`evaluate`], for one model.
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
/// [`Error::Config`](crate::Error::Config) if the set has no rows or the model is a stack; else as the model, the data
/// and libtorch say.
pub fn evaluate(
    model: &dyn Model,
    set: &mut EvalSet<'_>,
    config: &TrainConfig,
) -> Result<Evaluated> {
    Members::of(model).ensure_single()?;
    let evaluated = evaluate_stack(model, set, config)?;
    evaluated.into_iter().next().ok_or_else(|| Error::model("a model without members".into()))
}

/// As [`evaluate`] for each member of a stack, in order, all on the same rows; for a single model one result.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if the set has no rows; else as the model, the data and libtorch say.
pub fn evaluate_stack(
    model: &dyn Model,
    set: &mut EvalSet<'_>,
    config: &TrainConfig,
) -> Result<Vec<Evaluated>> {
    ensure(set.n_rows > 0, "n_rows", "positive", set.n_rows)?;
    let _no_grad = tch::no_grad_guard();
    let (members, device) = (Members::of(model), model.head().device());
    let mut sums = Tensor::f_zeros([members.count()], (Kind::Double, device))?;
    let mut n_tokens = 0;
    for first in (0..set.n_rows).step_by(config.micro_batch_size) {
        let n = config.micro_batch_size.min(set.n_rows - first);
        let batch = Batch::fetch(set.data, first as u64, n, config.seq_len, device)?;
        sums = sums.f_add(&nll_sums(model, members, &batch, config)?)?;
        n_tokens += batch.n_targets.iter().sum::<i64>() as u64;
    }
    let evaluated = |sum: f64| Evaluated { loss: sum / n_tokens as f64, n_tokens };
    Ok(read(&sums)?.into_iter().map(evaluated).collect())
}

/// Sum over the counted targets for each member, f64 `[members]` on the device.
fn nll_sums(
    model: &dyn Model,
    members: Members,
    batch: &Batch,
    config: &TrainConfig,
) -> Result<Tensor> {
    let _autocast = enter(config.precision, batch.inputs.device())?;
    let inputs = batch.inputs.f_repeat([members.count(), 1])?;
    let hidden = hidden_rows(model, &inputs, Pass::default())?;
    members.nll_sums(model, &hidden, &batch.targets.f_view([-1])?, config.loss_chunk_tokens)
}
