//! The crate's error: its variants follow what a caller can do about them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong between a table of runs and a fitted law.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused: a missing file, no permission.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A value of the observations cannot be used: repair the table or drop the row.
    #[error("{}{reason}", Place { file: file.as_deref(), row: *row, column })]
    Data {
        /// The file, where the table came from one.
        file: Option<PathBuf>,
        /// The row, counted from 1 without the header, where one is to blame.
        row: Option<usize>,
        /// The column.
        column: String,
        /// What is wrong there.
        reason: String,
    },
    /// An argument is outside its domain.
    #[error("{field} must be {want}, got {got}")]
    Config {
        /// The argument.
        field: String,
        /// The values that are allowed.
        want: String,
        /// The value that came.
        got: String,
    },
    /// The law has as many parameters as there are points, or more: add runs or fix parameters.
    #[error(
        "`{law}` has {parameters} free parameters and needs more points than that, got {points}"
    )]
    TooFewPoints {
        /// The law.
        law: String,
        /// Points that are left after the outlier rule.
        points: usize,
        /// Free parameters.
        parameters: usize,
    },
    /// The data do not determine what was asked for.
    #[error("{what} is not identified: {reason}")]
    NotIdentified {
        /// The quantity.
        what: String,
        /// Why not.
        reason: String,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn data(
        file: Option<&Path>,
        row: impl Into<Option<usize>>,
        column: &str,
        reason: impl Into<String>,
    ) -> Self {
        Self::Data {
            file: file.map(Path::to_owned),
            row: row.into(),
            column: column.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn not_identified(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::NotIdentified { what: what.into(), reason: reason.into() }
    }
}

/// Returns [`Error::Config`] unless `ok`.
pub(crate) fn ensure(
    ok: bool,
    field: impl Into<String>,
    want: impl Into<String>,
    got: impl fmt::Display,
) -> Result<()> {
    if ok {
        Ok(())
    } else {
        Err(Error::Config { field: field.into(), want: want.into(), got: got.to_string() })
    }
}

/// File, row and column, as far as they are known, as messages begin.
struct Place<'a> {
    file: Option<&'a Path>,
    row: Option<usize>,
    column: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = self.file {
            write!(f, "`{}`, ", file.display())?;
        }
        if let Some(row) = self.row {
            write!(f, "row {row}, ")?;
        }
        write!(f, "column `{}`: ", self.column)
    }
}
