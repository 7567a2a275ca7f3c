//! The middle of an MLP: bias, nonlinearity, gate and norm, forwards and backwards.

use tch::{Device, Kind, Tensor};

use super::element::{Element, by_kind};
use super::lanes::accumulate;
use super::loans::Loans;
use super::machine::{Job, Machine, run};
use super::math::{fma, normal_cdf, normal_density, sigmoid};
use super::norm::{Affine, NormParams, NormSums, NormTotals, new_stats};
use super::rows::{GRAIN, Parameter, Part, Rows, RowsMut, Sums, parts};
use crate::error::{Result, ensure};

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
        backward::<A, U>(da, middle, stats, du, d_gate, sums)))
}

/// A nonlinearity of one number.
trait Function {
    fn value<M: Machine>(x: f32) -> f32;
    /// Value and derivative.
    fn both<M: Machine>(x: f32) -> (f32, f32);
}

struct Gelu;
struct Relu;
struct Swish;

impl Function for Gelu {
    #[inline(always)]
    fn value<M: Machine>(x: f32) -> f32 {
        x * normal_cdf::<M>(x)
    }

    #[inline(always)]
    fn both<M: Machine>(x: f32) -> (f32, f32) {
        let below = normal_cdf::<M>(x);
        (x * below, fma::<M>(x, normal_density::<M>(x), below))
    }
}

impl Function for Relu {
    #[inline(always)]
    fn value<M: Machine>(x: f32) -> f32 {
        // NaN stays NaN.
        if x < 0.0 { 0.0 } else { x }
    }

    #[inline(always)]
    fn both<M: Machine>(x: f32) -> (f32, f32) {
        (Self::value::<M>(x), if x > 0.0 { 1.0 } else { 0.0 })
    }
}

impl Function for Swish {
    #[inline(always)]
    fn value<M: Machine>(x: f32) -> f32 {
        x * sigmoid::<M>(x)
    }

    #[inline(always)]
    fn both<M: Machine>(x: f32) -> (f32, f32) {
        let gate = sigmoid::<M>(x);
        (x * gate, gate * fma::<M>(x, 1.0 - gate, 1.0))
    }
}

/// `F(u + bias) * (gate + gate_bias)`.
#[inline(always)]
fn values<M: Machine, F: Function, U: Element, O: Element>(
    u: &[U],
    bias: &[f32],
    gate: Option<(&[U], &[f32])>,
    out: &mut [O],
) {
    let n = out.len();
    let (u, bias) = (&u[..n], &bias[..n]);
    match gate {
        Some((gate, gate_bias)) => {
            let (gate, gate_bias) = (&gate[..n], &gate_bias[..n]);
            for i in 0..n {
                let value = F::value::<M>(u[i].get() + bias[i]);
                out[i] = O::put(value * (gate[i].get() + gate_bias[i]));
            }
        }
        None => {
            for i in 0..n {
                out[i] = O::put(F::value::<M>(u[i].get() + bias[i]));
            }
        }
    }
}

/// Values and derivatives of `F(u + bias)`.
#[inline(always)]
fn both<M: Machine, F: Function, U: Element>(
    u: &[U],
    bias: &[f32],
    value: &mut [f32],
    slope: &mut [f32],
) {
    let n = u.len();
    let (bias, value, slope) = (&bias[..n], &mut value[..n], &mut slope[..n]);
    for i in 0..n {
        (value[i], slope[i]) = F::both::<M>(u[i].get() + bias[i]);
    }
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

struct Forward<'a, U, A> {
    constants: Constants<'a>,
    u: Rows<'a, U>,
    gate: Option<Rows<'a, U>>,
    part: Part,
    a: RowsMut<'a, A>,
    stats: Option<RowsMut<'a, f32>>,
}

impl<U: Element, A: Element> Job for Forward<'_, U, A> {
    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { constants, u, gate, part: Part { group, rows }, mut a, mut stats } = self;
        let mut scratch = vec![0.0f32; if stats.is_some() { u.shape()[1] } else { 0 }];
        for (i, row) in rows.enumerate() {
            let (u, gate, a) = (u.row(row), gate.map(|gate| gate.row(row)), a.row(i));
            match (&constants.norm, &mut stats) {
                (Some(norm), Some(stats)) => {
                    constants.values::<M, U, f32>(group, u, gate, &mut scratch);
                    let found = norm.forward::<M, f32, A>(group, &scratch, a);
                    stats.row(i).copy_from_slice(&found);
                }
                _ => constants.values::<M, U, A>(group, u, gate, a),
            }
        }
    }
}

