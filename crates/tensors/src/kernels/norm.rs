//! LayerNorm and RMSNorm, forwards and backwards.

use tch::{Device, Kind, Tensor};

use super::element::{Element, by_kind};
use super::lanes::{accumulate, centred_square, dot, sum};
use super::loans::Loans;
use super::machine::{Job, Machine, run};
use super::math::fma;
use super::residual::Added;
use super::rows::{GRAIN, Parameter, Part, Rows, RowsMut, Sums, parts};
use crate::error::Result;

/// Which norm over the channels of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormType {
    /// `(x - mean) / sqrt(variance + eps) * weight + bias`.
    Layer,
    /// `x / sqrt(mean of squares + eps) * weight + bias`.
    Rms,
}

/// A norm with its parameters.
#[derive(Clone, Copy, Debug)]
pub struct NormParams<'a> {
    /// Which norm.
    pub kind: NormType,
    /// f32 `[channels]` or `[groups, channels]`.
    pub weight: &'a Tensor,
    /// As `weight`.
    pub bias: Option<&'a Tensor>,
    /// Added to the variance or the mean of squares.
    pub eps: f64,
}

/// Gradients of a norm.
#[derive(Debug)]
pub struct NormGradients {
    /// Of the kind and shape of `x`.
    pub dx: Tensor,
    /// f32, like the weight.
    pub d_weight: Tensor,
    /// f32, like the bias, if there is one.
    pub d_bias: Option<Tensor>,
}

/// Tensors to which gradients of a norm's parameters are added.
#[derive(Clone, Copy, Debug)]
pub struct NormSums<'a> {
    /// f32, like the weight.
    pub d_weight: &'a Tensor,
    /// f32, like the bias; not computed without it.
    pub d_bias: Option<&'a Tensor>,
}

/// The norm of each row of `x`, `[rows, channels]`: `y` of the kind `out`, and `stats`, f32 `[rows, 2]`: the mean (0 for
/// RMSNorm) and the reciprocal of the root.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn norm(x: &Tensor, params: &NormParams<'_>, out: Kind) -> Result<(Tensor, Tensor)> {
    let y = Tensor::f_empty(x.size(), (out, Device::Cpu))?;
    let stats = new_stats(x)?;
    norm_into(x, params, &y, &stats)?;
    Ok((y, stats))
}

/// As [`norm`], into `y` and `stats`.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn norm_into(x: &Tensor, params: &NormParams<'_>, y: &Tensor, stats: &Tensor) -> Result<()> {
    by_kind!("x", x, X => by_kind!("y", y, Y => forward::<X, Y>(x, params, y, stats)))
}

/// `sum = alpha * x + change` and its norm, in one pass: `(sum, y, stats)`; `sum` has the kind of `x`, `y` the kind
/// `out`. This is post-norm with DeepNorm's `alpha`, and, for `alpha` 1, a residual sum with the norm of the next branch.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn add_norm(
    x: &Tensor,
    change: &Tensor,
    alpha: f64,
    params: &NormParams<'_>,
    out: Kind,
) -> Result<(Tensor, Tensor, Tensor)> {
    let sum = Tensor::f_empty(x.size(), (x.f_kind()?, Device::Cpu))?;
    let y = Tensor::f_empty(x.size(), (out, Device::Cpu))?;
    let stats = new_stats(x)?;
    add_norm_into(x, change, None, alpha, params, &sum, &y, &stats)?;
    Ok((sum, y, stats))
}

/// As [`add_norm`], into `sum`, `y` and `stats`; also adds `bias`, f32 `[channels]` or `[groups, channels]`, which is
/// that of the product that gave `change`: `sum = alpha * x + (change + bias)`. `sum` may be `change` itself.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
#[expect(clippy::too_many_arguments, reason = "inputs and outputs of one pass")]
pub fn add_norm_into(
    x: &Tensor,
    change: &Tensor,
    bias: Option<&Tensor>,
    alpha: f64,
    params: &NormParams<'_>,
    sum: &Tensor,
    y: &Tensor,
    stats: &Tensor,
) -> Result<()> {
    let added = (x, change, bias, alpha);
    by_kind!("sum", sum, X => by_kind!("change", change, C => by_kind!("y", y, Y =>
        add_forward::<X, C, Y>(added, params, sum, y, stats))))
}

/// Gradients of [`norm`]. `dy` is the gradient of `y`, `stats` what the forward pass returned, and `add`, if
/// given, a gradient that reached `x` another way (the residual branch), of the kind of `x`: it is added to `dx`.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn norm_backward(
    dy: &Tensor,
    x: &Tensor,
    stats: &Tensor,
    params: &NormParams<'_>,
    add: Option<&Tensor>,
) -> Result<NormGradients> {
    let dx = Tensor::f_empty(x.size(), (x.f_kind()?, Device::Cpu))?;
    let d_weight = params.weight.f_zeros_like()?;
    let d_bias = params.bias.map(Tensor::f_zeros_like).transpose()?;
    let sums = NormSums { d_weight: &d_weight, d_bias: d_bias.as_ref() };
    norm_backward_into(dy, x, stats, params, add, &dx, &sums)?;
    Ok(NormGradients { dx, d_weight, d_bias })
}

/// As [`norm_backward`], into `dx`, and added to `sums`. `dx` may be `add` itself.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn norm_backward_into(
    dy: &Tensor,
    x: &Tensor,
    stats: &Tensor,
    params: &NormParams<'_>,
    add: Option<&Tensor>,
    dx: &Tensor,
    sums: &NormSums<'_>,
) -> Result<()> {
    by_kind!("dy", dy, D => by_kind!("x", x, X =>
        backward::<D, X>(dy, x, stats, params, add, dx, sums)))
}

