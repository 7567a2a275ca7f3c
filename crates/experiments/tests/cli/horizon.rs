//! Whole runs of `lr-horizon`: our own trainings at the smoke scale, and external commands that need Python alone.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use forerun_runs::results::{Row, read_results};
use serde_json::Value;

use crate::browser::check_page;
use crate::program::{Place, children, signal};

const SMOKE: &[&str] = &["run", "lr-horizon-width", "--scale", "smoke"];

fn rows(run: &Path) -> Vec<Row> {
    read_results(&run.join("results.parquet")).unwrap()
}

fn json(run: &Path, name: &str) -> Vec<Value> {
    serde_json::from_slice(&fs::read(run.join(name)).unwrap()).unwrap()
}

#[test]
fn a_smoke_run_sweeps_predicts_and_reports() {
    let place = Place::new();
    place.succeed(SMOKE);
    let run = place.only_run("lr-horizon-width");
    assert!(run.join("DONE").is_file());
    let rows = rows(&run);
    let of = |rate: &str| rows.iter().filter(|row| row["rate"] == rate).count();
    assert_eq!((of("predicted"), of("carried")), (1, 1));
    assert_eq!(of("grid"), 4 * 4 + 1 + (1 + 1 + 2) * 3); // fitted, held out, other arms
    let verdicts = json(&run, "verdict.json");
    assert_eq!(verdicts.len(), 7);
    assert!(verdicts.iter().all(|verdict| verdict["verdict"] == "inconclusive"));
    assert_eq!(fs::read_to_string(run.join("recommendation.json")).unwrap().trim(), "[]");
    let report = fs::read_to_string(run.join("report.md")).unwrap();
    for part in [
        "Loss by learning rate and horizon",
        "Best learning rate by horizon",
        "second-hand",
        "carried over from 1.0 k tokens",
        "smoke scale",
    ] {
        assert!(report.contains(part), "`{part}` is missing from the report");
    }
    check_page(&run.join("report.html"), "Learning rate, horizon, width and muP", 3);
    let again = String::from_utf8(place.output(SMOKE).stderr).unwrap();
    assert!(again.contains("0 computed"), "{again}");
}

#[test]
fn the_plan_says_what_can_be_detected() {
    let place = Place::new();
    let plan = place.succeed(&["plan", "lr-horizon"]);
    let widest = plan.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 80, "{widest}");
    assert!(!plan.contains("unpowered"), "{plan}");
    assert!(plan.contains("smallest effect it can detect: a "), "{plan}");
}

/// An external experiment of few runs: its words, with the script of this folder.
fn external(script: &str, more: &[&str]) -> Vec<String> {
    let settings = [
        format!("external.command={script}"),
        "external.files=[]".to_owned(),
        "horizons.held_out=4000000".to_owned(),
        "horizons.fitted=[0.125,0.25,0.5]".to_owned(),
        "horizons.carried_from=0.125".to_owned(),
        "sweep.learning_rates=[0.001,0.003,0.009,0.081]".to_owned(),
        "sweep.held_out_learning_rates=[0.001,0.004]".to_owned(),
        "sweep.parabola.window='all'".to_owned(),
        "external.tokens_per_sec=1e9".to_owned(),
    ];
    let set = settings.into_iter().flat_map(|change| ["--set".to_owned(), change]);
    let more = more.iter().map(|&word| word.to_owned());
    ["run", "lr-horizon-external"].map(str::to_owned).into_iter().chain(set).chain(more).collect()
}

const ONE: &[&str] = &["--seeds", "1", "--jobs", "1"];

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// The training of `valley.py`.
fn valley() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/valley.py");
    format!("['python3','{path}','{{lr}}','{{tokens}}','{{seed}}','{{out}}/metrics.jsonl']")
}

