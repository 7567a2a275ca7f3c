//! Choosing the next token from logits: greedy, temperature, top-k, top-p, min-p, repetition penalty.

use std::cmp::Ordering;

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
    /// Only tokens with at least this share of the most likely one's probability are candidates (arXiv:2407.01082).
    pub min_p: Option<f64>,
    /// Divides positive logits of tokens that occurred in the text, prompt included, and multiplies negative ones; 1 does nothing
    /// (CTRL, arXiv:1909.05858).
    pub repetition_penalty: f64,
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
            min_p: None,
            repetition_penalty: 1.0,
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
        let Self { temperature, top_k, top_p, min_p, repetition_penalty, .. } = *self;
        let finite = temperature >= 0.0 && temperature.is_finite();
        ensure(finite, "temperature", "finite and not negative", temperature)?;
        ensure(top_k != Some(0), "top_k", "positive", 0)?;
        let p = top_p.unwrap_or(1.0);
        ensure(p > 0.0 && p <= 1.0, "top_p", "in (0, 1]", p)?;
        let p = min_p.unwrap_or(0.0);
        ensure((0.0..=1.0).contains(&p), "min_p", "in [0, 1]", p)?;
        let sound = repetition_penalty > 0.0 && repetition_penalty.is_finite();
        ensure(sound, "repetition_penalty", "positive and finite", repetition_penalty)?;
        self.mask.validate()
    }
}

/// Checks that logits are numbers; minus infinity is one for a token that must not be chosen.
pub(crate) fn ensure_sound(logits: &[f32]) -> Result<()> {
    let unsound = |logit: &&f32| logit.is_nan() || **logit == f32::INFINITY;
    let worst = logits.iter().find(unsound).copied();
    ensure(worst.is_none(), "logits", "finite", worst.unwrap_or_default())?;
    let some = logits.iter().any(|logit| logit.is_finite());
    ensure(some, "logits", "finite for one token at least", "none")
}

/// A token id from its logits (as [`ensure_sound`] wants them) and the text so far. Draws one number unless the temperature is 0.
pub(crate) fn sample(
    logits: &[f32],
    text: &[i64],
    options: &Generation,
    rng: &mut impl Rng,
) -> usize {
    let mut candidates: Vec<(usize, f64)> =
        logits.iter().map(|&logit| f64::from(logit)).enumerate().collect();
    if options.repetition_penalty != 1.0 {
        penalise(&mut candidates, text, options.repetition_penalty);
    }
    let best = candidates
        .iter()
        .copied()
        .fold((0, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best });
    if options.temperature == 0.0 {
        return best.0;
    }
    if let Some(k) = options.top_k {
        keep_likeliest(&mut candidates, k);
    }
    for (_, weight) in &mut candidates {
        *weight = ((*weight - best.1) / options.temperature).exp();
    }
    if let Some(p) = options.top_p {
        keep_nucleus(&mut candidates, p);
    }
    if let Some(p) = options.min_p {
        // The likeliest one has the weight 1.
        candidates.retain(|candidate| candidate.1 >= p);
    }
    draw(&candidates, rng)
}

fn penalise(candidates: &mut [(usize, f64)], text: &[i64], penalty: f64) {
    let mut seen: Vec<i64> = text.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for token in seen {
        if let Some((_, logit)) = usize::try_from(token).ok().and_then(|i| candidates.get_mut(i)) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

/// The likelier first; of equal ones the lower token id.
fn by_likelihood(a: &(usize, f64), b: &(usize, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Sorts the `k` likeliest to the front and drops the others.
fn keep_likeliest(candidates: &mut Vec<(usize, f64)>, k: usize) {
    sort_front(candidates, k);
    candidates.truncate(k);
}

/// Brings the `k` likeliest to the front in order, without sorting the others.
fn sort_front(candidates: &mut [(usize, f64)], k: usize) {
    let k = k.min(candidates.len());
    if 0 < k && k < candidates.len() {
        candidates.select_nth_unstable_by(k - 1, by_likelihood);
    }
    candidates[..k].sort_unstable_by(by_likelihood);
}

/// Keeps the fewest likeliest whose weights reach the share `p` of the sum; at least one.
fn keep_nucleus(candidates: &mut Vec<(usize, f64)>, p: f64) {
    let total: f64 = candidates.iter().map(|candidate| candidate.1).sum();
    // A nucleus is mostly small: of a large vocabulary little needs to be sorted.
    let mut sorted = 128.min(candidates.len());
    loop {
        sort_front(candidates, sorted);
        let mut reached = 0.0;
        let below = candidates[..sorted].iter().take_while(|candidate| {
            let more = reached < p * total;
            reached += candidate.1;
            more
        });
        let n = below.count();
        if n < sorted || sorted == candidates.len() {
            return candidates.truncate(n.max(1));
        }
        sorted = (8 * sorted).min(candidates.len());
    }
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
