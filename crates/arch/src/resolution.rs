//! Attention resolution: how well the expected attention score tells one distance from the next.
//!
//! Sun et al. 2022, *A Length-Extrapolatable Transformer*, arXiv:2212.10554, section 2.2. The paper leaves
//! two points open: eq. 3 needs a score one past the last (we leave the last term out of both sums), and heads
//! (we take each head's resolution and average). Under a mask, a distance counts as far as some query sees it.

use forerun_tensors::{Error, Mask};
use tch::{Kind, Tensor};

use crate::decoder::Decoder;
use crate::error::Result;
use crate::rotary::xpos_zeta;

/// What [`attention_resolution`] measures.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    /// R of each layer, the mean over its heads; dimensionless.
    pub per_layer: Vec<f64>,
    /// R of the model: the mean over layers.
    pub mean: f64,
    /// `[layer][distance]`: the expected score before the softmax, the mean over heads and inputs.
    pub expected_scores: Vec<Vec<f64>>,
}

/// Measures the resolution of every layer of `model` on `tokens`, i64 `[batch, seq]` (eq. 11 and 3).
/// Holds one layer's scores, f32 `[batch, heads, seq, seq]`, at a time.
///
/// # Errors
/// [`forerun_tensors::Error::Config`] for a stack; else as [`Decoder::hidden`].
pub fn attention_resolution(model: &Decoder, tokens: &Tensor, mask: Mask) -> Result<Resolution> {
    model.ensure_single()?;
    let _no_grad = tch::no_grad_guard();
    let stream = model.residual_stream(tokens, mask)?;
    let seq = tokens.size2()?.1;
    let plan = model.plan(None, seq)?;
    let allowed = mask.allowed(0..seq, 0..seq, tokens.device())?;
    let mut per_layer = Vec::new();
    let mut expected_scores = Vec::new();
    for (block, x) in model.blocks.iter().zip(&stream) {
        let (q, k) = block.attention.queries_and_keys(&block.attention_input(x)?)?;
        let scores = plan.scores(&q, &k, block.attention.scale)?; // [batch, heads, seq, seq]
        let by_head =
            visible_means(&scores.f_mean_dim([0_i64].as_slice(), false, None)?, &allowed)?;
        let n_heads = by_head.len() as f64;
        per_layer.push(by_head.iter().map(|scores| resolution_of(scores)).sum::<f64>() / n_heads);
        let distances = by_head.first().map_or(0, Vec::len);
        let mean = |distance: usize| by_head.iter().map(|s| s[distance]).sum::<f64>() / n_heads;
        expected_scores.push((0..distances).map(mean).collect());
    }
    let mean = per_layer.iter().sum::<f64>() / per_layer.len() as f64;
    Ok(Resolution { per_layer, mean, expected_scores })
}

/// Eq. 11: the mean score at every distance, f64 `[heads, seq]`, of scores `[heads, seq, seq]`, of which
/// only the part up to the diagonal is read.
///
/// # Errors
/// [`forerun_tensors::Error::Shape`] unless the last two sizes are equal.
pub fn expected_scores(scores: &Tensor) -> Result<Tensor> {
    let (_, queries, keys) = scores.size3()?;
    if queries != keys || queries == 0 {
        let want = "[heads, seq, seq]".to_owned();
        return Err(Error::Shape { arg: "scores", want, got: scores.size() }.into());
    }
    let allowed = Mask::Causal.allowed(0..queries, 0..keys, scores.device())?;
    let (sums, counts) = sums_by_distance(scores, &allowed)?;
    Ok(sums.f_div(&counts)?)
}

/// Eq. 3 on expected scores by distance; both sums leave out the last distance. NaN for fewer than two.
#[must_use]
pub fn resolution_of(scores: &[f64]) -> f64 {
    if scores.len() < 2 {
        return f64::NAN;
    }
    // The ratio is the same for scores that are all shifted.
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
    let total: f64 = weights[..weights.len() - 1].iter().sum();
    let slopes: f64 = weights.windows(2).map(|pair| pair[0] * (pair[0] - pair[1])).sum();
    slopes / (total * total)
}

/// Eq. 8: g\[n\] = Σᵢ cos(n·θᵢ)·ζᵢ^(n/`scale_base`) for n = 0 .. `n`, what a rotation alone makes of
/// distance. `decay` is xPos's (`gamma`, `scale_base`); without it, RoPE's curve.
#[must_use]
pub fn design_curve(head_dim: i64, base: f64, decay: Option<(f64, f64)>, n: usize) -> Vec<f64> {
    let zeta = xpos_zeta(head_dim, decay.map_or(0.4, |(gamma, _)| gamma));
    let term = |distance: f64, i: usize, zeta: f64| {
        let theta = base.powf(-2.0 * i as f64 / head_dim as f64);
        let decay = decay.map_or(1.0, |(_, scale_base)| zeta.powf(distance / scale_base));
        (distance * theta).cos() * decay
    };
    let value = |distance: usize| {
        zeta.iter().enumerate().map(|(i, &zeta)| term(distance as f64, i, zeta)).sum()
    };
    (0..n).map(value).collect()
}

/// The mean score of each head at each distance that `allowed` shows at all.
fn visible_means(scores: &Tensor, allowed: &Tensor) -> Result<Vec<Vec<f64>>> {
    let (sums, counts) = sums_by_distance(scores, allowed)?;
    let visible = i64::try_from(counts.f_count_nonzero(None)?)?;
    let means = sums.f_div(&counts)?.f_narrow(-1, 0, visible)?;
    Ok(Vec::try_from(&means)?)
}

/// Sums over pairs by distance, f64 `[heads, seq]`, and how many pairs, f64 `[seq]`.
fn sums_by_distance(scores: &Tensor, allowed: &Tensor) -> Result<(Tensor, Tensor)> {
    let (heads, seq, _) = scores.size3()?;
    let i64s = (Kind::Int64, scores.device());
    let position = Tensor::f_arange(seq, i64s)?;
    let key = position.f_unsqueeze(1)?.f_sub(&position)?; // [query, distance]
    let index = key.f_clamp_min(0)?;
    let visible = allowed.f_gather(1, &index, false)?.f_logical_and(&key.f_ge(0)?)?;
    let counts = visible.f_sum_dim_intlist([0_i64].as_slice(), false, Kind::Double)?;
    let index = index.f_unsqueeze(0)?.f_expand([heads, seq, seq], false)?;
    let by_distance = scores.f_gather(2, &index, false)?.f_to_kind(Kind::Double)?;
    let by_distance = by_distance.f_masked_fill(&visible.f_logical_not()?, 0.0)?;
    Ok((by_distance.f_sum_dim_intlist([1_i64].as_slice(), false, Kind::Double)?, counts))
}

#[cfg(test)]
mod tests;
