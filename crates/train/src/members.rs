//! How the tensors of a model hold its members: a single model, or a stack with the members before every shape.

use forerun_tensors::{
    Parameters, chunked_cross_entropy, chunked_cross_entropy_stack, global_norm, token_nll,
};
use tch::{Device, Kind, Tensor};

use crate::error::{Result, ensure};
use crate::model::Model;

/// What a model is to this crate. Everything here treats a single model as the case of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    Single,
    /// Of so many.
    Stack(i64),
}

impl Members {
    /// Told by the head: `[vocab, d_model]`, or `[members, vocab, d_model]`.
    pub(crate) fn of(model: &dyn Model) -> Self {
        match model.head().size().as_slice() {
            &[members, _, _] => Self::Stack(members),
            _ => Self::Single,
        }
    }

    pub(crate) fn count(self) -> i64 {
        match self {
            Self::Single => 1,
            Self::Stack(members) => members,
        }
    }

    /// For what makes sense for one model only.
    pub(crate) fn ensure_single(self) -> Result<()> {
        let got = format!("a stack of {}", self.count());
        ensure(self == Self::Single, "model", "a single one", got)
    }

    /// Checks that each parameter has the members before its shape.
    pub(crate) fn ensure_fits(self, parameters: &Parameters) -> Result<()> {
        let Self::Stack(members) = self else { return Ok(()) };
        for parameter in parameters {
            let size = parameter.tensor.size();
            let want = format!("[{members}, ..] in a stack of {members}");
            let got = format!("{size:?} for `{}`", parameter.name);
            ensure(size.first() == Some(&members), "shape of a parameter", want, got)?;
        }
        Ok(())
    }

    /// Views of what each member has of a parameter or of what belongs to one, without history.
    pub(crate) fn views(self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        let plain = tensor.f_detach()?;
        Ok(match self {
            Self::Single => vec![plain],
            Self::Stack(_) => plain.f_unbind(0)?,
        })
    }

    /// The shape of one number for each member.
    pub(crate) fn scalars(self) -> Vec<i64> {
        match self {
            Self::Single => Vec::new(),
            Self::Stack(members) => vec![members],
        }
    }

    /// Sum of each member's losses, nats, f32 `[members]` with gradients; `hidden` is `[members * tokens, d_model]`,
    /// `targets` i64 `[members * tokens]`.
    pub(crate) fn loss_sums(
        self,
        model: &dyn Model,
        hidden: &Tensor,
        targets: &Tensor,
        chunk_tokens: i64,
    ) -> Result<Tensor> {
        let (head, scale) = (model.head(), model.logit_scale());
        Ok(match self {
            Self::Single => {
                chunked_cross_entropy(hidden, head, targets, scale, chunk_tokens)?.f_unsqueeze(0)?
            }
            Self::Stack(members) => {
                let hidden = hidden.f_unflatten(0, [members, -1])?; // [members, tokens, d_model]
                let targets = targets.f_view([members, -1])?;
                chunked_cross_entropy_stack(&hidden, head, &targets, scale, chunk_tokens)?
            }
        })
    }

    /// As [`Self::loss_sums`] without gradients, f64; `targets`, i64 `[tokens]`, are the same for each member.
    pub(crate) fn nll_sums(
        self,
        model: &dyn Model,
        hidden: &Tensor,
        targets: &Tensor,
        chunk_tokens: i64,
    ) -> Result<Tensor> {
        let scale = model.logit_scale();
        let hidden = hidden.f_unflatten(0, [self.count(), -1])?.f_unbind(0)?;
        let heads = self.views(model.head())?;
        let sums = hidden.iter().zip(&heads).map(|(hidden, head)| {
            let nll = token_nll(hidden, head, targets, scale, chunk_tokens)?; // [tokens], 0 for padding
            Ok(nll.f_sum(Kind::Double)?)
        });
        Ok(Tensor::f_stack(&sums.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// Euclidean norm of all gradients of each member, f32 `[members]`.
    pub(crate) fn norms(self, gradients: &[Tensor]) -> Result<Tensor> {
        let Self::Stack(members) = self else {
            return Ok(global_norm(&gradients.iter().collect::<Vec<_>>())?.f_unsqueeze(0)?);
        };
        ensure(!gradients.is_empty(), "gradients", "at least one", "none")?;
        let norm = |gradient: &Tensor| {
            let rows = gradient.f_reshape([members, -1])?;
            rows.f_norm_scalaropt_dim(2, [1_i64].as_slice(), false)
        };
        let norms = gradients.iter().map(norm).collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::f_stack(&norms, 1)?.f_norm_scalaropt_dim(2, [1_i64].as_slice(), false)?)
    }

    /// Multiplies the gradients of each member by its factor, in place.
    pub(crate) fn scale(self, gradients: &mut [Tensor], factors: &[f32]) -> Result<()> {
        let factors = Tensor::f_from_slice(factors)?;
        for gradient in gradients {
            let mut shape = self.scalars();
            shape.resize(gradient.dim(), 1);
            let factors = factors.f_view(shape.as_slice())?.f_to_device(gradient.device())?;
            let _ = gradient.f_mul_(&factors)?;
        }
        Ok(())
    }
}

/// One number for each member, from whatever device.
pub(crate) fn read(numbers: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(numbers.f_detach()?.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?)?)
}
