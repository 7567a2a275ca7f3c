//! What a linear map's inputs look like: the sums of the products of each two of their channels.

use forerun_tensors::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// `Σ x xᵀ` over the rows `x` that a linear map was given: up to a factor, the second derivative of the squared error of
/// its outputs with respect to a row of its weights.
#[derive(Debug)]
pub struct Hessian {
    /// f32 `[in, in]`.
    sum: Tensor,
    rows: i64,
}

impl Hessian {
    /// Of no inputs yet, of so many channels.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Tch`] if there is no memory for it, 4 bytes for each pair of channels.
    pub fn new(channels: i64) -> Result<Self> {
        let sum = Tensor::f_zeros([channels, channels], (Kind::Float, Device::Cpu))?;
        Ok(Self { sum, rows: 0 })
    }

    /// Adds the rows of `x`, `[.., in]`.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] if it has another number of channels.
    pub fn add(&mut self, x: &Tensor) -> Result<()> {
        let channels = self.channels();
        let last = x.size().last().copied().unwrap_or(0);
        ensure(last == channels, "channels of x", &channels.to_string(), last)?;
        let rows = x.f_detach()?.f_reshape([-1, channels])?.f_to_kind(Kind::Float)?;
        let _ = self.sum.f_addmm_(&rows.f_transpose(0, 1)?, &rows)?;
        self.rows += rows.size2()?.0;
        Ok(())
    }

    /// How many inputs it has seen.
    pub fn rows(&self) -> i64 {
        self.rows
    }

    /// Channels of the inputs.
    pub fn channels(&self) -> i64 {
        self.sum.size().first().copied().unwrap_or(0)
    }

    /// A copy of what it knows so far.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Tch`] if there is no memory for it.
    pub fn copy(&self) -> Result<Self> {
        Ok(Self { sum: self.sum.f_detach_copy()?, rows: self.rows })
    }

    /// The mean of `x xᵀ`, f64 `[in, in]`.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] if it has seen nothing.
    pub fn mean(&self) -> Result<Tensor> {
        ensure(self.rows > 0, "calibration rows", "at least one", self.rows)?;
        Ok(self.sum.f_to_kind(Kind::Double)?.f_div_scalar(self.rows)?)
    }
}
