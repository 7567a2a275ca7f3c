//! The cargo commands of contributors, each with the libtorch that set-up found.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::libtorch::{Libtorch, Origin};
use crate::workspace::{Workspace, cargo_program};
use crate::{process, setup};

/// clippy on everything.
pub(crate) const CLIPPY: [&str; 3] = ["clippy", "--workspace", "--all-targets"];

/// rustdoc. `--examples` (we have none) makes cargo choose the features of clippy, so that what clippy has checked is
/// not checked again; see also [`build_arguments`](crate::program::build_arguments).
pub(crate) const DOC: [&str; 5] = ["doc", "--workspace", "--no-deps", "--lib", "--examples"];

/// Starts cargo in the workspace.
#[derive(Debug)]
pub(crate) struct Cargo<'a> {
    workspace: &'a Workspace,
    libtorch: Option<Libtorch>,
}

impl<'a> Cargo<'a> {
    /// Sets up what is missing first.
    pub(crate) fn new(workspace: &'a Workspace) -> Result<Self> {
        Ok(Self::with(workspace, setup::ensure(workspace)?))
    }

    /// With a libtorch that was found before.
    pub(crate) fn with(workspace: &'a Workspace, libtorch: Libtorch) -> Self {
        Self { workspace, libtorch: Some(libtorch) }
    }

    /// For packages that do not link libtorch.
    pub(crate) fn without_libtorch(workspace: &'a Workspace) -> Self {
        Self { workspace, libtorch: None }
    }

    /// The tests of `package`, else of the workspace, or when `fast` of what needs no libtorch.
    pub(crate) fn test(&self, fast: bool, package: Option<&str>) -> Result<()> {
        let selection: Vec<&str> = match package {
            Some(package) => vec!["--package", package],
            None if fast => vec![], // default-members
            None => vec!["--workspace"],
        };
        let doctests_apart = fast || self.has_nextest();
        let mut tests = match self.has_nextest() {
            true => self.command(["nextest", "run"]),
            false if doctests_apart => self.command(["test", "--all-targets"]),
            false => self.command(["test"]),
        };
        self.run_tests(tests.args(&selection))?;
        if doctests_apart && !fast {
            self.run_tests(self.command(["test", "--doc"]).args(&selection))?;
        }
        Ok(())
    }

    /// One libtorch thread a test: the results do not depend on the machine, and parallel tests do not fight.
    fn run_tests(&self, command: &mut Command) -> Result<()> {
        process::run(command.env("OMP_NUM_THREADS", "1"))
    }

    /// rustfmt and clippy.
    pub(crate) fn lint(&self) -> Result<()> {
        process::run(&mut self.command(["fmt", "--all", "--check"]))?;
        process::run(self.command(CLIPPY).args(["--", "-D", "warnings"]))
    }

    /// rustdoc.
    pub(crate) fn doc(&self) -> Result<()> {
        process::run(self.command(DOC).env("RUSTDOCFLAGS", "-D warnings"))
    }

    /// criterion.
    pub(crate) fn bench(&self, name: Option<&str>) -> Result<()> {
        process::run(&mut self.command(["bench", "--workspace", "--bench", name.unwrap_or("*")]))
    }

    fn has_nextest(&self) -> bool {
        let mut version = self.command(["nextest", "--version"]);
        version
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// `cargo` with `arguments`, in the environment that a caller of plain cargo has.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(cargo_program());
        command.args(arguments).current_dir(&self.workspace.root);
        // What `cargo run` told us about xtask would be a change of environment to the build scripts of others, and
        // torch-sys would be compiled again.
        for (name, _) in env::vars_os().filter(|(name, _)| is_about_xtask(name)) {
            command.env_remove(name);
        }
        match &self.libtorch {
            Some(libtorch) if libtorch.origin == Origin::Caller => {
                command.env("LIBTORCH", &libtorch.dir)
            }
            _ => command.env_remove("LIBTORCH"), // .cargo/config.toml names ours
        };
        command
    }
}

fn is_about_xtask(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    let exact =
        ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_MANIFEST_LINKS", "CARGO_BIN_NAME"];
    name.starts_with("CARGO_PKG_") || exact.contains(&&*name) || name == "CARGO_CRATE_NAME"
}
