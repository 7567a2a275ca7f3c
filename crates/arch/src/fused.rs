//! A block as one node of the autograd graph, on the CPU: forward and backward written by hand.
//!
//! Op by op, a block of a small model spends more time between its matrix products than in them, and keeps some thirty activations a
//! token and channel. Here the rows of one model after the other, a few sequences at a time so that what they need stays in the
//! cache, go through libtorch's matrix products into memory that is there already, and through the row kernels of
//! [`forerun_tensors::kernels`] between them. Kept for the backward pass are the block's input, the sum after attention (and, where a norm
//! ends the block, the one after the MLP), queries, keys and values before their rotation, the attention's result, what the first matrix of the MLP gave, and the
//! statistics of norms and softmax; the rest is computed again.
//!
//! Under autocast to bf16 the products are in bf16, like what is kept of them; residual stream, norms and softmax are in f32. So are
//! sums over rows, but for the gradient of a weight: of each chunk of rows it is a product, rounded to bf16 and then added in f32.
//! [`Block::forward`](crate::block::Block::forward), which is this op by op, is what it is tested against, and what runs where this does not:
//! on other devices, with dropout, under other masks than the causal one, and with a cache.

mod backward;
mod forward;
mod parts;
mod spec;

use forerun_tensors::{Autocast, Error, Result, custom_function};
use tch::{Device, Kind, Tensor};

use crate::block::Block;
use crate::plan::Plan;
use forward::Kept;
use parts::Parts;
use spec::Spec;

/// The block's output for `x`, `[batch, seq, d_model]`; nothing if this pass has to go op by op.
pub(crate) fn forward(
    block: &Block,
    x: &Tensor,
    plan: &Plan,
    train: bool,
) -> Result<Option<Tensor>> {
    let Some(spec) = Spec::of(block, x, plan, train)? else { return Ok(None) };
    let parts = Parts::of(block);
    let owned: Parts<Tensor> = parts.map(|part| by_member(part, spec.members))?;
    let (result, kept) = {
        let _no_grad = tch::no_grad_guard();
        let _plain = Autocast::disable(Device::Cpu)?; // the casts are made here, by hand
        forward::run(&spec, &owned, &x.f_detach()?)?
    };
    let inputs: Vec<&Tensor> = std::iter::once(x).chain(parts.list()).collect();
    let shapes: Vec<Vec<i64>> = inputs.iter().map(|input| input.size()).collect();
    // What is captured has no history, so that libtorch does not watch it for us.
    let versions = versions(&owned)?;
    let outputs = custom_function(&inputs, vec![result], move |grads| {
        let [d_result] = grads else {
            return Err(Error::Foreign("a block has one output".to_owned()));
        };
        if versions != self::versions(&owned)? {
            let what = "a parameter was changed in place between the forward and the backward pass";
            return Err(Error::Foreign(what.to_owned()));
        }
        gradients(&spec, &owned, &kept, d_result, &shapes)
    })?;
    Ok(outputs.into_iter().next())
}

fn gradients(
    spec: &Spec,
    parts: &Parts<Tensor>,
    kept: &Kept,
    d_result: &Tensor,
    shapes: &[Vec<i64>],
) -> Result<Vec<Option<Tensor>>> {
    let (dx, d_parts) = backward::run(spec, parts, kept, d_result)?;
    let all = std::iter::once(dx).chain(d_parts.list().into_iter().map(Tensor::shallow_clone));
    all.zip(shapes).map(|(grad, shape)| Ok(Some(grad.f_view(shape.as_slice())?))).collect()
}

/// How often each parameter was changed in place.
fn versions(parts: &Parts<Tensor>) -> Result<Vec<i64>> {
    Ok(parts
        .list()
        .into_iter()
        .map(Tensor::f_internal_version)
        .collect::<std::result::Result<_, _>>()?)
}

/// Without history, and with the members of a stack, if only one, before its own shape.
fn by_member(part: &Tensor, members: Option<i64>) -> Result<Tensor> {
    let part = part.f_detach()?.f_contiguous()?;
    match members {
        Some(_) => Ok(part),
        None => Ok(part.f_unsqueeze(0)?),
    }
}

/// Some rows of a matrix.
fn rows(x: &Tensor, at: &std::ops::Range<i64>) -> Result<Tensor> {
    Ok(x.f_narrow(0, at.start, at.end - at.start)?)
}

fn empty(rows: i64, columns: i64, kind: Kind) -> Result<Tensor> {
    Ok(Tensor::f_empty([rows, columns], (kind, Device::Cpu))?)
}

#[cfg(test)]
mod tests;
