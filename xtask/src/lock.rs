//! One set-up at a time in a checkout.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::output;

/// Held while `.libtorch` changes; the system gives it up when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    /// `None` where the file system knows no locks (some clusters): then others may be at work beside us.
    file: Option<File>,
}

impl Lock {
    /// Whether nobody else works on `.libtorch`, so that leftovers are really left over.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.file.is_some()
    }
}

/// Waits until no other process sets up the checkout in `root`.
pub(crate) fn take(root: &Path) -> Result<Lock> {
    let path = root.join(".libtorch.lock");
    let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    let taken = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            output::note("another process is setting up libtorch here; waiting for it");
            file.lock()
        }
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => Ok(()),
    };
    match taken {
        Ok(()) => Ok(Lock { file: Some(file) }),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Lock { file: None }),
        Err(error) => Err(error).with_context(|| format!("cannot lock `{}`", path.display())),
    }
}
