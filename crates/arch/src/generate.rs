//! Continuing prompts, token by token, with a cache for each.

use std::ops::ControlFlow;

use forerun_tensors::{Mask, ensure};
use rand::Rng;
use tch::{Kind, Tensor};

use crate::cache::KvCache;
use crate::config::Positions;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::sample::{Generation, ensure_sound, sample};

/// A token that was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// Its id.
    pub token: i64,
    /// The natural logarithm of its probability under the model itself, before temperature and the other options.
    pub log_prob: f64,
}

/// A model that continues texts.
pub(crate) trait Continues {
    /// What it remembers of one text.
    type Cache;

    /// Reads a prompt into a cache for `n_tokens` tokens: logits after the last one, `[vocab]`.
    fn begin(&self, prompt: &[i64], n_tokens: usize) -> Result<(Self::Cache, Tensor)>;

    /// Reads one more token of each text: logits after each, `[texts, vocab]`.
    fn go_on(&self, tokens: &[i64], caches: &mut [&mut Self::Cache]) -> Result<Tensor>;
}

/// Continues `prompt` (not empty) and returns the new token ids. `on_token` sees each as it is chosen and
/// may end the text. All randomness comes from `rng`, one number a token, so a seed fixes the text. Only learned positions have an end;
/// other models go on beyond the lengths that they were trained on.
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
    model.ensure_single()?;
    if let Positions::Learned { max_seq_len, .. } = model.config().positions {
        let needed = prompt.len().saturating_add(options.max_new_tokens);
        let want = format!("at least prompt and max_new_tokens together, {needed}");
        let fits = i64::try_from(needed).is_ok_and(|needed| needed <= max_seq_len);
        ensure(fits, "positions.max_seq_len", &want, max_seq_len)?;
    }
    let model = Masked { model, mask: options.mask };
    let rngs = std::slice::from_mut(rng);
    let new =
        continue_all(&model, &[prompt], options, rngs, &mut |_, chosen| on_token(chosen.token))?;
    Ok(new.into_iter().next().unwrap_or_default())
}

/// Continues several prompts of any lengths side by side, each with its own generator of `rngs`, without a graph. `on_token` is told
/// which text the token belongs to.
pub(crate) fn continue_all<M: Continues, R: Rng>(
    model: &M,
    prompts: &[&[i64]],
    options: &Generation,
    rngs: &mut [R],
    on_token: &mut dyn FnMut(usize, Chosen) -> ControlFlow<()>,
) -> Result<Vec<Vec<i64>>> {
    options.validate()?;
    for prompt in prompts {
        ensure(!prompt.is_empty(), "prompt", "at least one token", "none")?;
    }
    let want = format!("one a prompt, {}", prompts.len());
    ensure(rngs.len() == prompts.len(), "rngs", &want, rngs.len())?;
    let _no_grad = tch::no_grad_guard();
    let mut done = vec![Vec::new(); prompts.len()];
    let mut writing = Vec::new();
    for (index, (prompt, rng)) in prompts.iter().zip(rngs).enumerate() {
        if options.max_new_tokens == 0 {
            continue;
        }
        let n_tokens = prompt.len().saturating_add(options.max_new_tokens);
        let (cache, logits) = model.begin(prompt, n_tokens)?;
        let mut text = Writing { index, cache, rng, text: prompt.to_vec(), n_prompt: prompt.len() };
        let goes_on = text.choose(&logits, options, on_token)?;
        keep(text, goes_on, &mut writing, &mut done);
    }
    while !writing.is_empty() {
        let last = |text: &Writing<'_, M::Cache, R>| text.text.last().copied().unwrap_or_default();
        let tokens: Vec<i64> = writing.iter().map(last).collect();
        let mut caches: Vec<&mut M::Cache> =
            writing.iter_mut().map(|text| &mut text.cache).collect();
        let logits = model.go_on(&tokens, &mut caches)?;
        for (row, mut text) in std::mem::take(&mut writing).into_iter().enumerate() {
            let goes_on = text.choose(&logits.f_select(0, row as i64)?, options, on_token)?;
            keep(text, goes_on, &mut writing, &mut done);
        }
    }
    Ok(done)
}

/// A text that is being written.
struct Writing<'r, C, R> {
    /// In the caller's list.
    index: usize,
    cache: C,
    rng: &'r mut R,
    /// The prompt and what follows.
    text: Vec<i64>,
    n_prompt: usize,
}

impl<C, R: Rng> Writing<'_, C, R> {
    /// Adds the next token; whether the text goes on.
    fn choose(
        &mut self,
        logits: &Tensor,
        options: &Generation,
        on_token: &mut dyn FnMut(usize, Chosen) -> ControlFlow<()>,
    ) -> Result<bool> {
        let logits = logits.f_to_kind(Kind::Float)?;
        let total = logits.f_logsumexp([-1_i64].as_slice(), false)?.f_double_value(&[])?;
        let logits: Vec<f32> = Vec::try_from(&logits)?;
        ensure_sound(&logits)?;
        let index = sample(&logits, &self.text, options, self.rng);
        let token = index as i64;
        if options.stop_tokens.contains(&token) {
            return Ok(false);
        }
        self.text.push(token);
        let chosen = Chosen { token, log_prob: f64::from(logits[index]) - total };
        let broken = on_token(self.index, chosen).is_break();
        Ok(!broken && self.text.len() - self.n_prompt < options.max_new_tokens)
    }
}

fn keep<'r, C, R>(
    text: Writing<'r, C, R>,
    goes_on: bool,
    writing: &mut Vec<Writing<'r, C, R>>,
    done: &mut [Vec<i64>],
) {
    if goes_on {
        writing.push(text);
    } else {
        done[text.index] = text.text[text.n_prompt..].to_vec();
    }
}

/// A decoder whose tokens see each other through this mask.
struct Masked<'a> {
    model: &'a Decoder,
    mask: Mask,
}

impl Masked<'_> {
    /// Logits after the last of `tokens`, `[vocab]`; the others only fill the cache.
    fn last_logits(&self, tokens: &[i64], cache: &mut KvCache) -> Result<Tensor> {
        let model = self.model;
        let tokens = Tensor::f_from_slice(tokens)?.f_unsqueeze(0)?.f_to_device(model.device())?;
        let hidden = model.step_hidden(&tokens, cache, self.mask)?; // [1, new, d_model]
        let last = hidden.f_narrow(1, hidden.size3()?.1 - 1, 1)?;
        Ok(model.project(&last)?.f_flatten(0, -1)?)
    }
}

impl Continues for Masked<'_> {
    type Cache = KvCache;

    fn begin(&self, prompt: &[i64], _: usize) -> Result<(KvCache, Tensor)> {
        let mut cache = KvCache::new(self.model, 1);
        let logits = self.last_logits(prompt, &mut cache)?;
        Ok((cache, logits))
    }

    fn go_on(&self, tokens: &[i64], caches: &mut [&mut KvCache]) -> Result<Tensor> {
        let rows =
            tokens.iter().zip(caches).map(|(&token, cache)| self.last_logits(&[token], cache));
        Ok(Tensor::f_stack(&rows.collect::<Result<Vec<_>>>()?, 0)?)
    }
}

#[cfg(test)]
mod tests;