pub(super) fn new_stats(x: &Tensor) -> Result<Tensor> {
    let rows = x.size().first().copied().unwrap_or(0);
    Ok(Tensor::f_empty([rows, 2], (Kind::Float, Device::Cpu))?)
}

/// A norm's parameters as slices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine<'a> {
    kind: NormType,
    eps: f32,
    weight: Parameter<&'a [f32]>,
    bias: Option<Parameter<&'a [f32]>>,
}

impl<'a> Affine<'a> {
    pub(super) fn new(
        loans: &mut Loans,
        params: &NormParams<'a>,
        shape: [usize; 2],
    ) -> Result<Self> {
        let weight = loans.parameter("weight of the norm", params.weight, shape)?;
        let bias = params.bias.map(|bias| loans.parameter("bias of the norm", bias, shape));
        Ok(Self { kind: params.kind, eps: params.eps as f32, weight, bias: bias.transpose()? })
    }

    pub(super) fn groups(&self) -> usize {
        self.bias.map_or(1, |bias| bias.groups).max(self.weight.groups)
    }

    /// Mean and reciprocal of the root of one row.
    #[inline(always)]
    fn stats<M: Machine, X: Element>(&self, x: &[X]) -> [f32; 2] {
        let scale = 1.0 / x.len() as f32;
        let mean = match self.kind {
            NormType::Layer => sum(x) * scale,
            NormType::Rms => 0.0,
        };
        let square = centred_square::<M, X>(x, mean) * scale;
        [mean, 1.0 / (square + self.eps).sqrt()]
    }

    /// The norm of one row, and its stats.
    #[inline(always)]
    pub(super) fn forward<M: Machine, X: Element, Y: Element>(
        &self,
        group: usize,
        x: &[X],
        y: &mut [Y],
    ) -> [f32; 2] {
        let [mean, rstd] = self.stats::<M, X>(x);
        let n = y.len();
        let (x, weight) = (&x[..n], &self.weight.of(group)[..n]);
        match self.bias {
            Some(bias) => {
                let bias = &bias.of(group)[..n];
                for i in 0..n {
                    let x_hat = (x[i].get() - mean) * rstd;
                    y[i] = Y::put(fma::<M>(x_hat, weight[i], bias[i]));
                }
            }
            None => {
                for i in 0..n {
                    y[i] = Y::put((x[i].get() - mean) * rstd * weight[i]);
                }
            }
        }
        [mean, rstd]
    }

    /// What [`Self::gradient`] of one row needs, after adding to the sums of the parameters' gradients.
    #[inline(always)]
    pub(super) fn pull<M: Machine, D: Element, X: Element>(
        &self,
        group: usize,
        dy: &[D],
        x: &[X],
        stats: &[f32],
        [d_weight, d_bias]: [&mut [f32]; 2],
    ) -> Pulled<'a> {
        let (mean, rstd) = (stats[0], stats[1]);
        let weight = self.weight.of(group);
        let n = d_weight.len();
        let (dy_n, x_n) = (&dy[..n], &x[..n]);
        for i in 0..n {
            d_weight[i] = fma::<M>(dy_n[i].get(), (x_n[i].get() - mean) * rstd, d_weight[i]);
        }
        accumulate(d_bias, dy);
        // dx = rstd * (g - mean(g) - x_hat * mean(g * x_hat)), the first mean only for LayerNorm.
        let [g, g_centred] = dot::<M, D, X>(dy, weight, x, mean);
        let scale = rstd / x.len() as f32;
        let offset = match self.kind {
            NormType::Layer => -g * scale,
            NormType::Rms => 0.0,
        };
        Pulled { weight, mean, rstd, slope: -rstd * rstd * g_centred * scale, offset }
    }
}

/// The gradient of a row: `rstd * dy * weight + slope * (x - mean) + offset`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulled<'a> {
    pub(super) weight: &'a [f32],
    mean: f32,
    rstd: f32,
    slope: f32,
    offset: f32,
}

impl Pulled<'_> {
    /// For one channel.
    #[inline(always)]
    pub(super) fn gradient<M: Machine>(&self, dy: f32, weight: f32, x: f32) -> f32 {
        fma::<M>(self.slope, x - self.mean, fma::<M>(self.rstd * weight, dy, self.offset))
    }
}

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

fn forward<X: Element, Y: Element>(
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
            self.added.into_row::<M, X>(self.part.group, row, sum);
            let found = self.affine.forward::<M, X, Y>(self.part.group, sum, self.y.row(i));
            self.stats.row(i).copy_from_slice(&found);
        }
    }
}

/// `added` is x, change, its bias, and alpha.
fn add_forward<X: Element, C: Element, Y: Element>(
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

fn backward<D: Element, X: Element>(
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
pub(super) struct NormTotals<'a> {
    weight: Sums<'a>,
    bias: Sums<'a>,
}

impl<'a> NormTotals<'a> {
    pub(super) fn new(
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

    pub(super) fn slots(&mut self, n_parts: usize) -> impl Iterator<Item = [&mut [f32]; 2]> {
        let bias = self.bias.slots(n_parts);
        self.weight.slots(n_parts).into_iter().zip(bias).map(|(weight, bias)| [weight, bias])
    }

    pub(super) fn finish(self, parts: &[Part]) {
        self.weight.finish(parts);
        self.bias.finish(parts);
    }
}

#[cfg(test)]
mod tests;
