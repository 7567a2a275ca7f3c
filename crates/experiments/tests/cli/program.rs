//! Starts the binary in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// Long enough to be interrupted in the middle, small enough for a test.
pub(crate) const INTERRUPTIBLE: &[&str] =
    &["--scale", "smoke", "--set", "training.steps=120", "--set", "training.checkpoint_every=10"];

/// A folder with a `runs` folder in it.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forerun-experiments"));
        command.current_dir(self.path()).args(arguments).env_remove("FORERUN_RUNS");
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs to a successful end and returns what was printed on standard output.
    #[track_caller]
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs to a failure with exit status 1 and returns its one line of error.
    #[track_caller]
    pub(crate) fn fail(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        let line = said
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap_or_else(|| panic!("{said}"));
        line.to_owned()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The only run directory of an experiment.
    #[track_caller]
    pub(crate) fn only_run(&self, name: &str) -> PathBuf {
        let runs = children(&self.path().join("runs").join(name));
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.into_iter().next().unwrap()
    }

    /// The folders of the training cells.
    pub(crate) fn trainings(&self) -> Vec<PathBuf> {
        let cells = children(&self.path().join("runs/cells")).into_iter();
        cells
            .filter(|cell| fs::read_to_string(cell.join("cell.json")).unwrap().contains("train-lm"))
            .collect()
    }
}

pub(crate) fn children(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Sends a signal by the name that `kill` knows.
pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Repetitions of a random trial: all with `RUN_SLOW`, a few without.
pub(crate) fn trials(all: u64, few: u64) -> u64 {
    if std::env::var_os("RUN_SLOW").is_some() { all } else { few }
}

/// A worker as a sweep starts it.
pub(crate) fn start_worker(dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_forerun-experiments"))
        .arg("worker")
        .arg(dir)
        .env("OMP_NUM_THREADS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lines of a training cell's log so far.
pub(crate) fn lines(cell: &Path) -> usize {
    fs::read_to_string(cell.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}
