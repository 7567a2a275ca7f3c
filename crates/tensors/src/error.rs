//! The one error type of this crate.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use tch::TchError;

/// What can go wrong in this crate, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused an operation; its text is shown without the C++ stack trace.
    #[error("{}", without_backtrace(.0))]
    Tch(#[from] TchError),
    /// A value in a config or an argument is out of its range.
    #[error("{field} must be {want}, got {got}")]
    Config {
        /// Name of the field or argument.
        field: String,
        /// What would have been accepted.
        want: String,
        /// What was there.
        got: String,
    },
    /// A tensor has the wrong shape.
    #[error("{arg} must have shape {want}, got {got:?}")]
    Shape {
        /// Name of the argument.
        arg: &'static str,
        /// The accepted shape, in the vocabulary of the shape comments.
        want: String,
        /// The shape that was handed in.
        got: Vec<i64>,
    },
    /// The operating system refused to read or write.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file is not what it should be: truncated, corrupt, or of another format.
    #[error("`{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor in a file is missing, unexpected, or of the wrong shape or kind.
    #[error("`{}`: tensor `{name}` {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// libtorch's C++ side, or a Rust backward that it called, failed.
    #[error("{0}")]
    Foreign(String),
}

/// A result whose error is [`Error`] unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether libtorch's memory ran out, on the host or on the accelerator: a smaller batch may succeed.
    /// Errors of the file system never count.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Tch(_) | Self::Foreign(_)) && is_out_of_memory(self)
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn tensor(path: &Path, name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), name: name.to_owned(), reason: reason.into() }
    }
}

/// Whether `error`, or one that caused it, tells that libtorch's memory ran out.
///
/// libtorch has no error code for it that reaches Rust, so the text decides, whatever type carries it.
pub fn is_out_of_memory(error: &(dyn StdError + 'static)) -> bool {
    // In this order: c10's caching allocator for CUDA and the driver; its allocator for the CPU (two texts, and
    // the system's, which it quotes); cuBLAS and cuDNN; C++ itself.
    const TEXTS: [&str; 6] = [
        "out of memory",
        "can't allocate memory",
        "not enough memory",
        "cannot allocate memory",
        "alloc_failed",
        "bad_alloc",
    ];
    std::iter::successors(Some(error), |&error| error.source()).any(|error| {
        let text = error.to_string().to_lowercase();
        TEXTS.iter().any(|known| text.contains(known))
    })
}

/// Checks one value of a config or one argument.
///
/// # Errors
/// [`Error::Config`], which reads `field must be want, got got`, if `ok` is false.
pub fn ensure(ok: bool, field: &str, want: &str, got: impl Display) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::Config { field: field.to_owned(), want: want.to_owned(), got: got.to_string() })
}

/// tch hands on libtorch's full text, in which the message is followed by a C++ stack trace.
fn without_backtrace(error: &TchError) -> String {
    let text = match error {
        TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    match text.find("\nException raised from ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests;
