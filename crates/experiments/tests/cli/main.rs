//! The binary as a person and as `cargo xtask` use it: whole runs at a small scale in folders of their own.

mod browser;
mod documents;
mod mistakes;
mod program;
mod recovery;
mod resume;
mod run;
