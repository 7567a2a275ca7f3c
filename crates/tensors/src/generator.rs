//! libtorch's random generators, which drive dropout. They are global to the process, one a device.

use tch::{Device, Tensor};

use crate::error::Result;
use crate::shim;

/// The state of the default generator of `device`: an opaque u8 tensor on the CPU.
///
/// # Errors
/// [`Error::Foreign`](crate::Error::Foreign) if there is no such device.
pub fn generator_state(device: Device) -> Result<Tensor> {
    shim::generator_state(device)
}

/// Puts the default generator of `device` into a state that [`generator_state`] returned.
///
/// # Errors
/// [`Error::Foreign`](crate::Error::Foreign) if there is no such device or `state` is not such a tensor.
pub fn set_generator_state(device: Device, state: &Tensor) -> Result<()> {
    shim::set_generator_state(device, state)
}

/// Seeds the default generators of all devices.
pub fn seed_generator(seed: i64) {
    tch::manual_seed(seed);
}

/// Generator states that are put back on drop, also when a panic unwinds.
pub(crate) struct RestoreGenerators(Vec<(Device, Tensor)>);

impl RestoreGenerators {
    /// Takes down the states of the CPU's generator and of each CUDA device in `devices`.
    pub(crate) fn of(devices: &[Device]) -> Result<Vec<(Device, Tensor)>> {
        let mut wanted = vec![Device::Cpu];
        wanted.extend(devices.iter().filter(|device| device.is_cuda()));
        wanted.dedup();
        wanted.into_iter().map(|device| Ok((device, generator_state(device)?))).collect()
    }

    /// Puts the generators into `states` until the returned guard is dropped.
    pub(crate) fn rewind(states: &[(Device, Tensor)]) -> Result<Self> {
        let now = states.iter().map(|(device, _)| Ok((*device, generator_state(*device)?)));
        let guard = Self(now.collect::<Result<_>>()?);
        for (device, state) in states {
            set_generator_state(*device, state)?;
        }
        Ok(guard)
    }
}

impl Drop for RestoreGenerators {
    fn drop(&mut self) {
        for (device, state) in &self.0 {
            // It was read from this generator a moment ago; nothing is left to do if that fails.
            let _ = set_generator_state(*device, state);
        }
    }
}

#[cfg(test)]
mod tests;
