//! The one error type of this crate.

use std::io;
use std::path::PathBuf;

/// A [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of a config, a shape, a tensor of a file, or libtorch itself.
    #[error(transparent)]
    Tensors(#[from] forerun_tensors::Error),
    /// A GGUF file.
    #[cfg(feature = "gguf")]
    #[error(transparent)]
    Tokens(#[from] forerun_tokens::Error),
    /// A file or folder could not be read or written.
    #[error("cannot access `{path}`: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A `config.json` that is not a valid [`crate::DecoderConfig`].
    #[error("`{path}` is not a decoder config: {reason}")]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// A file of a pretrained model's checkpoint that is not known or makes no sense.
    #[error("`{path}`: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with the name of the field.
        reason: String,
    },
    /// A KV cache that no longer holds, or never had room for, what a step needs.
    #[error("kv cache: {reason}")]
    Cache {
        /// What is missing.
        reason: String,
    },
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Tensors(error.into())
    }
}
