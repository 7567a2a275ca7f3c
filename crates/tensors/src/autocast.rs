//! Mixed precision: inside the guard, libtorch runs matrix products in a narrow format.
//!
//! What else it does depends on the device. CUDA widens softmax, norms and most losses to f32; the CPU leaves
//! them in the format of their input (its list is short: `mse_loss` and the like), so code that needs an f32
//! softmax on both says so (`softmax(-1, Kind::Float)`).
//!
//! `tch::autocast` speaks to CUDA only and does not restore its state on a panic; this guard does both.

use std::marker::PhantomData;

use tch::{Device, Kind};

use crate::error::{Result, ensure};
use crate::shim::{self, AutocastState};

/// Autocast on or off for one thread and device type, until the guard is dropped. Guards nest; drop them in
/// the reverse order of their making, as scopes do.
///
/// Weights that were cast are kept until the outermost guard is dropped. Do not run part of a region under
/// `no_grad` and use the same weights with gradients in the rest of it: the cached copy has no history.
/// ([`checkpoint`](crate::checkpoint()) and [`chunked_cross_entropy`](crate::chunked_cross_entropy) look
/// after this themselves.)
#[derive(Debug)]
#[must_use = "autocast ends when the guard is dropped"]
pub struct Autocast {
    device: Device,
    before: AutocastState,
    _on_this_thread: PhantomData<*const ()>,
}

impl Autocast {
    /// Turns autocast to `kind` on for the type of `device`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `kind` is neither bf16 nor f16, or `device` neither the CPU nor CUDA.
    pub fn enable(device: Device, kind: Kind) -> Result<Self> {
        let narrow = matches!(kind, Kind::BFloat16 | Kind::Half);
        ensure(narrow, "autocast kind", "bf16 or f16", format!("{kind:?}"))?;
        let before = AutocastState::get(device)?;
        Self::enter(device, before, AutocastState { enabled: true, ..before.with_kind(kind)? })
    }

    /// Turns autocast off for the type of `device`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `device` is neither the CPU nor CUDA.
    pub fn disable(device: Device) -> Result<Self> {
        let before = AutocastState::get(device)?;
        Self::enter(device, before, AutocastState { enabled: false, ..before })
    }

    /// The format that autocast uses for `device` on this thread now; `None` when it is off.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `device` is neither the CPU nor CUDA.
    pub fn active(device: Device) -> Result<Option<Kind>> {
        let state = AutocastState::get(device)?;
        state.enabled.then(|| state.kind()).transpose()
    }

    /// As it is now, but without keeping cast weights.
    pub(crate) fn uncached(device: Device) -> Result<Self> {
        let before = AutocastState::get(device)?;
        Self::enter(device, before, AutocastState { cache: false, ..before })
    }

    /// As it was when `state` was taken.
    pub(crate) fn resume(device: Device, state: AutocastState) -> Result<Self> {
        Self::enter(device, AutocastState::get(device)?, state)
    }

    fn enter(device: Device, before: AutocastState, state: AutocastState) -> Result<Self> {
        shim::enter_autocast();
        let guard = Self { device, before, _on_this_thread: PhantomData };
        state.set(device)?;
        Ok(guard)
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // The state was read for this device before, so setting it cannot be refused.
        let _ = self.before.set(self.device);
        shim::leave_autocast();
    }
}

#[cfg(test)]
mod tests;
