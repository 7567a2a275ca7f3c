//! Cross-entropy from hidden states, without the full table of logits.
//!
//! With `tokens` x `vocab` logits in f32, the plain loss holds them, their softmax and their gradient: for 8192
//! tokens and a vocabulary of 50 000, three times 1.6 GB. Here only `chunk_tokens` rows exist at a time, and both
//! gradients are computed in the forward pass, from the same logits. Beyond the inputs, the peak is
//!
//! - `chunk_tokens * vocab` logits in f32 twice over,
//! - the gradients that are asked for: `tokens * d_model` in the kind of the hidden states and `vocab * d_model` in f32,
//!   each a second time while the backward pass scales it,
//! - under autocast, narrow copies of hidden states and head.
//!
//! Under autocast the products are computed in its format, the softmax and all sums in f32.

use tch::{Kind, Tensor};

use crate::autocast::Autocast;
use crate::error::{Error, Result, ensure};
use crate::function::custom_function;
use crate::shim::{GradMode, grad_enabled};

/// The target of a token that does not count.
pub const IGNORED: i64 = -100;

/// Sum over the counted tokens of their negative log-likelihood in nats: an f32 scalar (f64 for f64 inputs),
/// with gradients to `hidden` and `head`.
///
/// `hidden` is `[tokens, d_model]`, `head` is `[vocab, d_model]`, `targets` is i64 `[tokens]` with
/// [`IGNORED`] for tokens that do not count. The logits are `logit_scale * hidden * headᵀ`.
///
/// # Errors
/// [`Error::Shape`] or [`Error::Config`] if the arguments do not fit together;
/// [`Error::Tch`] if a target is not in the vocabulary.
pub fn chunked_cross_entropy(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    logit_scale: f64,
    chunk_tokens: i64,
) -> Result<Tensor> {
    let wanted = |tensor: &Tensor| grad_enabled() && tensor.requires_grad();
    let (hidden_wanted, head_wanted) = (wanted(hidden), wanted(head));
    let inputs = Inputs::new(hidden, head, targets, logit_scale, chunk_tokens)?;
    let no_graph = GradMode::set(false);
    let _plain = Autocast::disable(inputs.hidden.device())?; // the casts are made here, by hand
    let scalar = (inputs.sum_kind, inputs.hidden.device());
    let mut loss = Tensor::f_zeros([0i64; 0], scalar)?;
    let mut d_hidden = hidden_wanted.then(|| hidden.f_empty_like()).transpose()?;
    let mut d_head = head_wanted.then(|| Tensor::f_zeros(head.size(), scalar)).transpose()?;
    for (start, len) in inputs.chunks() {
        let chunk = inputs.chunk(start, len)?;
        loss = loss.f_add(&chunk.nll.f_sum(None)?)?;
        if d_hidden.is_none() && d_head.is_none() {
            continue;
        }
        let d_logits = chunk.into_d_logits(logit_scale)?.f_to_kind(inputs.kind)?; // [chunk, vocab]
        if let Some(d_hidden) = &mut d_hidden {
            d_hidden.f_narrow(0, start, len)?.f_copy_(&d_logits.f_matmul(&inputs.head)?)?;
        }
        if let Some(d_head) = &mut d_head {
            accumulate(d_head, &d_logits, &inputs.hidden.f_narrow(0, start, len)?)?;
        }
    }
    drop(no_graph);
    let d_head = d_head.map(|gradient| gradient.f_to_kind(head.kind())).transpose()?;
    let scaled = |gradient: &Option<Tensor>, by: &Tensor| -> Result<Option<Tensor>> {
        let Some(gradient) = gradient else { return Ok(None) };
        Ok(Some(gradient.f_mul(&by.f_to_kind(gradient.kind())?)?))
    };
    let outputs = custom_function(&[hidden, head], vec![loss], move |grads| match grads {
        [grad] => Ok(vec![scaled(&d_hidden, grad)?, scaled(&d_head, grad)?]),
        _ => Err(Error::Foreign("a loss has one gradient".to_owned())),
    })?;
    outputs.into_iter().next().ok_or_else(|| Error::Foreign("a loss has one output".to_owned()))
}

/// [`chunked_cross_entropy`] of each of `members` models: `[members]` sums of the kind that it returns, whose gradients
/// reach each member's own hidden states and head only.
///
/// `hidden` is `[members, tokens, d_model]`, `head` is `[members, vocab, d_model]`, `targets` is i64 `[members, tokens]`.
///
/// # Errors
/// As for [`chunked_cross_entropy`].
pub fn chunked_cross_entropy_stack(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    logit_scale: f64,
    chunk_tokens: i64,
) -> Result<Tensor> {
    let members = hidden.size().first().copied().unwrap_or(0);
    let one = |i| {
        let (hidden, head) = (hidden.f_select(0, i)?, head.f_select(0, i)?);
        chunked_cross_entropy(&hidden, &head, &targets.f_select(0, i)?, logit_scale, chunk_tokens)
    };
    let sums = (0..members).map(one).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_stack(&sums, 0)?)
}

/// Negative log-likelihood of each token in nats, f32 `[tokens]` (f64 for f64 inputs), 0 where the target is
/// [`IGNORED`]; without gradients. Arguments and errors as for [`chunked_cross_entropy`].
///
/// # Errors
/// As for [`chunked_cross_entropy`].
pub fn token_nll(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    logit_scale: f64,
    chunk_tokens: i64,
) -> Result<Tensor> {
    let inputs = Inputs::new(hidden, head, targets, logit_scale, chunk_tokens)?;
    let _no_graph = GradMode::set(false);
    let _plain = Autocast::disable(inputs.hidden.device())?;
    let nll = Tensor::f_empty(targets.size(), (inputs.sum_kind, inputs.hidden.device()))?;
    for (start, len) in inputs.chunks() {
        nll.f_narrow(0, start, len)?.f_copy_(&inputs.chunk(start, len)?.nll)?;
    }
    Ok(nll)
}

