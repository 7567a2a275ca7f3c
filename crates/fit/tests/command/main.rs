//! The command from end to end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

mod browser;
mod laws;
mod odd;
mod pipe;
mod support;
mod sweeps;
mod tables;
mod weights;
