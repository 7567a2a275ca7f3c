//! Gradients of one update: micro-batches that add up to the token-weighted mean, and their global norm.

use forerun_tensors::{Autocast, backward, chunked_cross_entropy, global_norm};
use tch::{Device, Kind, Tensor};

use crate::batch::Batch;
use crate::config::{Precision, TrainConfig};
use crate::error::{Error, Result};
use crate::model::{Model, Pass};

/// Adds the gradient of the mean loss over `batch` to the parameters, one micro-batch at a time, and returns that
/// loss: a detached f32 scalar, in nats per token, still on the device.
///
/// Every token counts the same, however unevenly the targets lie over the micro-batches.
///
/// # Errors
/// [`Error::Caller`] if the model fails, [`Error::Tensors`] if libtorch does.
pub fn accumulate_gradients(
    model: &dyn Model,
    batch: &Batch,
    config: &TrainConfig,
) -> Result<Tensor> {
    let share = 1.0 / batch.n_targets as f64;
    let mut mean: Option<Tensor> = None;
    for (inputs, targets) in batch.pieces(config.micro_batch_size)? {
        let part = {
            let _autocast = enter(config.precision, inputs.device())?;
            let activation_checkpointing = config.activation_checkpointing;
            let pass = Pass { train: true, activation_checkpointing };
            let hidden = hidden_rows(model, &inputs, pass)?; // [batch * seq, d_model]
            let targets = targets.f_view([-1])?;
            let chunk = config.loss_chunk_tokens;
            chunked_cross_entropy(&hidden, model.head(), &targets, model.logit_scale(), chunk)?
        };
        let part = part.f_mul_scalar(share)?;
        backward(&part)?;
        let part = part.f_detach()?;
        mean = Some(match mean {
            Some(sum) => sum.f_add(&part)?,
            None => part,
        });
    }
    Ok(mean.unwrap_or_default())
}

/// Scales `gradients` in place so that their global norm is at most `max_norm`, and returns the norm that they had:
/// an f32 scalar, still on the device.
///
/// The factor is PyTorch's, `min(1, max_norm / (norm + 1e-6))`. On a GPU nothing is read back, so the host never
/// waits; on the CPU, where reading is free, gradients within the bound are not touched.
///
/// # Errors
/// [`Error::Tensors`] if libtorch refuses.
pub fn clip_gradients(gradients: &mut [Tensor], max_norm: Option<f64>) -> Result<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let norm = global_norm(&gradients.iter().collect::<Vec<_>>())?;
    let Some(max_norm) = max_norm else { return Ok(norm) };
    if norm.device() == Device::Cpu && norm.f_double_value(&[])? + 1e-6 <= max_norm {
        return Ok(norm);
    }
    let factor =
        norm.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(max_norm)?.f_clamp_max(1.0)?;
    for gradient in gradients {
        let _ = gradient.f_mul_(&factor)?;
    }
    Ok(norm)
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
