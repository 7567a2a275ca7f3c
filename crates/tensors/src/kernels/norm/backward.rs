//! The backward pass of the norms, over rows, and the sums of their parameters' gradients.

use tch::Tensor;

use super::{Affine, NormParams, NormSums};
use crate::error::Result;
use crate::kernels::element::Element;
use crate::kernels::loans::Loans;
use crate::kernels::machine::{Job, Machine, run};
use crate::kernels::rows::{GRAIN, Part, Rows, RowsMut, Sums, parts};

struct Backward<'a, D, X> {
    affine: Affine<'a>,
    dy: Rows<'a, D>,
    x: Rows<'a, X>,
    stats: Rows<'a, f32>,
    add: Add<'a, X>,
    part: Part,
    dx: RowsMut<'a, X>,
    /// Of the weight and the bias.
    sums: [&'a mut [f32]; 2],
}

/// What is added to a gradient.
#[derive(Clone, Copy)]
enum Add<'a, X> {
    Nothing,
    Rows(Rows<'a, X>),
    /// What is there already.
    Itself,
}

impl<D: Element, X: Element> Job for Backward<'_, D, X> {
    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { affine, dy, x, stats, add, part, mut dx, sums: [d_weight, d_bias] } = self;
        for (i, row) in part.rows.enumerate() {
            let (dy, x, dx) = (dy.row(row), x.row(row), dx.row(i));
            let sums = [&mut *d_weight, &mut *d_bias];
            let pulled = affine.pull::<M, D, X>(part.group, dy, x, stats.row(row), sums);
            let n = dx.len();
            let (dy, x, weight) = (&dy[..n], &x[..n], &pulled.weight[..n]);
            match add {
                Add::Nothing => {
                    for i in 0..n {
                        dx[i] = X::put(pulled.gradient::<M>(dy[i].get(), weight[i], x[i].get()));
                    }
                }
                Add::Rows(add) => {
                    let add = &add.row(row)[..n];
                    for i in 0..n {
                        let own = pulled.gradient::<M>(dy[i].get(), weight[i], x[i].get());
                        dx[i] = X::put(own + add[i].get());
                    }
                }
                Add::Itself => {
                    for i in 0..n {
                        let own = pulled.gradient::<M>(dy[i].get(), weight[i], x[i].get());
                        dx[i] = X::put(own + dx[i].get());
                    }
                }
            }
        }
    }
}

pub(super) fn backward<D: Element, X: Element>(
    dy: &Tensor,
    x: &Tensor,
    stats: &Tensor,
    params: &NormParams<'_>,
    add: Option<&Tensor>,
    dx: &Tensor,
    sums: &NormSums<'_>,
) -> Result<()> {
    let mut loans = Loans::default();
    let x: Rows<'_, X> = loans.rows("x", x)?;
    let [rows, width] = x.shape();
    let dy: Rows<'_, D> = loans.rows_of("dy", dy, [rows, width])?;
    let stats = loans.rows_of("stats", stats, [rows, 2])?;
    let add = match add {
        None => Add::Nothing,
        Some(add) => match loans.rows_unless("add", add, dx, [rows, width])? {
            Some(add) => Add::Rows(add),
            None => Add::Itself,
        },
    };
    let affine = Affine::new(&mut loans, params, [rows, width])?;
    let parts = parts(rows, affine.groups(), width);
    let dx = loans.rows_mut::<X>("dx", dx, [rows, width])?.split(&parts);
    let mut sums = NormTotals::new(&mut loans, Some(sums), [rows, width], parts.len())?;
    let outs = dx.into_iter().zip(sums.slots(parts.len()));
    let jobs = parts.iter().cloned().zip(outs);
    let job = |(part, (dx, sums))| Backward { affine, dy, x, stats, add, part, dx, sums };
    run(jobs.map(job), GRAIN)?;
    sums.finish(&parts);
    Ok(())
}

/// Sums of the gradients of a norm's parameters.
#[derive(Debug)]
pub(in crate::kernels) struct NormTotals<'a> {
    weight: Sums<'a>,
    bias: Sums<'a>,
}

impl<'a> NormTotals<'a> {
    pub(in crate::kernels) fn new(
        loans: &mut Loans,
        sums: Option<&NormSums<'a>>,
        shape: [usize; 2],
        n_parts: usize,
    ) -> Result<Self> {
        let weight = sums.map(|sums| sums.d_weight);
        let bias = sums.and_then(|sums| sums.d_bias);
        let weight = weight.map(|x| loans.parameter_mut("d_weight of the norm", x, shape));
        let bias = bias.map(|x| loans.parameter_mut("d_bias of the norm", x, shape));
        Ok(Self {
            weight: Sums::new(weight.transpose()?, n_parts),
            bias: Sums::new(bias.transpose()?, n_parts),
        })
    }

    pub(in crate::kernels) fn slots(
        &mut self,
        n_parts: usize,
    ) -> impl Iterator<Item = [&mut [f32]; 2]> {
        let bias = self.bias.slots(n_parts);
        self.weight.slots(n_parts).into_iter().zip(bias).map(|(weight, bias)| [weight, bias])
    }

    pub(in crate::kernels) fn finish(self, parts: &[Part]) {
        self.weight.finish(parts);
        self.bias.finish(parts);
    }
}
