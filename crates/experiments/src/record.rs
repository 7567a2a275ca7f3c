//! The record of a run that goes on: its manifest, written anew whenever a cell starts or ends, so that a run that is
//! killed leaves one that is true.

use std::path::PathBuf;

use anyhow::{Context, Result};
use forerun_runs::atomic::sha256_hex;
use forerun_runs::manifest::{self, CellState, Manifest};
use forerun_runs::run_dir::RunDir;
use forerun_runs::seed::Seed;

use crate::cell::CellResult;
use crate::config::Experiment;
use crate::data::Prepared;
use crate::environment;
use crate::plan::{Plan, PlannedCell};
use crate::store::Store;

/// The manifest of the run that goes on, and its file.
#[derive(Debug)]
pub(crate) struct Record {
    manifest: Manifest,
    path: PathBuf,
}

impl Record {
    /// Begins the record of a run, or goes on with the one that an earlier attempt left in `dir`.
    pub(crate) fn begin(
        experiment: &Experiment,
        prepared: &Prepared,
        plan: &Plan,
        store: &Store,
        dir: &RunDir,
        jobs: usize,
    ) -> Result<Self> {
        let (config, path) = (dir.file("config.toml"), dir.file("manifest.json"));
        let config = std::fs::read(&config)
            .with_context(|| format!("cannot read `{}`", config.display()))?;
        let earlier = if path.is_file() { Some(Manifest::read(&path)?) } else { None };
        let now = environment::now();
        let cells: Result<_> =
            plan.cells.iter().map(|planned| cell(planned, store, earlier.as_ref())).collect();
        let resumed = earlier
            .as_ref()
            .map_or_else(Vec::new, |earlier| [&earlier.resumed[..], &[now]].concat());
        let manifest = Manifest {
            format: manifest::FORMAT,
            experiment: experiment.name.clone(),
            config_sha256: sha256_hex(&config),
            code: environment::code(),
            machine: environment::machine(&experiment.device, experiment.threads, jobs),
            seed: Seed::new(experiment.root_seed),
            inputs: prepared.sources.clone(),
            cells: cells?,
            started: earlier.map_or(now, |earlier| earlier.started),
            resumed,
            ended: None,
        };
        let record = Self { manifest, path };
        record.write()?;
        Ok(record)
    }

    /// The cell of `key` is in this state from now on.
    pub(crate) fn note(&mut self, key: &str, state: CellState) -> Result<()> {
        self.manifest.set_state(key, state, environment::now())?;
        self.write()
    }

    /// Nothing more will be computed.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.manifest.ended = Some(environment::now());
        self.write()
    }

    fn write(&self) -> Result<()> {
        Ok(self.manifest.write(&self.path)?)
    }
}

/// What a cell that has a result is called in a manifest.
pub(crate) fn state_of(result: &CellResult) -> CellState {
    match result.row.get("outcome").and_then(|value| value.as_str()) {
        Some("diverged") => CellState::Diverged {
            step: result.row.get("steps").and_then(|value| value.as_u64()).unwrap_or(0),
        },
        Some("out-of-memory") => CellState::OutOfMemory,
        _ => CellState::Finished,
    }
}

/// A cell as this attempt finds it. What an earlier attempt of the same run computed stays as that one noted it; if
/// that one was killed before it could, the cell is noted as ended now.
fn cell(
    planned: &PlannedCell,
    store: &Store,
    earlier: Option<&Manifest>,
) -> Result<manifest::Cell> {
    let mut cell = manifest::Cell::planned(&planned.key, &planned.cell.label);
    if !store.is_done(&planned.key) {
        return Ok(cell);
    }
    let before =
        earlier.and_then(|earlier| earlier.cells.iter().find(|cell| cell.key == planned.key));
    cell.state = CellState::Reused;
    if let Some(before) =
        before.filter(|before| before.state.is_final() || before.state == CellState::Running)
    {
        (cell.state, cell.started, cell.ended) =
            (before.state.clone(), before.started, before.ended);
    }
    if cell.state == CellState::Running {
        let result = store.result(&planned.key)?;
        cell.state = result.as_ref().map_or(CellState::Planned, state_of);
        cell.ended = Some(environment::now());
    }
    Ok(cell)
}
