//! A worker process: computes one cell and tells its parent how it goes.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use forerun_runs::lock::{DirLock, lock_dir};

use crate::cell::{Cell, CellResult, Task};
use crate::protocol::{Message, stop_when_parent_is_gone};
use crate::{evaluate, store, train_lm};

/// What a cell's code is handed.
pub(crate) struct Work<'a> {
    /// The cell's folder.
    pub(crate) dir: &'a Path,
    /// The cell.
    pub(crate) cell: &'a Cell,
    /// Rises when the worker should write a checkpoint and stop.
    pub(crate) stop: &'a AtomicBool,
}

impl Work<'_> {
    /// The folder of a cell that this one needs: both lie in the same store.
    pub(crate) fn needed(&self, index: usize) -> Result<std::path::PathBuf> {
        let key = self.cell.needs.get(index).context("the cell lacks the key of a cell that it needs")?;
        let store = self.dir.parent().context("the cell's folder has no parent")?;
        Ok(store.join(key))
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Computes the cell in `dir`; every end is told to the parent as a [`Message`].
pub(crate) fn work(dir: &Path) -> i32 {
    let stop = stop_when_parent_is_gone();
    let (message, code) = match compute(dir, &stop) {
        Ok(true) => (Message::Finished, 0),
        Ok(false) => (Message::Stopped, 0),
        Err(error) => (Message::Failed { error: format!("{error:#}") }, 1),
    };
    message.send();
    code
}

/// `false` if it was stopped before the end.
fn compute(dir: &Path, stop: &AtomicBool) -> Result<bool> {
    let path = dir.join("cell.json");
    let text = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let cell: Cell = serde_json::from_slice(&text).with_context(|| format!("`{}` is not a cell", path.display()))?;
    let Some(_lock) = lock(dir, stop)? else { return Ok(false) };
    if dir.join("DONE").is_file() {
        return Ok(true);
    }
    tch::set_num_threads(i32::try_from(cell.machine.threads).unwrap_or(1));
    let context = Work { dir, cell: &cell, stop };
    let result = match &cell.task {
        Task::TrainLm(task) => train_lm::run(task, &context)?,
        Task::EvaluateLm(task) => evaluate::run(task, &context)?,
    };
    let Some(result): Option<CellResult> = result else { return Ok(false) };
    store::finish(dir, &result)?;
    Ok(true)
}

/// Waits until this process alone works on the cell.
fn lock(dir: &Path, stop: &AtomicBool) -> Result<Option<DirLock>> {
    let mut told = false;
    while !stop.load(Ordering::Relaxed) {
        match lock_dir(dir) {
            Ok(lock) => return Ok(Some(lock)),
            Err(forerun_runs::Error::Locked { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if !told {
            Message::Waiting.send();
            told = true;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(None)
}
