//! Starting other programs: each command is shown before it runs.

use std::ffi::OsStr;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::output;

/// Variables that are part of what a command means, and therefore shown with it.
const SHOWN_VARIABLES: [&str; 2] = ["OMP_NUM_THREADS", "RUSTDOCFLAGS"];

/// Shows and runs `command`, with our standard streams; a failure names the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    output::note(format!("$ {shown}"));
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Shows `command` and becomes it: its terminal, signals (Ctrl-C) and exit code are then nobody else's.
#[cfg(unix)]
pub(crate) fn become_program(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let shown = show(command);
    output::note(format!("$ {shown}"));
    Err(command.exec()).with_context(|| format!("cannot start `{shown}`"))
}

/// Shows `command`, runs it and passes its exit code on. Not tested: Forerun runs on Linux.
#[cfg(not(unix))]
pub(crate) fn become_program(command: &mut Command) -> Result<ExitCode> {
    let shown = show(command);
    output::note(format!("$ {shown}"));
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

/// `command` as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let variables = SHOWN_VARIABLES.into_iter().filter_map(|name| {
        let (_, value) = command.get_envs().find(|(key, _)| *key == name)?;
        Some(format!("{name}={}", quote(value?)))
    });
    let program = match command.get_program() {
        // The path of the toolchain's cargo says nothing to the reader.
        program if std::path::Path::new(program).file_stem() == Some(OsStr::new("cargo")) => {
            "cargo".into()
        }
        program => quote(program),
    };
    let arguments = command.get_args().map(quote);
    variables.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