fn forward<U: Element, A: Element>(
    middle: &Middle<'_>,
    a: &Tensor,
    stats: Option<&Tensor>,
) -> Result<()> {
    ensure_stats(middle, stats)?;
    let mut loans = Loans::default();
    let u: Rows<'_, U> = loans.rows("u", middle.u)?;
    let shape @ [rows, width] = u.shape();
    let zeros = vec![0.0; width];
    let constants = Constants::new(&mut loans, middle, shape, &zeros)?;
    let gate = middle.gate.map(|gate| loans.rows_of::<U>("gate", gate.u, shape)).transpose()?;
    let parts = parts(rows, constants.groups(), width);
    let a = loans.rows_mut::<A>("a", a, shape)?.split(&parts);
    let stats = stats.map(|stats| loans.rows_mut("stats", stats, [rows, 2])).transpose()?;
    let stats = split_optional(stats, &parts);
    let jobs = parts.into_iter().zip(a.into_iter().zip(stats));
    run(jobs.map(|(part, (a, stats))| Forward { constants, u, gate, part, a, stats }), GRAIN)
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

struct Backward<'a, A, U> {
    constants: Constants<'a>,
    da: Rows<'a, A>,
    /// None: it lies in `du`.
    u: Option<Rows<'a, U>>,
    /// The inner None: it lies in `d_gate`.
    gate: Option<Option<Rows<'a, U>>>,
    stats: Option<Rows<'a, f32>>,
    part: Part,
    du: RowsMut<'a, U>,
    d_gate: Option<RowsMut<'a, U>>,
    d_bias: &'a mut [f32],
    d_gate_bias: &'a mut [f32],
    norm_sums: [&'a mut [f32]; 2],
}

/// Rows of one job, f32.
struct Scratch {
    /// The nonlinearity and its derivative.
    value: Vec<f32>,
    slope: Vec<f32>,
    /// The gate with its bias, if there is one.
    gate: Vec<f32>,
    /// What the norm sees.
    normed: Vec<f32>,
    /// The gradient of `kind(u) * gate`.
    grad: Vec<f32>,
}

impl Scratch {
    fn new(width: usize) -> Self {
        let row = || vec![0.0; width];
        Self { value: row(), slope: row(), gate: row(), normed: row(), grad: row() }
    }
}

impl<A: Element, U: Element> Backward<'_, A, U> {
    /// The activation of row `i` of this part, again.
    #[inline(always)]
    fn recompute<M: Machine>(&mut self, i: usize, row: usize, scratch: &mut Scratch) {
        let (constants, group) = (&self.constants, self.part.group);
        let u = match &self.u {
            Some(u) => u.row(row),
            None => &*self.du.row(i),
        };
        constants.both::<M, U>(group, u, &mut scratch.value, &mut scratch.slope);
        let Some(d_gate) = &mut self.d_gate else { return };
        let gate = match &self.gate {
            Some(Some(gate)) => gate.row(row),
            _ => &*d_gate.row(i),
        };
        let n = scratch.gate.len();
        let (gate, bias) = (&gate[..n], &constants.gate_bias(group)[..n]);
        for i in 0..n {
            scratch.gate[i] = gate[i].get() + bias[i];
        }
    }

    /// From the gradient of the result to that before the norm, in `scratch.grad`.
    #[inline(always)]
    fn before_norm<M: Machine>(&mut self, row: usize, scratch: &mut Scratch) {
        let da = self.da.row(row);
        let n = da.len();
        let Scratch { value, gate, normed, grad, .. } = scratch;
        let (value, gate) = (&value[..n], &gate[..n]);
        let (normed, grad) = (&mut normed[..n], &mut grad[..n]);
        let (Some(norm), Some(stats)) = (&self.constants.norm, &self.stats) else {
            for i in 0..n {
                grad[i] = da[i].get();
            }
            return;
        };
        if self.d_gate.is_some() {
            for i in 0..n {
                normed[i] = value[i] * gate[i];
            }
        } else {
            normed.copy_from_slice(value);
        }
        let [d_weight, d_bias] = &mut self.norm_sums;
        let (sums, stats) = ([&mut **d_weight, &mut **d_bias], stats.row(row));
        let pulled = norm.pull::<M, A, f32>(self.part.group, da, normed, stats, sums);
        let weight = &pulled.weight[..n];
        for i in 0..n {
            grad[i] = pulled.gradient::<M>(da[i].get(), weight[i], normed[i]);
        }
    }

    /// From the gradient before the norm to those of the two products.
    #[inline(always)]
    fn finish(&mut self, i: usize, scratch: &Scratch) {
        let du = self.du.row(i);
        let n = du.len();
        let Scratch { value, slope, gate, grad, .. } = scratch;
        let (value, slope) = (&value[..n], &slope[..n]);
        let (gate, grad) = (&gate[..n], &grad[..n]);
        if let Some(d_gate) = &mut self.d_gate {
            let d_gate = &mut d_gate.row(i)[..n];
            for i in 0..n {
                d_gate[i] = U::put(grad[i] * value[i]);
                du[i] = U::put(grad[i] * gate[i] * slope[i]);
            }
            accumulate(self.d_gate_bias, d_gate);
        } else {
            for i in 0..n {
                du[i] = U::put(grad[i] * slope[i]);
            }
        }
        accumulate(self.d_bias, du);
    }
}

