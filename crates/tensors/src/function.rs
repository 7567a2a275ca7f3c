//! Custom autograd functions: a forward that was computed by other means, and a backward in Rust.

use tch::Tensor;

use crate::error::Result;
use crate::shim;

/// Declares `outputs`, computed from `inputs` without gradients, to be a function of them whose backward is
/// `backward`: it is handed the gradient of each output (zeros for an output that the loss does not use) and
/// returns one of each input, `None` for an input without one.
///
/// Returns the outputs as new handles to the same memory; the ones handed in may be captured by `backward`, the
/// ones returned may not (the graph would then hold itself, and leak). If gradients are off or no input
/// requires one, the outputs come back without history and `backward` is dropped at once.
///
/// `backward` is dropped exactly once: after a backward pass, or when the graph is dropped without one. It runs
/// without recording gradients, on the thread that libtorch chooses (with CUDA, not the caller's). Its
/// error or panic ends the backward pass: [`backward`](backward()) returns it as [`Error::Foreign`](crate::Error::Foreign)
/// with the same text. It can run again only while the graph is kept (`keep_graph`); a second pass over
/// a freed graph is an error that says so, and so is a second derivative (`create_graph`).
///
/// # Errors
/// [`Error::Foreign`](crate::Error::Foreign) if an output is not of a floating-point kind.
pub fn custom_function(
    inputs: &[&Tensor],
    outputs: Vec<Tensor>,
    backward: impl FnMut(&[Tensor]) -> Result<Vec<Option<Tensor>>> + Send + 'static,
) -> Result<Vec<Tensor>> {
    shim::custom_function(inputs, &outputs, false, Box::new(backward))
}

/// Runs autograd from the scalar `loss`, adding to the `grad()` of every leaf, and frees the graph.
///
/// # Errors
/// [`Error::Foreign`](crate::Error::Foreign) with libtorch's text, or with that of the Rust backward that failed.
/// Gradients computed before the failure have been added then.
pub fn backward(loss: &Tensor) -> Result<()> {
    shim::backward(loss, None)
}

#[cfg(test)]
mod tests;
