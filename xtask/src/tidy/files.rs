//! How files look.

use std::fs;
use std::path::{Path, PathBuf};

use super::root;

/// A file fits in one head. Style says 400 makes you look for a seam; this is where the look must have been taken.
const MAX_LINES: usize = 500;

/// Longer files, each with its reason.
const LONGER: [(&str, &str); 0] = [];

/// Files with one of `extensions` that belong to the repository.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders: Vec<PathBuf> =
        ["crates", "xtask", "tests", "docs", ".ci", ".cargo"].map(|name| root().join(name)).into();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            match path.is_dir() {
                true if !path.ends_with("target") => folders.push(path),
                false if extensions.contains(&extension.as_str()) => found.push(path),
                _ => {}
            }
        }
    }
    assert!(found.len() > 10 || !extensions.contains(&"rs"), "the walk finds the sources");
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

fn check_each(extensions: &[&str], complaint: impl Fn(&str, &str) -> Option<String>) {
    let complaints: Vec<String> = files(extensions)
        .iter()
        .filter_map(|path| {
            complaint(&relative(path), &String::from_utf8_lossy(&fs::read(path).ok()?))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    check_each(&["rs", "cpp", "h", "py"], |path, text| {
        let lines = text.lines().count();
        let excused = LONGER.iter().any(|(longer, _)| *longer == path);
        (lines > MAX_LINES && !excused)
            .then(|| format!("{path} has {lines} lines; split it, or give a reason in LONGER"))
    });
}

#[test]
fn every_excuse_for_a_long_file_is_still_needed() {
    for (path, reason) in LONGER {
        let lines = fs::read_to_string(root().join(path)).unwrap_or_default().lines().count();
        assert!(lines > MAX_LINES && !reason.is_empty(), "{path} has {lines} lines");
    }
}

#[test]
fn each_todo_names_an_issue() {
    let todo = concat!("TO", "DO");
    check_each(&["rs", "cpp", "h", "py", "toml", "md", "sh"], |path, text| {
        let bare = |line: &&str| {
            let is_numbered = |rest: &str| {
                rest.strip_prefix("(#").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
            };
            line.split(todo).skip(1).any(|rest| !is_numbered(rest))
        };
        let line = text.lines().find(bare)?;
        Some(format!("{path}: name an issue, as in `{todo}(#12)`: {}", line.trim()))
    });
}

#[test]
fn each_experiment_begins_with_its_summary() {
    for entry in
        fs::read_dir(root().join("crates/experiments/configs")).into_iter().flatten().flatten()
    {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read_to_string(&path).unwrap();
            let first = text.lines().next().unwrap_or_default();
            assert!(
                first.starts_with("# ") && first.len() > 10,
                "{}: its first line must say what it is",
                relative(&path)
            );
        }
    }
}

#[test]
fn a_module_has_one_place() {
    // `rope.rs` beside a folder `rope/`, never `rope/mod.rs`: then a file's name says what is in it.
    check_each(&["rs"], |path, _| {
        let is_shared_by_tests = path.contains("/tests/") || path.starts_with("tests/");
        (path.ends_with("/mod.rs") && !is_shared_by_tests)
            .then(|| format!("{path}: use the folder's name instead of mod.rs"))
    });
}
