//! Stacks of models as cells: whole runs with tuning, members that diverge, and what a kill leaves.

use std::fs;
use std::path::{Path, PathBuf};

use forerun_runs::metrics::compare_metrics;
use forerun_runs::results::{Row, read_results};
use forerun_runs::seed::Seed;
use rand::Rng;

use crate::browser::check_page;
use crate::program::{Place, children, lines, start_worker, trials};

const SMOKE: &[&str] = &["run", "length-extrapolation", "--scale", "smoke"];

/// Two arms and no sweep: all that a test of stacks needs.
const SMALL: &[&str] = &[
    "run",
    "length-extrapolation",
    "--scale",
    "smoke",
    "--set",
    "arms=[{name='rope', label='RoPE', model={positions={kind='rope'}}}, \
     {name='xpos', label='xPos', model={positions={kind='xpos', scale_base=16.0}}}]",
    "--set",
    "claims=[]",
    "--set",
    "sweep.gammas=[]",
    "--set",
    "sweep.scale_bases=[]",
];

fn rows(place: &Place, step: &str) -> Vec<Row> {
    let run = place.only_run("length-extrapolation");
    let rows = read_results(&run.join("results.parquet")).unwrap();
    rows.into_iter().filter(|row| row["step"] == step).collect()
}

fn words(rows: &[Row], column: &str) -> Vec<String> {
    rows.iter().map(|row| row[column].as_str().unwrap_or("none").to_owned()).collect()
}

#[test]
fn a_smoke_run_tunes_trains_sweeps_and_reports() {
    let place = Place::new();
    place.succeed(SMOKE);
    let run = place.only_run("length-extrapolation");
    assert!(run.join("DONE").is_file());
    let (tries, trained) = (rows(&place, "tune"), rows(&place, "train"));
    assert_eq!(tries.len(), 6 * 2, "a row for each arm and learning rate");
    assert_eq!(trained.len(), 6 + 2, "a row for each arm, and for each point of the sweep");
    assert_eq!(rows(&place, "evaluate").len(), 8);
    for row in &trained {
        let arm = row["arm"].as_str().unwrap();
        let tuned = if arm.starts_with("xpos-") { "xpos" } else { arm };
        let best = tries
            .iter()
            .filter(|row| row["tries_for"] == tuned)
            .min_by(|a, b| {
                let loss = |row: &Row| row["validation_loss"].as_f64().unwrap();
                loss(a).total_cmp(&loss(b))
            })
            .unwrap();
        assert_eq!(row["lr"], best["lr"], "{arm} is trained at its best rate");
    }
    let report = fs::read_to_string(run.join("report.md")).unwrap();
    for part in [
        "Table 2 beside",
        "Table 3 beside",
        "Table 5 beside",
        "scale base",
        "Held-out loss by learning rate",
    ] {
        assert!(report.contains(part), "`{part}` is missing from the report");
    }
    let title =
        "Length extrapolation: six kinds of positions, with and without blockwise causal attention";
    check_page(&run.join("report.html"), title, 7);
    let verdicts = fs::read_to_string(run.join("verdict.json")).unwrap();
    assert_eq!(
        verdicts.matches("\"inconclusive\"").count(),
        11,
        "one seed shows nothing: {verdicts}"
    );
    let again = String::from_utf8(place.output(SMOKE).stderr).unwrap();
    assert!(again.contains("22 cells: 0 computed, 22 reused"), "{again}");
}

#[test]
fn a_member_that_diverges_is_a_result_of_its_own() {
    let place = Place::new();
    place.succeed(&[SMALL, &["--set", "tuning.learning_rates=[4e-3, 1e4]"]].concat());
    let tries = rows(&place, "tune");
    assert_eq!(words(&tries, "outcome"), ["finished", "diverged", "finished", "diverged"]);
    assert!(
        tries.iter().all(|row| row["outcome"] != "diverged" || row["diverged_at_step"].is_u64())
    );
    assert!(
        rows(&place, "train").iter().all(|row| row["lr"] == 4e-3 && row["outcome"] == "finished")
    );
    let report =
        fs::read_to_string(place.only_run("length-extrapolation").join("report.md")).unwrap();
    assert!(report.contains("| diverged |"), "{report}");
    assert!(report.contains("lies at the end of what was tried"), "{report}");
}

#[test]
fn an_arm_that_no_learning_rate_trains_is_reported_not_failed() {
    let place = Place::new();
    place.succeed(&[SMALL, &["--set", "arms.rope.training.max_loss=0.1"]].concat());
    let outcomes = |step| words(&rows(&place, step), "outcome");
    assert_eq!(outcomes("tune"), ["diverged", "diverged", "finished", "finished"]);
    assert_eq!(outcomes("train"), ["no learning rate trained", "finished"]);
    assert_eq!(outcomes("evaluate"), ["nothing to evaluate: no learning rate trained", "finished"]);
    let report =
        fs::read_to_string(place.only_run("length-extrapolation").join("report.md")).unwrap();
    assert!(report.contains("RoPE: no seed finished its training"), "{report}");
}

/// The stack of an arm's seeds, which needs that of its learning rates.
fn stack_with_needs(place: &Place) -> (PathBuf, String) {
    let cells = children(&place.path().join("runs/cells")).into_iter();
    let found = cells.filter_map(|cell| {
        let text = fs::read_to_string(cell.join("cell.json")).unwrap();
        let text: serde_json::Value = serde_json::from_str(&text).unwrap();
        let need = text["needs"][0].as_str()?.to_owned();
        (text["task"]["kind"] == "train-stack").then_some((cell, need))
    });
    found.collect::<Vec<_>>().remove(0)
}

fn link(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(from, to).unwrap();
}

#[test]
fn a_stack_whose_worker_is_killed_goes_on_from_its_checkpoint() {
    let place = Place::new();
    let longer =
        ["--seeds", "2", "--set", "training.steps=90", "--set", "training.checkpoint_every=10"];
    place.succeed(&[SMALL, &longer].concat());
    let (cell, need) = stack_with_needs(&place);
    for trial in 0..trials(20, 2) {
        let mut rng = Seed::new(trial).stream("kill-stack");
        let root = place.path().join("again").join(format!("{trial}"));
        let dir = root.join(cell.file_name().unwrap());
        fs::create_dir_all(&dir).unwrap();
        link(&cell.parent().unwrap().join(&need), &root.join(&need));
        fs::copy(cell.join("cell.json"), dir.join("cell.json")).unwrap();
        let mut worker = start_worker(&dir);
        let until = rng.random_range(25..=190); // two members with 90 updates and 15 evaluations each
        while lines(&dir) < until && worker.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        worker.kill().unwrap();
        worker.wait().unwrap();
        if !dir.join("DONE").exists() {
            let mut worker = start_worker(&dir);
            let _input = worker.stdin.take(); // `wait` would close it, and the worker stop
            assert!(worker.wait().unwrap().success());
        }
        let metrics = |dir: &Path| dir.join("metrics.jsonl");
        let difference = compare_metrics(&metrics(&dir), &metrics(&cell)).unwrap();
        assert!(difference.is_none(), "trial {trial}: {}", difference.unwrap());
        for member in ["members/0", "members/1"] {
            let weights =
                |dir: &Path| fs::read(dir.join(member).join("model.safetensors")).unwrap();
            assert!(weights(&dir) == weights(&cell), "trial {trial}: other weights of {member}");
        }
    }
}
