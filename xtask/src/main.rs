//! The repository's commands: `cargo xtask COMMAND`.
//!
//! Prepares the machine (libtorch), starts cargo, and starts the programs of the workspace as processes of their own.
//! Links nothing of ours, so that it builds in seconds on a machine that has nothing yet.

mod cargo;
mod clean;
mod cli;
mod commands;
mod compiler;
mod disk;
mod doctor;
mod download;
mod help;
mod install;
mod libtorch;
mod lock;
mod model;
mod output;
mod peers;
mod process;
mod program;
mod python;
mod setup;
mod unpack;
mod wheels;
mod workspace;

#[cfg(test)]
mod documents;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tidy;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // A bug in this program is reported in one line too, never as a backtrace.
    std::panic::set_hook(Box::new(|info| output::note(format!("error: a bug in xtask: {info}"))));
    match commands::run(cli::Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            output::note(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