impl<A: Element, U: Element> Job for Backward<'_, A, U> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        let mut scratch = Scratch::new(self.da.shape()[1]);
        for (i, row) in self.part.rows.clone().enumerate() {
            self.recompute::<M>(i, row, &mut scratch);
            self.before_norm::<M>(row, &mut scratch);
            self.finish(i, &scratch);
        }
    }
}

fn backward<A: Element, U: Element>(
    da: &Tensor,
    middle: &Middle<'_>,
    stats: Option<&Tensor>,
    du: &Tensor,
    d_gate: Option<&Tensor>,
    sums: &ActivationSums<'_>,
) -> Result<()> {
    ensure_stats(middle, stats)?;
    let got = if d_gate.is_some() { "there" } else { "absent" };
    ensure(d_gate.is_some() == middle.gate.is_some(), "d_gate", "there if a gate is", got)?;
    let mut loans = Loans::default();
    let da: Rows<'_, A> = loans.rows("da", da)?;
    let shape @ [rows, width] = da.shape();
    let zeros = vec![0.0; width];
    let constants = Constants::new(&mut loans, middle, shape, &zeros)?;
    let stats = stats.map(|stats| loans.rows_of("stats", stats, [rows, 2])).transpose()?;
    let u = loans.rows_unless::<U>("u", middle.u, du, shape)?;
    let gate = match (middle.gate, d_gate) {
        (Some(gate), Some(out)) => Some(loans.rows_unless::<U>("gate", gate.u, out, shape)?),
        _ => None,
    };
    let parts = parts(rows, constants.groups(), width);
    let du = loans.rows_mut::<U>("du", du, shape)?.split(&parts);
    let d_gate = d_gate.map(|out| loans.rows_mut::<U>("d_gate", out, shape)).transpose()?;
    let mut d_gate = split_optional(d_gate, &parts).into_iter();
    let mut total = |arg, sum: Option<_>| -> Result<Sums<'_>> {
        let sum = sum.map(|sum| loans.parameter_mut(arg, sum, shape)).transpose()?;
        Ok(Sums::new(sum, parts.len()))
    };
    let mut d_bias = total("d_bias", sums.d_bias)?;
    let mut d_gate_bias = total("d_bias of the gate", sums.d_gate_bias)?;
    let norm = sums.norm.as_ref();
    let mut norm = NormTotals::new(&mut loans, norm, shape, parts.len())?;
    let slots = d_bias.slots(parts.len()).into_iter().zip(d_gate_bias.slots(parts.len()));
    let slots = slots.zip(norm.slots(parts.len()));
    let jobs = parts.iter().cloned().zip(du).zip(slots);
    let job = |((part, du), ((d_bias, d_gate_bias), norm_sums))| {
        let d_gate = d_gate.next().flatten();
        Backward { constants, da, u, gate, stats, part, du, d_gate, d_bias, d_gate_bias, norm_sums }
    };
    run(jobs.map(job), GRAIN)?;
    d_bias.finish(&parts);
    d_gate_bias.finish(&parts);
    norm.finish(&parts);
    Ok(())
}

#[cfg(test)]
mod tests;
