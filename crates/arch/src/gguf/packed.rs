//! Matrices of 4 bits that stay as they are in the file.

use forerun_tensors::kernels::PackedMatrix;
use forerun_tokens::gguf::{GgmlType, Gguf};
use tch::{Kind, Tensor};

use crate::error::Result;

/// Weights that share a scale.
const GROUP: usize = 32;

/// Codes and what they mean: a weight is `scale * code + offset`.
struct Blocks {
    /// u8 `[out, in]`.
    codes: Tensor,
    /// f32 `[out, in / 32]`.
    scale: Tensor,
    /// As `scale`.
    offset: Tensor,
}

/// The matrix `name` of `size` = `[out, in]`, if its format is one that packed matrices have too. `order` puts the rows of whatever has
/// them in order.
pub(super) fn packed(
    file: &Gguf,
    name: &str,
    size: [i64; 2],
    order: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<Option<PackedMatrix>> {
    let Some(info) = file.tensor(name) else { return Ok(None) };
    let blocks = match info.kind {
        GgmlType::Q4_0 => q4_0(file.bytes(name)?, size)?,
        GgmlType::Q4_1 => q4_1(file.bytes(name)?, size)?,
        _ => return Ok(None),
    };
    let Blocks { codes, scale, offset } = blocks;
    let [codes, scale, offset] = [order(&codes)?, order(&scale)?, order(&offset)?];
    Ok(Some(PackedMatrix::int4(&codes, &scale, &offset, GROUP as i64)?))
}

/// Blocks of a scale in f16 and 16 bytes; a weight is `scale * (code - 8)`.
fn q4_0(bytes: &[u8], size: [i64; 2]) -> Result<Blocks> {
    let (blocks, _) = bytes.as_chunks::<18>();
    let scale = halves(blocks.iter().map(|block| [block[0], block[1]]), size)?;
    let offset = scale.f_mul_scalar(-8.0)?;
    Ok(Blocks { codes: codes(blocks.iter().map(|block| &block[2..]), size)?, scale, offset })
}

/// Blocks of a scale and an offset in f16, and 16 bytes.
fn q4_1(bytes: &[u8], size: [i64; 2]) -> Result<Blocks> {
    let (blocks, _) = bytes.as_chunks::<20>();
    Ok(Blocks {
        codes: codes(blocks.iter().map(|block| &block[4..]), size)?,
        scale: halves(blocks.iter().map(|block| [block[0], block[1]]), size)?,
        offset: halves(blocks.iter().map(|block| [block[2], block[3]]), size)?,
    })
}

/// The lower halves of a block's bytes are its first 16 codes, the upper halves the others.
fn codes<'a>(blocks: impl Iterator<Item = &'a [u8]>, [out, columns]: [i64; 2]) -> Result<Tensor> {
    let mut codes = Vec::with_capacity((out * columns) as usize);
    for block in blocks {
        codes.extend(block.iter().map(|byte| byte & 15));
        codes.extend(block.iter().map(|byte| byte >> 4));
    }
    Ok(Tensor::f_from_slice(&codes)?.f_view([out, columns])?)
}

/// Numbers in f16, one a block.
fn halves(numbers: impl Iterator<Item = [u8; 2]>, [out, columns]: [i64; 2]) -> Result<Tensor> {
    let bytes: Vec<u8> = numbers.flatten().collect();
    let size = [out, columns / GROUP as i64];
    Ok(Tensor::f_from_data_size(&bytes, &size, Kind::Half)?.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests;