#[test]
fn a_known_law_of_an_external_command_is_found() {
    let place = Place::new();
    let arguments = external(&valley(), &["--seeds", "3"]);
    let said = place.succeed(&words(&arguments));
    assert!(said.contains("reproduced: At a fixed batch the best"), "{said}");
    let run = place.only_run("lr-horizon-external");
    let rows = rows(&run);
    assert_eq!(rows.len(), 3 * (3 * 4 + 2 + 2));
    let number = |row: &Row, column: &str| row[column].as_f64().unwrap();
    let truth = 0.004 * 4_f64.powf(-0.25);
    let predicted: Vec<f64> =
        rows.iter().filter(|row| row["rate"] == "predicted").map(|row| number(row, "lr")).collect();
    assert_eq!(predicted.len(), 3);
    assert!(predicted.iter().all(|lr| (lr / truth).ln().abs() < 0.15), "{predicted:?}, {truth}");
    let diverged = rows.iter().filter(|row| row["outcome"] == "diverged");
    assert!(
        diverged.clone().all(|row| number(row, "lr") == 0.081 && row["validation_loss"].is_null())
    );
    assert_eq!(diverged.count(), 3 * 3);
    // What the claims are about is what the cells were told, to the last bit.
    let verdicts = json(&run, "verdict.json");
    let near =
        verdicts.iter().find(|v| v["name"] == "predicted-rate-beats-the-carried-one").unwrap();
    assert!(near["a"].as_array().unwrap().iter().all(Value::is_f64), "{near}");
    assert!(near["b"].as_array().unwrap().iter().all(Value::is_f64), "{near}");
    let settings = json(&run, "recommendation.json");
    let best =
        settings.iter().find(|one| one["setting"] == "optimiser.lr at 4.0 M tokens").unwrap();
    assert!((best["value"].as_f64().unwrap() / truth).ln().abs() < 0.15, "{best}");
    assert!(settings.iter().any(|one| one["setting"] == "optimiser.lr at 16.0 M tokens"));
    let again = String::from_utf8(place.output(&words(&arguments)).stderr).unwrap();
    assert!(again.contains("48 cells: 0 computed, 48 reused"), "{again}");
}

#[test]
fn a_command_that_fails_fails_its_cell_with_its_last_words() {
    let place = Place::new();
    let script = "['python3','-c','import sys; sys.exit(\"no luck\")','{lr}','{steps}','{out}']";
    let arguments = external(script, &["--seeds", "1"]);
    let output = place.output(&words(&arguments));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("exit status: 1; it printed last: no luck"), "{said}");
    assert!(said.contains("a cell that it needs could not be computed"), "{said}");
    assert!(!place.only_run("lr-horizon-external").join("DONE").exists());
}

/// A command that listens to nobody and tells its own number and that of the worker that started it.
const DEAF: &str = "['python3','-c','import os,signal,sys,time; \
                    signal.signal(signal.SIGTERM,signal.SIG_IGN); \
                    f=open(sys.argv[1]+\"/told\",\"w\"); \
                    f.write(\"%d %d\\n\"%(os.getpid(),os.getppid())); f.close(); time.sleep(600)', \
                    '{out}','{lr}','{steps}']";

/// The numbers of the first command that runs, and of its worker.
fn first_command(place: &Place, child: &mut std::process::Child) -> (String, String) {
    let cells = place.path().join("runs/cells");
    let started = Instant::now();
    loop {
        let files = children(&cells).into_iter().map(|cell| cell.join("out/told"));
        let mut texts = files.filter_map(|file| fs::read_to_string(file).ok());
        if let Some(text) = texts.find(|text| text.ends_with('\n')) {
            let (command, worker) = text.trim().split_once(' ').unwrap();
            return (command.to_owned(), worker.to_owned());
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended before its command began");
        assert!(started.elapsed() < Duration::from_secs(120), "the command does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn check_gone(pid: &str) {
    let since = Instant::now();
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if status.is_empty() || status.contains(") Z ") {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "the command goes on: {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_run_that_is_interrupted_leaves_no_command_behind() {
    let place = Place::new();
    let arguments =
        external(&DEAF.replace("SIGTERM,signal.SIG_IGN", "SIGUSR1,signal.SIG_IGN"), ONE);
    let mut child = place.start(&words(&arguments));
    let (command, _) = first_command(&place, &mut child);
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    check_gone(&command);
}

#[test]
fn a_worker_that_is_killed_leaves_no_command_behind() {
    let place = Place::new();
    let mut child = place.start(&words(&external(DEAF, ONE)));
    let (command, worker) = first_command(&place, &mut child);
    let killed = Command::new("kill").args(["-s", "KILL", &worker]).status().unwrap();
    assert!(killed.success());
    check_gone(&command);
    signal(&child, "INT");
    child.wait().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_worker_that_is_killed_with_its_parent_leaves_no_command_behind() {
    let place = Place::new();
    let script = DEAF.replace("SIGTERM,signal.SIG_IGN", "SIGUSR1,signal.SIG_IGN");
    let mut child = place.start(&words(&external(&script, ONE)));
    let (command, worker) = first_command(&place, &mut child);
    // Neither can tell it anything any more: the system does.
    let numbers = [child.id().to_string(), worker];
    let killed = Command::new("kill").args(["-s", "KILL"]).args(&numbers).status().unwrap();
    assert!(killed.success());
    child.wait().unwrap();
    check_gone(&command);
}
