//! The C++ compiler, which libtorch's bindings are compiled with.

use std::env;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Needs C++20 from the compiler and from its standard library.
const PROGRAM: &str =
    "#include <concepts>\ntemplate <std::integral T> T twice(T x) { return x + x; }\n";

/// Compiles a little program in C++20, and gives the compiler's name.
///
/// # Errors
/// If there is no compiler, or an old one.
pub(crate) fn check() -> Result<String> {
    let name = name();
    let mut words = name.split_whitespace();
    let mut compiler = Command::new(words.next().unwrap_or("c++"));
    compiler.args(words).args(["-std=c++20", "-fsyntax-only", "-x", "c++", "-"]);
    compiler.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match compiler.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "a C++ compiler is needed, and `{name}` was not found; install one (Debian, Ubuntu: `apt install g++`; \
             Fedora: `dnf install gcc-c++`), or name yours in the environment variable CXX"
        ),
        Err(error) => bail!("the C++ compiler `{name}` cannot be started: {error}"),
    };
    // A compiler that ends before it has read everything says so in its exit code.
    let _ = child
        .stdin
        .take()
        .context("the compiler has no standard input")?
        .write_all(PROGRAM.as_bytes());
    let output = child.wait_with_output().context("lost the compiler")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let first = errors.lines().find(|line| line.contains("error")).or(errors.lines().next());
        bail!(
            "the C++ compiler `{name}` cannot compile C++20 ({}); install GCC 10, Clang 12 or newer, and name it in \
             the environment variable CXX if it is not the default",
            first.unwrap_or("it did not say why").trim()
        );
    }
    Ok(name)
}

/// What the build scripts will use too.
fn name() -> String {
    let chosen = env::var("CXX").ok().filter(|name| !name.trim().is_empty());
    chosen.unwrap_or_else(|| "c++".to_owned())
}

#[cfg(test)]
mod tests;
