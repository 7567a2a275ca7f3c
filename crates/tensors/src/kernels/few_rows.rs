//! Products of few rows with large matrices, of which generating text one token at a time consists.
//!
//! Their time is that of reading the matrices once. So a weight is widened to f32 as it is read, meets all rows at once,
//! and several matrices that meet the same rows are one piece of work for the threads.

use tch::{Device, Kind, Tensor};

use super::element::{Bf16, Element, F16};
use super::lanes::{LANES, Lanes, add_product, fold, load};
use super::loans::Loans;
use super::machine::{Job, Machine, run};
use super::math::fma;
use super::rows::Rows;
use crate::error::{Error, Result};

/// One matrix of a product.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a> {
    /// f32, bf16 or f16, `[out, in]`, each row contiguous.
    pub weight: &'a Tensor,
    /// f32 `[out]`.
    pub bias: Option<&'a Tensor>,
}

/// Rows of a matrix that one thread does in one go, and that are done side by side.
const BLOCK: usize = 32;
const SIDE: usize = 4;

/// `x · weightᵀ + bias` for each of `factors`: `x` is f32 `[rows, in]`, the results are f32 `[rows, out]`.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn few_rows(x: &Tensor, factors: &[Factor<'_>]) -> Result<Vec<Tensor>> {
    let rows = x.size2()?.0;
    let out = |factor: &Factor<'_>| -> Result<Tensor> {
        Ok(Tensor::f_empty([rows, factor.weight.size2()?.0], (Kind::Float, Device::Cpu))?)
    };
    let outs = factors.iter().map(out).collect::<Result<Vec<_>>>()?;
    let mut loans = Loans::default();
    let x = loans.rows::<f32>("x", x)?;
    let mut jobs = Vec::new();
    for (factor, out) in factors.iter().zip(&outs) {
        push(&mut jobs, &mut loans, x, factor, out)?;
    }
    run(jobs, 1)?;
    Ok(outs)
}

#[derive(Clone, Copy)]
enum Weight<'a> {
    Float(Rows<'a, f32>),
    Bf16(Rows<'a, Bf16>),
    F16(Rows<'a, F16>),
}

struct Product<'a> {
    x: Rows<'a, f32>,
    weight: Weight<'a>,
    bias: Option<&'a [f32]>,
    /// Of the matrix.
    first: usize,
    /// A part of each row of the result.
    out: Vec<&'a mut [f32]>,
}

fn push<'a>(
    jobs: &mut Vec<Product<'a>>,
    loans: &mut Loans,
    x: Rows<'a, f32>,
    factor: &Factor<'a>,
    out: &'a Tensor,
) -> Result<()> {
    let [rows, width] = x.shape();
    let n_out = factor.weight.size2()?.0 as usize;
    let shape = [n_out, width];
    let weight = match factor.weight.f_kind()? {
        Kind::Float => Weight::Float(loans.rows_of("weight", factor.weight, shape)?),
        Kind::BFloat16 => Weight::Bf16(loans.rows_of("weight", factor.weight, shape)?),
        Kind::Half => Weight::F16(loans.rows_of("weight", factor.weight, shape)?),
        other => {
            let (field, got) = ("kind of weight".to_owned(), format!("{other:?}"));
            return Err(Error::Config { field, want: "Float, BFloat16 or Half".to_owned(), got });
        }
    };
    let bias = factor.bias.map(|bias| loans.parameter("bias", bias, [1, n_out])).transpose()?;
    let bias = bias.map(|bias| bias.data);
    let mut rest = loans.rows_mut::<f32>("out", out, [rows, n_out])?.into_rows();
    for first in (0..n_out).step_by(BLOCK) {
        let n = BLOCK.min(n_out - first);
        let out = rest.iter_mut().map(|row| cut(row, n)).collect();
        jobs.push(Product { x, weight, bias, first, out });
    }
    Ok(())
}

/// The first `n` of what is left.
fn cut<'a>(rest: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (own, others) = std::mem::take(rest).split_at_mut(n);
    *rest = others;
    own
}

impl Job for Product<'_> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        match self.weight {
            Weight::Float(weight) => self.multiply::<M, f32>(&weight),
            Weight::Bf16(weight) => self.multiply::<M, Bf16>(&weight),
            Weight::F16(weight) => self.multiply::<M, F16>(&weight),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn multiply<M: Machine, W: Element>(&mut self, weight: &Rows<'_, W>) {
        let rows = self.x.shape()[0];
        let n = self.out.first().map_or(0, |out| out.len());
        let mut at = 0;
        while at < n {
            // At the end some are done twice instead of one by one.
            let from = if n >= SIDE { at.min(n - SIDE) } else { at };
            let last = n - 1;
            let of = self.first;
            let side = [
                weight.row(of + from),
                weight.row(of + last.min(from + 1)),
                weight.row(of + last.min(from + 2)),
                weight.row(of + last.min(from + 3)),
            ];
            let mut row = 0;
            while row + SIDE <= rows {
                let x = [
                    self.x.row(row),
                    self.x.row(row + 1),
                    self.x.row(row + 2),
                    self.x.row(row + 3),
                ];
                let sums = tile::<M, W>(side, x);
                for i in 0..SIDE {
                    self.write(row + i, from, sums[i]);
                }
                row += SIDE;
            }
            while row < rows {
                let sums = dots::<M, W>(side, self.x.row(row));
                self.write(row, from, sums);
                row += 1;
            }
            at = from + SIDE;
        }
    }

    #[inline(always)]
    fn write(&mut self, row: usize, from: usize, sums: [f32; SIDE]) {
        let out = &mut self.out[row][from..];
        match self.bias {
            Some(bias) => {
                let bias = &bias[self.first + from..];
                for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                    *out = sum + bias;
                }
            }
            None => {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = sum;
                }
            }
        }
    }
}

