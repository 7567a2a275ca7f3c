//! LayerNorm and RMSNorm, forwards and backwards.

mod backward;
mod forward;

use tch::{Device, Kind, Tensor};

use super::element::{Element, by_kind};
use super::lanes::{accumulate, centred_square, dot, sum};
use super::loans::Loans;
use super::machine::Machine;
use super::math::fma;
use super::rows::Parameter;
use crate::error::Result;
use backward::backward;
use forward::{add_forward, forward};

pub(super) use backward::NormTotals;

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
        let stats = self.stats::<M, X>(x);
        self.again::<M, X, Y>(group, x, &stats, y);
        stats
    }

    /// The norm of one row whose stats are known.
    #[inline(always)]
    pub(super) fn again<M: Machine, X: Element, Y: Element>(
        &self,
        group: usize,
        x: &[X],
        stats: &[f32],
        y: &mut [Y],
    ) {
        let (mean, rstd) = (stats[0], stats[1]);
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

#[cfg(test)]
mod tests;
