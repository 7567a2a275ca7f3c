//! A whole run, its files, and the promise that it can be repeated.

use std::fs;

use forerun_runs::metrics::compare_metrics;
use forerun_runs::results::read_results;

use crate::program::{Place, children};

const SMOKE: &[&str] = &["run", "quickstart", "--scale", "smoke"];

#[test]
fn a_smoke_run_leaves_everything_that_a_run_directory_promises() {
    let place = Place::new();
    let said = place.succeed(SMOKE);
    assert!(said.contains("inconclusive: RoPE"), "{said}"); // one seed can show nothing
    let run = place.only_run("quickstart");
    for name in [
        "DONE",
        "config.toml",
        "log.txt",
        "manifest.json",
        "recommendation.json",
        "report.html",
        "report.md",
        "results.parquet",
        "series.parquet",
        "verdict.json",
    ] {
        assert!(run.join(name).is_file(), "{name}");
    }
    let rows = read_results(&run.join("results.parquet")).unwrap();
    assert_eq!(rows.len(), 4); // two arms, each trained and evaluated once
    assert!(rows.iter().all(|row| row["outcome"] == "finished"), "{rows:?}");
    let events = children(&run.join("tensorboard"));
    assert_eq!(events.len(), 2);
    let html = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(!html.contains("http://") && !html.contains("<script"), "the report must load nothing");
    let named =
        |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let leftovers: Vec<_> =
        children(&run).iter().map(named).filter(|name| name.contains(".tmp")).collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn the_same_run_gives_the_same_metrics_and_finished_cells_are_not_computed_again() {
    let (one, two) = (Place::new(), Place::new());
    one.succeed(SMOKE);
    let mut other = SMOKE.to_vec();
    other.extend(["--jobs", "1"]); // results do not depend on the number of workers
    two.succeed(&other);
    let pairs = one.trainings().into_iter().zip(two.trainings());
    for (a, b) in pairs {
        assert_eq!(a.file_name(), b.file_name());
        let difference =
            compare_metrics(&a.join("metrics.jsonl"), &b.join("metrics.jsonl")).unwrap();
        assert!(difference.is_none(), "{}", difference.unwrap());
    }
    let before: Vec<_> = one
        .trainings()
        .iter()
        .map(|cell| fs::metadata(cell.join("DONE")).unwrap().modified().unwrap())
        .collect();
    let said = String::from_utf8(one.output(SMOKE).stderr).unwrap();
    assert!(said.contains("4 of 4 cells are there already"), "{said}");
    let after: Vec<_> = one
        .trainings()
        .iter()
        .map(|cell| fs::metadata(cell.join("DONE")).unwrap().modified().unwrap())
        .collect();
    assert_eq!(before, after);
}

#[test]
fn the_report_is_made_again_from_the_runs_files_alone() {
    let place = Place::new();
    place.succeed(SMOKE);
    let run = place.only_run("quickstart");
    let before = fs::read(run.join("report.html")).unwrap();
    fs::remove_file(run.join("report.html")).unwrap();
    fs::remove_dir_all(place.path().join("runs/cells")).unwrap();
    place.succeed(&["report", run.to_str().unwrap()]);
    assert_eq!(fs::read(run.join("report.html")).unwrap(), before);
}

#[test]
fn ones_own_text_is_trained_on() {
    let place = Place::new();
    let text: String =
        (0..4000).map(|line| format!("line {line} of a text that nobody wrote\n")).collect();
    fs::write(place.path().join("mine.txt"), text).unwrap();
    place.succeed(&["run", "quickstart", "--scale", "smoke", "--data", "mine.txt"]);
    let manifest = fs::read_to_string(place.only_run("quickstart").join("manifest.json")).unwrap();
    assert!(manifest.contains("mine.txt"));
    let samples = fs::read_to_string(place.only_run("quickstart").join("samples.json")).unwrap();
    assert!(samples.contains("of a text that"), "prompts come from the text: {samples}");
}

#[test]
fn a_bpe_is_trained_on_the_training_text_and_found_again() {
    let place = Place::new();
    let arguments = [SMOKE, &["--set", "tokenizer={kind='bpe', vocab_size=400}"]].concat();
    place.succeed(&arguments);
    let config = fs::read_to_string(place.only_run("quickstart").join("config.toml")).unwrap();
    assert!(config.contains("vocab_size = 400"), "{config}");
    let model = place.trainings()[0].join("model/config.json");
    assert!(fs::read_to_string(model).unwrap().contains("400"));
}

#[test]
fn runs_are_put_side_by_side() {
    let place = Place::new();
    place.succeed(SMOKE);
    let other = [SMOKE, &["--set", "training.steps=12"]].concat();
    place.succeed(&other);
    let runs = children(&place.path().join("runs/quickstart"));
    let text = place.succeed(&["compare", runs[0].to_str().unwrap(), runs[1].to_str().unwrap()]);
    assert!(text.contains("arms.rope.training.steps"), "{text}");
    assert!(!text.contains("root_seed"), "what is equal is left out:\n{text}");
    assert!(text.contains("claim rope-degrades"), "{text}");
}

#[test]
fn list_and_plan_fit_80_columns_and_compute_nothing() {
    let place = Place::new();
    let list = place.succeed(&["list"]);
    assert!(list.contains("quickstart"), "{list}");
    let plan = place.succeed(&["plan", "quickstart"]);
    for (name, text) in [("list", &list), ("plan", &plan)] {
        let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 80, "{name}: {widest}");
    }
    assert!(plan.contains("12 (0 there already)"), "{plan}");
    // Sizes without sense are a plan without sense, not a crash.
    place.succeed(&["plan", "quickstart", "--set", "training.steps=9223372036854775807"]);
    place.succeed(&["plan", "quickstart", "--set", "evaluation.n_tokens=9223372036854775807"]);
    assert!(!place.path().join("runs/cells").exists());
}

#[test]
fn a_run_whose_reader_goes_away_goes_on() {
    let place = Place::new();
    let mut child = place.start(SMOKE);
    drop(child.stderr.take()); // as `2>&1 | head` does
    assert!(child.wait().unwrap().success());
    let run = place.only_run("quickstart");
    assert!(run.join("DONE").is_file());
    assert!(fs::read_to_string(run.join("log.txt")).unwrap().contains("done"));
}

#[test]
fn a_diverged_training_is_a_result() {
    let place = Place::new();
    let arguments = [SMOKE, &["--set", "arms.rope.training.max_loss=0.1"]].concat();
    place.succeed(&arguments);
    let rows = read_results(&place.only_run("quickstart").join("results.parquet")).unwrap();
    let outcomes: Vec<_> =
        rows.iter().map(|row| row["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "diverged").count(), 1, "{outcomes:?}");
    let report = fs::read_to_string(place.only_run("quickstart").join("report.md")).unwrap();
    assert!(report.contains("no seed finished its training"), "{report}");
}
