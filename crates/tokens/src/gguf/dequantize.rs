//! Whole tensors to plain floats, on all cores.

use rayon::prelude::*;

use super::blocks;
use super::kind::GgmlType;
use crate::error::{Result, ensure};

/// Values that one task makes: a multiple of every block, large enough to be worth a task.
const TASK_VALUES: usize = 1 << 16;

/// Turns blocks of `kind` into values, as llama.cpp does it. Both lie in row-major order; a row is
/// a whole number of blocks, so any run of rows can be taken alone.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if `out` is no whole number of blocks, or `bytes` are
/// not those of as many.
pub fn dequantize(kind: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    let block = kind.block_values();
    let whole = format!("whole {kind} blocks of {block} values");
    ensure(out.len().is_multiple_of(block), "out", whole, out.len())?;
    let n_bytes = out.len() / block * kind.block_bytes();
    ensure(bytes.len() == n_bytes, "bytes", format!("{n_bytes} of {kind}"), bytes.len())?;
    match kind {
        GgmlType::F32 => each_block(bytes, out, blocks::f32),
        GgmlType::F16 => each_block(bytes, out, blocks::f16),
        GgmlType::Bf16 => each_block(bytes, out, blocks::bf16),
        GgmlType::Q8_0 => each_block(bytes, out, blocks::q8_0),
        GgmlType::Q4_0 => each_block(bytes, out, blocks::q4_0),
        GgmlType::Q4_1 => each_block(bytes, out, blocks::q4_1),
        GgmlType::Q5_0 => each_block(bytes, out, blocks::q5_0),
        GgmlType::Q5_1 => each_block(bytes, out, blocks::q5_1),
        GgmlType::Q4K => each_block(bytes, out, blocks::q4_k),
        GgmlType::Q5K => each_block(bytes, out, blocks::q5_k),
        GgmlType::Q6K => each_block(bytes, out, blocks::q6_k),
    }
    Ok(())
}

fn each_block<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES], &mut [f32; VALUES]) + Sync,
) {
    let tasks = out.par_chunks_mut(TASK_VALUES);
    bytes.par_chunks(TASK_VALUES / VALUES * BYTES).zip(tasks).for_each(|(bytes, out)| {
        let (blocks, _) = bytes.as_chunks::<BYTES>();
        let (values, _) = out.as_chunks_mut::<VALUES>();
        for (block, values) in blocks.iter().zip(values) {
            unpack(block, values);
        }
    });
}
