//! A decoder as the training loop sees it.

use forerun_arch::{Decoder, Forward, flops_per_token};
use forerun_tensors::Parameters;
use forerun_train::{BoxError, Model, Pass};
use tch::Tensor;

/// A decoder, or a stack of them, that is trained with ordinary causal attention.
#[derive(Debug)]
pub struct Language<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// Whether its blocks go one operation at a time.
    pub op_by_op: bool,
}

impl Model for Language<'_> {
    fn parameters(&self) -> &Parameters {
        self.decoder.parameters()
    }

    fn hidden(&self, tokens: &Tensor, pass: Pass) -> Result<Tensor, BoxError> {
        let Pass { train, activation_checkpointing } = pass;
        let op_by_op = self.op_by_op;
        let options = Forward { train, activation_checkpointing, op_by_op, ..Forward::default() };
        Ok(self.decoder.hidden(tokens, &options)?)
    }

    fn head(&self) -> &Tensor {
        self.decoder.head()
    }

    fn logit_scale(&self) -> f64 {
        self.decoder.logit_scale()
    }

    fn flops_per_token(&self, seq_len: i64) -> f64 {
        flops_per_token(self.decoder.config(), seq_len)
    }
}
