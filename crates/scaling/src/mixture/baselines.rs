//! The samplers that people use without a law, from the tokens that each family has.

use crate::error::{Result, ensure};

/// The same share for all of `n` families.
///
/// # Errors
/// [`crate::Error::Config`] for no family.
pub fn uniform(n: usize) -> Result<Vec<f64>> {
    ensure(n > 0, "families", "at least one", n)?;
    Ok(vec![1. / n as f64; n])
}

/// Shares proportional to the tokens that are there.
///
/// # Errors
/// [`crate::Error::Config`] for sizes that are not positive.
pub fn proportional(tokens: &[f64]) -> Result<Vec<f64>> {
    temperature(tokens, 1.)
}

/// `p ∝ n^tau`: 1 is proportional, 0 uniform; mT5 takes 0.3 (Xue et al. 2021, arXiv:2010.11934).
///
/// # Errors
/// [`crate::Error::Config`] for sizes that are not positive or a `tau` that is not finite.
pub fn temperature(tokens: &[f64], tau: f64) -> Result<Vec<f64>> {
    check(tokens)?;
    ensure(tau.is_finite(), "tau", "finite", tau)?;
    let largest = tokens.iter().copied().fold(0., f64::max);
    let powers: Vec<f64> = tokens.iter().map(|n| (n / largest).powf(tau)).collect();
    let total: f64 = powers.iter().sum();
    Ok(powers.into_iter().map(|power| power / total).collect())
}

/// As uniform as `max_epochs` allow: no family is repeated more often, and what the small ones cannot use goes to the
/// others in equal parts (Chung et al. 2023, *UniMax*, arXiv:2304.09151, algorithm 1).
///
/// # Errors
/// [`crate::Error::Config`] for values that are not positive, or for a `budget` of tokens that all families together
/// cannot fill.
pub fn unimax(tokens: &[f64], budget: f64, max_epochs: f64) -> Result<Vec<f64>> {
    check(tokens)?;
    ensure(budget > 0. && budget.is_finite(), "budget", "positive and finite", budget)?;
    ensure(max_epochs > 0. && max_epochs.is_finite(), "max_epochs", "positive", max_epochs)?;
    let room = max_epochs * tokens.iter().sum::<f64>();
    ensure(room >= budget, "budget", format!("at most {room:e} tokens at these epochs"), budget)?;
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by(|&i, &j| tokens[i].total_cmp(&tokens[j]));
    let mut rest = budget;
    let mut shares = vec![0.; tokens.len()];
    for (done, &i) in order.iter().enumerate() {
        let equal = rest / (tokens.len() - done) as f64;
        let used = equal.min(max_epochs * tokens[i]);
        shares[i] = used / budget;
        rest -= used;
    }
    Ok(shares)
}

fn check(tokens: &[f64]) -> Result<()> {
    ensure(!tokens.is_empty(), "families", "at least one", 0)?;
    let wrong = tokens.iter().copied().find(|n| !(*n > 0. && n.is_finite()));
    ensure(wrong.is_none(), "tokens", "positive and finite", wrong.unwrap_or_default())
}
