//! Continuing a prompt, token by token, with a KV cache.

use std::ops::ControlFlow;

use forerun_tensors::ensure;
use rand::Rng;
use tch::Tensor;

use crate::cache::KvCache;
use crate::config::Positions;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::sample::{Generation, ensure_sound, sample};

/// Continues `prompt` (not empty) and returns the new token ids. `on_token` sees each as it is chosen and
/// may end the text. All randomness comes from `rng`, one number a token, so a seed fixes the text.
///
/// # Errors
/// [`forerun_tensors::Error::Config`] if an option is out of range, the prompt is empty, the text would
/// outgrow learned positions, the model is a stack, or the logits are not finite.
pub fn generate(
    model: &Decoder,
    prompt: &[i64],
    options: &Generation,
    rng: &mut impl Rng,
    on_token: &mut dyn FnMut(i64) -> ControlFlow<()>,
) -> Result<Vec<i64>> {
    options.validate()?;
    model.ensure_single()?;
    ensure(!prompt.is_empty(), "prompt", "at least one token", "none")?;
    if let Positions::Learned { max_seq_len, .. } = model.config().positions {
        let needed = (prompt.len() + options.max_new_tokens) as i64;
        let want = format!("at least prompt and max_new_tokens together, {needed}");
        ensure(needed <= max_seq_len, "positions.max_seq_len", &want, max_seq_len)?;
    }
    let _no_grad = tch::no_grad_guard();
    let mut cache = KvCache::new(model, 1);
    let mut new = Vec::new();
    let mut text = prompt.to_vec();
    let mut next = prompt.to_vec();
    while new.len() < options.max_new_tokens {
        let logits = last_logits(model, &next, &mut cache, options)?;
        let token = sample(&logits, &text, options, rng) as i64;
        if options.stop_tokens.contains(&token) {
            break;
        }
        new.push(token);
        text.push(token);
        if on_token(token).is_break() {
            break;
        }
        next = vec![token];
    }
    Ok(new)
}

/// Logits after the last of `tokens`; the others only fill the cache.
fn last_logits(
    model: &Decoder,
    tokens: &[i64],
    cache: &mut KvCache,
    options: &Generation,
) -> Result<Vec<f32>> {
    let tokens = Tensor::f_from_slice(tokens)?.f_unsqueeze(0)?.f_to_device(model.device())?;
    let hidden = model.step_hidden(&tokens, cache, options.mask)?; // [1, new, d_model]
    let last = hidden.f_narrow(1, hidden.size3()?.1 - 1, 1)?;
    let logits = model.project(&last)?.f_flatten(0, -1)?; // [vocab]
    let logits: Vec<f32> = Vec::try_from(&logits)?;
    ensure_sound(&logits)?;
    Ok(logits)
}

#[cfg(test)]
mod tests;
