//! The crate's error: its variants follow what a caller can do about them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong between a text file and a row of token ids.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused: a missing file, no permission, a full disk.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `read`, `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The input holds something that is no usable text.
    #[error("{}: {reason}; {remedy}", Place { file, row: *row })]
    Input {
        /// The file, or the pattern that was to name files.
        file: PathBuf,
        /// The line or row, counted from 1, where it is known.
        row: Option<u64>,
        /// What is wrong there.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// A tokenizer cannot be read, or cannot do what was asked of it.
    #[error("tokenizer `{name}`: {reason}")]
    Tokenizer {
        /// The tokenizer's file, or `bytes`.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of token shards is damaged or no such file; build it again.
    #[error("token shards `{}`: {reason}", path.display())]
    Shards {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A chat template is no Jinja, or does not take these messages.
    #[error("chat template of `{name}`{}: {reason}", Line(*line))]
    Template {
        /// The model's file or folder.
        name: String,
        /// The line in the template, counted from 1, where it is known.
        line: Option<usize>,
        /// What is wrong there.
        reason: String,
    },
    /// A GGUF file is damaged, is of a kind that cannot be read, or lacks what was asked for.
    #[error("GGUF file `{name}`: {reason}")]
    Gguf {
        /// The file, or what the caller named it.
        name: String,
        /// What is wrong, with the metadata key or the tensor that it is about.
        reason: String,
    },
    /// A token id does not belong to the vocabulary in use.
    #[error("token id {id} in {place} is out of range: the vocabulary holds {vocab_size} ids")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Where it was met.
        place: String,
        /// Ids 0 up to, but not including, this one exist.
        vocab_size: u32,
    },
    /// An argument is outside its domain.
    #[error("{field} must be {want}, got {got}")]
    Config {
        /// The argument.
        field: &'static str,
        /// The values that are allowed.
        want: String,
        /// The value that came.
        got: String,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn input(
        file: &Path,
        row: impl Into<Option<u64>>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (row, reason, remedy) = (row.into(), reason.into(), remedy.into());
        Self::Input { file: file.to_owned(), row, reason, remedy }
    }

    pub(crate) fn shards(path: &Path, reason: impl Into<String>) -> Self {
        Self::Shards { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn tokenizer(name: &str, reason: impl fmt::Display) -> Self {
        Self::Tokenizer { name: name.to_owned(), reason: reason.to_string() }
    }
}

/// Returns [`Error::Config`] unless `ok`.
pub(crate) fn ensure(
    ok: bool,
    field: &'static str,
    want: impl Into<String>,
    got: impl fmt::Display,
) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::Config { field, want: want.into(), got: got.to_string() }) }
}

/// A line where known, as messages show it.
struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ", line {line}"))
    }
}

/// A file and, where known, its row, as messages show them.
pub(crate) struct Place<'a> {
    pub(crate) file: &'a Path,
    pub(crate) row: Option<u64>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.file.display())?;
        self.row.map_or(Ok(()), |row| write!(f, " row {row}"))
    }
}
