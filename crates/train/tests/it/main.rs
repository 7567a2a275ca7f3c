//! Whole runs of a tiny model.

#[allow(dead_code, reason = "shared with kill_resume, which needs less of it")]
mod tiny;

mod damage;
mod equivalence;
mod evaluation;
mod outcomes;
mod resume;
