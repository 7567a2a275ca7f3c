//! One run of an experiment, from a configuration to a finished run directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use forerun_runs::atomic::{sha256_hex, write_atomic};
use forerun_runs::manifest::{self, CellState, Manifest};
use forerun_runs::run_dir::RunDir;
use forerun_runs::seed::Seed;

use crate::cli::{say, tell};
use crate::config::Experiment;
use crate::data::{self, Prepared};
use crate::executor::{self, Swept};
use crate::plan::{Plan, measured_rate};
use crate::progress::Progress;
use crate::store::Store;
use crate::{environment, outcome};

/// Exit status of a run that Ctrl-C ended, as shells expect it.
const INTERRUPTED: i32 = 130;

/// Whether to go on with an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Begin a new run. Cells that are in the store are used all the same.
    No,
    /// The newest unfinished run of the same configuration.
    Newest,
    /// This one, with the configuration that it holds.
    Dir(PathBuf),
}

/// Runs `experiment` and returns the exit status: 0, 1 if a cell failed, 130 after Ctrl-C.
pub(crate) fn run(experiment: Experiment, runs_dir: &Path, jobs: usize, resume: Resume) -> Result<i32> {
    let (experiment, dir) = open(experiment, runs_dir, &resume)?;
    let prepared = data::prepare(&experiment, runs_dir)?;
    let plan = Plan::new(&experiment, &prepared)?;
    let store = Store::new(runs_dir.join("cells"));
    let rate = measured_rate(&runs_dir.join("cells"));
    tell(&plan.describe(&experiment, &store, jobs, rate)?);
    tell(&format!("run  {}\n", dir.path().display()));

    let mut manifest = begin_manifest(&experiment, &prepared, &plan, &dir, jobs)?;
    mark_reused(&mut manifest, &plan, &store)?;
    manifest.write(&dir.file("manifest.json"))?;
    let swept = {
        let mut progress = Progress::new(&dir.file("log.txt"))?;
        executor::sweep(&plan, &store, jobs, &mut progress)?
    };
    note_ends(&mut manifest, &plan, &store, &swept)?;
    manifest.write(&dir.file("manifest.json"))?;
    if swept.interrupted {
        tell("\nstopped; finished cells are kept. Go on with the same command and --resume");
        return Ok(INTERRUPTED);
    }
    conclude(&experiment, &plan, &store, &dir, &swept)
}

/// Gathers, judges, renders; a run with failed cells gets a report but no `DONE`.
fn conclude(experiment: &Experiment, plan: &Plan, store: &Store, dir: &RunDir, swept: &Swept) -> Result<i32> {
    outcome::gather(experiment, plan, store, dir.path())?;
    outcome::render(dir.path())?;
    say(&outcome::summary(dir.path())?);
    if !swept.failed.is_empty() {
        for (label, cause) in &swept.failed {
            tell(&format!("failed: {label}: {cause}"));
        }
        tell("the report has what there is; mend the cause and run again with --resume");
        return Ok(1);
    }
    dir.finish()?;
    Ok(0)
}

fn open(experiment: Experiment, runs_dir: &Path, resume: &Resume) -> Result<(Experiment, RunDir)> {
    if let Resume::Dir(path) = resume {
        let dir = RunDir::open(path)?;
        let file = dir.file("config.toml");
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let earlier = Experiment::parse(&text).with_context(|| format!("`{}`", file.display()))?;
        if earlier.name != experiment.name {
            bail!("`{}` is a run of `{}`, not of `{}`", path.display(), earlier.name, experiment.name);
        }
        if dir.is_done() {
            bail!("`{}` is finished; `report` renders it again", path.display());
        }
        return Ok((earlier, dir));
    }
    let text = toml::to_string(&experiment).context("the configuration cannot be written as TOML")?;
    let hash = sha256_hex(text.as_bytes());
    if *resume == Resume::Newest {
        if let Some(dir) = RunDir::find_unfinished(runs_dir, &experiment.name, &hash)? {
            return Ok((experiment, dir));
        }
        tell("no unfinished run has this configuration; beginning a new one (finished cells are reused)");
    }
    let dir = RunDir::create(runs_dir, &experiment.name, &hash, environment::now())?;
    write_atomic(&dir.file("config.toml"), text.as_bytes())?;
    Ok((experiment, dir))
}

fn begin_manifest(
    experiment: &Experiment,
    prepared: &Prepared,
    plan: &Plan,
    dir: &RunDir,
    jobs: usize,
) -> Result<Manifest> {
    let config = std::fs::read(dir.file("config.toml"))?;
    let earlier = Manifest::read(&dir.file("manifest.json")).ok();
    let now = environment::now();
    let cell = |planned: &crate::plan::PlannedCell| manifest::Cell::planned(&planned.key, &planned.cell.label);
    let resumed = earlier.as_ref().map_or_else(Vec::new, |earlier| {
        let mut resumed = earlier.resumed.clone();
        resumed.push(now);
        resumed
    });
    Ok(Manifest {
        format: manifest::FORMAT,
        experiment: experiment.name.clone(),
        config_sha256: sha256_hex(&config),
        code: environment::code(),
        machine: environment::machine(&experiment.device, experiment.threads, jobs),
        seed: Seed::new(experiment.root_seed),
        inputs: prepared.sources.clone(),
        cells: plan.cells.iter().map(cell).collect(),
        started: earlier.map_or(now, |earlier| earlier.started),
        resumed,
        ended: None,
    })
}

fn mark_reused(manifest: &mut Manifest, plan: &Plan, store: &Store) -> Result<()> {
    for planned in plan.cells.iter().filter(|planned| store.is_done(&planned.key)) {
        manifest.set_state(&planned.key, CellState::Reused, environment::now())?;
    }
    Ok(())
}

/// The state of every cell after the sweep, from what lies in the store.
fn note_ends(manifest: &mut Manifest, plan: &Plan, store: &Store, swept: &Swept) -> Result<()> {
    let now = environment::now();
    for planned in &plan.cells {
        let reused = manifest.cells.iter().any(|cell| cell.key == planned.key && cell.state == CellState::Reused);
        let state = match (store.result(&planned.key)?, swept.failed.get(&planned.cell.label)) {
            (Some(_), _) if reused => continue,
            (Some(result), _) => match result.row.get("outcome").and_then(|value| value.as_str()) {
                Some("diverged") => {
                    CellState::Diverged { step: result.row.get("steps").and_then(|v| v.as_u64()).unwrap_or(0) }
                }
                Some("out-of-memory") => CellState::OutOfMemory,
                _ => CellState::Finished,
            },
            (None, Some(cause)) => CellState::Failed { reason: cause.clone() },
            (None, None) => CellState::Planned,
        };
        manifest.set_state(&planned.key, state, now)?;
    }
    if !swept.interrupted {
        manifest.ended = Some(now);
    }
    Ok(())
}
