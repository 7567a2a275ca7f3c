//! Whole runs of `multilingual-mixture` at the smoke scale.

use std::fs;

use forerun_runs::results::{Row, read_results};
use serde_json::Value;

use crate::program::{Place, children, signal};

const SMOKE: &[&str] = &["run", "multilingual-mixture", "--scale", "smoke"];
const FAMILIES: [&str; 5] = ["romance", "germanic", "slavic", "indic", "sino-tibetan"];

fn numbers(row: &Row, name: &str) -> Vec<f64> {
    FAMILIES.map(|family| row[&format!("{name}_{family}")].as_f64().unwrap_or(f64::NAN)).into()
}

#[test]
fn a_smoke_run_fits_carries_over_and_says_what_it_saw() {
    let place = Place::new();
    let said = place.succeed(SMOKE);
    assert!(said.contains("inconclusive: That mixture beats the uniform one"), "{said}");
    let run = place.only_run("multilingual-mixture");
    assert!(run.join("DONE").is_file());

    let rows = read_results(&run.join("results.parquet")).unwrap();
    let of = |step: &str| rows.iter().filter(|row| row["step"] == step).collect::<Vec<&Row>>();
    let counts =
        ["design", "own-design", "check", "transfer", "fit", "assess"].map(|step| of(step).len());
    assert_eq!(counts, [2 * 2 * 5, 5, 2 * 5, 5, 2, 2]);
    for row in rows.iter().filter(|row| row["step"] != "fit" && row["step"] != "assess") {
        assert!((numbers(row, "share").iter().sum::<f64>() - 1.0).abs() < 1e-9, "{row:?}");
        // Nats per character, after a few updates: below a uniform guess over 320 tokens of a byte and more.
        let losses = numbers(row, "loss");
        assert!(losses.iter().all(|loss| (0.5..18.0).contains(loss)), "{losses:?}");
        assert!(numbers(row, "epochs").iter().all(|epochs| *epochs < 4.0));
    }
    // What was carried over is what the small models' fit found.
    let points = read_results(&run.join("series.parquet")).unwrap();
    let shares = |arm: &str| -> Vec<f64> {
        let here = points.iter().filter(|point| point["arm"] == arm && point["series"] == "share");
        here.map(|point| point["y"].as_f64().unwrap()).collect()
    };
    assert_eq!(shares("law").len(), 5);
    assert_eq!(shares("transfer/w128/4096/transferred"), shares("law"));
    assert_eq!(shares("transfer/w128/4096/own"), shares("own-law"));
    assert_eq!(shares("transfer/w128/4096/uniform"), [0.2; 5]);
    let proportional = shares("transfer/w128/4096/proportional");
    assert!(proportional[3] < 0.02 && proportional[0] > 0.3, "{proportional:?}");

    let verdicts: Vec<Value> =
        serde_json::from_slice(&fs::read(run.join("verdict.json")).unwrap()).unwrap();
    assert!(verdicts.iter().all(|verdict| verdict["verdict"] == "inconclusive"), "one seed");
    let own_share = verdicts.iter().find(|verdict| verdict["name"] == "own-share-alone").unwrap();
    assert_eq!(own_share["reason"], "5 mixtures, the rule asks for 15");
    assert_eq!(fs::read_to_string(run.join("recommendation.json")).unwrap().trim(), "[]");
    let report = fs::read_to_string(run.join("report.md")).unwrap();
    for part in [
        "Share of each family",
        "Loss by share",
        "smoke scale",
        "Beside the paper",
        "Dzongkha 62, Chinese 38",
    ] {
        assert!(report.contains(part), "{part}");
    }
}

#[test]
fn several_seeds_test_companions_and_recommend_shares() {
    let place = Place::new();
    // Tiny models of the default scale, so that something is recommended.
    let arm = |name: &str, width: u32| {
        format!(
            "arms.{name}.model={{d_model={width},n_layers=1,n_heads=2,d_ff={width},vocab_size=0,\
             positions={{kind='rope'}}}}"
        )
    };
    let mut changes = vec![arm("w32", 8), arm("w48", 16), arm("w64", 24), arm("w128", 32)];
    changes.extend(
        [
            "tokenizer.vocab_size=320",
            "design.tokens=[2048,4096]",
            "design.arms=['w32','w48']",
            "checks.longer.tokens=3072",
            "checks.wider.tokens=2048",
            "transfer.tokens=4096",
            "mixing.held_out_tokens=512",
            "mixing.draws=40",
            "training.seq_len=32",
            "training.batch_size=4",
            "training.micro_batch_size=4",
            "training.warmup_steps=1",
        ]
        .map(str::to_owned),
    );
    let mut arguments = vec!["run", "multilingual-mixture", "--seeds", "3"];
    arguments.extend(changes.iter().flat_map(|change| ["--set", change.as_str()]));
    place.succeed(&arguments);
    let run = place.only_run("multilingual-mixture");
    let text = fs::read_to_string(run.join("recommendation.json")).unwrap();
    let settings: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(settings.len(), 5, "{text}");
    let sum: f64 = settings.iter().map(|item| item["value"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-3, "{text}");
    let verdicts: Vec<Value> =
        serde_json::from_slice(&fs::read(run.join("verdict.json")).unwrap()).unwrap();
    let own_share = verdicts.iter().find(|verdict| verdict["name"] == "own-share-alone").unwrap();
    let reason = own_share["reason"].as_str().unwrap();
    assert!(reason.contains("of 20 companions"), "with four blocks it can be said: {reason}");
}

#[test]
fn the_plan_fits_80_columns_and_says_what_can_be_detected() {
    let place = Place::new();
    let plan = place.succeed(&["plan", "multilingual-mixture"]);
    let widest = plan.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 80, "{widest}");
    assert!(!plan.contains("unpowered") && plan.contains("indic"), "{plan}");
    assert!(plan.contains("between mixtures") && plan.contains("between seeds"), "{plan}");
    assert!(children(&place.path().join("runs")).iter().all(|path| !path.ends_with("cells")));
}

#[test]
fn texts_without_the_families_are_refused_by_name() {
    let place = Place::new();
    fs::write(place.path().join("my.jsonl"), "{\"text\": \"a\", \"family\": \"code\"}\n").unwrap();
    let mut arguments = SMOKE.to_vec();
    arguments.extend(["--data", "my.jsonl"]);
    let error = place.fail(&arguments);
    assert!(error.contains("families.romance") && error.contains("`code`"), "{error}");
    let error = place.fail(&["plan", "multilingual-mixture", "--set", "data.embedded=english"]);
    assert!(error.contains("`english` has no families"), "{error}");
}

#[test]
fn an_interrupted_run_goes_on_where_it_stopped() {
    let place = Place::new();
    let mut arguments = SMOKE.to_vec();
    for change in [
        "training.checkpoint_every=10",
        "design.tokens=[40960]",
        "checks.longer.tokens=2048",
        "checks.wider.tokens=4096",
        "transfer.tokens=2048",
    ] {
        arguments.extend(["--set", change]);
    }
    let mut child = place.start(&arguments);
    let cells = place.path().join("runs/cells");
    let checkpointed =
        || children(&cells).iter().any(|cell| !children(&cell.join("checkpoints")).is_empty());
    while !checkpointed() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was interrupted");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    signal(&child, "INT");
    child.wait().unwrap();
    assert!(!place.only_run("multilingual-mixture").join("DONE").exists());
    arguments.push("--resume");
    place.succeed(&arguments);
    assert!(place.only_run("multilingual-mixture").join("DONE").is_file());
}
