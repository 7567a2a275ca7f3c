//! One run of an experiment, from a configuration to a finished run directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use forerun_runs::atomic::{sha256_hex, write_atomic};
use forerun_runs::lock::{DirLock, lock_dir};
use forerun_runs::run_dir::RunDir;
use forerun_tensors::parse_device;

use crate::cli::{say, tell};
use crate::config::Experiment;
use crate::executor::{self, Swept};
use crate::interrupt::INTERRUPTED;
use crate::plan::{Plan, measured_rate};
use crate::progress::Progress;
use crate::record::Record;
use crate::store::Store;
use crate::{data, environment, outcome};

/// Whether to go on with an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Begin a new run. Cells that are in the store are used all the same.
    No,
    /// The newest unfinished run of the same configuration.
    Newest,
    /// A certain run, with the configuration that it holds.
    Dir {
        /// Where it lies.
        dir: PathBuf,
        /// Whether options ask for a configuration, which must be the one that the run holds.
        asked: bool,
    },
}

/// Runs `experiment` and returns the exit status: 0, 1 if a cell failed, 130 after Ctrl-C. `jobs` tells how many
/// workers the experiment that is really run, an earlier one perhaps, gets at a time.
///
/// The text is read and the plan is made before a directory is: what cannot be run leaves none.
pub(crate) fn run(
    experiment: Experiment,
    runs_dir: &Path,
    jobs: impl FnOnce(&Experiment) -> Result<usize>,
    resume: &Resume,
) -> Result<i32> {
    let (experiment, opened) = match resume {
        Resume::Dir { dir, asked } => {
            let (earlier, opened) = reopen(&experiment, dir, *asked)?;
            (earlier, Some(opened))
        }
        _ => (experiment, None),
    };
    let jobs = jobs(&experiment)?;
    let prepared = data::prepare(&experiment, runs_dir)?;
    let plan = Plan::new(&experiment, &prepared)?;
    let Opened { dir, _lock } = match opened {
        Some(opened) => opened,
        None => open(&experiment, runs_dir, resume)?,
    };
    let cells = runs_dir.join("cells");
    let store = Store::new(&cells);
    tell(&plan.describe(&experiment, &store, jobs, measured_rate(&cells, &plan))?);
    tell(&format!("run  {}\n", dir.path().display()));

    let mut record = Record::begin(&experiment, &prepared, &plan, &store, &dir, jobs)?;
    let swept = {
        let mut progress = Progress::new(&dir.file("log.txt"))?;
        executor::sweep(&plan, &store, jobs, &mut progress, &mut record)?
    };
    tell(&format!("\n{}", swept.in_words(plan.cells.len())));
    if swept.interrupted {
        tell("stopped; finished cells are kept. Go on with the same command and --resume");
        return Ok(INTERRUPTED);
    }
    record.end()?;
    conclude(&experiment, &plan, &store, &dir, &swept)
}

/// Gathers, judges, renders; a run with failed cells gets a report but no `DONE`.
fn conclude(
    experiment: &Experiment,
    plan: &Plan,
    store: &Store,
    dir: &RunDir,
    swept: &Swept,
) -> Result<i32> {
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

/// A run directory that this process alone works in.
struct Opened {
    dir: RunDir,
    /// Held until the run ends.
    _lock: DirLock,
}

impl Opened {
    /// `None` if another process works there.
    fn take(dir: RunDir) -> Result<Option<Self>> {
        match lock_dir(dir.path()) {
            Ok(lock) => Ok(Some(Self { dir, _lock: lock })),
            Err(forerun_runs::Error::Locked { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The run in `path` and the configuration that it holds.
fn reopen(experiment: &Experiment, path: &Path, asked: bool) -> Result<(Experiment, Opened)> {
    let dir = RunDir::open(path)?;
    let file = dir.file("config.toml");
    let text = fs::read_to_string(&file).with_context(|| {
        format!(
            "cannot read `{}`; `{}` is not a run, or was stopped before it began",
            file.display(),
            path.display()
        )
    })?;
    let earlier = Experiment::parse(&text).with_context(|| format!("`{}`", file.display()))?;
    if earlier.name != experiment.name {
        bail!("`{}` is a run of `{}`, not of `{}`", path.display(), earlier.name, experiment.name);
    }
    let Some(opened) = Opened::take(dir)? else {
        bail!("the run in `{}` is still going on, in another process", path.display());
    };
    if opened.dir.is_done() {
        bail!("`{}` is finished; `report` renders it again", path.display());
    }
    if asked && earlier.settings() != experiment.settings() {
        bail!(
            "`{}` has another configuration than the options ask for; leave the options away to go on with it, or \
             leave DIR away to begin a run of its own",
            path.display()
        );
    }
    parse_device(&earlier.device)?;
    Ok((earlier, opened))
}

/// The newest unfinished run of this configuration if that is asked for and there is one, a new one otherwise.
fn open(experiment: &Experiment, runs_dir: &Path, resume: &Resume) -> Result<Opened> {
    let text =
        toml::to_string(experiment).context("the configuration cannot be written as TOML")?;
    let hash = sha256_hex(toml::to_string(&experiment.settings())?.as_bytes());
    if *resume == Resume::Newest
        && let Some(opened) = newest(runs_dir, experiment, &hash, &text)?
    {
        return Ok(opened);
    }
    loop {
        let dir = RunDir::create(runs_dir, &experiment.name, &hash, environment::now())?;
        // Another process that resumes may have been quicker to take the directory that was just made.
        if let Some(opened) = Opened::take(dir)? {
            write_atomic(&opened.dir.file("config.toml"), text.as_bytes())?;
            return Ok(opened);
        }
    }
}

fn newest(
    runs_dir: &Path,
    experiment: &Experiment,
    hash: &str,
    text: &str,
) -> Result<Option<Opened>> {
    let Some(dir) = RunDir::find_unfinished(runs_dir, &experiment.name, hash)? else {
        tell(
            "no unfinished run has this configuration; beginning a new one (finished cells are reused)",
        );
        return Ok(None);
    };
    let path = dir.path().to_owned();
    let Some(opened) = Opened::take(dir)? else {
        tell(&format!(
            "the run in {} is still going on; beginning a new one (cells are shared)",
            path.display()
        ));
        return Ok(None);
    };
    // A run that was killed as it began has a directory, but nothing in it.
    let file = opened.dir.file("config.toml");
    if !file.is_file() {
        write_atomic(&file, text.as_bytes())?;
    }
    let held =
        fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
    if Experiment::parse(&held).map(|held| held.settings()).ok() != Some(experiment.settings()) {
        bail!(
            "`{}` was changed after its run began; to run what it says now, resume `{}`",
            file.display(),
            path.display()
        );
    }
    Ok(Some(opened))
}
