//! Devices and number formats from text.

use tch::{Cuda, Device, Kind};

use crate::error::{Error, Result};

/// Version of the libtorch that this was built against, from its header: `2.13.0`.
pub const LIBTORCH_VERSION: &str = env!("FORERUN_LIBTORCH_VERSION");

/// Reads a device: `cpu`, `cuda` (the first one) or `cuda:N`.
///
/// # Errors
/// [`Error::Config`] if the text is something else, or names a CUDA device that this libtorch does not see.
pub fn parse_device(text: &str) -> Result<Device> {
    let index = match text.split_once(':') {
        None if text == "cpu" => return Ok(Device::Cpu),
        None if text == "cuda" => Some(0),
        Some(("cuda", index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => {
            index.parse::<usize>().ok()
        }
        _ => None,
    };
    let Some(index) = index else { return refused("cpu, cuda or cuda:N", text) };
    let count = Cuda::device_count();
    if count == 0 {
        return refused("cpu, because libtorch finds no CUDA device here", text);
    }
    if index as u64 >= count as u64 {
        return refused(&format!("at most cuda:{}", count - 1), text);
    }
    Ok(Device::Cuda(index))
}

/// Reads a floating-point format: `f32`, `bf16`, `f16` or `f64`, or the long form (`float32`, `bfloat16`, …).
///
/// # Errors
/// [`Error::Config`] if the text is something else.
pub fn parse_kind(text: &str) -> Result<Kind> {
    Ok(match text {
        "f32" | "float32" => Kind::Float,
        "bf16" | "bfloat16" => Kind::BFloat16,
        "f16" | "float16" => Kind::Half,
        "f64" | "float64" => Kind::Double,
        _ => {
            let want = "f32, bf16, f16 or f64".to_owned();
            return Err(Error::Config { field: "kind".to_owned(), want, got: quoted(text) });
        }
    })
}

fn refused(want: &str, got: &str) -> Result<Device> {
    Err(Error::Config { field: "device".to_owned(), want: want.to_owned(), got: quoted(got) })
}

fn quoted(text: &str) -> String {
    format!("`{text}`")
}

#[cfg(test)]
mod tests;
