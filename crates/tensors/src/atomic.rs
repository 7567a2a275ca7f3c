//! Files that are either there in full or not at all.

use std::ffi::OsString;
#[cfg(unix)]
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Writes `bytes` to `path`, which holds the old file or the whole new one whenever the process ends.
///
/// The bytes go to a temporary file beside `path`, which is flushed to disk and then renamed.
///
/// # Errors
/// [`Error::Io`] from the disk; `path` is untouched then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = AtomicFile::create(path)?;
        file.write(bytes)?;
        file.commit()
    };
    write().map_err(|source| Error::io(path, source))
}

/// Bytes as hexadecimal digits, two each, lower case.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |half: u8| DIGITS[usize::from(half)];
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// A temporary file beside its target, removed on drop unless committed. Its name is random, so that what a
/// killed process left is never in the way, whatever its process id was.
pub(crate) struct AtomicFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let Some(file_name) = path.file_name() else {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the path names no file"));
        };
        let mut prefix = OsString::from(".");
        prefix.push(file_name);
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        // `tempfile`'s own rights are for the owner alone; these are an ordinary file's, less the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(Self { temporary: builder.tempfile_in(folder(path))?, path: path.to_owned() })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.temporary.as_file_mut().write_all(bytes)
    }

    pub(crate) fn commit(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.path).map_err(|error| error.error)?;
        // The rename itself lasts only once the folder is on disk, too.
        #[cfg(unix)]
        File::open(folder(&self.path))?.sync_all()?;
        Ok(())
    }
}

/// Where `path` lies; `.` for a bare name.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
