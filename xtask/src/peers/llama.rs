//! llama.cpp as a rival: a project of its own in `xtask/peers/llama`, compiled for this very processor into `target/peers/llama`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::environment::{Environment, Needs};
use crate::cargo::Cargo;
use crate::workspace::Workspace;
use crate::{output, process};

/// CMake and libclang, unpacked.
const NEEDS: Needs = Needs { peer: "llama", bytes: 400_000_000 };

/// The program, ready to be started.
#[derive(Debug)]
pub(super) struct Llama {
    executable: PathBuf,
}

impl Llama {
    /// Builds it, at first for some minutes.
    ///
    /// # Errors
    /// In one line: what is missing, or that it could not be compiled.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        let headers = compiler_headers("cc")?;
        for tool in ["c++", "make"] {
            output_of(Command::new(tool).arg("--version"), MISSING)?;
        }
        let environment = Environment::ensure(workspace, NEEDS)?;
        let target = workspace.root.join("target/peers/llama");
        let executable = target.join("debug/forerun-peer-llama");
        if !executable.exists() {
            output::note("compiling llama.cpp once; that takes some minutes");
        }
        let manifest = workspace.root.join("xtask/peers/llama/Cargo.toml");
        let mut build = Cargo::without_libtorch(workspace).command(["build", "--locked"]);
        build.arg("--manifest-path").arg(manifest);
        build.env("CARGO_TARGET_DIR", &target);
        // For this processor, as somebody would compile it who wants it fast; also what llama.cpp goes by.
        build.env("CARGO_ENCODED_RUSTFLAGS", ["-C", "target-cpu=native"].join("\x1f"));
        build.env("PATH", path_with(&environment.programs_of_packages())?);
        build.env("LIBCLANG_PATH", libclang(&environment)?);
        build.env("BINDGEN_EXTRA_CLANG_ARGS", format!("-isystem {}", headers.display()));
        output::note(format!("$ {}", process::show(&build)));
        output_of(&mut build, "cargo is needed to build llama.cpp")?;
        Ok(Self { executable })
    }

    /// Starts it, as yet without arguments.
    pub(super) fn program(&self) -> Command {
        Command::new(&self.executable)
    }

    /// Writes `from`, rounded to Q4_0, whose rows llama.cpp rearranges for its fastest product.
    pub(super) fn round_to_q4_0(&self, from: &Path, to: &Path) -> Result<()> {
        let mut program = self.program();
        program.arg("--q4_0").arg(from).arg(to);
        output_of(&mut program, "llama.cpp's program is not there any more")?;
        Ok(())
    }
}

const MISSING: &str = "a C++ compiler and make are needed to build llama.cpp (Debian, Ubuntu: `apt install g++ make`)";

/// The folder of the compiler's own headers, which libclang's package does not bring.
fn compiler_headers(compiler: &str) -> Result<PathBuf> {
    let path = output_of(Command::new(compiler).arg("-print-file-name=include"), MISSING)?;
    Ok(PathBuf::from(path))
}

/// Where the package keeps the library.
fn libclang(environment: &Environment) -> Result<PathBuf> {
    const CODE: &str = "import clang, os; print(os.path.dirname(clang.__file__))";
    let mut python = environment.python();
    let package = output_of(python.args(["-c", CODE]), "the environment's Python is missing")?;
    Ok(Path::new(&package).join("native"))
}

/// `first` before what the caller has on the path.
fn path_with(first: &Path) -> Result<std::ffi::OsString> {
    let callers = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(first.to_path_buf()).chain(env::split_paths(&callers));
    env::join_paths(all).context("the path of the environment has a colon in it")
}

/// What `command` prints; `missing` explains that it cannot be started.
fn output_of(command: &mut Command, missing: &str) -> Result<String> {
    let shown = process::show(command);
    let Ok(finished) = command.output() else { bail!("{missing}: `{shown}` does not start") };
    let errors = String::from_utf8_lossy(&finished.stderr);
    ensure!(finished.status.success(), "`{shown}` failed: {}", reason(&errors));
    Ok(String::from_utf8_lossy(&finished.stdout).trim().to_owned())
}

/// Of the thousands of lines of a build that fails the one that says most.
fn reason(errors: &str) -> &str {
    const SIGNS: [&str; 5] =
        ["Unable to find libclang", "CMake Error", "fatal error:", "No space left", "error:"];
    let mut lines = errors.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = SIGNS.iter().find_map(|sign| lines.clone().find(|line| line.contains(sign)));
    telling.or_else(|| lines.next_back()).unwrap_or("it did not say why")
}

#[cfg(test)]
mod tests;
