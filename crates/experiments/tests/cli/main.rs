//! The binary as a person and as `cargo xtask` use it: whole runs at a small scale in folders of their own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may panic as tests may, and say what they skip"
)]

mod browser;
mod commands;
mod documents;
mod horizon;
mod interrupts;
mod magneto;
mod mistakes;
mod multilingual;
mod program;
mod quantization;
mod recovery;
mod resume;
mod run;
mod stack;
