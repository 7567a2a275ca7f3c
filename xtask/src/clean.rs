//! Deleting what can be made again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cargo::Cargo;
use crate::wheels::LIBTORCH;
use crate::workspace::Workspace;
use crate::{install, lock, output, process};

/// libtorch, leftovers of set-ups, and what cargo built. Runs stay.
pub(crate) fn everything(workspace: &Workspace) -> Result<()> {
    {
        let _lock = lock::take(&workspace.root, &LIBTORCH)?;
        install::remove_leftovers(&workspace.root, install::PARTIAL)?;
        remove(&workspace.libtorch_parent())?;
    }
    process::run(&mut Cargo::without_libtorch(workspace).command(["clean"]))
}

/// The finished cells that runs share; the runs' own folders stay.
pub(crate) fn cells(workspace: &Workspace) -> Result<()> {
    remove(&workspace.root.join("runs/cells"))
}

fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => output::line(format!("{} is not there", path.display())),
        Ok(kind) => {
            // A link is deleted, never what it points to.
            let removed =
                if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.with_context(|| format!("cannot remove `{}`", path.display()))?;
            output::line(format!("deleted {}", path.display()));
        }
    }
    Ok(())
}
