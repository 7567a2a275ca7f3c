//! Residual sums, and sums over rows.

use tch::{Device, Kind, Tensor};

use super::element::{Element, by_kind};
use super::lanes::accumulate;
use super::loans::Loans;
use super::machine::{Job, Machine, run};
use super::math::fma;
use super::rows::{GRAIN, Parameter, Part, Rows, RowsMut, Sums, parts};
use crate::error::Result;

/// `out = out + bias + alpha * residual` in one pass: what follows the last product of a branch. `out` and
/// `residual` (with its `alpha`) are `[rows, channels]`, `bias` is f32 `[channels]` or `[groups, channels]`.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn bias_residual(
    out: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<(&Tensor, f64)>,
) -> Result<()> {
    match residual {
        Some((x, alpha)) => by_kind!("residual", x, R => by_kind!("out", out, O =>
            add_rows::<O, R>(out, bias, Some((x, alpha))))),
        None => by_kind!("out", out, O => add_rows::<O, O>(out, bias, None)),
    }
}

/// Sums over the rows of each of `groups` parts of `x`, `[rows, channels]`: f32 `[groups, channels]`.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn column_sums(x: &Tensor, groups: i64) -> Result<Tensor> {
    let sums = Tensor::f_zeros([groups, x.size2()?.1], (Kind::Float, Device::Cpu))?;
    column_sums_into(x, &sums)?;
    Ok(sums)
}

/// Adds to `sums`, f32 `[channels]` or `[groups, channels]`, the sums over the rows of `x`.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn column_sums_into(x: &Tensor, sums: &Tensor) -> Result<()> {
    by_kind!("x", x, X => add_up::<X>(x, sums))
}

/// `change + bias + alpha * residual`, one row at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added<'a, R, C> {
    pub(super) residual: Rows<'a, R>,
    pub(super) alpha: f32,
    /// None: it lies in the row that the sum is written to.
    pub(super) change: Option<Rows<'a, C>>,
    pub(super) bias: Option<Parameter<&'a [f32]>>,
}

impl<R: Element, C: Element> Added<'_, R, C> {
    #[inline(always)]
    pub(super) fn write_row<M: Machine, O: Element>(
        &self,
        group: usize,
        row: usize,
        out: &mut [O],
    ) {
        let n = out.len();
        let (residual, alpha) = (&self.residual.row(row)[..n], self.alpha);
        match (&self.change, &self.bias) {
            (Some(change), Some(bias)) => {
                let (change, bias) = (&change.row(row)[..n], &bias.of(group)[..n]);
                for i in 0..n {
                    let change = change[i].get() + bias[i];
                    out[i] = O::put(fma::<M>(alpha, residual[i].get(), change));
                }
            }
            (Some(change), None) => {
                let change = &change.row(row)[..n];
                for i in 0..n {
                    out[i] = O::put(fma::<M>(alpha, residual[i].get(), change[i].get()));
                }
            }
            (None, Some(bias)) => {
                let bias = &bias.of(group)[..n];
                for i in 0..n {
                    let change = out[i].get() + bias[i];
                    out[i] = O::put(fma::<M>(alpha, residual[i].get(), change));
                }
            }
            (None, None) => {
                for i in 0..n {
                    out[i] = O::put(fma::<M>(alpha, residual[i].get(), out[i].get()));
                }
            }
        }
    }
}

struct AddRows<'a, O, R> {
    added: Option<Added<'a, R, O>>,
    bias: Option<Parameter<&'a [f32]>>,
    part: Part,
    out: RowsMut<'a, O>,
}

impl<O: Element, R: Element> Job for AddRows<'_, O, R> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        for (i, row) in self.part.rows.clone().enumerate() {
            let out = self.out.row(i);
            if let Some(added) = &self.added {
                added.write_row::<M, O>(self.part.group, row, out);
            } else if let Some(bias) = &self.bias {
                let n = out.len();
                let bias = &bias.of(self.part.group)[..n];
                for i in 0..n {
                    out[i] = O::put(out[i].get() + bias[i]);
                }
            }
        }
    }
}

fn add_rows<O: Element, R: Element>(
    out: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<(&Tensor, f64)>,
) -> Result<()> {
    let mut loans = Loans::default();
    let (rows, width) = out.size2()?;
    let shape = [rows as usize, width as usize];
    let bias = bias.map(|bias| loans.parameter("bias", bias, shape)).transpose()?;
    let added = match residual {
        None => None,
        Some((x, alpha)) => {
            let residual = loans.rows_of::<R>("residual", x, shape)?;
            Some(Added { residual, alpha: alpha as f32, change: None, bias })
        }
    };
    let parts = parts(shape[0], bias.map_or(1, |bias| bias.groups), shape[1]);
    let out = loans.rows_mut::<O>("out", out, shape)?.split(&parts);
    let jobs = parts.into_iter().zip(out);
    run(jobs.map(|(part, out)| AddRows { added, bias, part, out }), GRAIN)
}

struct AddUp<'a, X> {
    x: Rows<'a, X>,
    part: Part,
    sums: &'a mut [f32],
}

impl<X: Element> Job for AddUp<'_, X> {
    #[inline(always)]
    fn run<M: Machine>(self) {
        // Four rows for each time that the sums are read and written.
        let Self { x, part, sums } = self;
        let n = sums.len();
        let mut row = part.rows.start;
        while row + 4 <= part.rows.end {
            let (a, b) = (&x.row(row)[..n], &x.row(row + 1)[..n]);
            let (c, d) = (&x.row(row + 2)[..n], &x.row(row + 3)[..n]);
            for i in 0..n {
                sums[i] += (a[i].get() + b[i].get()) + (c[i].get() + d[i].get());
            }
            row += 4;
        }
        for row in row..part.rows.end {
            accumulate(sums, x.row(row));
        }
    }
}

fn add_up<X: Element>(x: &Tensor, sums: &Tensor) -> Result<()> {
    let mut loans = Loans::default();
    let x: Rows<'_, X> = loans.rows("x", x)?;
    let total = loans.sums("sums", sums, x.shape())?;
    let parts = parts(x.shape()[0], total.groups, x.shape()[1]);
    let mut sums = Sums::new(Some(total), parts.len());
    let jobs = parts.iter().cloned().zip(sums.slots(parts.len()));
    run(jobs.map(|(part, sums)| AddUp { x, part, sums }), GRAIN)?;
    sums.finish(&parts);
    Ok(())
}

#[cfg(test)]
mod tests;
