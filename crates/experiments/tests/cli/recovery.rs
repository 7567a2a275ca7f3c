//! What a run leaves behind when something goes wrong, and how the next one copes with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use forerun_runs::lock::lock_dir;
use forerun_runs::manifest::{CellState, Manifest};
use forerun_runs::metrics::compare_metrics;

use crate::program::{INTERRUPTIBLE, Place, children, signal};

const SMOKE: &[&str] = &["run", "quickstart", "--scale", "smoke"];

/// Far more updates than a test waits for.
const ENDLESS: &[&str] =
    &["run", "quickstart", "--scale", "smoke", "--jobs", "1", "--set", "training.steps=1000000"];

fn smoke<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [SMOKE, more].concat()
}

/// Runs to a successful end and returns what was said on standard error.
#[track_caller]
fn said(place: &Place, arguments: &[&str]) -> String {
    let output = place.output(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(60), "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn runs(place: &Place) -> Vec<PathBuf> {
    children(&place.path().join("runs/quickstart"))
}

fn manifest(run: &Path) -> Option<Manifest> {
    Manifest::read(&run.join("manifest.json")).ok()
}

fn any_cell(place: &Place, state: &CellState) -> bool {
    let found = runs(place).first().and_then(|run| manifest(run));
    found.is_some_and(|manifest| manifest.cells.iter().any(|cell| cell.state == *state))
}

/// A finished run whose mark is gone, as if it had been killed at the very end.
fn unfinished(place: &Place, arguments: &[&str]) -> PathBuf {
    place.succeed(arguments);
    let run = place.only_run("quickstart");
    fs::remove_file(run.join("DONE")).unwrap();
    run
}

#[test]
fn a_run_that_was_killed_before_it_had_a_configuration_is_taken_up() {
    let place = Place::new();
    let run = unfinished(&place, SMOKE);
    fs::remove_dir_all(&run).unwrap();
    fs::create_dir(&run).unwrap();
    let line = place.fail(&smoke(&["--resume", run.to_str().unwrap()]));
    assert!(line.contains("config.toml") && line.contains("stopped before it began"), "{line}");
    place.succeed(&smoke(&["--resume"]));
    assert_eq!(place.only_run("quickstart"), run);
    assert!(run.join("config.toml").is_file() && run.join("DONE").is_file());
}

#[test]
fn a_configuration_that_was_edited_is_not_taken_for_the_runs_own() {
    let place = Place::new();
    let run = unfinished(&place, SMOKE);
    let config = run.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("minutes = 1", "minutes = 2")).unwrap();
    let line = place.fail(&smoke(&["--resume"]));
    assert!(line.contains("was changed after its run began"), "{line}");
}

#[test]
fn a_run_that_goes_on_is_not_taken_up() {
    let place = Place::new();
    let run = unfinished(&place, SMOKE);
    let lock = lock_dir(&run).unwrap();
    let line = place.fail(&smoke(&["--resume", run.to_str().unwrap()]));
    assert!(line.contains("is still going on"), "{line}");
    let said = said(&place, &smoke(&["--resume"]));
    assert!(said.contains("is still going on; beginning a new one"), "{said}");
    assert_eq!(runs(&place).len(), 2);
    drop(lock);
}

#[test]
fn a_run_holds_its_directory_while_it_goes_on() {
    let place = Place::new();
    let mut child = place.start(ENDLESS);
    wait_until("the first cell", || any_cell(&place, &CellState::Running));
    let run = place.only_run("quickstart");
    let taken = lock_dir(&run);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(taken, Err(forerun_runs::Error::Locked { .. })), "{taken:?}");
    assert!(lock_dir(&run).is_ok(), "a killed run leaves no lock");
}

#[test]
fn bad_input_leaves_no_run_directory() {
    let place = Place::new();
    fs::write(place.path().join("empty.txt"), b"").unwrap();
    place.fail(&smoke(&["--data", "empty.txt"]));
    place.fail(&smoke(&["--set", "arms.rope.model.n_heads=3"]));
    assert_eq!(runs(&place), Vec::<PathBuf>::new());
}

