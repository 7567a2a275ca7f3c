//! Speed of an update. The only place of this crate that reads a clock; its numbers go to the observer and decide
//! nothing.

use std::time::Instant;

/// Tokens per second, and model FLOP utilisation: the share of `peak_flops` that the model's own arithmetic took
/// (Chowdhery et al. 2022, arXiv:2204.02311, appendix B; recomputation does not count).
pub(crate) fn speed(
    since: Instant,
    n_tokens: u64,
    flops_per_token: f64,
    peak_flops: Option<f64>,
) -> (f64, Option<f64>) {
    let tokens_per_sec = n_tokens as f64 / elapsed_secs(since).max(1e-9);
    (tokens_per_sec, peak_flops.map(|peak| tokens_per_sec * flops_per_token / peak))
}

pub(crate) fn elapsed_secs(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
