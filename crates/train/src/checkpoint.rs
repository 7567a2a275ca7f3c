//! Checkpoints on disk: `step-N/{model,optimizer}.safetensors` and `state.json`.
//!
//! A checkpoint is written into a hidden folder, flushed, and renamed, so that a folder named `step-N` is complete
//! whenever the process is killed. `state.json` holds the SHA-256 of both tensor files and of itself; a checkpoint
//! in which one bit changed is refused as a whole, before anything is taken from it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use forerun_tensors::{SafetensorsFile, save};
use tch::Tensor;

use crate::error::{Error, Result};

pub(crate) mod state;

use state::State;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const PREFIX: &str = "step-";
/// Folders that are being written or deleted; whatever carries this prefix at a start is a leftover.
const HIDDEN: &str = ".unfinished-";

/// A checkpoint whose three files have been verified.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder `step-N`.
    pub path: PathBuf,
    /// Everything that is not a tensor.
    pub state: State,
    /// The parameters, under their own names.
    pub model: SafetensorsFile,
    /// Moments and step counts, as [`Optimiser::named_tensors`](crate::Optimiser::named_tensors) names them.
    pub optimizer: SafetensorsFile,
}

impl Checkpoint {
    /// Opens the folder `path` and verifies every byte of it.
    ///
    /// # Errors
    /// [`Error::Damaged`] says what does not fit.
    pub fn open(path: &Path) -> Result<Self> {
        let state = State::read(&path.join(STATE))?;
        Ok(Self {
            path: path.to_path_buf(),
            model: verified(&path.join(MODEL), &state.model_sha256)?,
            optimizer: verified(&path.join(OPTIMIZER), &state.optimizer_sha256)?,
            state,
        })
    }

    /// The newest sound checkpoint in `folder`, if there is one. `refused` hears of every newer one that is damaged.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be listed, and whatever `refused` returns.
    pub fn newest(
        folder: &Path,
        mut refused: impl FnMut(&Path, &Error) -> Result<()>,
    ) -> Result<Option<Self>> {
        Self::search(folder, |path, found| match found {
            Ok(checkpoint) => Ok(Some(checkpoint)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "checkpoint refused");
                refused(path, &error).map(|()| None)
            }
        })
    }

    /// Opens every checkpoint in `folder`, newest first, until `judge` takes one.
    pub(crate) fn search(
        folder: &Path,
        mut judge: impl FnMut(&Path, Result<Self>) -> Result<Option<Self>>,
    ) -> Result<Option<Self>> {
        for (_, path) in list(folder)? {
            if let Some(checkpoint) = judge(&path, Self::open(&path))? {
                return Ok(Some(checkpoint));
            }
        }
        Ok(None)
    }

    /// Writes `folder/step-N` for `state.step` updates and returns its path. The two hashes in `state` are filled in
    /// here. A folder of that name (a damaged one that was passed over) is replaced.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Tensors`] if the disk refuses; then no `step-N` has been touched.
    pub fn write(
        folder: &Path,
        mut state: State,
        model: &[(String, Tensor)],
        optimizer: &[(String, Tensor)],
    ) -> Result<PathBuf> {
        let name = format!("{PREFIX}{}", state.step);
        let (path, hidden) = (folder.join(&name), folder.join(format!("{HIDDEN}{name}")));
        remove_if_there(&hidden)?;
        fs::create_dir_all(&hidden).map_err(Error::io("create", &hidden))?;
        let metadata = BTreeMap::from([("step".to_owned(), state.step.to_string())]);
        state.model_sha256 = save(&hidden.join(MODEL), model, &metadata)?;
        state.optimizer_sha256 = save(&hidden.join(OPTIMIZER), optimizer, &metadata)?;
        state.write(&hidden.join(STATE))?;
        flush_folder(&hidden)?;
        discard(folder, &path)?;
        fs::rename(&hidden, &path).map_err(Error::io("rename", &hidden))?;
        flush_folder(folder)?;
        Ok(path)
    }
}

/// Step and path of every checkpoint in `folder`, newest first, sound or not; none if there is no such folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found: Vec<_> = entries(folder)?
        .into_iter()
        .filter_map(|(name, path)| Some((name.strip_prefix(PREFIX)?.parse().ok()?, path)))
        .collect();
    found.sort_by_key(|&(step, _)| std::cmp::Reverse(step));
    Ok(found)
}

/// Deletes all but the newest `keep` checkpoints of at most `step` updates. Later ones can only be damaged ones that
/// were passed over; they stay until they are written anew.
pub(crate) fn prune(folder: &Path, step: u64, keep: usize) -> Result<()> {
    let candidates = list(folder)?.into_iter().filter(|&(found, _)| found <= step);
    for (_, path) in candidates.skip(keep) {
        discard(folder, &path)?;
    }
    Ok(())
}

/// Deletes what a killed process left half-written or half-deleted.
pub(crate) fn sweep(folder: &Path) -> Result<()> {
    for (name, path) in entries(folder)? {
        if name.starts_with(HIDDEN) {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

/// Deletes `path`; renamed first, so that a kill cannot leave half of it under its name.
fn discard(folder: &Path, path: &Path) -> Result<()> {
    let hidden = folder.join(format!("{HIDDEN}old"));
    remove_if_there(&hidden)?;
    unless_absent(fs::rename(path, &hidden)).map_err(Error::io("rename", path))?;
    remove_if_there(&hidden)
}

fn verified(path: &Path, sha256: &str) -> Result<SafetensorsFile> {
    let file = SafetensorsFile::open(path).map_err(|error| Error::damaged(path, error))?;
    let found = file.sha256()?;
    if found != sha256 {
        return Err(Error::damaged(path, format!("its SHA-256 is {found}, not {sha256}")));
    }
    Ok(file)
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = || Error::io("list", folder);
    let Some(listing) = unless_absent(fs::read_dir(folder)).map_err(failed())? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(failed())?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

fn remove_if_there(path: &Path) -> Result<()> {
    unless_absent(fs::remove_dir_all(path)).map_err(Error::io("delete", path))?;
    Ok(())
}

/// `None` if what was asked for is not there; any other failure stays one.
fn unless_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes names in `folder` survive a power failure.
fn flush_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(Error::io("flush", folder))
}

#[cfg(test)]
mod tests;
