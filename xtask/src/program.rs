//! Building a program of the workspace and becoming it.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo::Cargo;
use crate::libtorch::Libtorch;
use crate::workspace::Workspace;
use crate::{output, process, setup};

/// The programs that `xtask` starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    /// Plans, runs and reports experiments.
    Experiments,
    /// Fits scaling laws; needs no libtorch.
    Scaling,
    /// Checks reference vectors.
    Golden,
    /// Our side of `peers train`.
    TrainStep,
    /// Our side of `peers generate`.
    GenerateSpeed,
    /// Our side of `peers lora`.
    LoraAdapters,
    /// Our side of `peers checkpoint`.
    Checkpoints,
    /// Our side of `peers tensorboard`.
    TensorboardEvents,
    /// Our side of `peers scaling`; needs no libtorch.
    FitSpeed,
}

impl Program {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 9] = [
        Self::Experiments,
        Self::Scaling,
        Self::Golden,
        Self::TrainStep,
        Self::GenerateSpeed,
        Self::LoraAdapters,
        Self::Checkpoints,
        Self::TensorboardEvents,
        Self::FitSpeed,
    ];

    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::Experiments => "forerun-experiments",
            Self::Scaling => "forerun-scaling",
            Self::Golden => "golden",
            Self::TrainStep => "train_step",
            Self::GenerateSpeed => "generate_speed",
            Self::LoraAdapters => "lora_adapters",
            Self::Checkpoints => "checkpoints",
            Self::TensorboardEvents => "tensorboard_events",
            Self::FitSpeed => "fit_speed",
        }
    }

    /// Whether it runs only where libtorch is.
    pub(crate) fn needs_libtorch(self) -> bool {
        !matches!(self, Self::Scaling | Self::FitSpeed)
    }

    /// Sets up what is missing, builds, and becomes the program, in the caller's folder and with `arguments`.
    pub(crate) fn build_and_start(
        self,
        workspace: &Workspace,
        arguments: Vec<OsString>,
    ) -> Result<ExitCode> {
        let mut command = self.built(workspace)?;
        command.args(arguments);
        let at_root = env::current_dir().is_ok_and(|here| here == workspace.root);
        for (name, folder) in [(RUNS, "runs"), (MODELS, ".models")] {
            if env::var_os(name).is_none() && !at_root {
                command.env(name, workspace.root.join(folder));
            }
        }
        process::become_program(&mut command)
    }

    /// Sets up what is missing and builds; the command starts the program, as yet without arguments.
    pub(crate) fn built(self, workspace: &Workspace) -> Result<Command> {
        if !self.needs_libtorch() {
            let executable = self.build(&Cargo::without_libtorch(workspace))?;
            return Ok(Command::new(from_here(&executable)));
        }
        let libtorch = setup::ensure(workspace)?;
        let executable = self.build(&Cargo::with(workspace, libtorch.clone()))?;
        let mut command = Command::new(from_here(&executable));
        command.env("LIBTORCH", &libtorch.dir).env(LIBRARY_PATH, library_path(&libtorch)?);
        Ok(command)
    }

    /// Builds the program; cargo says where it lies.
    fn build(self, cargo: &Cargo<'_>) -> Result<PathBuf> {
        let mut build = cargo.command(build_arguments(self.binary()));
        let shown = process::show(&build);
        output::note(format!("$ {shown}"));
        build.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        let mut child = build.spawn().with_context(|| format!("cannot start `{shown}`"))?;
        let messages = child.stdout.take().context("cargo has no standard output")?;
        let executable = find_executable(BufReader::new(messages), self.binary());
        let status = child.wait().with_context(|| format!("lost `{shown}`"))?;
        if !status.success() {
            bail!("`{shown}` failed ({status})");
        }
        executable.with_context(|| format!("cargo did not say where `{}` lies", self.binary()))
    }
}

/// How every program is built: with the packages, and so the features, of `cargo xtask test`.
///
/// With `--package`, cargo chooses the features of our dependencies for that package alone. With `--workspace`, it
/// leaves out what only tests depend on. Both ways it compiles tch, arrow and parquet a second time for the tests.
/// So one small test is built as well, that of xtask. `tidy::one_build` holds us to it.
pub(crate) fn build_arguments(binary: &str) -> [&str; 6] {
    ["build", "--workspace", "--bin", binary, "--test", "setup"]
}

/// The path in cargo's JSON message about `binary`.
fn find_executable(messages: impl BufRead, binary: &str) -> Option<PathBuf> {
    let mut found = None;
    for line in messages.lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        if message["target"]["name"] == binary && message["target"]["kind"][0] == "bin" {
            found = message["executable"].as_str().map(PathBuf::from).or(found);
        }
    }
    found
}

/// Where experiments keep runs and cells: in the repository, whatever folder the caller is in.
const RUNS: &str = "FORERUN_RUNS";

/// Where models are looked for that `cargo xtask model` fetched.
const MODELS: &str = "FORERUN_MODELS";

const LIBRARY_PATH: &str =
    if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

/// libtorch's folder before what the caller has on the path.
fn library_path(libtorch: &Libtorch) -> Result<OsString> {
    let ours = libtorch.dir.join("lib");
    let callers = env::var_os(LIBRARY_PATH).unwrap_or_default();
    let others =
        env::split_paths(&callers).filter(|path| *path != ours && !path.as_os_str().is_empty());
    env::join_paths(std::iter::once(ours.clone()).chain(others))
        .context("the path of libtorch has a colon in it")
}

/// `path` relative to the current folder where it lies below; shorter to read.
fn from_here(path: &Path) -> PathBuf {
    let relative =
        env::current_dir().ok().and_then(|here| Some(path.strip_prefix(here).ok()?.to_path_buf()));
    // A bare name would be looked up in PATH.
    relative.filter(|path| path.components().count() > 1).unwrap_or_else(|| path.to_path_buf())
}

#[cfg(test)]
mod tests;
