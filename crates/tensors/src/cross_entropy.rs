//! Cross-entropy from hidden states, without the full table of logits.
//!
//! With `tokens` x `vocab` logits in f32, the plain loss holds them, their softmax and their gradient: for 8192
//! tokens and a vocabulary of 50 000, three times 1.6 GB. Here only `chunk_tokens` rows exist at a time, and both
//! gradients are computed in the forward pass, from the same logits. Beyond the inputs, the peak is
//!
//! - `chunk_tokens * vocab` logits in f32 twice over (on the CPU once, in the format of the products),
//! - the gradients that are asked for: `tokens * d_model` in the kind of the hidden states and `vocab * d_model` in f32,
//!   each a second time while the backward pass scales it,
//! - under autocast, narrow copies of hidden states and head.
//!
//! Under autocast the products are computed in its format, the softmax and all sums in f32.
//!
//! On the CPU the softmax, the loss and the gradient of the logits are one kernel, which puts the gradient where the
//! logits were (`kernels::cross_entropy_rows`); elsewhere, and in f64, they are libtorch's operations.

use tch::{Device, Kind, Tensor};

use crate::autocast::Autocast;
use crate::error::{Error, Result, ensure};
use crate::function::custom_function;
use crate::kernels::{cross_entropy_rows, nll_rows};
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
/// [`Error::Shape`] or [`Error::Config`] if the arguments do not fit together or a target is not in the vocabulary;
/// [`Error::Tch`] if the latter is found out by libtorch.
pub fn chunked_cross_entropy(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    logit_scale: f64,
    chunk_tokens: i64,
) -> Result<Tensor> {
    let inputs = Inputs::new(hidden, head, targets, logit_scale, chunk_tokens)?;
    let outs = Outs::new(hidden, head, &[], inputs.sum_kind)?;
    inputs.add_up(&outs)?;
    drop(inputs);
    outs.into_function(hidden, head)
}

/// [`chunked_cross_entropy`] of each of `members` models: `[members]` sums of the kind that it returns, whose gradients
/// reach each member's own hidden states and head only. A member's sum and gradients are bit for bit those that it
/// has alone.
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
    let &[members @ 1..=i64::MAX, _, _] = hidden.size().as_slice() else {
        let want = "[members, tokens, d_model]".to_owned();
        return Err(Error::Shape { arg: "hidden", want, got: hidden.size() });
    };
    for (arg, tensor, rest) in [("head", head, "vocab, d_model"), ("targets", targets, "tokens")] {
        let found = tensor.size();
        if found.first() != Some(&members) {
            return Err(Error::Shape { arg, want: format!("[{members}, {rest}]"), got: found });
        }
    }
    let mut outs: Option<Outs> = None;
    for i in 0..members {
        let of = |tensor: &Tensor| tensor.f_select(0, i);
        let (hidden_i, head_i, targets_i) = (of(hidden)?, of(head)?, of(targets)?);
        let inputs = Inputs::new(&hidden_i, &head_i, &targets_i, logit_scale, chunk_tokens)?;
        let outs = match &mut outs {
            Some(outs) => outs,
            none => none.insert(Outs::new(hidden, head, &[members], inputs.sum_kind)?),
        };
        inputs.add_up(&outs.member(i)?)?;
    }
    let outs = outs.ok_or_else(|| Error::Foreign("a stack has at least one member".to_owned()))?;
    outs.into_function(hidden, head)
}

/// Sums and the gradients that are wanted, of one model or a stack.
struct Outs {
    /// `[]` or `[members]`.
    loss: Tensor,
    d_hidden: Option<Tensor>,
    /// In the kind of the sums.
    d_head: Option<Tensor>,
}

impl Outs {
    fn new(hidden: &Tensor, head: &Tensor, members: &[i64], sum_kind: Kind) -> Result<Self> {
        let recording = grad_enabled();
        let _no_graph = GradMode::set(false);
        let wanted = |tensor: &Tensor| recording && tensor.requires_grad();
        let sums = (sum_kind, hidden.device());
        let d_hidden = wanted(hidden)
            .then(|| Tensor::f_empty(hidden.size(), (hidden.f_kind()?, hidden.device())));
        Ok(Self {
            loss: Tensor::f_zeros(members, sums)?,
            d_hidden: d_hidden.transpose()?,
            d_head: wanted(head).then(|| Tensor::f_zeros(head.size(), sums)).transpose()?,
        })
    }

    /// Views of one member's.
    fn member(&self, i: i64) -> Result<Self> {
        let of = |tensor: &Option<Tensor>| tensor.as_ref().map(|x| x.f_select(0, i)).transpose();
        Ok(Self {
            loss: self.loss.f_select(0, i)?,
            d_hidden: of(&self.d_hidden)?,
            d_head: of(&self.d_head)?,
        })
    }

