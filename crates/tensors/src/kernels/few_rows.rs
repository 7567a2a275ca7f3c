//! Products of few rows with large matrices, of which generating text one token at a time consists.
//!
//! Their time is that of reading the matrices once. So a weight is widened to f32 as it is read, meets all rows at once,
//! and several matrices that meet the same rows are one piece of work for the threads.

use std::hint::black_box;

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

/// Rows of a matrix that one thread does in one go.
const BLOCK: usize = 32;
/// Rows that are done side by side.
const SIDE: usize = 4;
/// Numbers that the nearest cache holds, with what is read meanwhile: three quarters of 32 KiB.
const NEAR: usize = 6144;

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
        let [rows, width] = self.x.shape();
        let n = self.out.first().map_or(0, |out| out.len());
        let tiled = if rows >= SIDE && rows * width > NEAR { n - n % SIDE } else { 0 };
        for at in (0..tiled).step_by(SIDE) {
            self.tile_of_matrix::<M, W>(weight, at);
        }
        for at in tiled..n {
            self.row_of_matrix::<M, W>(weight, at);
        }
    }

    /// The processor fetches ahead what is read in one stream, and far less of it where several rows are read side by side: this is
    /// more than twice as fast where the matrix comes from memory.
    #[inline(always)]
    fn row_of_matrix<M: Machine, W: Element>(&mut self, weight: &Rows<'_, W>, at: usize) {
        let rows = self.x.shape()[0];
        let w = weight.row(self.first + at);
        let bias = self.bias.map_or(0.0, |bias| bias[self.first + at]);
        let fours = rows - rows % SIDE;
        for row in (0..fours).step_by(SIDE) {
            let sums = across::<M, W>(w, self.four(row));
            for (out, sum) in self.out[row..].iter_mut().zip(sums) {
                out[at] = sum + bias;
            }
        }
        for row in fours..rows {
            self.out[row][at] = dot::<M, W>(w, self.x.row(row)) + bias;
        }
    }

    /// Rows that do not fit beside each other into the nearest cache: each of their numbers is used four times when it has been read.
    #[inline(always)]
    fn tile_of_matrix<M: Machine, W: Element>(&mut self, weight: &Rows<'_, W>, at: usize) {
        let rows = self.x.shape()[0];
        let of = self.first + at;
        let side = [weight.row(of), weight.row(of + 1), weight.row(of + 2), weight.row(of + 3)];
        side.into_iter().for_each(fetch);
        let fours = rows - rows % SIDE;
        for row in (0..fours).step_by(SIDE) {
            let sums = tile::<M, W>(side, self.four(row));
            for i in 0..SIDE {
                self.write(row + i, at, sums[i]);
            }
        }
        for row in fours..rows {
            let sums = dots::<M, W>(side, self.x.row(row));
            self.write(row, at, sums);
        }
    }

    #[inline(always)]
    fn four(&self, row: usize) -> [&[f32]; SIDE] {
        [self.x.row(row), self.x.row(row + 1), self.x.row(row + 2), self.x.row(row + 3)]
    }

    #[inline(always)]
    fn write(&mut self, row: usize, at: usize, sums: [f32; SIDE]) {
        let out = self.out[row][at..].iter_mut().zip(sums);
        match self.bias {
            Some(bias) => {
                let bias = &bias[self.first + at..];
                out.zip(bias).for_each(|((out, sum), bias)| *out = sum + bias);
            }
            None => out.for_each(|(out, sum)| *out = sum),
        }
    }
}

/// Reads a row into the nearest cache, in one stream.
#[inline(always)]
fn fetch<W: Element>(row: &[W]) {
    const LINE: usize = 64;
    let touched = row.iter().step_by(LINE / size_of::<W>()).map(|w| w.get());
    black_box(touched.fold(0.0, |sum, w| sum + w));
}

/// `Σₖ w[k] x[k]`.
#[inline(always)]
fn dot<M: Machine, W: Element>(w: &[W], x: &[f32]) -> f32 {
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ws, w_rest) = w[..x.len()].as_chunks::<LANES>();
    let mut sum = [0.0; LANES];
    for (w, x) in ws.iter().zip(xs) {
        sum = add_product::<M>(sum, load(w), *x);
    }
    let mut sum = fold(&sum);
    for (w, x) in w_rest.iter().zip(x_rest) {
        sum = fma::<M>(w.get(), *x, sum);
    }
    sum
}

/// `[i]`: `Σₖ w[k] x[i][k]`, of four.
#[inline(always)]
fn across<M: Machine, W: Element>(w: &[W], x: [&[f32]; SIDE]) -> [f32; SIDE] {
    let n = w.len();
    let (ws, w_rest) = w.as_chunks::<LANES>();
    let (x0, y0) = x[0][..n].as_chunks::<LANES>();
    let (x1, y1) = x[1][..n].as_chunks::<LANES>();
    let (x2, y2) = x[2][..n].as_chunks::<LANES>();
    let (x3, y3) = x[3][..n].as_chunks::<LANES>();
    let none = [0.0; LANES];
    // Four variables: of an array the compiler writes every sum back to memory in each turn.
    let (mut s0, mut s1, mut s2, mut s3) = (none, none, none, none);
    for ((((w, x0), x1), x2), x3) in ws.iter().zip(x0).zip(x1).zip(x2).zip(x3) {
        let w = load(w);
        s0 = add_product::<M>(s0, w, *x0);
        s1 = add_product::<M>(s1, w, *x1);
        s2 = add_product::<M>(s2, w, *x2);
        s3 = add_product::<M>(s3, w, *x3);
    }
    let mut sums = [fold(&s0), fold(&s1), fold(&s2), fold(&s3)];
    for i in 0..w_rest.len() {
        let (w, x) = (w_rest[i].get(), [y0[i], y1[i], y2[i], y3[i]]);
        for row in 0..SIDE {
            sums[row] = fma::<M>(w, x[row], sums[row]);
        }
    }
    sums
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
