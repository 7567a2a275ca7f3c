//! The gated MLP.

use forerun_tensors::Result;
use forerun_tensors::kernels::{self, Activation, Gate, Middle};
use tch::Tensor;

use super::pass::Pass;
use super::projection::{Joined, Projection};

/// The MLP of a block.
#[derive(Debug)]
pub(crate) struct LmMlp {
    /// Gate and linear part.
    pub(crate) gate_up: Joined,
    pub(crate) down: Projection,
    pub(crate) kind: Gating,
}

/// What the gate does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gating {
    /// `silu(gate) · up`.
    SwiGlu,
    /// Phi-3-small's, with the bound on both parts.
    GeGelu(Option<f64>),
}

impl LmMlp {
    /// `x` is `[rows, d_model]`, and so is the result.
    pub(crate) fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let pieces = self.gate_up.run(x, pass)?;
        let [gate, up] = pieces.as_slice() else {
            return Err(forerun_tensors::Error::Foreign("an MLP without its two parts".into()));
        };
        self.down.run(&self.gated(gate, up, pass)?, pass)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor, pass: Pass) -> Result<Tensor> {
        match self.kind {
            Gating::SwiGlu if pass.fast => {
                let up = Gate { u: up, bias: None };
                let (kind, gate) = (Activation::Swish, gate);
                let middle = Middle { kind, u: gate, bias: None, gate: Some(up), norm: None };
                Ok(kernels::activation(&middle, pass.kind)?.0)
            }
            Gating::SwiGlu => Ok(gate.f_silu()?.f_mul(up)?),
            Gating::GeGelu(limit) => gegelu_of(gate, up, limit),
        }
    }
}

/// `a · sigmoid(1.702 a) · (b + 1)`, with `a` at most `limit` and `b` within ±`limit`; what is infinite stays so.
pub(crate) fn gegelu_of(a: &Tensor, b: &Tensor, limit: Option<f64>) -> Result<Tensor> {
    let bounded = |x: &Tensor, least: f64| -> Result<Tensor> {
        let Some(limit) = limit else { return Ok(x.shallow_clone()) };
        let cut = x.f_clamp(least * limit, limit)?;
        Ok(x.f_where_self(&x.f_isinf()?, &cut)?)
    };
    let (a, b) = (bounded(a, f64::NEG_INFINITY)?, bounded(b, -1.0)?);
    let gate = a.f_mul(&a.f_mul_scalar(1.702)?.f_sigmoid()?)?;
    Ok(gate.f_mul(&b.f_add_scalar(1.0)?)?)
}
