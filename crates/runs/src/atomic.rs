//! Files that are either wholly there or not there at all, and their hashes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::error::{Result, damaged, ensure, io_error};

/// Writes `bytes` to `path` so that a crash at any moment leaves the old file or the new one.
///
/// The bytes go to a temporary file in the same directory, are flushed to the device and renamed;
/// then the directory is flushed too. Missing parent directories are an error.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) with the step that failed; the temporary file is removed then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes).map_err(io_error("write", path)))
}

/// As [`write_atomic`], with a function that writes the content.
///
/// # Errors
/// What `write` returns, or [`Error::Io`](crate::Error::Io); the old file is untouched then.
pub fn write_atomic_with(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let dir = parent(path);
    ensure(path.file_name().is_some(), "path", "the path of a file", path.display())?;
    let mut temporary = temporary_in(&dir).map_err(io_error("create a temporary file in", &dir))?;
    write(temporary.as_file_mut())?;
    temporary.as_file().sync_all().map_err(io_error("flush", path))?;
    temporary.persist(path).map_err(|e| io_error("rename to", path)(e.error))?;
    sync_dir(&dir)
}

/// Writes a value as indented JSON with a final newline, atomically.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if the value is not JSON, [`Error::Io`](crate::Error::Io) otherwise.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| damaged(path, e))?;
    text.push('\n');
    write_atomic(path, text.as_bytes())
}

/// Reads a JSON file.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if it cannot be read, [`Error::File`](crate::Error::File) with line
/// and column if it is not what was expected.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(io_error("read", path))?;
    serde_json::from_slice(&text).map_err(|e| damaged(path, e))
}

/// SHA-256 of bytes as 64 lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// SHA-256 of a file's content, read in pieces; 64 lower-case hexadecimal digits.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(format!("{:x}", hasher.finalize())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(io_error("read", path)(e)),
        }
    }
}

/// Flushes a directory's entries to the device, so that a rename in it survives a power cut.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    // Directories cannot be opened as files on Windows, where a rename needs no such flush.
    if cfg!(unix) {
        let handle = File::open(dir).map_err(io_error("open", dir))?;
        handle.sync_all().map_err(io_error("flush", dir))?;
    }
    Ok(())
}

/// Directory of a file; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A temporary file with the rights of an ordinary one; `tempfile`'s own are for the owner alone.
fn temporary_in(dir: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tmp-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
    builder.tempfile_in(dir)
}

#[cfg(test)]
mod tests;
