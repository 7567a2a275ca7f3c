//! LayerNorm and RMSNorm, forwards and backwards.

use tch::{Device, Kind, Tensor};

use super::element::{Element, by_kind};
use super::lanes::{centred_square, dot, pull, sum};
use super::loans::Loans;
use super::machine::{Kernel, Machine, run};
use super::math::fma;
use super::residual::{Residual, take_row};
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

    pub(super) fn weight(&self, group: usize) -> &'a [f32] {
        self.weight.of(group)
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

    /// The gradient of one row, `[slope, offset]` such that
    /// `dx = rstd * dy * weight + slope * x + offset`, after adding to the sums of the parameters' gradients.
    #[inline(always)]
    pub(super) fn backward<M: Machine, D: Element, X: Element>(
        &self,
        group: usize,
        dy: &[D],
        x: &[X],
        [mean, rstd]: [f32; 2],
        [d_weight, d_bias]: [&mut [f32]; 2],
    ) -> [f32; 2] {
        let [g, g_x] = dot::<M, D, X>(dy, self.weight.of(group), x, [mean, rstd]);
        if !d_weight.is_empty() {
            let n = d_weight.len();
            let (dy, x) = (&dy[..n], &x[..n]);
            for i in 0..n {
                d_weight[i] = fma::<M>(dy[i].get(), (x[i].get() - mean) * rstd, d_weight[i]);
            }
        }
        pull(d_bias, dy);
        // dx = rstd * (g - mean(g) - x_hat * mean(g * x_hat)), the first mean only for LayerNorm.
        let scale = 1.0 / x.len() as f32;
        let slope = -rstd * rstd * g_x * scale;
        let common = match self.kind {
            NormType::Layer => -rstd * g * scale,
            NormType::Rms => 0.0,
        };
        [slope, common - slope * mean]
    }
}

struct Forward<'a, X> {
    x: Rows<'a, X>,
    affine: Affine<'a>,
}

impl<'a, X: Element> Forward<'a, X> {
    fn run_into<Y: Element>(
        &self,
        parts: Vec<Part>,
        y: RowsMut<'a, Y>,
        stats: RowsMut<'a, f32>,
    ) -> Result<()> {
        let outs = y.split(&parts).into_iter().zip(stats.split(&parts));
        let jobs = parts.into_iter().zip(outs).map(|(part, (y, stats))| (part, y, stats));
        run(&Into::<Y, _>(self, std::marker::PhantomData), jobs.collect(), GRAIN)
    }
}

struct Into<'k, Y, K>(&'k K, std::marker::PhantomData<fn(Y)>);
