//! The feed-forward sub-layer, with Magneto's norm before the second matrix.

use forerun_tensors::Result;
use tch::Tensor;

use crate::config::Activation;
use crate::embedding::dropout;
use crate::linear::Linear;
use crate::norm::Norm;

/// The MLP of a block.
#[derive(Debug)]
pub(crate) struct Mlp {
    pub(crate) activation: Activation,
    pub(crate) fc1: Linear,
    /// Only for [`Activation::SwiGlu`].
    pub(crate) gate: Option<Linear>,
    pub(crate) fc2: Linear,
    pub(crate) norm: Option<Norm>,
    /// After the nonlinearity.
    pub(crate) activation_dropout: f64,
    /// On the output.
    pub(crate) dropout: f64,
}

impl Mlp {
    /// `x` is `[.., d_model]`, and so is the result.
    pub(crate) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let wide = self.fc1.forward(x)?; // [.., d_ff]
        let mut active = match self.activation {
            Activation::Gelu => wide.f_gelu("none")?,
            Activation::Relu => wide.f_relu()?,
            Activation::Swish | Activation::SwiGlu => wide.f_silu()?,
        };
        if let Some(gate) = &self.gate {
            active = active.f_mul(&gate.forward(x)?)?;
        }
        active = dropout(active, self.activation_dropout, train)?;
        if let Some(norm) = &self.norm {
            active = norm.forward(&active)?;
        }
        dropout(self.fc2.forward(&active)?, self.dropout, train)
    }

    pub(crate) fn share(&self) -> Self {
        Self {
            fc1: self.fc1.share(),
            gate: self.gate.as_ref().map(Linear::share),
            fc2: self.fc2.share(),
            norm: self.norm.as_ref().map(Norm::share),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests;
