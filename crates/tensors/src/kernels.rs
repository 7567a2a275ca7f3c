//! Row kernels for the CPU: what a transformer block does between its matrix products.
//!
//! Every kernel takes dense f32 or bf16 rows, computes in f32, makes one pass over memory where libtorch's operations
//! make several, and records nothing for autograd. A tensor of rows is `[rows, channels]` whose last dimension is
//! contiguous; its rows may lie further apart, as those of a slice of columns do. Each kernel has a form that
//! returns new tensors and one, `…_into`, that writes into tensors which are there, and *adds* to the gradients of
//! parameters. What is written must not overlap with what is read.
//!
//! A parameter is f32 `[channels]`, or `[groups, channels]` if the rows are those of `groups` models of one shape
//! one after the other, equally many rows each.
//!
//! Rows are spread over libtorch's threads. The results, also those of sums over rows, do not depend on how many threads there are.

mod reference;

use tch::{Device, Kind, Tensor};

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
    /// f32, like the bias; there is one if and only if there is a bias.
    pub d_bias: Option<&'a Tensor>,
}

/// The norm of each row of `x`: `y` of the kind `out`, and `stats`, f32 `[rows, 2]`: mean (0 for RMSNorm) and
/// reciprocal of the root.
pub fn norm(x: &Tensor, params: &NormParams<'_>, out: Kind) -> Result<(Tensor, Tensor)> {
    let (rows, channels) = x.size2()?;
    let y = Tensor::f_empty([rows, channels], (out, Device::Cpu))?;
    let stats = Tensor::f_empty([rows, 2], (Kind::Float, Device::Cpu))?;
    norm_into(x, params, &y, &stats)?;
    Ok((y, stats))
}

/// As [`norm`], into `y` and `stats`.
pub fn norm_into(x: &Tensor, params: &NormParams<'_>, y: &Tensor, stats: &Tensor) -> Result<()> {
    reference::norm_into(x, params, y, stats)
}

/// `sum = alpha * x + change` and its norm, in one pass: `(sum, y, stats)`; `sum` has the kind of `x`, `y` the kind
/// `out`. This is post-norm with DeepNorm's `alpha`, and, for `alpha` 1, a residual sum with the next norm.
pub fn add_norm(
    x: &Tensor,
    change: &Tensor,
    alpha: f64,
    params: &NormParams<'_>,
    out: Kind,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (rows, channels) = x.size2()?;
    let sum = Tensor::f_empty([rows, channels], (x.f_kind()?, Device::Cpu))?;
    let y = Tensor::f_empty([rows, channels], (out, Device::Cpu))?;
    let stats = Tensor::f_empty([rows, 2], (Kind::Float, Device::Cpu))?;
    add_norm_into(x, change, None, alpha, params, &sum, &y, &stats)?;
    Ok((sum, y, stats))
}

/// As [`add_norm`], into `sum`, `y` and `stats`; also adds `bias`, f32 `[channels]` or `[groups, channels]`,
/// which is that of the product that gave `change`: `sum = alpha * x + (change + bias)`.
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
    reference::add_norm_into(x, change, bias, alpha, params, sum, y, stats)
}

/// Gradients of [`norm`]. `dy` is the gradient of `y`, `stats` what the forward pass returned, and `add`, if
/// given, a gradient that reached `x` another way (the residual branch): it is added to `dx`.
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

/// As [`norm_backward`], into `dx`, and added to `sums`.
pub fn norm_backward_into(
    dy: &Tensor,
    x: &Tensor,
    stats: &Tensor,
    params: &NormParams<'_>,
    add: Option<&Tensor>,
    dx: &Tensor,
    sums: &NormSums<'_>,
) -> Result<()> {
    reference::norm_backward_into(dy, x, stats, params, add, dx, sums)
}

/// The nonlinearity of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * Phi(x)` with the exact normal distribution function.
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(x)`; with a gate this is SwiGLU.
    Swish,
}

/// What multiplies the activation: `gate + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// `[rows, d_ff]`, of the kind of `u`.
    pub u: &'a Tensor,
    /// f32 `[d_ff]` or `[groups, d_ff]`, added to `u` before anything else.
    pub bias: Option<&'a Tensor>,
}

/// The middle of an MLP: `a = norm(kind(u + bias) * (gate.u + gate.bias))`.
#[derive(Clone, Copy, Debug)]
pub struct Middle<'a> {
    /// The nonlinearity.
    pub kind: Activation,
    /// What the first matrix gave, without its bias: `[rows, d_ff]`.
    pub u: &'a Tensor,
    /// f32 `[d_ff]` or `[groups, d_ff]`.
    pub bias: Option<&'a Tensor>,
    /// For SwiGLU and its kin.
    pub gate: Option<Gate<'a>>,
    /// Magneto's norm before the second matrix.
    pub norm: Option<NormParams<'a>>,
}

