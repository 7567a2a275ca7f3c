//! The product of rows of activations with packed matrices, spread over threads.

use std::ops::Range;

use tch::{Device, Tensor};

use super::PackedMatrix;
use super::activations::Activations;
use super::layout::Shape;
use super::tile::{LANES, tile};
use crate::error::{Result, ensure};
use crate::kernels::element::{Element, by_kind};
use crate::kernels::loans::Loans;
use crate::kernels::machine::{Job, Machine, run};

/// `x · matrixᵀ` for each of `matrices`, which read the same `x`, `[rows, in]`, f32 or bf16: `[rows, out]` of the kind
/// of `x`. The activations are rounded once for all.
///
/// # Errors
/// As for every kernel, see the [module](super::super); [`Error::Config`](crate::Error::Config) if there is no matrix.
pub fn packed_linear(x: &Tensor, matrices: &[&PackedMatrix]) -> Result<Vec<Tensor>> {
    ensure(!matrices.is_empty(), "matrices", "at least one", 0)?;
    let (rows, kind) = (x.size2()?.0, x.f_kind()?);
    let mut outs = Vec::with_capacity(matrices.len());
    for matrix in matrices {
        outs.push(Tensor::f_empty([rows, matrix.size()[0]], (kind, Device::Cpu))?);
    }
    by_kind!("x", x, X => multiply::<X>(x, matrices, &outs))?;
    Ok(outs)
}

fn multiply<X: Element>(x: &Tensor, matrices: &[&PackedMatrix], outs: &[Tensor]) -> Result<()> {
    let mut loans = Loans::default();
    let x = loans.rows::<X>("x", x)?;
    let [rows, columns] = x.shape();
    let mut rounded: Vec<Activations> = Vec::new();
    for matrix in matrices {
        let shape = &matrix.shape;
        let want = format!("those of the matrix, {}", shape.columns);
        ensure(columns == shape.columns, "columns of x", &want, columns)?;
        if !rounded.iter().any(|known| known.group == shape.group) {
            rounded.push(Activations::new(&x, shape.group)?);
        }
    }
    let blocks: usize = matrices.iter().map(|matrix| matrix.shape.blocks()).sum();
    let per_job = blocks.div_ceil(JOBS).max(1);
    let mut jobs = Vec::with_capacity(JOBS + matrices.len());
    for (matrix, out) in matrices.iter().zip(outs) {
        let shape = &matrix.shape;
        let Some(x) = rounded.iter().find(|known| known.group == shape.group) else { continue };
        let data = loans.bytes("packed data", &matrix.data, matrix.data_size())?;
        let mut rest = loans.rows_mut::<X>("out", out, [rows, shape.rows])?.into_rows();
        for blocks in data.chunks(per_job * shape.block_bytes()) {
            let out = rest.iter_mut().map(|row| cut(row, per_job * LANES)).collect();
            jobs.push(Multiply { shape, blocks, x, out });
        }
    }
    run(jobs, 1)
}

/// At most the first `n` of what is left.
fn cut<'a, X>(rest: &mut &'a mut [X], n: usize) -> &'a mut [X] {
    let n = n.min(rest.len());
    let (own, others) = std::mem::take(rest).split_at_mut(n);
    *rest = others;
    own
}

/// Jobs are not made smaller than this part of the whole: they are for few threads.
const JOBS: usize = 32;
/// Activations that stay in a core's second cache while blocks pass by, bytes.
const AT_ONCE: usize = 1 << 18;

struct Multiply<'a, X> {
    shape: &'a Shape,
    blocks: &'a [u8],
    x: &'a Activations,
    /// Of each row of the result the part that belongs to these blocks.
    out: Vec<&'a mut [X]>,
}

impl<X: Element> Job for Multiply<'_, X> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        let (rows, width) = (self.out.len(), self.x.width.max(1));
        let at_once = (AT_ONCE / width).next_multiple_of(8).max(8);
        for start in (0..rows).step_by(at_once) {
            let rows = start..rows.min(start + at_once);
            for (i, block) in self.blocks.chunks_exact(self.shape.block_bytes()).enumerate() {
                self.block::<M>(block, i * LANES, rows.clone());
            }
        }
    }
}

impl<X: Element> Multiply<'_, X> {
    #[inline(always)]
    fn block<M: Machine>(&mut self, block: &[u8], column: usize, rows: Range<usize>) {
        let Range { start: mut row, end } = rows;
        while row + 8 <= end {
            self.tile::<M, 8>(block, column, row);
            row += 8;
        }
        if row + 4 <= end {
            self.tile::<M, 4>(block, column, row);
            row += 4;
        }
        if row + 2 <= end {
            self.tile::<M, 2>(block, column, row);
            row += 2;
        }
        if row < end {
            self.tile::<M, 1>(block, column, row);
        }
    }

    #[inline(always)]
    fn tile<M: Machine, const N: usize>(&mut self, block: &[u8], column: usize, row: usize) {
        let found = tile::<M, N>(self.shape, block, self.x.rows::<N>(row));
        for (n, lanes) in found.iter().enumerate() {
            for (out, lane) in self.out[row + n][column..].iter_mut().zip(lanes) {
                *out = X::put(*lane);
            }
        }
    }
}
