//! `docs/USING_ONE_CRATE.md`, followed to the letter by a crate outside the workspace.
//!
//! Slow (libtorch's bindings are compiled for that crate), so only with `RUN_SLOW` set.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The fenced block of `document` that the line `` `name`: `` introduces.
fn block(document: &str, name: &str) -> String {
    let intro = format!("`{name}`:");
    let mut lines = document.lines().skip_while(|line| !line.ends_with(&intro)).skip(1);
    let fence = lines.find(|line| !line.trim().is_empty()).unwrap_or_default();
    assert!(fence.starts_with("```"), "the document shows {name}");
    lines.take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_document_shows_the_three_files() {
    let document = fs::read_to_string(root().join("docs/USING_ONE_CRATE.md")).unwrap();
    for (name, content) in [
        ("Cargo.toml", "forerun-arch"),
        (".cargo/config.toml", "LIBTORCH"),
        ("src/main.rs", "fn main()"),
    ] {
        assert!(block(&document, name).contains(content), "{name}");
    }
}

#[test]
fn a_crate_outside_the_workspace_builds_and_runs() {
    if env::var_os("RUN_SLOW").is_none() {
        return;
    }
    let document = fs::read_to_string(root().join("docs/USING_ONE_CRATE.md")).unwrap();
    let beside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root(), beside.path().join("forerun")).unwrap();
    let project = beside.path().join("mine");
    for name in ["Cargo.toml", ".cargo/config.toml", "src/main.rs"] {
        let path = project.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, block(&document, name)).unwrap();
    }
    // The same versions as ours, which are downloaded already.
    fs::copy(root().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let mut run = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    run.args(["run", "--quiet"]).current_dir(&project);
    // Kept from one time to the next; apart from ours, as its owner would have it.
    run.env("CARGO_TARGET_DIR", root().join("target/outside"));
    for (name, _) in env::vars_os().filter(|(name, _)| is_ours(&name.to_string_lossy())) {
        run.env_remove(name);
    }
    let output = run.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[2, 10, 64]\n");
}

/// What cargo told this test about this workspace.
fn is_ours(variable: &str) -> bool {
    let exact = ["LIBTORCH", "LD_LIBRARY_PATH", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"];
    exact.contains(&variable)
        || variable.starts_with("CARGO_PKG_")
        || variable.starts_with("CARGO_BIN_")
}
