//! Random tensors from a seeded Rust generator, so that a model is a function of its seed alone: libtorch's
//! generator is global to the process and differs between devices.
//!
//! Numbers are drawn in f32 on the CPU, in row-major order, then moved.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result, ensure};

/// Normal numbers with mean 0 and standard deviation `std`, f32 of `shape`.
///
/// # Errors
/// [`Error::Config`] if `std` is negative or not finite or `shape` is negative or too large.
pub fn normal(
    shape: &[i64],
    std: f64,
    rng: &mut (impl Rng + ?Sized),
    device: Device,
) -> Result<Tensor> {
    ensure(std.is_finite() && std >= 0.0, "std", "finite and not negative", std)?;
    let std = std as f32;
    filled(shape, device, || {
        let unit: f32 = StandardNormal.sample(rng);
        std * unit
    })
}

/// Numbers spread evenly over `[-bound, bound)`, f32 of `shape`.
///
/// # Errors
/// [`Error::Config`] if `bound` is negative or not finite or `shape` is negative or too large.
pub fn uniform(
    shape: &[i64],
    bound: f64,
    rng: &mut (impl Rng + ?Sized),
    device: Device,
) -> Result<Tensor> {
    ensure(bound.is_finite() && bound >= 0.0, "bound", "finite and not negative", bound)?;
    let bound = bound as f32;
    filled(shape, device, || bound * (2.0 * rng.random::<f32>() - 1.0))
}

/// Normal numbers with standard deviation `gain * sqrt(2 / (in + out))`, f32 of `shape` = `[out, in]`.
///
/// Glorot and Bengio 2010, *Understanding the difficulty of training deep feedforward neural networks*.
///
/// # Errors
/// [`Error::Shape`] unless `shape` has two positive sizes; [`Error::Config`] if `gain` is negative or not finite.
pub fn xavier_normal(
    shape: &[i64],
    gain: f64,
    rng: &mut (impl Rng + ?Sized),
    device: Device,
) -> Result<Tensor> {
    let &[fan_out @ 1..=i64::MAX, fan_in @ 1..=i64::MAX] = shape else {
        return Err(Error::Shape {
            arg: "shape",
            want: "[out, in]".to_owned(),
            got: shape.to_vec(),
        });
    };
    ensure(gain.is_finite() && gain >= 0.0, "gain", "finite and not negative", gain)?;
    normal(shape, gain * (2.0 / (fan_in as f64 + fan_out as f64)).sqrt(), rng, device)
}

/// Numbers that are drawn at a time: what is held besides the tensor itself.
const DRAWN: usize = 1 << 18;

/// The tensor is libtorch's from the start, so that too little memory is an error and not an abort.
fn filled(shape: &[i64], device: Device, mut draw: impl FnMut() -> f32) -> Result<Tensor> {
    let count = shape
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(usize::try_from(size).ok()?))
        .filter(|&count| count <= isize::MAX as usize / size_of::<f32>());
    let Some(count) = count else {
        let want = "sizes that are not negative and fit in memory".to_owned();
        return Err(Error::Config { field: "shape".to_owned(), want, got: format!("{shape:?}") });
    };
    let flat = Tensor::f_empty([count as i64], (Kind::Float, Device::Cpu))?;
    let mut numbers = Vec::with_capacity(DRAWN.min(count));
    for first in (0..count).step_by(DRAWN) {
        numbers.clear();
        numbers.extend(std::iter::repeat_with(&mut draw).take(DRAWN.min(count - first)));
        let part = Tensor::f_from_slice(&numbers)?;
        flat.f_narrow(0, first as i64, numbers.len() as i64)?.f_copy_(&part)?;
    }
    Ok(flat.f_view(shape)?.f_to_device(device)?)
}

#[cfg(test)]
mod tests;
