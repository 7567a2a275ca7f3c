//! Whole runs of a tiny model.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

#[allow(dead_code, reason = "shared with kill_resume, which needs less of it")]
mod tiny;

mod damage;
mod equivalence;
mod evaluation;
mod outcomes;
mod resume;
mod stack;
