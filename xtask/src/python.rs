//! Python 3 and pip, which fetch what is not here yet.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::wheels::Purpose;

/// An interpreter that has pip.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    program: PathBuf,
    /// pip's name and version.
    pub(crate) pip: String,
}

impl Python {
    /// `python3` on the caller's path.
    pub(crate) fn find(purpose: &Purpose) -> Result<Self> {
        Self::at(Path::new("python3"), purpose)
    }

    /// The interpreter `program`, once it has shown that it has pip.
    pub(crate) fn at(program: &Path, purpose: &Purpose) -> Result<Self> {
        let shown = program.display();
        let &Purpose { what, otherwise, .. } = purpose;
        let output = match Command::new(program).args(["-m", "pip", "--version"]).output() {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "Python 3 is needed to fetch {what}, and `{shown}` was not found; install it with pip (Debian, Ubuntu: \
                 `apt install python3-pip`), {otherwise}"
            ),
            Err(error) => bail!("`{shown}` cannot be started: {error}"),
        };
        if output.status.success() {
            let version = String::from_utf8_lossy(&output.stdout);
            let pip = version.split(" from ").next().unwrap_or_default().trim().to_owned();
            return Ok(Self { program: program.to_path_buf(), pip });
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.contains("No module named pip") {
            bail!(
                "pip is needed to fetch {what}, and `{shown}` has none; install it (Debian, Ubuntu: `apt install \
                 python3-pip`; elsewhere: `{shown} -m ensurepip`), {otherwise}"
            );
        }
        let reason = errors.trim().lines().last().unwrap_or("it said nothing");
        bail!("`{shown} -m pip --version` failed ({reason}); repair that Python, {otherwise}")
    }

    /// `python3 -m pip`.
    pub(crate) fn pip(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-m", "pip"]);
        command
    }
}
