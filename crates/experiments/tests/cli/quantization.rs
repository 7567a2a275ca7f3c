//! `phi3-quantize` on a tiny model with drawn weights.

use forerun_experiments::pretrained::write_drawn;
use forerun_runs::manifest::Manifest;
use forerun_runs::results::read_results;
use serde_json::Value;

use crate::program::{Place, children};

const SMOKE: &[&str] = &["run", "phi3-quantize", "--scale", "smoke"];

#[test]
fn every_format_is_measured_on_every_piece() {
    let place = Place::new();
    let said = place.succeed(&[SMOKE, &["--jobs", "2"]].concat());
    assert!(said.contains("inconclusive: Weights of 8 bits"), "{said}"); // two pieces show nothing
    let run = place.only_run("phi3-quantize");
    let rows = read_results(&run.join("results.parquet")).unwrap();
    let measured: Vec<_> = rows.iter().filter(|row| row["step"] == "measure").collect();
    assert_eq!(measured.len(), 7 * 2); // formats, of which groups of 128 do not fit, by pieces
    let of = |arm: &str, column: &str| -> Vec<f64> {
        let rows = measured.iter().filter(|row| row["arm"] == arm);
        rows.map(|row| row[column].as_f64().unwrap()).collect()
    };
    for row in &measured {
        assert_eq!(row["outcome"], "finished");
        assert_eq!(row["n_tokens"], 31);
        let peak = row["peak_memory_bytes"].as_u64();
        assert!(peak >= row["idle_memory_bytes"].as_u64() && peak > Some(50_000_000), "{row:?}");
    }
    // Every format is timed in two turns.
    let timed: Vec<_> = rows.iter().filter(|row| row["step"] == "time").collect();
    assert_eq!(timed.len(), 7 * 2);
    for row in &timed {
        for speed in ["prompt_tokens_per_sec", "decode_tokens_per_sec"] {
            assert!(row[speed].as_f64().unwrap() > 1.0, "{row:?}");
        }
    }
    // Whatever --jobs says, nothing ran beside what was timed.
    let cells = Manifest::read(&run.join("manifest.json")).unwrap().cells;
    for timed in cells.iter().filter(|cell| cell.label.starts_with("time")) {
        let others = cells.iter().filter(|cell| cell.label != timed.label);
        for other in others {
            let alone = other.ended.unwrap() <= timed.started.unwrap()
                || other.started.unwrap() >= timed.ended.unwrap();
            assert!(alone, "{} ran beside {}", other.label, timed.label);
        }
    }
    // The size of each format, and that the model stays itself: 5.5 nats are those of a guess among 257.
    let f32 = of("f32", "weight_bytes")[0];
    for (arm, share) in [("bf16", 0.5), ("int8", 0.27), ("int4-g64", 0.18), ("int4-g64-gptq", 0.18)]
    {
        let own = of(arm, "weight_bytes")[0] / f32;
        assert!((own / share - 1.0).abs() < 0.1, "{arm}: {own}");
        for (found, expected) in of(arm, "nats_per_token").iter().zip(of("f32", "nats_per_token")) {
            assert!((found - expected).abs() < 0.1 && expected > 5.0, "{arm}: {found} {expected}");
        }
    }
    let report = std::fs::read_to_string(run.join("report.md")).unwrap();
    assert!(report.contains("A group must divide the width"), "{report}");
    assert!(report.contains("4 bits, groups of 64, GPTQ"));
    assert!(report.contains("- from: 2 pieces of text") && report.contains("- from: 2 turns"));
    assert!(!report.contains(" seeds"), "{report}");
}

#[test]
fn a_folder_of_ones_own_is_measured() {
    let place = Place::new();
    write_drawn(&place.path().join("tiny"), 2).unwrap();
    let mut arguments = SMOKE.to_vec();
    arguments.extend(["--set", "model=tiny"]);
    place.succeed(&arguments);
    let cells = children(&place.path().join("runs/cells"));
    assert_eq!(cells.len(), 13 + 7 * 2); // the folder's own format is not written again; two turns of timing
    let run = place.only_run("phi3-quantize");
    let verdicts = std::fs::read_to_string(run.join("verdict.json")).unwrap();
    let verdicts: Value = serde_json::from_str(&verdicts).unwrap();
    assert!(
        verdicts.as_array().unwrap().iter().all(|verdict| verdict["verdict"] == "inconclusive")
    );
    let line = place.fail(&["plan", "phi3-quantize", "--set", "model=nowhere"]);
    assert!(line.contains("there is no model `") && line.contains("nowhere`"), "{line}");
}
