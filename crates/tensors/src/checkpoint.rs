//! Activation checkpointing: time for memory. Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*,
//! arXiv:1604.06174.

use std::slice;

use tch::{Device, Tensor};

use crate::autocast::Autocast;
use crate::error::{Error, Result};
use crate::generator::RestoreGenerators;
use crate::shim::{self, AutocastState, GradMode};

/// Computes `f(inputs)` without keeping its activations, and computes it again in the backward pass.
///
/// The second run sees the generator and autocast states of the first, so dropout draws the same mask; the
/// generators are put back afterwards. Gradients flow to `inputs` and, added to their `grad()`, to the leaves
/// that `f` captures (its parameters). `f` must not capture the result of other recorded operations: their
/// graph would be run through, and freed, once for each checkpoint. Checkpoints nest.
///
/// When gradients are off, `f` simply runs. Otherwise the result requires a gradient even if no input does.
/// What [`custom_function`](crate::custom_function()) says of errors, panics, kept graphs and second derivatives
/// holds here too. Gradients that come through `Tensor::run_backward` with a list of leaves miss the captured
/// ones; use [`backward`](crate::backward()).
///
/// # Errors
/// What `f` returns; [`Error::Foreign`] if its result is not of a floating-point kind.
pub fn checkpoint(
    inputs: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor> + Send + 'static,
) -> Result<Tensor> {
    let plain: Vec<Tensor> = inputs.iter().map(|input| input.shallow_clone()).collect();
    if !shim::grad_enabled() {
        return f(&plain);
    }
    let devices: Vec<Device> = inputs.iter().map(|input| input.device()).collect();
    let generators = RestoreGenerators::of(&devices)?;
    let autocast = Surroundings::here(&devices)?;
    let output = {
        let _no_graph = GradMode::set(false);
        let _no_copies_without_history = autocast.uncached()?;
        f(&plain)?
    };
    let needs_grad: Vec<bool> = plain.iter().map(Tensor::requires_grad).collect();
    let plain = plain.iter().map(Tensor::f_detach).collect::<Result<Vec<_>, _>>()?;
    let versions = versions(&plain)?;
    let backward = move |grads: &[Tensor]| {
        if self::versions(&plain)? != versions {
            return Err(Error::Foreign("an input of a checkpoint was changed in place".to_owned()));
        }
        let leaves = leaves(&plain, &needs_grad)?;
        let again = {
            let _as_then = RestoreGenerators::rewind(&generators)?;
            let _precision = autocast.resume()?;
            let _record = GradMode::set(true);
            f(&leaves)?
        };
        let [grad] = grads else {
            return Err(Error::Foreign("a checkpoint has one output".to_owned()));
        };
        if again.requires_grad() {
            shim::backward(&again, Some(grad))?;
        }
        let gradient = |(leaf, &needed): (&Tensor, &bool)| {
            let grad = needed.then(|| leaf.f_grad()).transpose()?;
            Ok(grad.filter(Tensor::defined))
        };
        leaves.iter().zip(&needs_grad).map(gradient).collect()
    };
    let outputs =
        shim::custom_function(inputs, slice::from_ref(&output), true, Box::new(backward))?;
    outputs
        .into_iter()
        .next()
        .ok_or_else(|| Error::Foreign("a checkpoint has one output".to_owned()))
}

/// Fresh leaves over the inputs' memory, whose gradients are the inputs'.
fn leaves(plain: &[Tensor], needs_grad: &[bool]) -> Result<Vec<Tensor>> {
    let leaf = |(tensor, &needed): (&Tensor, &bool)| {
        let leaf = tensor.f_detach()?;
        Ok(if needed { leaf.f_set_requires_grad(true)? } else { leaf })
    };
    plain.iter().zip(needs_grad).map(leaf).collect()
}

/// How often each tensor was changed in place.
fn versions(tensors: &[Tensor]) -> Result<Vec<i64>> {
    tensors.iter().map(|tensor| Ok(tensor.f_internal_version()?)).collect()
}

/// The autocast states of the device types that a computation may touch.
struct Surroundings(Vec<(Device, AutocastState)>);

impl Surroundings {
    fn here(devices: &[Device]) -> Result<Self> {
        let mut wanted = vec![Device::Cpu];
        wanted.extend(devices.iter().find(|device| device.is_cuda()));
        let state = |device| Ok((device, AutocastState::get(device)?));
        Ok(Self(wanted.into_iter().map(state).collect::<Result<_>>()?))
    }

    /// As it is now, but casts made without a graph are not kept for those who need one.
    fn uncached(&self) -> Result<Guards> {
        let mut guards = Guards { list: Vec::new(), own_cache: false };
        for &(device, _) in &self.0 {
            guards.list.push(Autocast::uncached(device)?);
        }
        Ok(guards)
    }

    /// As it was then. Casts kept from other runs belong to other graphs, and ours to none but this one.
    fn resume(&self) -> Result<Guards> {
        shim::clear_autocast_cache();
        let mut guards = Guards { list: Vec::new(), own_cache: true };
        for &(device, state) in &self.0 {
            guards.list.push(Autocast::resume(device, state)?);
        }
        Ok(guards)
    }
}

/// Undone last first: whether casts are kept is one flag for all device types.
struct Guards {
    list: Vec<Autocast>,
    own_cache: bool,
}

impl Drop for Guards {
    fn drop(&mut self) {
        while self.list.pop().is_some() {}
        if self.own_cache {
            shim::clear_autocast_cache();
        }
    }
}

#[cfg(test)]
mod tests;