    /// The loss as a function of what it was computed from.
    fn into_function(self, hidden: &Tensor, head: &Tensor) -> Result<Tensor> {
        let Self { loss, d_hidden, d_head } = self;
        let d_head = d_head.map(|gradient| gradient.f_to_kind(head.kind())).transpose()?;
        let scaled = |gradient: &Option<Tensor>, by: &Tensor| -> Result<Option<Tensor>> {
            let Some(gradient) = gradient else { return Ok(None) };
            // One factor for each member: [] or [members, 1, 1].
            let by = if by.dim() == 0 { by.shallow_clone() } else { by.f_view([-1, 1, 1])? };
            Ok(Some(gradient.f_mul(&by.f_to_kind(gradient.kind())?)?))
        };
        let outputs = custom_function(&[hidden, head], vec![loss], move |grads| match grads {
            [grad] => Ok(vec![scaled(&d_hidden, grad)?, scaled(&d_head, grad)?]),
            _ => Err(Error::Foreign("a loss has one gradient".to_owned())),
        })?;
        let none = || Error::Foreign("a loss has one output".to_owned());
        outputs.into_iter().next().ok_or_else(none)
    }
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
        let found = match inputs.logits_for_kernel(start, len)? {
            Some(logits) => nll_rows(&logits, &inputs.target_rows(start, len)?, logit_scale)?,
            None => inputs.chunk(start, len)?.nll,
        };
        nll.f_narrow(0, start, len)?.f_copy_(&found)?;
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
    /// Where the kernel's logits go, chunk after chunk: `[chunk_tokens, vocab]`. None if libtorch's operations are used.
    buffer: Option<Tensor>,
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
        let known = matches!(kind, Kind::Float | Kind::BFloat16);
        let buffer = (known && hidden.device() == Device::Cpu).then(|| {
            let size = [chunk_tokens.min(tokens), head.size()[0]];
            Tensor::f_empty(size, (kind, Device::Cpu))
        });
        Ok(Self {
            hidden: hidden.f_detach()?.f_to_kind(kind)?,
            head: head.f_detach()?.f_to_kind(kind)?,
            targets: targets.f_contiguous()?.f_unsqueeze(1)?,
            logit_scale,
            chunk_tokens,
            kind,
            sum_kind: if own == Kind::Double { Kind::Double } else { Kind::Float },
            buffer: buffer.transpose()?,
        })
    }

    /// The loss, and the gradients that are wanted, into `outs`.
    fn add_up(&self, outs: &Outs) -> Result<()> {
        let _no_graph = GradMode::set(false);
        let _plain = Autocast::disable(self.hidden.device())?; // the casts were made by hand
        let wanted = outs.d_hidden.is_some() || outs.d_head.is_some();
        let mut loss = outs.loss.shallow_clone();
        for (start, len) in self.chunks() {
            let (nll, d_logits) = self.chunk_with_gradient(start, len, wanted)?;
            let _ = loss.f_add_(&nll.f_sum(None)?)?;
            let Some(d_logits) = d_logits else { continue };
            if let Some(d_hidden) = &outs.d_hidden {
                let mut rows = d_hidden.f_narrow(0, start, len)?;
                if rows.kind() == self.kind && rows.is_contiguous() {
                    let _ = d_logits.f_mm_out(&rows, &self.head)?;
                } else {
                    rows.f_copy_(&d_logits.f_matmul(&self.head)?)?;
                }
            }
            if let Some(d_head) = &outs.d_head {
                let rows = self.hidden.f_narrow(0, start, len)?;
                accumulate(&mut d_head.shallow_clone(), &d_logits, &rows)?;
            }
        }
        Ok(())
    }

    /// The losses of a chunk's tokens and, if it is wanted, the gradient of their sum with respect to the product of hidden
    /// states and head, `[chunk, vocab]` in the format of the products.
    fn chunk_with_gradient(
        &self,
        start: i64,
        len: i64,
        wanted: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        if let Some(logits) = self.logits_for_kernel(start, len)? {
            let targets = self.target_rows(start, len)?;
            if !wanted {
                return Ok((nll_rows(&logits, &targets, self.logit_scale)?, None));
            }
            let nll = cross_entropy_rows(&logits, &targets, self.logit_scale)?;
            return Ok((nll, Some(logits)));
        }
        let chunk = self.chunk(start, len)?;
        let nll = chunk.nll.shallow_clone();
        let d_logits = wanted.then(|| chunk.into_d_logits(self.logit_scale)).transpose()?;
        Ok((nll, d_logits.map(|d_logits| d_logits.f_to_kind(self.kind)).transpose()?))
    }

    /// The product of hidden states and head, `[chunk, vocab]`, where the kernel takes it; it is overwritten by
    /// the next chunk.
    fn logits_for_kernel(&self, start: i64, len: i64) -> Result<Option<Tensor>> {
        let Some(buffer) = &self.buffer else { return Ok(None) };
        let logits = buffer.f_narrow(0, 0, len)?;
        let rows = self.hidden.f_narrow(0, start, len)?;
        let _ = rows.f_mm_out(&logits, &self.head.f_transpose(0, 1)?)?;
        Ok(Some(logits))
    }

    /// `[chunk]`.
    fn target_rows(&self, start: i64, len: i64) -> Result<Tensor> {
        Ok(self.targets.f_narrow(0, start, len)?.f_squeeze_dim(1)?)
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