#[test]
fn a_run_is_resumed_with_its_own_configuration_or_not_at_all() {
    let place = Place::new();
    let with_threads = smoke(&["--set", "threads=2"]);
    let run = unfinished(&place, &with_threads);
    let config = fs::read(run.join("config.toml")).unwrap();
    let path = run.to_str().unwrap();
    for options in [
        &["--scale", "smoke"][..],
        &["--scale", "small"],
        &["--seeds", "2"],
        &["--set", "threads=1"],
    ] {
        let line = place.fail(&[&["run", "quickstart", "--resume", path], options].concat());
        assert!(
            line.contains("has another configuration than the options ask for"),
            "{options:?}: {line}"
        );
    }
    assert!(!run.join("DONE").exists());
    for same in [&["run", "quickstart"][..], &with_threads] {
        place.succeed(&[same, &["--resume", path]].concat());
        fs::remove_file(run.join("DONE")).unwrap();
        assert_eq!(fs::read(run.join("config.toml")).unwrap(), config);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(
            manifest(&run).unwrap().machine.jobs,
            (cores / 2).max(1),
            "two threads a worker, as it was begun"
        );
    }
    assert_eq!(place.only_run("quickstart"), run);
}

/// Harms a training that was stopped, and looks at how it goes on; `harm` returns what is to be said of it.
#[track_caller]
fn check_that_it_mends(harm: impl Fn(&Path) -> String) {
    let settings = ["--set", "training.steps=300", "--set", "training.checkpoint_every=10"];
    let arguments = smoke(&settings);
    let (sound, place) = (Place::new(), Place::new());
    sound.succeed(&arguments);
    let child = place.start(&[&arguments[..], &["--jobs", "1"]].concat());
    wait_until("a checkpoint", || training_has(&place, "checkpoints/step-20"));
    signal(&child, "INT");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    let cell = place.trainings().into_iter().find(|cell| cell.join("checkpoints").exists());
    let cell = cell.unwrap();
    let expected = harm(&cell);
    let said = said(&place, &arguments);
    let note = said
        .lines()
        .find(|line| line.starts_with("note   train "))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(note.contains(&expected), "{note}");
    let log = fs::read_to_string(runs(&place).last().unwrap().join("log.txt")).unwrap();
    assert!(log.contains(note), "{log}");
    let whole = sound.path().join("runs/cells").join(cell.file_name().unwrap());
    let metrics = |cell: &Path| cell.join("metrics.jsonl");
    let difference = compare_metrics(&metrics(&cell), &metrics(&whole)).unwrap();
    assert!(difference.is_none(), "{}", difference.unwrap());
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_told_of() {
    check_that_it_mends(|cell| {
        let step = |path: &PathBuf| -> Option<u64> {
            path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()
        };
        let newest = children(&cell.join("checkpoints")).into_iter().max_by_key(step).unwrap();
        let weights = File::options().write(true).open(newest.join("model.safetensors"));
        weights.unwrap().set_len(100).unwrap();
        format!("step-{}", step(&newest).unwrap())
    });
}

#[test]
fn metrics_that_were_cut_short_do_not_make_a_cell_fail_for_ever() {
    check_that_it_mends(|cell| {
        let metrics = cell.join("metrics.jsonl");
        let half = fs::metadata(&metrics).unwrap().len() / 2;
        File::options().write(true).open(metrics).unwrap().set_len(half).unwrap();
        "`metrics.jsonl` has ".to_owned()
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_is_killed_is_named_with_the_likely_cause() {
    let place = Place::new();
    let mut child = place.start(ENDLESS);
    wait_until("the end", || {
        for worker in workers(&child) {
            let _ = std::process::Command::new("kill").args(["-s", "KILL", &worker]).status();
        }
        child.try_wait().unwrap().is_some()
    });
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let cause = "its worker was killed (SIGKILL), perhaps for want of memory";
    assert!(said.contains(&format!("failed: train rope, seed 0: {cause}")), "{said}");
    assert!(said.contains("4 cells: 0 computed, 0 reused, 4 failed"), "{said}");
    let states: Vec<_> = manifest(&place.only_run("quickstart"))
        .unwrap()
        .cells
        .into_iter()
        .map(|cell| cell.state)
        .collect();
    assert!(states.contains(&CellState::Failed { reason: cause.to_owned() }), "{states:?}");
}

/// The worker processes of a run, by number.
#[cfg(target_os = "linux")]
fn workers(run: &Child) -> Vec<String> {
    let parent = format!("PPid:\t{}", run.id());
    let is_child = |path: &PathBuf| {
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        status.lines().any(|line| line == parent)
            && String::from_utf8_lossy(&command).contains("\0worker\0")
    };
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    processes
        .filter(is_child)
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect()
}

#[test]
fn the_manifest_of_a_killed_run_is_true_and_the_resumed_one_keeps_it() {
    let place = Place::new();
    let arguments = [&["run", "quickstart", "--jobs", "1"], INTERRUPTIBLE].concat();
    let mut child = place.start(&arguments);
    wait_until("a finished cell beside a running one", || {
        any_cell(&place, &CellState::Finished) && any_cell(&place, &CellState::Running)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let run = place.only_run("quickstart");
    let killed = manifest(&run).unwrap();
    assert_eq!(killed.ended, None);
    place.succeed(&[&arguments[..], &["--resume"]].concat());
    let resumed = manifest(&run).unwrap();
    assert_eq!((resumed.started, resumed.resumed.len()), (killed.started, 1));
    assert!(resumed.ended.is_some());
    for (before, after) in killed.cells.iter().zip(&resumed.cells) {
        assert_eq!(after.state, CellState::Finished, "this run computed them all");
        assert!(after.started.unwrap() < after.ended.unwrap(), "{after:?}");
        if before.state == CellState::Finished {
            assert_eq!(before, after);
        }
    }
    let mut ends: Vec<_> = resumed.cells.iter().map(|cell| cell.ended).collect();
    ends.sort();
    ends.dedup();
    assert_eq!(ends.len(), 4, "each cell has an end of its own: {ends:?}");
    let said = said(&place, &arguments);
    assert!(said.contains("4 cells: 0 computed, 4 reused"), "{said}");
    let reused = manifest(runs(&place).last().unwrap()).unwrap();
    assert!(
        reused.cells.iter().all(|cell| cell.state == CellState::Reused && cell.ended.is_none()),
        "{reused:?}"
    );
}

/// What a run says of the training that Ctrl-C stopped.
#[track_caller]
fn said_of_the_stopped(settings: &[&str], since: impl Fn(&Place) -> bool) -> String {
    let place = Place::new();
    let child = place.start(&[ENDLESS, settings].concat());
    wait_until("the time to stop", || since(&place));
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("4 cells: 0 computed, 0 reused, 4 left to do"), "{said}");
    assert!(!any_cell(&place, &CellState::Running), "what was stopped does not run");
    said.lines()
        .find(|line| line.starts_with("stopped train"))
        .unwrap_or_else(|| panic!("{said}"))
        .to_owned()
}

/// Whether the first cell, a training, has this file by now.
fn training_has(place: &Place, name: &str) -> bool {
    children(&place.path().join("runs/cells")).iter().any(|cell| cell.join(name).exists())
}

#[test]
fn ctrl_c_promises_only_what_resume_can_keep() {
    let line = said_of_the_stopped(&["--set", "training.checkpoint_every=10"], |place| {
        training_has(place, "checkpoints/step-10")
    });
    assert!(line.ends_with("--resume goes on from there"), "{line}");
    let line = said_of_the_stopped(&["--set", "training.checkpoint_every=0"], |place| {
        training_has(place, "metrics.jsonl")
    });
    assert!(line.ends_with("--resume starts it again"), "{line}");
}
