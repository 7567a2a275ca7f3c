//! Continuing prompts.

use std::ops::ControlFlow;

use forerun_tensors::{Mask, ensure};
use rand::Rng;
use tch::{Kind, Tensor};

use super::{CausalLm, LmCache};
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

/// A text that is being written.
struct Writing<'r, R> {
    /// In the caller's list.
    index: usize,
    cache: LmCache,
    rng: &'r mut R,
    /// The prompt and what follows.
    text: Vec<i64>,
    n_prompt: usize,
}

impl CausalLm {
    /// Continues `prompt` (not empty) and returns the new token ids. `on_token` sees each as it is chosen and may end the text. All
    /// randomness comes from `rng`, one number a token, so a seed fixes the text.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] if an option is out of range, the prompt is empty or has an id that is not in the
    /// vocabulary, or the logits are not numbers.
    pub fn generate(
        &self,
        prompt: &[i64],
        options: &Generation,
        rng: &mut impl Rng,
        on_token: &mut dyn FnMut(Chosen) -> ControlFlow<()>,
    ) -> Result<Vec<i64>> {
        let new = self.generate_batch(
            &[prompt],
            options,
            std::slice::from_mut(rng),
            &mut |_, chosen| on_token(chosen),
        )?;
        Ok(new.into_iter().next().unwrap_or_default())
    }

    /// Continues several prompts of any lengths side by side, each as [`Self::generate`] would with its own generator of `rngs`: positions are
    /// counted for each text on its own, and nothing is filled up. `on_token` is told which text the token belongs to. In f32 the sums of up to eight
    /// texts are the very same as of one; of more they may be added up in another order.
    ///
    /// # Errors
    /// As [`Self::generate`]; also if there are not as many generators as prompts.
    pub fn generate_batch<R: Rng>(
        &self,
        prompts: &[&[i64]],
        options: &Generation,
        rngs: &mut [R],
        on_token: &mut dyn FnMut(usize, Chosen) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<i64>>> {
        self.check_generation(prompts, options)?;
        let want = format!("one a prompt, {}", prompts.len());
        ensure(rngs.len() == prompts.len(), "rngs", &want, rngs.len())?;
        let _no_grad = tch::no_grad_guard();
        let mut done = vec![Vec::new(); prompts.len()];
        let mut writing = Vec::new();
        for (index, (prompt, rng)) in prompts.iter().zip(rngs).enumerate() {
            let cache = LmCache::new(self, prompt.len() + options.max_new_tokens);
            let mut text =
                Writing { index, cache, rng, text: prompt.to_vec(), n_prompt: prompt.len() };
            if options.max_new_tokens == 0 {
                continue;
            }
            let logits = self.extend(prompt, &mut text.cache)?.f_unsqueeze(0)?;
            let goes_on = text.choose(&logits.f_select(0, 0)?, options, on_token)?;
            keep(text, goes_on, &mut writing, &mut done);
        }
        while !writing.is_empty() {
            let last = |text: &Writing<'_, R>| text.text.last().copied().unwrap_or_default();
            let tokens: Vec<i64> = writing.iter().map(last).collect();
            let mut caches: Vec<&mut LmCache> =
                writing.iter_mut().map(|text| &mut text.cache).collect();
            let logits = self.step(&tokens, &mut caches)?;
            for (row, mut text) in std::mem::take(&mut writing).into_iter().enumerate() {
                let goes_on = text.choose(&logits.f_select(0, row as i64)?, options, on_token)?;
                keep(text, goes_on, &mut writing, &mut done);
            }
        }
        Ok(done)
    }

    fn check_generation(&self, prompts: &[&[i64]], options: &Generation) -> Result<()> {
        options.validate()?;
        let own = "Causal: the window of a loaded model is its own";
        ensure(options.mask == Mask::Causal, "mask", own, format!("{:?}", options.mask))?;
        for prompt in prompts {
            ensure(!prompt.is_empty(), "prompt", "at least one token", "none")?;
        }
        Ok(())
    }
}

impl<R: Rng> Writing<'_, R> {
    /// Adds the next token; whether the text goes on.
    fn choose(
        &mut self,
        logits: &Tensor,
        options: &Generation,
        on_token: &mut dyn FnMut(usize, Chosen) -> ControlFlow<()>,
    ) -> Result<bool> {
        let total = logits.f_logsumexp([-1_i64].as_slice(), false)?.f_double_value(&[])?;
        let logits: Vec<f32> = Vec::try_from(&logits.f_to_kind(Kind::Float)?)?;
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

fn keep<'r, R>(
    text: Writing<'r, R>,
    goes_on: bool,
    writing: &mut Vec<Writing<'r, R>>,
    done: &mut [Vec<i64>],
) {
    if goes_on {
        writing.push(text);
    } else {
        done[text.index] = text.text[text.n_prompt..].to_vec();
    }
}
