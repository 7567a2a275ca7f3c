//! `arch` models and `tokens` text as the training loop sees them.

use forerun_arch::{Decoder, Forward, flops_per_token};
use forerun_tensors::Parameters;
use forerun_tokens::{Packed, Sampler};
use forerun_train::{BoxError, Model, Pass, Sequences};
use tch::Tensor;

/// A decoder that is trained with ordinary causal attention.
pub(crate) struct LanguageModel<'a>(pub(crate) &'a Decoder);

impl Model for LanguageModel<'_> {
    fn parameters(&self) -> &Parameters {
        self.0.parameters()
    }

    fn hidden(&self, tokens: &Tensor, pass: Pass) -> Result<Tensor, BoxError> {
        let Pass { train, activation_checkpointing } = pass;
        let options = Forward { train, activation_checkpointing, ..Forward::default() };
        Ok(self.0.hidden(tokens, &options)?)
    }

    fn head(&self) -> &Tensor {
        self.0.head()
    }

    fn logit_scale(&self) -> f64 {
        self.0.logit_scale()
    }

    fn flops_per_token(&self, seq_len: i64) -> f64 {
        flops_per_token(self.0.config(), seq_len)
    }
}

/// Packed text in an order: shuffled for training, as it stands for evaluation.
pub(crate) struct Rows<'a> {
    packed: &'a Packed,
    order: Option<Sampler>,
}

impl<'a> Rows<'a> {
    /// Rows in a new random order every epoch.
    pub(crate) fn shuffled(packed: &'a Packed, sampler: Sampler) -> Self {
        Self { packed, order: Some(sampler) }
    }

    /// Rows in the order of the text.
    pub(crate) fn in_order(packed: &'a Packed) -> Self {
        Self { packed, order: None }
    }
}

impl Sequences for Rows<'_> {
    fn rows(&mut self, first_index: u64, n: usize) -> Result<Tensor, BoxError> {
        let width = self.packed.seq_len() + 1;
        let mut ids = Vec::with_capacity(n * width);
        for position in first_index..first_index + n as u64 {
            let row = match &self.order {
                Some(sampler) => sampler.index(position).1,
                None => position,
            };
            ids.extend(self.packed.row(row)?);
        }
        Ok(Tensor::f_from_slice(&ids)?.f_view([n as i64, width as i64])?)
    }
}
