//! Row kernels for the CPU: what a transformer block does between its matrix products.
//!
//! Every kernel takes dense f32 or bf16 rows, computes in f32, makes one pass over memory where libtorch's operations
//! make several, and records nothing for autograd. A tensor of rows is `[rows, channels]` whose last dimension is
//! contiguous; its rows may lie further apart, as those of a slice of columns do. Each kernel has a form that
//! returns new tensors and one, `…_into`, that writes into tensors which are there, and *adds* to the gradients of
//! parameters. What is written must not overlap with what is read, or with itself, unless a kernel says so.
//!
//! A parameter is f32 `[channels]`, or `[groups, channels]` if the rows are those of `groups` models of one shape
//! one after the other, equally many rows each.
//!
//! Rows are spread over libtorch's threads. The results, also those of sums over rows, do not depend on how many
//! threads there are, but they do on the processor: with fused multiply-add, or without. NaN stays in its row, in the
//! sums of its group, and nowhere else; in attention, in its sequence.
//!
//! # Errors
//! Every kernel returns [`Error::Shape`](crate::Error::Shape) or [`Error::Config`](crate::Error::Config) with the name of
//! the argument whose shape, strides or kind does not fit, and [`Error::Foreign`](crate::Error::Foreign) if one is not
//! a dense tensor on the CPU or overlaps with another.

// Loops over an index are what the compiler vectorises best when several slices run along.
#![expect(
    clippy::needless_range_loop,
    reason = "one index over several slices, cut to one length before"
)]

mod activation;
mod attention;
mod decode;
mod element;
mod few_rows;
mod lanes;
mod loans;
mod machine;
mod math;
mod norm;
mod packed;
#[cfg(test)]
mod reference;
mod residual;
mod rows;
mod softmax;
mod turn;

pub use activation::{
    Activation, ActivationGradients, ActivationSums, Gate, Middle, activation, activation_backward,
    activation_backward_into, activation_backward_swap, activation_into,
};
pub use attention::Attention;
pub use decode::{Decode, Held};
pub use few_rows::{Factor, few_rows};
pub use norm::{
    NormGradients, NormParams, NormSums, NormType, add_norm, add_norm_into, norm, norm_backward,
    norm_backward_into, norm_into,
};
pub use packed::{PackedMatrix, WeightFormat, packed_linear};
pub use residual::{bias_residual, column_sums, column_sums_into};
pub use softmax::{cross_entropy_rows, nll_rows};
pub use turn::{Pairs, Turn};
