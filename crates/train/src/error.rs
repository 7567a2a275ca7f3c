//! What can go wrong while training, sorted by what the caller can do about it.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use forerun_tensors::is_out_of_memory;
use tch::TchError;

/// The error that a caller's own code (model, data, observer) hands to this crate.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why training did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the configuration is out of range.
    #[error("{field} must be {want}, got {got}")]
    Config {
        /// Dotted path of the field, for example `optimiser.lr`.
        field: &'static str,
        /// What the field must be.
        want: String,
        /// What it is.
        got: String,
    },
    /// A sound checkpoint belongs to a run with another configuration.
    #[error("checkpoint `{path}` has {field} = {checkpoint}, this run has {run}")]
    OtherConfig {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// Dotted path of the first field that differs.
        field: String,
        /// The checkpoint's value as JSON, or `nothing`.
        checkpoint: String,
        /// This run's value as JSON, or `nothing`.
        run: String,
    },
    /// A checkpoint is truncated, altered or incomplete.
    #[error("checkpoint `{path}` is damaged: {reason}")]
    Damaged {
        /// Folder or file of the checkpoint.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A sound checkpoint whose logs were lost or cut short since it was written.
    #[error("checkpoint `{path}` does not fit its logs: {reason}")]
    Logs {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// What the observer found.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The data source gave rows that cannot be trained on.
    #[error("rows {first_row}..{end_row}: {reason}")]
    Rows {
        /// Global index of the first row asked for.
        first_row: u64,
        /// Global index after the last row asked for.
        end_row: u64,
        /// What is wrong with them.
        reason: String,
    },
    /// Code of the caller failed: the model, the data source or the observer.
    #[error("the {who} failed")]
    Caller {
        /// `model`, `data source` or `observer`.
        who: &'static str,
        /// The caller's error.
        source: BoxError,
    },
    /// libtorch failed, or the tensor layer above it.
    #[error(transparent)]
    Tensors(#[from] forerun_tensors::Error),
}

impl From<TchError> for Error {
    fn from(error: TchError) -> Self {
        Self::Tensors(error.into())
    }
}

impl Error {
    /// Whether libtorch ran out of memory, on the CPU or on a GPU.
    ///
    /// Errors of the data source, of the observer and of the file system never count.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Tensors(error) => error.is_out_of_memory(),
            Self::Caller { who: MODEL, source } => is_out_of_memory(&**source),
            _ => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged { path: path.to_path_buf(), reason: reason.to_string() }
    }

    pub(crate) fn model(source: BoxError) -> Self {
        Self::Caller { who: MODEL, source }
    }

    pub(crate) fn data(source: BoxError) -> Self {
        Self::Caller { who: "data source", source }
    }

    pub(crate) fn observer(source: BoxError) -> Self {
        Self::Caller { who: "observer", source }
    }
}

const MODEL: &str = "model";

pub(crate) fn ensure(
    ok: bool,
    field: &'static str,
    want: impl ToString,
    got: impl ToString,
) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::Config { field, want: want.to_string(), got: got.to_string() })
}

#[cfg(test)]
mod tests;
