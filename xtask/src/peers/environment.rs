//! The virtual environment that a rival program runs in: made at first use, made anew when its requirements change.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use crate::workspace::Workspace;
use crate::{disk, output, process};

/// What a peer's programs need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// The peer; also the name of its folder below `xtask/peers/`.
    pub(crate) peer: &'static str,
    /// What the packages take on the disk, downloads included, bytes (rounded up).
    pub(crate) bytes: u64,
}

/// A Python with a peer's packages.
#[derive(Debug)]
pub(crate) struct Environment {
    python: PathBuf,
    programs: PathBuf,
}

impl Environment {
    /// Finds the environment, or makes it with `python3 -m venv` and pip.
    ///
    /// # Errors
    /// Each in one line, with the way out. No half-made environment is ever taken for a whole one.
    pub(crate) fn ensure(workspace: &Workspace, needs: Needs) -> Result<Self> {
        let programs = workspace.root.join("xtask/peers").join(needs.peer);
        let folder = workspace.root.join("target/peers-venv").join(needs.peer);
        let requirements = programs.join("requirements.txt");
        let wanted = digest(&requirements)?;
        let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        let mark = folder.join(MARK);
        if !fs::read_to_string(&mark).is_ok_and(|made| made == wanted) || !python.exists() {
            make(&folder, &requirements, needs)?;
            fs::write(&mark, wanted).map_err(|error| disk::explain(error, &mark))?;
        }
        Ok(Self { python, programs })
    }

    /// Starts one of the peer's programs, as yet without arguments.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = self.python();
        // The folder that holds the program is the first that Python looks for modules in.
        command.arg(self.programs.join(name));
        command
    }

    /// The folder of the programs that packages bring.
    pub(crate) fn programs_of_packages(&self) -> PathBuf {
        self.python.parent().map(Path::to_path_buf).unwrap_or_default()
    }

    /// Starts the interpreter, as yet without arguments.
    pub(crate) fn python(&self) -> Command {
        let mut command = Command::new(&self.python);
        // No bytecode beside the sources, no packages of the caller's own.
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONNOUSERSITE", "1");
        command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        command
    }
}

/// The file that is written last; it holds the hash of the requirements that were installed.
const MARK: &str = "requirements.sha256";

fn digest(requirements: &Path) -> Result<String> {
    let text = fs::read(requirements)
        .with_context(|| format!("cannot read `{}`", requirements.display()))?;
    Ok(Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn make(folder: &Path, requirements: &Path, needs: Needs) -> Result<()> {
    let parent = folder.parent().context("the environment has no parent folder")?;
    fs::create_dir_all(parent).map_err(|error| disk::explain(error, parent))?;
    if disk::free_bytes(parent).is_some_and(|free| free < needs.bytes) {
        bail!(
            "the packages of `peers {}` need {} free on the disk of `{}`; free some",
            needs.peer,
            disk::megabytes(needs.bytes),
            parent.display()
        );
    }
    output::note(format!(
        "the packages of `peers {}` are not here yet; installing them once into target/peers-venv/{0}, for which pip may \
         need {} of disk",
        needs.peer,
        disk::megabytes(needs.bytes)
    ));
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(folder);
    run(&mut venv, explain_venv)?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--no-deps", "--no-input", "--quiet", "--requirement"]);
    pip.arg(requirements).env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    run(&mut pip, |errors| explain_pip(needs.peer, errors))
}

/// Shows and runs `command`; `explain` turns what it wrote to standard error into one line.
fn run(command: &mut Command, explain: impl Fn(&str) -> Error) -> Result<()> {
    output::note(format!("$ {}", process::show(command)));
    command.stdin(Stdio::null()).stdout(Stdio::from(io::stderr())).stderr(Stdio::piped());
    let finished = match command.spawn().and_then(std::process::Child::wait_with_output) {
        Ok(finished) => finished,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "Python 3 is needed to run other people's programs, and `{}` was not found; install it with venv and pip \
             (Debian, Ubuntu: `apt install python3-venv`)",
            command.get_program().display()
        ),
        Err(error) => return Err(error).context("cannot start Python"),
    };
    if finished.status.success() {
        return Ok(());
    }
    Err(explain(&String::from_utf8_lossy(&finished.stderr)))
}

fn explain_venv(errors: &str) -> Error {
    if errors.contains("ensurepip") || errors.contains("No module named venv") {
        return anyhow!(
            "`python3` cannot make virtual environments; install what it lacks (Debian, Ubuntu: `apt install \
             python3-venv`)"
        );
    }
    anyhow!("`python3 -m venv` failed: {}", last_line(errors))
}

/// What pip says without a network; without retries it only says that it knows of no version at all.
const NO_CONNECTION: [&str; 6] = [
    "Connection",
    "Max retries",
    "Name or service not known",
    "ProxyError",
    "timed out",
    "(from versions: none)",
];

fn explain_pip(peer: &str, errors: &str) -> Error {
    let has = |signs: &[&str]| signs.iter().any(|sign| errors.contains(sign));
    if has(&["No space left on device", "Errno 28", "Disk quota exceeded"]) {
        return anyhow!("the disk became full while pip installed the packages of `peers {peer}`");
    }
    let what = format!("pip could not install the packages of `peers {peer}`");
    if has(&["CERTIFICATE_VERIFY_FAILED", "SSLError"]) {
        return anyhow!(
            "{what}: the server's certificate is not trusted; behind a proxy of your own, set PIP_CERT to its \
             certificate"
        );
    }
    if has(&NO_CONNECTION) {
        return anyhow!(
            "{what}: no connection to the package index, or it is empty; check the network (pip heeds HTTPS_PROXY and \
             PIP_INDEX_URL) and try again"
        );
    }
    anyhow!("{what}: {}", last_line(errors))
}

/// The line that says most: pip's last error, else the last line.
fn last_line(errors: &str) -> String {
    let mut lines = errors.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().rfind(|line| line.starts_with("ERROR:"));
    let line = error.or_else(|| lines.next_back()).unwrap_or("it did not say why");
    line.trim_start_matches("ERROR:").trim().to_owned()
}

#[cfg(test)]
mod tests;