/// Checked arguments, in the format of the products.
struct Inputs {
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    logit_scale: f64,
    chunk_tokens: i64,
    /// Of the products.
    kind: Kind,
    /// Of the softmax and the sums.
    sum_kind: Kind,
}

/// One chunk after its forward pass.
struct Chunk {
    logits: Tensor,  // [chunk, vocab]
    lse: Tensor,     // [chunk, 1]
    targets: Tensor, // [chunk, 1], in the vocabulary
    counted: Tensor, // [chunk, 1], 1 or 0
    nll: Tensor,     // [chunk]
}

impl Inputs {
    fn new(
        hidden: &Tensor,
        head: &Tensor,
        targets: &Tensor,
        logit_scale: f64,
        chunk_tokens: i64,
    ) -> Result<Self> {
        let shape = |arg, want: String, tensor: &Tensor| {
            Err(Error::Shape { arg, want, got: tensor.size() })
        };
        let &[tokens, d_model] = hidden.size().as_slice() else {
            return shape("hidden", "[tokens, d_model]".to_owned(), hidden);
        };
        if !matches!(head.size().as_slice(), &[vocab, width] if vocab > 0 && width == d_model) {
            return shape("head", format!("[vocab, {d_model}]"), head);
        }
        if targets.size() != [tokens] {
            return shape("targets", format!("[{tokens}]"), targets);
        }
        let target_kind = targets.f_kind()?;
        ensure(target_kind == Kind::Int64, "kind of targets", "Int64", format!("{target_kind:?}"))?;
        ensure(logit_scale.is_finite(), "logit_scale", "finite", logit_scale)?;
        ensure(chunk_tokens > 0, "chunk_tokens", "positive", chunk_tokens)?;
        let own = hidden.f_kind()?;
        let float = matches!(own, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
        ensure(float, "kind of hidden", "a floating-point kind", format!("{own:?}"))?;
        // As autocast does: f64 stays what it is.
        let narrow = Autocast::active(hidden.device())?.filter(|_| own != Kind::Double);
        let kind = narrow.unwrap_or(own);
        let _no_graph = GradMode::set(false);
        let _plain = Autocast::disable(hidden.device())?;
        Ok(Self {
            hidden: hidden.f_detach()?.f_to_kind(kind)?,
            head: head.f_detach()?.f_to_kind(kind)?,
            targets: targets.f_unsqueeze(1)?,
            logit_scale,
            chunk_tokens,
            kind,
            sum_kind: if own == Kind::Double { Kind::Double } else { Kind::Float },
        })
    }

    /// Start and length of each chunk, in tokens.
    fn chunks(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let (tokens, step) = (self.hidden.size()[0], self.chunk_tokens);
        (0..tokens).step_by(step as usize).map(move |start| (start, step.min(tokens - start)))
    }

    fn chunk(&self, start: i64, len: i64) -> Result<Chunk> {
        let targets = self.targets.f_narrow(0, start, len)?; // [chunk, 1]
        let counted = targets.f_ne(IGNORED)?;
        let targets = targets.f_where_self(&counted, &targets.f_zeros_like()?)?;
        let product =
            self.hidden.f_narrow(0, start, len)?.f_matmul(&self.head.f_transpose(0, 1)?)?;
        let mut logits = product.f_to_kind(self.sum_kind)?; // [chunk, vocab]
        if self.logit_scale != 1.0 {
            logits = logits.f_mul_scalar_(self.logit_scale)?;
        }
        let lse = logits.f_logsumexp([-1i64].as_slice(), true)?;
        let counted = counted.f_to_kind(self.sum_kind)?;
        // Where nothing counts, a NaN or infinity must not leak through 0 * x.
        let nll = lse.f_sub(&logits.f_gather(1, &targets, false)?)?;
        let nll = nll.f_where_self(&counted.f_ne(0)?, &nll.f_zeros_like()?)?.f_squeeze_dim(1)?;
        Ok(Chunk { logits, lse, targets, counted, nll })
    }
}

impl Chunk {
    /// Gradient of the chunk's summed loss with respect to the product of hidden states and head, in the place
    /// of the logits: `scale * (softmax - one_hot)`.
    fn into_d_logits(self, logit_scale: f64) -> Result<Tensor> {
        let Self { mut logits, lse, targets, counted, .. } = self;
        let mut probabilities = logits.f_sub_(&lse)?.f_exp_()?;
        let minus_one = counted.f_ones_like()?.f_neg()?;
        let mut difference = probabilities.f_scatter_add_(1, &targets, &minus_one)?;
        Ok(difference.f_mul_(&counted.f_mul_scalar(logit_scale)?)?)
    }
}

/// `sum += d_logitsᵀ * hidden`.
fn accumulate(sum: &mut Tensor, d_logits: &Tensor, hidden: &Tensor) -> Result<()> {
    let d_logits = d_logits.f_transpose(0, 1)?; // [vocab, chunk]
    if sum.kind() == hidden.kind() {
        let _ = sum.f_addmm_(&d_logits, hidden)?;
    } else {
        let _ = sum.f_add_(&d_logits.f_matmul(hidden)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