/// Gradients of [`activation`].
#[derive(Debug)]
pub struct ActivationGradients {
    /// Of the kind of `u`.
    pub du: Tensor,
    /// Of `gate.u`, if there is a gate.
    pub d_gate: Option<Tensor>,
    /// f32, like the bias, if there is one.
    pub d_bias: Option<Tensor>,
    /// f32, like the gate's bias, if there is one.
    pub d_gate_bias: Option<Tensor>,
    /// f32, like the norm's weight, if there is a norm.
    pub d_norm_weight: Option<Tensor>,
    /// f32, like the norm's bias, if there is one.
    pub d_norm_bias: Option<Tensor>,
}

/// Where [`activation_backward_into`] adds; each is there if and only if the parameter is.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActivationSums<'a> {
    /// f32, like the bias.
    pub d_bias: Option<&'a Tensor>,
    /// f32, like the gate's bias.
    pub d_gate_bias: Option<&'a Tensor>,
    /// f32, like the norm's parameters.
    pub norm: Option<NormSums<'a>>,
}

/// The middle of an MLP: `a`, `[rows, d_ff]` of the kind `out`, and, if there is a norm, its `stats`.
pub fn activation(middle: &Middle<'_>, out: Kind) -> Result<(Tensor, Option<Tensor>)> {
    let (rows, d_ff) = middle.u.size2()?;
    let a = Tensor::f_empty([rows, d_ff], (out, Device::Cpu))?;
    let stats = || Tensor::f_empty([rows, 2], (Kind::Float, Device::Cpu));
    let stats = middle.norm.map(|_| stats()).transpose()?;
    activation_into(middle, &a, stats.as_ref())?;
    Ok((a, stats))
}

/// As [`activation`], into `a` and, if there is a norm, `stats`.
pub fn activation_into(middle: &Middle<'_>, a: &Tensor, stats: Option<&Tensor>) -> Result<()> {
    reference::activation_into(middle, a, stats)
}

/// Gradients of [`activation`] from `da`, the gradient of `a`; recomputes the activation from `u`.
pub fn activation_backward(
    da: &Tensor,
    middle: &Middle<'_>,
    stats: Option<&Tensor>,
) -> Result<ActivationGradients> {
    let zeros = |like: Option<&Tensor>| like.map(Tensor::f_zeros_like).transpose();
    let empty = |like: &Tensor| Tensor::f_empty(like.size(), (like.f_kind()?, Device::Cpu));
    let du = empty(middle.u)?;
    let d_gate = middle.gate.map(|gate| empty(gate.u)).transpose()?;
    let d_bias = zeros(middle.bias)?;
    let d_gate_bias = zeros(middle.gate.and_then(|gate| gate.bias))?;
    let d_norm_weight = zeros(middle.norm.map(|norm| norm.weight))?;
    let d_norm_bias = zeros(middle.norm.and_then(|norm| norm.bias))?;
    let norm =
        d_norm_weight.as_ref().map(|d_weight| NormSums { d_weight, d_bias: d_norm_bias.as_ref() });
    let sums = ActivationSums { d_bias: d_bias.as_ref(), d_gate_bias: d_gate_bias.as_ref(), norm };
    activation_backward_into(da, middle, stats, &du, d_gate.as_ref(), &sums)?;
    Ok(ActivationGradients { du, d_gate, d_bias, d_gate_bias, d_norm_weight, d_norm_bias })
}

/// As [`activation_backward`], into `du` and, if there is a gate, `d_gate`, and added to `sums`. `du` may be
/// `middle.u` itself, and `d_gate` may be `gate.u` itself: they are then overwritten.
pub fn activation_backward_into(
    da: &Tensor,
    middle: &Middle<'_>,
    stats: Option<&Tensor>,
    du: &Tensor,
    d_gate: Option<&Tensor>,
    sums: &ActivationSums<'_>,
) -> Result<()> {
    reference::activation_backward_into(da, middle, stats, du, d_gate, sums)
}

/// Which channels of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// 2i and 2i + 1.
    Interleaved,
    /// i and i + `head_dim`/2.
    HalfSplit,
}

