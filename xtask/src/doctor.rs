//! `cargo xtask doctor`: what is there, what is missing, what to do.

use std::process::{Command, ExitCode, Stdio};

use crate::install::needed_bytes;
use crate::libtorch::{self, Finding, Origin, VERSION};
use crate::python::Python;
use crate::wheels::{LIBTORCH, WHEELS, for_this_platform};
use crate::workspace::{Workspace, cargo_program};
use crate::{compiler, disk, output};

/// What was found out about one thing.
enum Health {
    /// It is there.
    Good(String),
    /// It is not there, and nothing works without it.
    Missing(String),
    /// It is not there, and need not be.
    Optional(String),
}

/// Prints one line for each thing; fails if something needed is missing.
pub(crate) fn examine(workspace: &Workspace) -> ExitCode {
    let finding = libtorch::find(workspace);
    let installed = matches!(finding, Finding::Found(_));
    let findings = [
        ("Rust", version_of("rustc")),
        ("C++ compiler", cxx()),
        ("libtorch", libtorch_health(&finding)),
        ("Python and pip", pip(installed)),
        ("disk", room(workspace, installed)),
        ("cargo-nextest", nextest()),
    ];
    let mut healthy = true;
    for (name, health) in findings {
        let (mark, text) = match health {
            Health::Good(text) => ("ok", text),
            Health::Optional(text) => ("-", text),
            Health::Missing(text) => {
                healthy = false;
                ("MISSING", text)
            }
        };
        output::line(format!("{mark:<8} {name:<15} {text}"));
    }
    match healthy {
        true => {
            output::line("Everything that is needed is there.");
            ExitCode::SUCCESS
        }
        false => ExitCode::FAILURE,
    }
}

fn version_of(program: &str) -> Health {
    match Command::new(program).arg("--version").output() {
        Ok(output) if output.status.success() => Health::Good(first_line(&output.stdout)),
        _ => Health::Missing(format!(
            "`{program}` does not start; install Rust from https://rustup.rs"
        )),
    }
}

fn cxx() -> Health {
    match compiler::check() {
        Ok(name) => Health::Good(format!("`{name}` compiles C++20")),
        Err(error) => Health::Missing(error.to_string()),
    }
}

fn libtorch_health(finding: &Finding) -> Health {
    match finding {
        Finding::Found(libtorch) => Health::Good(libtorch.to_string()),
        Finding::Missing => {
            Health::Missing("not installed yet; run `cargo xtask setup`".to_owned())
        }
        Finding::Unusable { dir, origin: Origin::Repository, reason } => Health::Missing(format!(
            "`{}` {reason}; run `cargo xtask setup` to replace it",
            dir.display()
        )),
        Finding::Unusable { dir, origin: Origin::Caller, reason } => Health::Missing(format!(
            "LIBTORCH names `{}`, which {reason}; name a libtorch {VERSION}, or unset LIBTORCH and run `cargo xtask setup`",
            dir.display()
        )),
    }
}

/// Only set-up needs it.
fn pip(installed: bool) -> Health {
    match Python::find(&LIBTORCH) {
        Ok(python) => Health::Good(python.pip),
        Err(_) if installed => {
            Health::Optional("not there; only needed to fetch libtorch, which is there".to_owned())
        }
        Err(error) => Health::Missing(error.to_string()),
    }
}

fn room(workspace: &Workspace, installed: bool) -> Health {
    let Some(free) = disk::free_bytes(&workspace.root) else {
        return Health::Optional("cannot tell how much room there is".to_owned());
    };
    let needed = if installed || !for_this_platform() { 0 } else { needed_bytes(&WHEELS) };
    let free_text = format!("{} free", disk::megabytes(free));
    match free < needed {
        true => {
            Health::Missing(format!("{free_text}, but set-up needs {}", disk::megabytes(needed)))
        }
        false => Health::Good(free_text),
    }
}

fn nextest() -> Health {
    let version =
        Command::new(cargo_program()).args(["nextest", "--version"]).stderr(Stdio::null()).output();
    match version {
        Ok(output) if output.status.success() => Health::Good(first_line(&output.stdout)),
        _ => Health::Optional("not there; `cargo test` runs the tests instead".to_owned()),
    }
}

fn first_line(output: &[u8]) -> String {
    String::from_utf8_lossy(output).lines().next().unwrap_or_default().trim().to_owned()
}
