//! How likely a text is.

use tch::{Kind, Tensor};

use super::{CausalLm, LmCache};
use crate::error::Result;

/// Rows of logits at a time: a vocabulary is wide.
const ROWS: i64 = 128;

impl CausalLm {
    /// The natural logarithm of the probability of each token but the first given those before it: one number fewer than `tokens`.
    /// Computed without a graph, in pieces, so that long texts need no more memory than their cache.
    ///
    /// # Errors
    /// As [`Self::extend`].
    pub fn log_probs(&self, tokens: &[i64]) -> Result<Vec<f64>> {
        let _no_grad = tch::no_grad_guard();
        let mut cache = LmCache::new(self, tokens.len());
        let mut found = Vec::with_capacity(tokens.len().saturating_sub(1));
        self.read(tokens, &mut cache, &mut |hidden, pass| {
            let (n, _) = hidden.size2()?;
            for from in (0..n).step_by(ROWS as usize) {
                let targets = &tokens[found.len() + 1..];
                let targets = &targets[..targets.len().min(ROWS.min(n - from) as usize)];
                if targets.is_empty() {
                    break;
                }
                let rows = hidden.f_narrow(0, from, targets.len() as i64)?;
                let logits = self.project(&rows, pass)?;
                let targets = Tensor::f_from_slice(targets)?.f_to_device(self.device)?;
                let log_probs = logits.f_log_softmax(-1, Kind::Float)?;
                let own =
                    log_probs.f_gather(1, &targets.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?;
                found.extend(Vec::<f64>::try_from(own.f_to_kind(Kind::Double)?)?);
            }
            Ok(())
        })?;
        Ok(found)
    }
}
