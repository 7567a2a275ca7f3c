//! The forward passes of the norms, over rows.

use tch::Tensor;

use super::{Affine, NormParams};
use crate::error::Result;
use crate::kernels::element::Element;
use crate::kernels::loans::Loans;
use crate::kernels::machine::{Job, Machine, run};
use crate::kernels::residual::Added;
use crate::kernels::rows::{GRAIN, Part, Rows, RowsMut, parts};

struct Forward<'a, X, Y> {
    affine: Affine<'a>,
    x: Rows<'a, X>,
    part: Part,
    y: RowsMut<'a, Y>,
    stats: RowsMut<'a, f32>,
}

impl<X: Element, Y: Element> Job for Forward<'_, X, Y> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        for (i, row) in self.part.rows.clone().enumerate() {
            let (x, y) = (self.x.row(row), self.y.row(i));
            let found = self.affine.forward::<M, X, Y>(self.part.group, x, y);
            self.stats.row(i).copy_from_slice(&found);
        }
    }
}

pub(super) fn forward<X: Element, Y: Element>(
    x: &Tensor,
    params: &NormParams<'_>,
    y: &Tensor,
    stats: &Tensor,
) -> Result<()> {
    let mut loans = Loans::default();
    let x: Rows<'_, X> = loans.rows("x", x)?;
    let [rows, width] = x.shape();
    let affine = Affine::new(&mut loans, params, [rows, width])?;
    let parts = parts(rows, affine.groups(), width);
    let y = loans.rows_mut::<Y>("y", y, [rows, width])?.split(&parts);
    let stats = loans.rows_mut("stats", stats, [rows, 2])?.split(&parts);
    let outs = y.into_iter().zip(stats);
    let jobs = parts.into_iter().zip(outs);
    run(jobs.map(|(part, (y, stats))| Forward { affine, x, part, y, stats }), GRAIN)
}

struct AddForward<'a, X, C, Y> {
    affine: Affine<'a>,
    added: Added<'a, X, C>,
    part: Part,
    sum: RowsMut<'a, X>,
    y: RowsMut<'a, Y>,
    stats: RowsMut<'a, f32>,
}

impl<X: Element, C: Element, Y: Element> Job for AddForward<'_, X, C, Y> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        for (i, row) in self.part.rows.clone().enumerate() {
            let sum = self.sum.row(i);
            self.added.write_row::<M, X>(self.part.group, row, sum);
            let found = self.affine.forward::<M, X, Y>(self.part.group, sum, self.y.row(i));
            self.stats.row(i).copy_from_slice(&found);
        }
    }
}

/// `added` is x, change, its bias, and alpha.
pub(super) fn add_forward<X: Element, C: Element, Y: Element>(
    added: (&Tensor, &Tensor, Option<&Tensor>, f64),
    params: &NormParams<'_>,
    sum: &Tensor,
    y: &Tensor,
    stats: &Tensor,
) -> Result<()> {
    let mut loans = Loans::default();
    let (x, change, bias, alpha) = added;
    let x: Rows<'_, X> = loans.rows("x", x)?;
    let [rows, width] = x.shape();
    let change = loans.rows_unless::<C>("change", change, sum, [rows, width])?;
    let bias = bias.map(|bias| loans.parameter("bias", bias, [rows, width])).transpose()?;
    let affine = Affine::new(&mut loans, params, [rows, width])?;
    let added = Added { residual: x, alpha: alpha as f32, change, bias };
    let parts = parts(rows, affine.groups().max(bias.map_or(1, |bias| bias.groups)), width);
    let sum = loans.rows_mut::<X>("sum", sum, [rows, width])?.split(&parts);
    let y = loans.rows_mut::<Y>("y", y, [rows, width])?.split(&parts);
    let stats = loans.rows_mut("stats", stats, [rows, 2])?.split(&parts);
    let outs = sum.into_iter().zip(y).zip(stats);
    let jobs = parts.into_iter().zip(outs);
    let job = |(part, ((sum, y), stats))| AddForward { affine, added, part, sum, y, stats };
    run(jobs.map(job), GRAIN)
}
