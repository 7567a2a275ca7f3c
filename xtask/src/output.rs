//! Lines for people. Unlike `println!`, a closed pipe (`cargo xtask doctor | head -1`) is not a panic.

use std::fmt::Display;
use std::io::Write;

/// Writes one line of result to standard output.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes one line of progress or failure to standard error.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
