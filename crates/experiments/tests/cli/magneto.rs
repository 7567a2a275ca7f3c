//! A whole run of `magneto-stability` at the smoke scale.

use std::fs;

use forerun_runs::results::read_results;
use serde_json::Value;

use crate::browser::check_page;
use crate::program::{Place, children};

const SMOKE: &[&str] = &["run", "magneto-stability", "--scale", "smoke"];

#[test]
fn a_smoke_run_trains_every_place_of_the_grid_and_says_what_it_saw() {
    let place = Place::new();
    let said = place.succeed(SMOKE);
    assert!(said.contains("inconclusive: Sub-LN trains"), "{said}"); // one seed can show nothing
    let run = place.only_run("magneto-stability");
    assert!(run.join("DONE").is_file());

    let rows = read_results(&run.join("results.parquet")).unwrap();
    let of = |step: &str| rows.iter().filter(|row| row["step"] == step).count();
    assert_eq!((of("train"), of("update"), of("count")), (5 * 2 * 3, 5, 1)); // arms, depths, rates
    let unigram = rows.iter().find_map(|row| row.get("unigram_loss")?.as_f64()).unwrap();
    assert!((2.9..3.3).contains(&unigram), "English bytes: {unigram}");

    let points = read_results(&run.join("series.parquet")).unwrap();
    let sizes: Vec<f64> = points
        .iter()
        .filter(|point| point["arm"] == "sub" && point["series"] == "update/sgd")
        .map(|point| point["y"].as_f64().unwrap())
        .collect();
    assert_eq!(sizes.len(), 3, "one for each depth");
    assert!(sizes.iter().all(|size| size.is_finite() && *size > 0.0), "{sizes:?}");

    let verdicts: Vec<Value> =
        serde_json::from_slice(&fs::read(run.join("verdict.json")).unwrap()).unwrap();
    assert_eq!(verdicts.len(), 6);
    assert!(verdicts.iter().all(|verdict| verdict["verdict"] == "inconclusive"));
    assert_eq!(fs::read_to_string(run.join("recommendation.json")).unwrap().trim(), "[]");

    let report = fs::read_to_string(run.join("report.md")).unwrap();
    for part in ["Final loss, 4 layers", "What trains, 2 layers", "Size of one update", "1.2e-3"] {
        assert!(report.contains(part), "{part}");
    }
    assert!(report.contains("smoke scale"), "{report}");
    check_page(&run.join("report.html"), "Magneto: stability in depth and learning rate", 7);
}

#[test]
fn several_seeds_give_intervals_and_what_to_set() {
    let place = Place::new();
    // Tiny models of the default scale, so that a recommendation is made.
    let small = [
        "model.d_model=16",
        "model.n_heads=2",
        "model.d_ff=32",
        "training.seq_len=32",
        "training.batch_size=4",
        "training.micro_batch_size=4",
        "training.steps=60",
        "training.warmup_steps=2",
        "grid.depths=[2]",
        "grid.learning_rates=[1e-4,1e-2,3.0]",
        "grid.loss_rows=16",
        "grid.trains_share=0.05",
        "update.depths=[2,4]",
        "update.draws=1",
        "update.seq_len=16",
        "update.batch_size=2",
    ];
    let mut arguments = vec!["run", "magneto-stability", "--seeds", "3"];
    arguments.extend(small.iter().flat_map(|change| ["--set", *change]));
    place.succeed(&arguments);
    let run = place.only_run("magneto-stability");
    let text = fs::read_to_string(run.join("recommendation.json")).unwrap();
    let settings: Vec<Value> = serde_json::from_str(&text).unwrap();
    let rate = settings
        .iter()
        .find(|item| item["setting"] == "optimiser.lr of DeepNorm at 2 layers, at most")
        .unwrap_or_else(|| panic!("{text}"));
    assert_eq!(rate["value"], 0.01, "{rate}");
    let (low, high) = (&rate["interval"]["low"], &rate["interval"]["high"]);
    assert!(low.as_f64().unwrap() <= 0.01 && high.as_f64().unwrap() > 0.01, "{rate}");
    let verdicts = fs::read_to_string(run.join("verdict.json")).unwrap();
    assert!(verdicts.contains("interval"), "{verdicts}");
}

#[test]
fn the_plan_fits_80_columns_and_says_what_can_be_detected() {
    let place = Place::new();
    let plan = place.succeed(&["plan", "magneto-stability"]);
    let widest = plan.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 80, "{widest}");
    assert!(!plan.contains("unpowered"), "{plan}");
    assert!(children(&place.path().join("runs")).iter().all(|path| !path.ends_with("cells")));
}

#[test]
fn an_interrupted_grid_goes_on_where_it_stopped() {
    let place = Place::new();
    let mut arguments = SMOKE.to_vec();
    arguments.extend(["--set", "training.steps=150", "--set", "training.checkpoint_every=10"]);
    arguments.extend(["--set", "grid.depths=[2]"]);
    let mut child = place.start(&arguments);
    let cells = place.path().join("runs/cells");
    let checkpointed =
        || children(&cells).iter().any(|cell| !children(&cell.join("checkpoints")).is_empty());
    while !checkpointed() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was interrupted");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    crate::program::signal(&child, "INT");
    child.wait().unwrap();
    assert!(!place.only_run("magneto-stability").join("DONE").exists());
    arguments.push("--resume");
    place.succeed(&arguments);
    assert!(place.only_run("magneto-stability").join("DONE").is_file());
}
