//! Gradients of one update: micro-batches that add up to the token-weighted mean, and their global norm.

use forerun_tensors::{Autocast, backward};
use tch::{Device, Kind, Tensor};

use crate::batch::Batch;
use crate::config::{Precision, TrainConfig};
use crate::error::{Error, Result};
use crate::members::{Members, read};
use crate::model::{Model, Pass};

/// Adds the gradient of the mean loss over `batch` to the parameters, one micro-batch at a time, and returns that
/// loss, in nats per token: detached, f32 `[members]`, one number for a single model, still on the device.
///
/// Every token of a member counts the same, however unevenly the targets lie over the micro-batches. Each member of
/// a stack has the gradient of its own loss.
///
/// # Errors
/// [`Error::Caller`] if the model fails, [`Error::Tensors`] if libtorch does.
pub fn accumulate_gradients(
    model: &dyn Model,
    batch: &Batch,
    config: &TrainConfig,
) -> Result<Tensor> {
    let members = Members::of(model);
    let shares: Vec<f32> = batch.n_targets.iter().map(|&n| (1.0 / n as f64) as f32).collect();
    let shares = Tensor::f_from_slice(&shares)?.f_to_device(batch.inputs.device())?;
    let mut mean: Option<Tensor> = None;
    for (inputs, targets) in batch.pieces(config.micro_batch_size)? {
        let part = {
            let _autocast = enter(config.precision, inputs.device())?;
            let activation_checkpointing = config.activation_checkpointing;
            let pass = Pass { train: true, activation_checkpointing };
            let hidden = hidden_rows(model, &inputs, pass)?; // [members * batch * seq, d_model]
            members.loss_sums(model, &hidden, &targets.f_view([-1])?, config.loss_chunk_tokens)?
        };
        let part = part.f_mul(&shares)?; // [members]
        backward(&part.f_sum(None)?)?;
        let part = part.f_detach()?;
        mean = Some(match mean {
            Some(sum) => sum.f_add(&part)?,
            None => part,
        });
    }
    Ok(mean.unwrap_or_default())
}

/// Scales the `gradients` of a single model in place so that their global norm is at most `max_norm`, and returns the
/// norm that they had.
///
/// The factor is PyTorch's, `min(1, max_norm / (norm + 1e-6))`. Gradients within the bound are not touched.
///
/// # Errors
/// [`Error::Tensors`] if libtorch refuses.
pub fn clip_gradients(gradients: &mut [Tensor], max_norm: Option<f64>) -> Result<f64> {
    let norms = clip_members(Members::Single, gradients, max_norm)?;
    Ok(norms.first().copied().unwrap_or(f64::NAN))
}

/// As [`clip_gradients`], for each of `members` by itself; returns the norm of each. The only time that an update
/// waits for the device.
pub(crate) fn clip_members(
    members: Members,
    gradients: &mut [Tensor],
    max_norm: Option<f64>,
) -> Result<Vec<f64>> {
    let _no_grad = tch::no_grad_guard();
    let norms = read(&members.norms(gradients)?)?;
    let Some(max_norm) = max_norm else { return Ok(norms) };
    // One for whoever is within the bound, also where another member is not: that changes no bit.
    let factor = |&norm: &f64| {
        let within = norm + 1e-6 <= max_norm;
        if within { 1.0 } else { (max_norm as f32 / (norm as f32 + 1e-6)).min(1.0) }
    };
    let factors: Vec<f32> = norms.iter().map(factor).collect();
    if factors.iter().any(|&factor| factor != 1.0) {
        members.scale(gradients, &factors)?;
    }
    Ok(norms)
}

/// Hidden states of `inputs`, i64 `[batch, seq]`, as one row per token: `[batch * seq, d_model]`.
pub(crate) fn hidden_rows(model: &dyn Model, inputs: &Tensor, pass: Pass) -> Result<Tensor> {
    let hidden = model.hidden(inputs, pass).map_err(Error::model)?;
    let d_model = model.head().size().last().copied().unwrap_or(0);
    let want = [inputs.size(), vec![d_model]].concat();
    if hidden.size() != want {
        let got = hidden.size();
        let reason = format!("hidden states must have shape {want:?}, got {got:?}");
        return Err(Error::model(reason.into()));
    }
    Ok(hidden.f_reshape([-1, d_model])?)
}

/// Autocast for as long as the result lives.
pub(crate) fn enter(precision: Precision, device: Device) -> Result<Option<Autocast>> {
    Ok(match precision {
        Precision::F32 => None,
        Precision::Bf16 => Some(Autocast::enable(device, Kind::BFloat16)?),
    })
}

#[cfg(test)]
mod tests;
