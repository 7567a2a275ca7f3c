//! Choosing the next token from logits: greedy, temperature, top-k, top-p.

use forerun_tensors::{Mask, Result, ensure};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// How [`crate::generate`] continues a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Generation {
    /// New tokens at most.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Only this many most likely tokens are candidates.
    pub top_k: Option<usize>,
    /// Only the fewest most likely tokens whose probabilities reach this sum are candidates
    /// (nucleus sampling, arXiv:1904.09751).
    pub top_p: Option<f64>,
    /// Tokens that end the text; the one that does is not part of the result.
    pub stop_tokens: Vec<i64>,
    /// Which keys a new token sees.
    pub mask: Mask,
}

/// 64 tokens (ours) from the model's own distribution.
impl Default for Generation {
    fn default() -> Self {
        Self {
            max_new_tokens: 64,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            stop_tokens: Vec::new(),
            mask: Mask::Causal,
        }
    }
}

impl Generation {
    /// Checks every field.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let Self { temperature, top_k, top_p, .. } = *self;
        let finite = temperature >= 0.0 && temperature.is_finite();
        ensure(finite, "temperature", "finite and not negative", temperature)?;
        ensure(top_k != Some(0), "top_k", "positive", 0)?;
        let p = top_p.unwrap_or(1.0);
        ensure(p > 0.0 && p <= 1.0, "top_p", "in (0, 1]", p)?;
        self.mask.validate()
    }
}

/// A token id from its logits (finite, not empty). Draws one number unless the temperature is 0.
pub(crate) fn sample(logits: &[f32], options: &Generation, rng: &mut impl Rng) -> usize {
    let mut candidates: Vec<(usize, f64)> =
        logits.iter().map(|&logit| f64::from(logit)).enumerate().collect();
    let best = candidates
        .iter()
        .copied()
        .fold((0, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best });
    if options.temperature == 0.0 {
        return best.0;
    }
    if options.top_k.is_some() || options.top_p.is_some() {
        // Stable: of equal logits the lower token id counts as the likelier.
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    candidates.truncate(options.top_k.unwrap_or(usize::MAX));
    for (_, weight) in &mut candidates {
        *weight = ((*weight - best.1) / options.temperature).exp();
    }
    if let Some(p) = options.top_p {
        candidates.truncate(nucleus(&candidates, p));
    }
    draw(&candidates, rng)
}

/// How many of the falling weights reach the share `p` of their sum; at least one.
fn nucleus(candidates: &[(usize, f64)], p: f64) -> usize {
    let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
    let mut reached = 0.0;
    let below = candidates.iter().take_while(|candidate| {
        let more = reached < p * total;
        reached += candidate.1;
        more
    });
    below.count().max(1)
}

fn draw(candidates: &[(usize, f64)], rng: &mut impl Rng) -> usize {
    let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
    let mut left = rng.random::<f64>() * total;
    for &(token, weight) in candidates {
        left -= weight;
        if left < 0.0 {
            return token;
        }
    }
    candidates.iter().rfind(|candidate| candidate.1 > 0.0).map_or(0, |candidate| candidate.0)
}

#[cfg(test)]
mod tests;
