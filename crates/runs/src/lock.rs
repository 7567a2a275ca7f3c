//! One directory, one worker: a lock that the operating system drops when its holder dies.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result, io_error};

/// Name of the lock file inside a directory.
const NAME: &str = ".lock";

/// Exclusive hold on a directory, from [`lock_dir`] until it is dropped or the process ends.
///
/// The lock is advisory: it keeps out those who ask for it. It lives in the open file, so a killed
/// process leaves no stale lock behind, only an empty file.
#[derive(Debug)]
pub struct DirLock {
    // Closing the file releases the lock.
    _file: File,
}

/// Takes the lock of an existing directory without waiting.
///
/// # Errors
/// [`Error::Locked`] if another process, or another part of this one, holds it; [`Error::Io`] otherwise.
pub fn lock_dir(dir: &Path) -> Result<DirLock> {
    let path = dir.join(NAME);
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(io_error("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(DirLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
    }
}

#[cfg(test)]
mod tests;
