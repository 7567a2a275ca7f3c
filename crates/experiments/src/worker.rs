//! A worker process: computes one cell and tells its parent how it goes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use forerun_runs::lock::{DirLock, lock_dir};
use serde_json::json;

use crate::cell::{Cell, CellResult, Task};
use crate::cli::{explain, tell};
use crate::protocol::{Message, stop_when_parent_is_gone};
use crate::{
    evaluate, external, multilingual, quantization, store, train_lm, train_stack, unigram,
    update_size,
};

/// How a cell's code ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    /// With a result.
    Result(CellResult),
    /// Early, because it was told to.
    Stopped {
        /// Whether what was done is in a checkpoint.
        resumable: bool,
    },
}

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
        let key =
            self.cell.needs.get(index).context("the cell lacks the key of a cell that it needs")?;
        let store = self.dir.parent().context("the cell's folder has no parent")?;
        Ok(store.join(key))
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The result of a needed cell, by its folder.
pub(crate) fn needed_result(dir: &Path) -> Result<CellResult> {
    let store = store::Store::new(dir.parent().context("a cell lies in a store")?);
    let key =
        dir.file_name().and_then(|name| name.to_str()).context("a cell's folder is its key")?;
    store.result(key)?.context("a needed cell has no result")
}

/// Computes the cell in `dir`; every end is told to the parent as a [`Message`].
pub(crate) fn work(dir: &Path) -> i32 {
    let stop = stop_when_parent_is_gone();
    let (message, code) = match compute(dir, &stop) {
        Ok(message) => (message, 0),
        Err(error) => (Message::Failed { error: explain(&error) }, 1),
    };
    message.send();
    code
}

/// The last message of a worker to which nothing happened.
fn compute(dir: &Path, stop: &AtomicBool) -> Result<Message> {
    let path = dir.join("cell.json");
    let text = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let cell: Cell = serde_json::from_slice(&text)
        .with_context(|| format!("`{}` is not a cell", path.display()))?;
    let Some(_lock) = lock(dir, stop)? else { return Ok(Message::Stopped { resumable: false }) };
    if dir.join("DONE").is_file() {
        return Ok(Message::Found);
    }
    tch::set_num_threads(i32::try_from(cell.machine.threads).unwrap_or(1));
    forerun_tensors::keep_freed_memory(); // the next update needs the same buffers again
    let context = Work { dir, cell: &cell, stop };
    let end = match &cell.task {
        Task::TrainLm(task) => train_lm::run(task, &context),
        Task::TrainStack(task) => train_stack::run(task, &context),
        Task::EvaluateLm(task) => evaluate::run(task, &context),
        Task::UpdateSize(task) => update_size::run(task, &context),
        Task::UnigramLoss(task) => unigram::run(task, &context),
        Task::External(task) => external::run(task, &context),
        Task::TrainMixture(task) => multilingual::run_training(task, &context),
        Task::FitMixture(task) => multilingual::run_fit(task, &context),
        Task::AssessMixture(task) => multilingual::run_assessment(task, &context),
        Task::MakeWeights(task) => quantization::run_making(task, &context),
        Task::MeasureWeights(task) => quantization::run_measuring(task, &context),
        Task::TimeWeights(task) => quantization::run_timing(task, &context),
    };
    match end {
        Ok(End::Stopped { resumable }) => return Ok(Message::Stopped { resumable }),
        Ok(End::Result(result)) => store::finish(dir, &result)?,
        Err(error) if is_out_of_memory(&error) => {
            tell(&explain(&error));
            store::finish(dir, &out_of_memory())?;
        }
        Err(error) => return Err(error),
    }
    Ok(Message::Finished)
}

/// Running out of memory is a result: the same cell would do so again.
fn out_of_memory() -> CellResult {
    let row = BTreeMap::from([("outcome".to_owned(), json!("out-of-memory"))]);
    CellResult { row, ..CellResult::default() }
}

/// Whether libtorch ran out of memory, whichever crate says so. Each of our error types is asked for itself: the
/// transparent ones do not show what they hold as a source of theirs.
fn is_out_of_memory(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        if let Some(error) = cause.downcast_ref::<forerun_train::Error>() {
            error.is_out_of_memory()
        } else if let Some(forerun_arch::Error::Tensors(error)) = cause.downcast_ref() {
            error.is_out_of_memory()
        } else if let Some(error) = cause.downcast_ref::<forerun_tensors::Error>() {
            error.is_out_of_memory()
        } else if let Some(error) = cause.downcast_ref::<tch::TchError>() {
            forerun_tensors::is_out_of_memory(error)
        } else {
            false
        }
    })
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

#[cfg(test)]
mod tests;
