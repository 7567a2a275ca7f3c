//! The one error type of this crate.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong here, sorted by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused; the operation may succeed when tried again.
    #[error("cannot {action} `{path}`: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb: `create`, `read`, `rename`.
        action: &'static str,
        /// File or directory it was tried on.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file exists and does not hold what it should.
    #[error("`{path}` is damaged or of another kind: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One record of a line-by-line file is bad.
    #[error("`{path}` line {line}: {reason}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A configuration field or an argument is out of range.
    #[error("`{field}` must be {want}, got {got}")]
    Config {
        /// Name of the field or argument.
        field: String,
        /// What it must be.
        want: String,
        /// What it was.
        got: String,
    },
    /// A column of a results table mixes types.
    #[error("column `{column}` row {row}: expected {want}, got {got}")]
    Column {
        /// Name of the column.
        column: String,
        /// Row, counted from 0.
        row: usize,
        /// Type of the column so far.
        want: &'static str,
        /// Type or value of this cell.
        got: String,
    },
    /// Another process works in this directory.
    #[error("`{path}` is locked by another process", path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A table, figure or report cannot be drawn.
    #[error("cannot render {what}: {reason}")]
    Render {
        /// The figure, table or template.
        what: String,
        /// Why not.
        reason: String,
    },
}

/// Result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Checks one field of a configuration.
///
/// # Errors
/// [`Error::Config`] when `ok` is false.
pub(crate) fn ensure(ok: bool, field: &str, want: &str, got: impl Display) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::Config { field: field.to_owned(), want: want.to_owned(), got: got.to_string() })
}

/// Adds path and action to an I/O error: `read(path).map_err(io_error("read", path))?`.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}

/// An [`Error::File`] for `path`.
pub(crate) fn damaged(path: &Path, reason: impl Display) -> Error {
    Error::File { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
