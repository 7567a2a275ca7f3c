//! `manifest.json`: everything that one needs to know to repeat a run or to doubt it.
//!
//! The values come from the caller; nothing here looks at the clock, the machine or the repository.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::atomic::{read_json, write_json};
use crate::error::{Result, damaged, ensure};
use crate::seed::Seed;

/// Version of the layout that this crate writes.
pub const FORMAT: u32 = 1;

/// Record of one run. Never put secrets into it: it is meant to be shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this layout, [`FORMAT`].
    pub format: u32,
    /// Name of the experiment, such as `quickstart`.
    pub experiment: String,
    /// SHA-256 of the resolved config, hexadecimal.
    pub config_sha256: String,
    /// Source that the program was built from.
    pub code: Code,
    /// Machine and settings it ran with.
    pub machine: Machine,
    /// Root of all randomness.
    pub seed: Seed,
    /// Files that went in.
    pub inputs: Vec<Input>,
    /// Units of work, in the order of the plan.
    pub cells: Vec<Cell>,
    /// Start of the first attempt, UTC.
    pub started: Timestamp,
    /// Starts of later attempts, when the run was resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<Timestamp>,
    /// End of the run, UTC; none while it goes on.
    pub ended: Option<Timestamp>,
}

/// What the program was built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Version of the package.
    pub version: String,
    /// Git commit, hexadecimal; none outside a repository.
    pub commit: Option<String>,
    /// Whether files differed from that commit; none outside a repository.
    pub dirty: Option<bool>,
    /// SHA-256 of `Cargo.lock`, hexadecimal; none where there is no such file.
    pub lock_sha256: Option<String>,
    /// What `rustc --version` said.
    pub rustc: String,
    /// Version of libtorch; none for what runs without it.
    pub libtorch: Option<String>,
}

/// What the program ran on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Operating system and architecture, such as `linux x86_64`.
    pub platform: String,
    /// Processor as it calls itself; none if unknown.
    pub processor: Option<String>,
    /// Device of the models, such as `cpu` or `cuda:0`.
    pub device: String,
    /// Threads of libtorch in each worker.
    pub threads: usize,
    /// Workers at a time.
    pub jobs: usize,
}

/// A file that went into a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What it was for, such as `train`.
    pub role: String,
    /// Where it was, as the config said.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, hexadecimal.
    pub sha256: String,
}

/// One unit of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Hash of all that decides its result; the name of its directory in the store.
    pub key: String,
    /// What people call it, such as `xpos seed 2`.
    pub label: String,
    /// How far it is.
    #[serde(flatten)]
    pub state: CellState,
    /// When this run started it; none if it has not, or found it finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When this run saw it end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl Cell {
    /// A unit that waits for its turn.
    pub fn planned(key: impl Into<String>, label: impl Into<String>) -> Self {
        let (key, label) = (key.into(), label.into());
        Self { key, label, state: CellState::Planned, started: None, ended: None }
    }
}

/// How far a cell is. Diverging and running out of memory are results, not failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CellState {
    /// Not started.
    Planned,
    /// Started and not ended; after the run it means that the worker was killed.
    Running,
    /// Computed by this run.
    Finished,
    /// Found in the store, computed before.
    Reused,
    /// The loss was not finite or above the bound at this step.
    Diverged {
        /// Optimiser step, counted from 1.
        step: u64,
    },
    /// Memory did not suffice.
    OutOfMemory,
    /// Something went wrong that is not a result; it is tried again on resume.
    Failed {
        /// What was said.
        reason: String,
    },
}

impl CellState {
    /// Whether the cell has a result and is not to be computed again.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Planned | Self::Running | Self::Failed { .. })
    }
}

impl Manifest {
    /// Writes it as JSON, atomically.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    /// Reads one back; fields that this version does not know are skipped.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if there is none, [`Error::File`](crate::Error::File) if it is
    /// cut off, has another layout or was written by a later version.
    pub fn read(path: &Path) -> Result<Self> {
        let manifest: Self = read_json(path)?;
        if manifest.format > FORMAT {
            return Err(damaged(
                path,
                format!("layout {} is newer than {FORMAT}", manifest.format),
            ));
        }
        Ok(manifest)
    }

    /// Notes that a cell started or ended at `now`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the plan has no such cell.
    pub fn set_state(&mut self, key: &str, state: CellState, now: Timestamp) -> Result<()> {
        let cell = self.cells.iter_mut().find(|cell| cell.key == key);
        ensure(cell.is_some(), "key", "the key of a planned cell", key)?;
        if let Some(cell) = cell {
            match state {
                CellState::Planned => (cell.started, cell.ended) = (None, None),
                CellState::Running => (cell.started, cell.ended) = (Some(now), None),
                _ => cell.ended = Some(now),
            }
            cell.state = state;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