/// A rotation of the channel pairs (a, b) of each head: `(a cos - b sin, b cos + a sin)`; the tables may hold a
/// factor, as those of xPos do.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// Which channels are a pair.
    pub pairs: Pairs,
    /// f32 `[seq, head_dim / 2]`, of any strides.
    pub cos: &'a Tensor,
    /// As `cos`.
    pub sin: &'a Tensor,
}

/// From the product of a projection, `x`, `[batch * seq, heads * head_dim]` without its bias, to the heads,
/// `[batch, heads, seq, head_dim]` of the kind of `x`, rotated. `bias` is f32 `[width]` or `[groups, width]`.
pub fn split_heads(
    x: &Tensor,
    bias: Option<&Tensor>,
    turn: Option<&Turn<'_>>,
    batch: i64,
    heads: i64,
) -> Result<Tensor> {
    let (rows, width) = x.size2()?;
    let size = [batch, heads, rows / batch.max(1), width / heads.max(1)];
    let out = Tensor::f_empty(size, (x.f_kind()?, Device::Cpu))?;
    split_heads_into(x, bias, turn, &out)?;
    Ok(out)
}

/// As [`split_heads`], into `heads`, `[batch, heads, seq, head_dim]` of any strides but the last, which is 1: it
/// may be a view of `[batch, seq, heads, head_dim]`. `heads` may be `x` itself seen that way.
pub fn split_heads_into(
    x: &Tensor,
    bias: Option<&Tensor>,
    turn: Option<&Turn<'_>>,
    heads: &Tensor,
) -> Result<()> {
    reference::split_heads_into(x, bias, turn, heads)
}

/// Gradient of [`split_heads`] from that of the heads, `[batch, heads, seq, head_dim]` of any strides but the
/// last, which is 1: into `dx`, `[batch * seq, heads * head_dim]`, which may be a slice of columns of a wider tensor;
/// the sums over its rows are added to `d_bias`, f32 `[width]` or `[groups, width]`, if given.
pub fn split_heads_backward_into(
    d_heads: &Tensor,
    turn: Option<&Turn<'_>>,
    dx: &Tensor,
    d_bias: Option<&Tensor>,
) -> Result<()> {
    reference::split_heads_backward_into(d_heads, turn, dx, d_bias)
}

/// From heads, `[batch, heads, seq, head_dim]` of any strides but the last, to rows, `[batch * seq, heads * head_dim]`.
pub fn merge_heads(heads: &Tensor) -> Result<Tensor> {
    let (batch, n_heads, seq, head_dim) = heads.size4()?;
    let rows = Tensor::f_empty([batch * seq, n_heads * head_dim], (heads.f_kind()?, Device::Cpu))?;
    split_heads_backward_into(heads, None, &rows, None)?;
    Ok(rows)
}

/// Sums over the rows of each of `groups` parts of `x`, `[rows, channels]`: f32 `[groups, channels]`.
pub fn column_sums(x: &Tensor, groups: i64) -> Result<Tensor> {
    let sums = Tensor::f_zeros([groups, x.size2()?.1], (Kind::Float, Device::Cpu))?;
    column_sums_into(x, &sums)?;
    Ok(sums)
}

/// Adds to `sums`, f32 `[channels]` or `[groups, channels]`, the sums over the rows of `x`.
pub fn column_sums_into(x: &Tensor, sums: &Tensor) -> Result<()> {
    reference::column_sums_into(x, sums)
}

/// `out = out + bias + alpha * residual` in one pass: what follows the last product of a branch. `out` and
/// `residual` are `[rows, channels]` of any kinds, `bias` f32 `[channels]` or `[groups, channels]`.
pub fn bias_residual(
    out: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<(&Tensor, f64)>,
) -> Result<()> {
    reference::bias_residual(out, bias, residual)
}

/// Negative log-likelihood of each row's target in nats, f32 `[rows]`, 0 where the target is
/// [`IGNORED`](crate::IGNORED); `logits`, `[rows, vocab]`, is what is multiplied by `logit_scale` first, and is replaced by
/// the gradient of the summed loss with respect to it: `logit_scale * (softmax - one_hot)`, 0 where ignored.
pub fn cross_entropy_rows(logits: &Tensor, targets: &Tensor, logit_scale: f64) -> Result<Tensor> {
    reference::cross_entropy_rows(logits, targets, logit_scale)
}

/// As [`cross_entropy_rows`], but `logits` stays as it is.
pub fn nll_rows(logits: &Tensor, targets: &Tensor, logit_scale: f64) -> Result<Tensor> {
    let own = logits.f_empty_like()?;
    own.shallow_clone().f_copy_(logits)?;
    reference::cross_entropy_rows(&own, targets, logit_scale)
}
