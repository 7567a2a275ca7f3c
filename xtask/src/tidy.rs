//! The rules of the repository, as tests: what may depend on what, how files look, and that everything is built once.

mod dependencies;
mod files;
mod one_build;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::cargo_program;

/// The checkout that these tests were compiled in.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// What `cargo` with `arguments` prints.
fn cargo(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<u8> {
    let mut command = Command::new(cargo_program());
    let output = command
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
