//! Killed and resumed equals undisturbed: for a cell, for a sweep, and for Ctrl-C.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use forerun_runs::metrics::compare_metrics;
use forerun_runs::results::read_results;
use forerun_runs::seed::Seed;
use rand::Rng;

use crate::program::{INTERRUPTIBLE, Place, lines, signal, start_worker, trials};

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "quickstart"], INTERRUPTIBLE, more].concat()
}

/// The undisturbed run, and how long it took.
fn undisturbed() -> (Place, Duration) {
    let place = Place::new();
    let began = std::time::Instant::now();
    place.succeed(&arguments(&[]));
    (place, began.elapsed())
}

#[track_caller]
fn assert_same(place: &Place, other: &Place) {
    let (cells, others) = (place.trainings(), other.trainings());
    assert_eq!(cells.len(), others.len());
    for (a, b) in cells.iter().zip(&others) {
        assert_same_metrics(a, b);
    }
    let rows = |place: &Place| {
        let mut rows = read_results(&place.only_run("quickstart").join("results.parquet")).unwrap();
        for row in &mut rows {
            row.retain(|name, _| !name.ends_with("_per_sec") && name != "peak_memory_bytes");
        }
        rows
    };
    assert_eq!(rows(place), rows(other));
}

#[track_caller]
fn assert_same_metrics(a: &Path, b: &Path) {
    let difference = compare_metrics(&a.join("metrics.jsonl"), &b.join("metrics.jsonl")).unwrap();
    assert!(difference.is_none(), "{}: {}", a.display(), difference.unwrap());
}

#[test]
fn a_sweep_that_is_killed_and_resumed_gives_what_an_undisturbed_one_gives() {
    let (expected, took) = undisturbed();
    let mut rng = Seed::new(1).stream("kill");
    let (mut struck, wanted) = (0, trials(20, 2));
    for _ in 0..3 * wanted {
        let place = Place::new();
        let mut child = place.start(&arguments(&[]));
        std::thread::sleep(took.mul_f64(rng.random_range(0.1..0.9)));
        if child.try_wait().unwrap().is_some() {
            continue; // faster than the undisturbed one
        }
        child.kill().unwrap(); // SIGKILL: its workers see their input end
        child.wait().unwrap();
        place.succeed(&arguments(&["--resume"]));
        assert_same(&place, &expected);
        struck += 1;
        if struck == wanted {
            return;
        }
    }
    panic!("only {struck} of {wanted} kills came in time");
}

#[test]
fn a_cell_whose_worker_is_killed_goes_on_from_its_checkpoint() {
    let (expected, _) = undisturbed();
    let cell = expected.trainings().remove(0);
    let root = expected.path().join("again");
    for trial in 0..trials(20, 2) {
        let mut rng = Seed::new(trial).stream("kill-cell");
        let dir = root.join(format!("{trial}")).join(cell.file_name().unwrap());
        fs::create_dir_all(&dir).unwrap();
        fs::copy(cell.join("cell.json"), dir.join("cell.json")).unwrap();
        let mut struck = 0;
        for attempt in 0..4 {
            let mut worker = start_worker(&dir);
            if attempt % 2 == 0 {
                let lines = rng.random_range(lines(&dir) + 1..=130); // 120 updates, 12 evaluations
                while crate::program::lines(&dir) < lines && worker.try_wait().unwrap().is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            } else {
                std::thread::sleep(Duration::from_millis(rng.random_range(1..300)));
            }
            worker.kill().unwrap();
            struck += u32::from(worker.wait().unwrap().signal() == Some(9));
            if dir.join("DONE").exists() {
                break;
            }
        }
        assert!(struck > 0, "trial {trial}: no kill came before the end");
        if !dir.join("DONE").exists() {
            let mut worker = start_worker(&dir);
            let _input = worker.stdin.take(); // `wait` would close it, and the worker stop
            assert!(worker.wait().unwrap().success());
        }
        assert_same_metrics(&dir, &cell);
        let model = "model/model.safetensors";
        assert!(
            fs::read(dir.join(model)).unwrap() == fs::read(cell.join(model)).unwrap(),
            "trial {trial}: other weights"
        );
    }
}

#[test]
fn ctrl_c_keeps_what_is_finished_and_resume_goes_on_in_the_same_run() {
    let (expected, took) = undisturbed();
    let place = Place::new();
    let child = place.start(&arguments(&["--jobs", "1"]));
    std::thread::sleep(took.mul_f64(0.5));
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("stopped; finished cells are kept"), "{said}");
    let run = place.only_run("quickstart");
    assert!(!run.join("DONE").exists());
    place.succeed(&arguments(&["--resume"]));
    assert_eq!(place.only_run("quickstart"), run, "a resumed run keeps its folder");
    assert_same(&place, &expected);
}

#[test]
fn two_sweeps_at_once_share_their_cells() {
    let place = Place::new();
    let (one, two) = (place.start(&arguments(&[])), place.start(&arguments(&[])));
    let mut computed = 0;
    for child in [one, two] {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let counted =
            (0..=4).find(|n| said.contains(&format!("4 cells: {n} computed, {} reused", 4 - n)));
        computed += counted.unwrap_or_else(|| panic!("{said}"));
    }
    assert_eq!(computed, 4, "each cell is computed by one of them");
    for cell in place.trainings() {
        let steps = fs::read_to_string(cell.join("metrics.jsonl")).unwrap();
        assert_eq!(
            steps.lines().filter(|line| line.contains("\"loss\"")).count(),
            120,
            "{}",
            cell.display()
        );
    }
}
