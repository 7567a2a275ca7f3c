//! The store of cells: `cells/KEY/`, computed once and found again by every experiment that needs the same cell.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use forerun_runs::atomic::write_atomic;

use crate::cell::{Cell, CellResult};

/// A folder of cells.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store at `root`; the folder is made when the first cell is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where the cell of this key lives.
    pub fn dir(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Makes the folder of a cell and writes `cell.json` there.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn prepare(&self, key: &str, cell: &Cell) -> Result<PathBuf> {
        let dir = self.dir(key);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        write_atomic(&dir.join("cell.json"), &serde_json::to_vec_pretty(cell)?)?;
        Ok(dir)
    }

    /// What the cell of this key is, if its folder says so.
    pub fn cell(&self, key: &str) -> Option<Cell> {
        serde_json::from_slice(&fs::read(self.dir(key).join("cell.json")).ok()?).ok()
    }

    /// Whether the result is there.
    pub fn is_done(&self, key: &str) -> bool {
        self.dir(key).join("DONE").is_file()
    }

    /// The result of a finished cell; `None` while there is none.
    ///
    /// # Errors
    /// A result that is there but cannot be read names its file.
    pub fn result(&self, key: &str) -> Result<Option<CellResult>> {
        if !self.is_done(key) {
            return Ok(None);
        }
        let path = self.dir(key).join("result.json");
        let text = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let result = serde_json::from_slice(&text).with_context(|| {
            format!(
                "`{}` is damaged; remove the folder and run again with --resume",
                path.display()
            )
        })?;
        Ok(Some(result))
    }
}

/// The checkpoints of a training, in the folder of its cell, until it is done.
pub(crate) fn checkpoints(dir: &Path) -> PathBuf {
    dir.join("checkpoints")
}

/// Writes a result, then the mark that says it is whole. Checkpoints are not needed any more.
pub(crate) fn finish(dir: &Path, result: &CellResult) -> Result<()> {
    write_atomic(&dir.join("result.json"), &serde_json::to_vec_pretty(result)?)?;
    write_atomic(&dir.join("DONE"), b"")?;
    let left = checkpoints(dir);
    match fs::remove_dir_all(&left) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", left.display()))
        }
        _ => Ok(()),
    }
}
