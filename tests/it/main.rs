//! Integration tests: the golden checker as a command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "functions that only tests call, which clippy does not see as tests"
)]

mod golden;
