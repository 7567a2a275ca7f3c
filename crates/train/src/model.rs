//! What the loop asks of a model and of its data. Both are implemented elsewhere: this crate knows neither
//! architectures nor files.

use forerun_tensors::Parameters;
use tch::Tensor;

use crate::error::BoxError;

/// What a forward pass is for; [`Default`] is evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Whether dropout acts.
    pub train: bool,
    /// Whether the model should keep few activations and compute the others again in the backward pass. A model
    /// that cannot may ignore it: only memory and time depend on it.
    pub activation_checkpointing: bool,
}

/// A language model as the loop sees it: parameters, hidden states, and the matrix that turns them into logits.
///
/// The loss is computed here, chunk by chunk, so that the full logits `[batch, seq, vocab]` never exist.
///
/// A stack of several models of one shape, for [`train_stack`](crate::train_stack), has the members before the shape of
/// every parameter and of the head, and reads `[members * batch, seq]`, the rows of the first member first. No member
/// may see another's rows or parameters.
pub trait Model {
    /// Every trainable tensor with its name, role and learning-rate multiplier.
    fn parameters(&self) -> &Parameters;

    /// Hidden states `[batch, seq, d_model]` after the final norm, of token ids `tokens`, i64 `[batch, seq]`.
    ///
    /// # Errors
    /// Whatever the model reports; exhausted memory is recognised from libtorch's text anywhere in the chain.
    fn hidden(&self, tokens: &Tensor, pass: Pass) -> Result<Tensor, BoxError>;

    /// The output matrix `[vocab, d_model]`, of a stack `[members, vocab, d_model]`; its device is the one that training runs on.
    fn head(&self) -> &Tensor;

    /// Factor on the logits; 1 unless the parametrisation says otherwise.
    fn logit_scale(&self) -> f64;

    /// Floating-point operations of forward and backward pass per token of a sequence of `seq_len`, which one member of
    /// a stack reads.
    fn flops_per_token(&self, seq_len: i64) -> f64;
}

/// An endless, already shuffled stream of rows, addressed by global index, so that any number of ranks (and a
/// resumed run) can take up anywhere.
pub trait Sequences {
    /// Rows `first_index .. first_index + n` as i64 `[n, seq_len + 1]` on the CPU.
    ///
    /// A token id of [`IGNORED`](crate::IGNORED) is padding: it is not predicted, and the model reads 0 in its place. Put it behind
    /// the text, where a causal model cannot see it.
    ///
    /// # Errors
    /// Whatever the source reports.
    fn rows(&mut self, first_index: u64, n: usize) -> Result<Tensor, BoxError>;
}
