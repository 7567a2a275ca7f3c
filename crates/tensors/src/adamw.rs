//! The fused AdamW step and the global gradient norm.

use tch::Tensor;

use crate::error::{Result, ensure};
use crate::shim;

/// Hyperparameters of one step.
///
/// Loshchilov and Hutter 2019, *Decoupled Weight Decay Regularization*, arXiv:1711.05101, algorithm 2, in
/// PyTorch's form: the decay is multiplied by the learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment, in `[0, 1)`.
    pub beta1: f64,
    /// Decay of the second moment, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay; the weight shrinks by `lr * weight_decay` of itself.
    pub weight_decay: f64,
}

/// Updates `params` in place, one kernel for all of them (`at::_fused_adamw_`).
///
/// The lists are of one length, and their i-th entries belong together: a parameter, its gradient, its first
/// and second moment (`exp_avg`, `exp_avg_sq`, of the parameter's shape, kind and layout), and the number of
/// steps taken so far (f32 scalar on the parameter's device), which is incremented here. All parameters of a
/// call share kind and device. The gradient may have another kind or layout: it is then copied first.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if a hyperparameter is out of range or the lists differ in length;
/// [`Error::Foreign`](crate::Error::Foreign) names the entry whose shape, kind, device or layout does not
/// fit. Nothing has changed then.
pub fn adamw_step(
    hyper: &AdamW,
    params: &[&Tensor],
    grads: &[&Tensor],
    exp_avg: &[&Tensor],
    exp_avg_sq: &[&Tensor],
    steps: &[&Tensor],
) -> Result<()> {
    let &AdamW { lr, beta1, beta2, eps, weight_decay } = hyper;
    ensure(lr.is_finite() && lr >= 0.0, "lr", "finite and not negative", lr)?;
    ensure((0.0..1.0).contains(&beta1), "beta1", "in [0, 1)", beta1)?;
    ensure((0.0..1.0).contains(&beta2), "beta2", "in [0, 1)", beta2)?;
    ensure(eps.is_finite() && eps >= 0.0, "eps", "finite and not negative", eps)?;
    let decays = weight_decay.is_finite() && weight_decay >= 0.0;
    ensure(decays, "weight_decay", "finite and not negative", weight_decay)?;
    if params.is_empty() && grads.is_empty() {
        return Ok(());
    }
    let lists = [params, grads, exp_avg, exp_avg_sq, steps];
    shim::fused_adamw(lists, [lr, beta1, beta2, weight_decay, eps])
}

/// The Euclidean norm of all gradients taken together: one scalar, f32 (f64 for f64 gradients), on their device.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) if there is no gradient;
/// [`Error::Foreign`](crate::Error::Foreign) if one is undefined or they lie on several devices.
pub fn global_norm(grads: &[&Tensor]) -> Result<Tensor> {
    ensure(!grads.is_empty(), "gradients", "at least one", "none")?;
    shim::global_norm(grads)
}

#[cfg(test)]
mod tests;
