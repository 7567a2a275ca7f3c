//! Whole set-ups with small wheels of our own and a `python3` that copies them instead of fetching.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::testing::{copying_python, wheel};

const HEADER: &str = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 13\n#define TORCH_VERSION_PATCH 0\n";

/// A checkout, a folder of wheels, and a `python3` that logs each download.
struct Stage {
    dir: TempDir,
    workspace: Workspace,
    python: Python,
    wheels: Vec<Wheel>,
}

impl Stage {
    fn new(header: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("checkout");
        fs::create_dir(&root).unwrap();
        let torch = [
            ("torch/include/torch/headeronly/version.h", header),
            ("torch/lib/libc10.so", "c10"),
            ("torch/lib/libtorch.so", "torch"),
            ("torch/lib/libtorch_cpu.so", "cpu"),
            ("torch/lib/libtorch_python.so", "not wanted"),
        ];
        let libraries = &[
            "torch/lib/libc10.so",
            "torch/lib/libtorch.so",
            "torch/lib/libtorch_cpu.so",
            "torch/include/",
        ];
        let wheels = vec![
            wheel(dir.path(), "torch", &torch, libraries),
            wheel(
                dir.path(),
                "nvidia",
                &[("nvidia/lib/x.so", "x"), ("nvidia/doc", "d")],
                &["nvidia/lib/"],
            ),
        ];
        let python = Python::at(&copying_python(dir.path()), &wheels::LIBTORCH).unwrap();
        Self { workspace: Workspace { root, callers_libtorch: None }, dir, python, wheels }
    }

    fn install(&self) -> Result<Libtorch> {
        install_once(&self.workspace, &self.wheels, &self.python)
    }

    fn downloads(&self) -> usize {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default().lines().count()
    }

    /// What lies in the checkout besides the lock.
    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.workspace.root).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != ".libtorch.lock").collect()
    }
}

#[test]
fn libtorch_is_made_once_and_nothing_else_is_left() {
    let stage = Stage::new(HEADER);
    let libtorch = stage.install().unwrap();
    assert_eq!(
        (libtorch.dir.clone(), libtorch.cuda),
        (stage.workspace.root.join(".libtorch/torch"), false)
    );
    assert_eq!(fs::read_to_string(libtorch.dir.join("build-version")).unwrap(), "2.13.0\n");
    assert!(!libtorch.dir.join("lib/libtorch_python.so").exists());
    assert!(stage.workspace.root.join(".libtorch/nvidia/lib/x.so").exists());
    assert_eq!(stage.entries(), [".libtorch"]);
    assert_eq!(stage.install().unwrap(), libtorch);
    assert_eq!(stage.downloads(), 2);
}

#[test]
fn eight_at_once_download_once() {
    let stage = Stage::new(HEADER);
    std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..8).map(|_| scope.spawn(|| stage.install())).collect();
        for task in tasks {
            task.join().unwrap().unwrap();
        }
    });
    assert_eq!(stage.downloads(), 2);
    assert_eq!(stage.entries(), [".libtorch"]);
}

#[test]
fn a_broken_installation_is_replaced() {
    let stage = Stage::new(HEADER);
    let libtorch = stage.install().unwrap();
    fs::remove_file(libtorch.dir.join("lib/libc10.so")).unwrap();
    fs::write(stage.workspace.root.join(".libtorch/old"), "").unwrap();
    stage.install().unwrap();
    assert!(libtorch.dir.join("lib/libc10.so").exists());
    assert!(!stage.workspace.root.join(".libtorch/old").exists());
    assert_eq!(stage.entries(), [".libtorch"]);
}

fn check_refused(stage: &Stage, expected: &str) {
    // What was there before stays.
    fs::create_dir(stage.workspace.libtorch_parent()).unwrap();
    fs::write(stage.workspace.libtorch_parent().join("old"), "").unwrap();
    let error = format!("{:#}", stage.install().unwrap_err());
    assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    assert_eq!(stage.entries(), [".libtorch"]);
    assert!(stage.workspace.libtorch_parent().join("old").exists());
}

#[test]
fn another_hash_is_refused() {
    let mut stage = Stage::new(HEADER);
    stage.wheels[1].sha256 = stage.wheels[0].sha256;
    check_refused(&stage, "what pip fetched for nvidia 1 has SHA-256");
}

#[test]
fn headers_of_another_version_are_refused() {
    check_refused(&Stage::new(&HEADER.replace("13", "14")), "of libtorch 2.14.0, not 2.13.0");
    check_refused(&Stage::new(""), "state no version");
}

#[test]
fn a_wheel_that_pip_cannot_fetch_is_named() {
    let stage = Stage::new(HEADER);
    fs::remove_file(stage.dir.path().join("nvidia.whl")).unwrap();
    check_refused(&stage, "pip could not fetch nvidia 1: cp: ");
}

#[test]
fn leftovers_of_killed_setups_are_removed() {
    let stage = Stage::new(HEADER);
    let partial = stage.workspace.root.join(".libtorch.partial-12345-abc/tree/torch");
    fs::create_dir_all(partial).unwrap();
    stage.install().unwrap();
    assert_eq!(stage.entries(), [".libtorch"]);
}
