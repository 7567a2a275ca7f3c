//! Continuing prompts.

use std::ops::ControlFlow;

use forerun_tensors::{Mask, ensure};
use rand::Rng;
use tch::Tensor;

use super::{CausalLm, LmCache};
use crate::error::Result;
use crate::generate::{Chosen, Continues, continue_all};
use crate::sample::Generation;

impl CausalLm {
    /// Continues `prompt` (not empty) and returns the new token ids. `on_token` sees each as it is chosen and may end the text. All
    /// randomness comes from `rng`, one number a token, so a seed fixes the text. Nothing but `options` and `on_token` ends a text: beyond
    /// [`max_seq_len`](crate::LmConfig::max_seq_len) the model goes on at positions that it has not been trained on, mostly badly.
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
        let own = "Causal: the window of a loaded model is its own";
        ensure(options.mask == Mask::Causal, "mask", own, format!("{:?}", options.mask))?;
        continue_all(self, prompts, options, rngs, on_token)
    }
}

impl Continues for CausalLm {
    type Cache = LmCache;

    fn begin(&self, prompt: &[i64], n_tokens: usize) -> Result<(LmCache, Tensor)> {
        let mut cache = LmCache::new(self, n_tokens);
        let logits = self.extend(prompt, &mut cache)?;
        Ok((cache, logits))
    }

    fn go_on(&self, tokens: &[i64], caches: &mut [&mut LmCache]) -> Result<Tensor> {
        self.step(tokens, caches)
    }
}
