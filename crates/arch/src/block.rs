//! One block: attention and MLP, each with its residual connection and norms.

use forerun_tensors::Result;
use tch::Tensor;

use crate::attention::Attention;
use crate::cache::Slot;
use crate::config::NormPlacement;
use crate::fused;
use crate::mlp::Mlp;
use crate::norm::Norm;
use crate::plan::Plan;

/// A block of a decoder.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) placement: NormPlacement,
    /// DeepNorm's residual factor α; 1 elsewhere.
    pub(crate) alpha: f64,
    pub(crate) attention: Attention,
    pub(crate) attention_norm: Norm,
    pub(crate) mlp: Mlp,
    pub(crate) mlp_norm: Norm,
}

impl Block {
    /// As [`Self::forward`] without a cache, in one piece where that can be, unless it is to go `op_by_op`.
    pub(crate) fn run(
        &self,
        x: &Tensor,
        plan: &Plan,
        train: bool,
        op_by_op: bool,
    ) -> Result<Tensor> {
        let whole = if op_by_op { None } else { fused::forward(self, x, plan, train)? };
        match whole {
            Some(x) => Ok(x),
            None => self.forward(x, plan, train, None),
        }
    }

    /// `x` is the residual stream, `[batch, seq, d_model]`, and so is the result.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        plan: &Plan,
        train: bool,
        slot: Option<Slot<'_>>,
    ) -> Result<Tensor> {
        let attended =
            self.attention.forward(&self.enter(x, &self.attention_norm)?, plan, train, slot)?;
        let x = self.leave(x, &attended, &self.attention_norm)?;
        let fed = self.mlp.forward(&self.enter(&x, &self.mlp_norm)?, train)?;
        self.leave(&x, &fed, &self.mlp_norm)
    }

    /// What attention sees of the residual stream.
    pub(crate) fn attention_input(&self, x: &Tensor) -> Result<Tensor> {
        self.enter(x, &self.attention_norm)
    }

    fn enter(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        match self.placement {
            NormPlacement::Pre | NormPlacement::Sub => norm.forward(x),
            NormPlacement::Post | NormPlacement::Deep => Ok(x.shallow_clone()),
        }
    }

    fn leave(&self, x: &Tensor, change: &Tensor, norm: &Norm) -> Result<Tensor> {
        match self.placement {
            NormPlacement::Pre | NormPlacement::Sub => Ok(x.f_add(change)?),
            NormPlacement::Post => norm.forward(&x.f_add(change)?),
            NormPlacement::Deep => norm.forward(&x.f_mul_scalar(self.alpha)?.f_add(change)?),
        }
    }

    /// The same parameters, for a closure that must own what it captures.
    pub(crate) fn share(&self) -> Self {
        Self {
            placement: self.placement,
            alpha: self.alpha,
            attention: self.attention.share(),
            attention_norm: self.attention_norm.share(),
            mlp: self.mlp.share(),
            mlp_norm: self.mlp_norm.share(),
        }
    }
}
