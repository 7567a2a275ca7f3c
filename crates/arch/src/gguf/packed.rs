//! Matrices of whole numbers that stay as they are in the file.

use forerun_tensors::kernels::PackedMatrix;
use forerun_tokens::gguf::{Codes, Gguf};
use tch::Tensor;

use crate::error::Result;

/// Weights that share a scale.
const GROUP: i64 = Codes::GROUP as i64;

/// The matrix `name` of `size` = `[out, in]`, if its format is one that packed matrices have too. `order` puts the rows of whatever has
/// them in order.
pub(super) fn packed(
    file: &Gguf,
    name: &str,
    size: [i64; 2],
    order: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<Option<PackedMatrix>> {
    if file.tensor(name).is_none() {
        return Ok(None);
    }
    let groups = [size[0], size[1] / GROUP];
    let floats = |x: &[f32]| order(&Tensor::f_from_slice(x)?.f_view(groups)?);
    Ok(match file.codes(name)? {
        Some(Codes::Four { codes, scale, offset }) => {
            let codes = order(&Tensor::f_from_slice(&codes)?.f_view(size)?)?;
            Some(PackedMatrix::int4(&codes, &floats(&scale)?, &floats(&offset)?, GROUP)?)
        }
        Some(Codes::Eight { codes, scale }) => {
            let codes = order(&Tensor::f_from_slice(&codes)?.f_view(size)?)?;
            Some(PackedMatrix::int8_grouped(&codes, &floats(&scale)?)?)
        }
        None => None,
    })
}

#[cfg(test)]
mod tests;
