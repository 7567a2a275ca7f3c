//! The middle of an MLP: bias, nonlinearity, gate and norm, forwards and backwards.

mod backward;
mod forward;
mod functions;

use tch::{Device, Kind, Tensor};

use super::element::{Element, by_kind};
use super::loans::Loans;
use super::machine::Machine;
use super::norm::{Affine, NormParams, NormSums, new_stats};
use super::rows::{Parameter, Part, RowsMut};
use crate::error::{Result, ensure};
use backward::backward;
use forward::forward;
use functions::{Gelu, Relu, Swish, both, values};

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

/// What multiplies the activation: `u + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// `[rows, d_ff]`, of the kind of the activation's `u`.
    pub u: &'a Tensor,
    /// f32 `[d_ff]` or `[groups, d_ff]`.
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

/// Where [`activation_backward_into`] adds; what is not there is not computed.
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
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn activation(middle: &Middle<'_>, out: Kind) -> Result<(Tensor, Option<Tensor>)> {
    let a = Tensor::f_empty(middle.u.size(), (out, Device::Cpu))?;
    let stats = middle.norm.map(|_| new_stats(middle.u)).transpose()?;
    activation_into(middle, &a, stats.as_ref())?;
    Ok((a, stats))
}

/// As [`activation`], into `a` and, if there is a norm, `stats`.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn activation_into(middle: &Middle<'_>, a: &Tensor, stats: Option<&Tensor>) -> Result<()> {
    by_kind!("u", middle.u, U => by_kind!("a", a, A => forward::<U, A>(middle, a, stats)))
}

/// Gradients of [`activation`] from `da`, the gradient of `a`; recomputes the activation from `u`.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
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
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn activation_backward_into(
    da: &Tensor,
    middle: &Middle<'_>,
    stats: Option<&Tensor>,
    du: &Tensor,
    d_gate: Option<&Tensor>,
    sums: &ActivationSums<'_>,
) -> Result<()> {
    by_kind!("u", middle.u, U => by_kind!("da", da, A =>
        backward::<A, U>((da, After::Kept), middle, stats, du, d_gate, sums)))
}

/// As [`activation_backward_into`], and puts the activation in the place of `da`: computed on the way, for the product
/// that gives the second matrix's gradient.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn activation_backward_swap(
    da: &Tensor,
    middle: &Middle<'_>,
    stats: Option<&Tensor>,
    du: &Tensor,
    d_gate: Option<&Tensor>,
    sums: &ActivationSums<'_>,
) -> Result<()> {
    by_kind!("u", middle.u, U => by_kind!("da", da, A =>
        backward::<A, U>((da, After::Activation), middle, stats, du, d_gate, sums)))
}

/// What is in `da` after the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Kept,
    Activation,
}

/// What of a [`Middle`] is not a row.
#[derive(Clone, Copy, Debug)]
struct Constants<'a> {
    kind: Activation,
    bias: Option<Parameter<&'a [f32]>>,
    gate_bias: Option<Parameter<&'a [f32]>>,
    norm: Option<Affine<'a>>,
    /// In place of a bias that is not there.
    zeros: &'a [f32],
}

impl<'a> Constants<'a> {
    fn new(
        loans: &mut Loans,
        middle: &Middle<'a>,
        shape: [usize; 2],
        zeros: &'a [f32],
    ) -> Result<Self> {
        let gate_bias = middle.gate.and_then(|gate| gate.bias);
        let bias = middle.bias.map(|bias| loans.parameter("bias", bias, shape)).transpose()?;
        let gate_bias = gate_bias.map(|bias| loans.parameter("bias of the gate", bias, shape));
        let norm = middle.norm.as_ref().map(|norm| Affine::new(loans, norm, shape)).transpose()?;
        Ok(Self { kind: middle.kind, bias, gate_bias: gate_bias.transpose()?, norm, zeros })
    }

    fn groups(&self) -> usize {
        let of = |parameter: Option<Parameter<&[f32]>>| parameter.map_or(1, |found| found.groups);
        let norm = self.norm.map_or(1, |norm| norm.groups());
        of(self.bias).max(of(self.gate_bias)).max(norm)
    }

    #[inline(always)]
    fn bias(&self, group: usize) -> &'a [f32] {
        self.bias.map_or(self.zeros, |bias| bias.of(group))
    }

    #[inline(always)]
    fn gate_bias(&self, group: usize) -> &'a [f32] {
        self.gate_bias.map_or(self.zeros, |bias| bias.of(group))
    }

    #[inline(always)]
    fn values<M: Machine, U: Element, O: Element>(
        &self,
        group: usize,
        u: &[U],
        gate: Option<&[U]>,
        out: &mut [O],
    ) {
        let (bias, gate) = (self.bias(group), gate.map(|gate| (gate, self.gate_bias(group))));
        match self.kind {
            Activation::Gelu => values::<M, Gelu, U, O>(u, bias, gate, out),
            Activation::Relu => values::<M, Relu, U, O>(u, bias, gate, out),
            Activation::Swish => values::<M, Swish, U, O>(u, bias, gate, out),
        }
    }

    #[inline(always)]
    fn both<M: Machine, U: Element>(
        &self,
        group: usize,
        u: &[U],
        value: &mut [f32],
        slope: &mut [f32],
    ) {
        let bias = self.bias(group);
        match self.kind {
            Activation::Gelu => both::<M, Gelu, U>(u, bias, value, slope),
            Activation::Relu => both::<M, Relu, U>(u, bias, value, slope),
            Activation::Swish => both::<M, Swish, U>(u, bias, value, slope),
        }
    }
}

/// Stats are there if and only if there is a norm.
fn ensure_stats(middle: &Middle<'_>, stats: Option<&Tensor>) -> Result<()> {
    let got = if stats.is_some() { "there" } else { "absent" };
    let want = if middle.norm.is_some() { "there, for the norm" } else { "absent without a norm" };
    ensure(stats.is_some() == middle.norm.is_some(), "stats", want, got)
}

fn split_optional<'a, E>(
    rows: Option<RowsMut<'a, E>>,
    parts: &[Part],
) -> Vec<Option<RowsMut<'a, E>>> {
    match rows {
        Some(rows) => rows.split(parts).into_iter().map(Some).collect(),
        None => parts.iter().map(|_| None).collect(),
    }
}

#[cfg(test)]
mod tests;
