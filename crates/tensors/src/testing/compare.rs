//! Two tensors, number by number.

use std::fmt;

use tch::{Device, Kind, Tensor};

use super::{Tolerance, is_float};
use crate::error::{Error, Result};

/// The outcome of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The largest `|actual - expected| / (atol + rtol * |expected|)`. Up to 1 is agreement. Infinite where one
    /// is NaN and the other not, where infinities differ, and where an exact number does.
    pub max_error_over_tolerance: f64,
    /// The largest absolute difference.
    pub max_abs_error: f64,
    /// Where the first of these is, row by row, with what was there and what should be.
    pub worst: Option<Worst>,
    /// How many numbers were compared.
    pub n_elements: usize,
}

/// The number that agrees least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// Its place in the flattened tensor.
    pub index: usize,
    /// What was computed.
    pub actual: f64,
    /// What the reference says.
    pub expected: f64,
}

impl Comparison {
    /// Whether every number is within its tolerance.
    pub fn agrees(&self) -> bool {
        self.max_error_over_tolerance <= 1.0
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { max_error_over_tolerance, max_abs_error, n_elements, .. } = self;
        write!(formatter, "{n_elements} numbers, largest error {max_abs_error:.2e}")?;
        write!(formatter, ", {max_error_over_tolerance:.3} of the tolerance")?;
        if let Some(Worst { index, actual, expected }) = self.worst {
            write!(formatter, " (at {index}: {actual:e}, expected {expected:e})")?;
        }
        Ok(())
    }
}

/// Compares `actual` with `expected`, of one shape; kinds may differ (a bool with the u8 of a golden file, bf16
/// with f32). Integers and booleans are compared exactly if both are such, whatever the tolerance.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ.
pub fn compare(actual: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<Comparison> {
    if actual.size() != expected.size() {
        let want = format!("{:?}", expected.size());
        return Err(Error::Shape { arg: "actual", want, got: actual.size() });
    }
    if is_float(actual.f_kind()?) || is_float(expected.f_kind()?) {
        let numbers = numbers::<f64>(actual, Kind::Double)?;
        let pairs = numbers.into_iter().zip(self::numbers::<f64>(expected, Kind::Double)?);
        return Ok(worst_of(pairs.map(|(a, b)| (a, b, error_over_tolerance(a, b, tolerance)))));
    }
    // Not by way of f64, in which large integers coincide.
    let numbers = numbers::<i64>(actual, Kind::Int64)?;
    let pairs = numbers.into_iter().zip(self::numbers::<i64>(expected, Kind::Int64)?);
    let exact = |(a, b)| (a as f64, b as f64, if a == b { 0.0 } else { f64::INFINITY });
    Ok(worst_of(pairs.map(exact)))
}

fn error_over_tolerance(actual: f64, expected: f64, tolerance: Tolerance) -> f64 {
    if actual == expected || (actual.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let bound = tolerance.atol + tolerance.rtol * expected.abs();
    let ratio = (actual - expected).abs() / bound;
    // An infinity on one side, or a NaN: not within any tolerance.
    if ratio.is_nan() || !actual.is_finite() || !expected.is_finite() {
        f64::INFINITY
    } else {
        ratio
    }
}

fn worst_of(triples: impl Iterator<Item = (f64, f64, f64)>) -> Comparison {
    let mut found = Comparison {
        max_error_over_tolerance: 0.0,
        max_abs_error: 0.0,
        worst: None,
        n_elements: 0,
    };
    for (index, (actual, expected, ratio)) in triples.enumerate() {
        found.n_elements += 1;
        let difference = (actual - expected).abs();
        // Two equal infinities or two NaNs have no difference; a lone NaN has the largest.
        let difference = if ratio == 0.0 {
            0.0
        } else if difference.is_nan() {
            f64::INFINITY
        } else {
            difference
        };
        found.max_abs_error = found.max_abs_error.max(difference);
        if ratio > found.max_error_over_tolerance {
            found.max_error_over_tolerance = ratio;
            found.worst = Some(Worst { index, actual, expected });
        }
    }
    found
}

fn numbers<T: tch::kind::Element + Copy + Default>(tensor: &Tensor, kind: Kind) -> Result<Vec<T>> {
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?;
    let mut numbers = vec![T::default(); flat.numel()];
    flat.f_copy_data(&mut numbers, flat.numel())?;
    Ok(numbers)
}
