//! One set-up at a time in a checkout.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::output;
use crate::wheels::Purpose;

/// Held while `.libtorch` or `.models` changes; the system gives it up when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    /// `None` where the file system knows no locks (some clusters): then others may be at work beside us.
    file: Option<File>,
}

impl Lock {
    /// Whether nobody else works there, so that leftovers are really left over.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.file.is_some()
    }
}

/// Waits until no other process fetches the same below `dir`: libtorch in a checkout, models in a folder of them.
pub(crate) fn take(dir: &Path, purpose: &Purpose) -> Result<Lock> {
    let path = dir.join(purpose.lock);
    let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    let taken = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            output::note(format!(
                "another process is fetching {} here; waiting for it",
                purpose.what
            ));
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
