//! Integration tests: the programs of this package as commands. and stacks of decoders in the training loop.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "functions that only tests call, which clippy does not see as tests"
)]

mod golden;
mod peers;
mod stack;