/// `Σₖ w[m][k] x[k]` of four rows.
#[inline(always)]
pub(super) fn dots<M: Machine, W: Element>(w: [&[W]; SIDE], x: &[f32]) -> [f32; SIDE] {
    let n = x.len();
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (w0, r0) = w[0][..n].as_chunks::<LANES>();
    let (w1, r1) = w[1][..n].as_chunks::<LANES>();
    let (w2, r2) = w[2][..n].as_chunks::<LANES>();
    let (w3, r3) = w[3][..n].as_chunks::<LANES>();
    let mut sum = [[0.0; LANES]; SIDE];
    for ((((x, w0), w1), w2), w3) in xs.iter().zip(w0).zip(w1).zip(w2).zip(w3) {
        sum = add_four::<M>(sum, [load(w0), load(w1), load(w2), load(w3)], x);
    }
    let mut sums = folded(&sum);
    for i in 0..x_rest.len() {
        let w = [r0[i].get(), r1[i].get(), r2[i].get(), r3[i].get()];
        for m in 0..SIDE {
            sums[m] = fma::<M>(w[m], x_rest[i], sums[m]);
        }
    }
    sums
}

/// `[m]` of `[i]`: `Σₖ w[m][k] x[i][k]`, four by four.
#[inline(always)]
fn tile<M: Machine, W: Element>(w: [&[W]; SIDE], x: [&[f32]; SIDE]) -> [[f32; SIDE]; SIDE] {
    let n = x[0].len();
    let (w0, r0) = w[0][..n].as_chunks::<LANES>();
    let (w1, r1) = w[1][..n].as_chunks::<LANES>();
    let (w2, r2) = w[2][..n].as_chunks::<LANES>();
    let (w3, r3) = w[3][..n].as_chunks::<LANES>();
    let (x0, y0) = x[0].as_chunks::<LANES>();
    let (x1, y1) = x[1][..n].as_chunks::<LANES>();
    let (x2, y2) = x[2][..n].as_chunks::<LANES>();
    let (x3, y3) = x[3][..n].as_chunks::<LANES>();
    let (mut s0, mut s1) = ([[0.0; LANES]; SIDE], [[0.0; LANES]; SIDE]);
    let (mut s2, mut s3) = ([[0.0; LANES]; SIDE], [[0.0; LANES]; SIDE]);
    let weights = w0.iter().zip(w1).zip(w2).zip(w3);
    let rows = x0.iter().zip(x1).zip(x2).zip(x3);
    for ((((w0, w1), w2), w3), (((x0, x1), x2), x3)) in weights.zip(rows) {
        let w = [load(w0), load(w1), load(w2), load(w3)];
        s0 = add_four::<M>(s0, w, x0);
        s1 = add_four::<M>(s1, w, x1);
        s2 = add_four::<M>(s2, w, x2);
        s3 = add_four::<M>(s3, w, x3);
    }
    let mut sums = [folded(&s0), folded(&s1), folded(&s2), folded(&s3)];
    for i in 0..y0.len() {
        let (w, x) =
            ([r0[i].get(), r1[i].get(), r2[i].get(), r3[i].get()], [y0[i], y1[i], y2[i], y3[i]]);
        for row in 0..SIDE {
            for m in 0..SIDE {
                sums[row][m] = fma::<M>(w[m], x[row], sums[row][m]);
            }
        }
    }
    sums
}

/// Written out, because the compiler keeps a loop's sums in memory.
#[inline(always)]
fn add_four<M: Machine>(sum: [Lanes; SIDE], w: [Lanes; SIDE], x: &Lanes) -> [Lanes; SIDE] {
    let [s0, s1, s2, s3] = sum;
    let [w0, w1, w2, w3] = w;
    [
        add_product::<M>(s0, w0, *x),
        add_product::<M>(s1, w1, *x),
        add_product::<M>(s2, w2, *x),
        add_product::<M>(s3, w3, *x),
    ]
}

#[inline(always)]
fn folded(sum: &[Lanes; SIDE]) -> [f32; SIDE] {
    [fold(&sum[0]), fold(&sum[1]), fold(&sum[2]), fold(&sum[3])]
}

#[cfg(test)]
mod tests;
