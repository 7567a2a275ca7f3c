use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use crate::catalog;
use crate::cell::{Cell, Task};
use crate::commands::quantize;
use crate::commands::texts::Text;
use crate::config::{Body, Overrides, Scale};
use crate::data::{Part, Prepared};
use crate::outcome::{Curve, judge_all};
use crate::pretrained::write_drawn;
use forerun_runs::verdict::Verdict;

fn experiment(set: &[&str]) -> Result<Experiment> {
    let overrides = Overrides {
        scale: Scale::Smoke,
        set: set.iter().map(|text| (*text).to_owned()).collect(),
        ..Overrides::default()
    };
    Experiment::resolve(&catalog::find("phi3-quantize").unwrap(), &overrides)
}

fn data(n_tokens: u64) -> Prepared {
    let part = |name: &str| Part {
        input: Input { path: name.into(), hash: name.to_owned(), tokens: None },
        n_tokens,
    };
    Prepared {
        vocab_size: 257,
        tokenizer: None,
        train: part("train"),
        validation: part("validation"),
        sources: Vec::new(),
        groups: Vec::new(),
    }
}

fn plan(set: &[&str]) -> Vec<Cell> {
    let experiment = experiment(set).unwrap();
    let Body::Quantization(body) = &experiment.body else { panic!("another kind") };
    let cells = cells(&experiment, body, &data(1000)).unwrap();
    cells.into_iter().map(|planned| planned.cell).collect()
}

fn labels(cells: &[Cell]) -> Vec<&str> {
    cells.iter().map(|cell| cell.label.as_str()).collect()
}

#[test]
fn a_drawn_model_is_written_once_and_measured_in_every_format_that_its_sizes_allow() {
    let mut cells = plan(&[]);
    let timed = cells.split_off(14);
    // Groups of 128 do not divide its width of 64.
    assert_eq!(
        labels(&cells),
        [
            "weights as a folder",
            "measure f32",
            "weights bf16",
            "measure bf16",
            "weights int8",
            "measure int8",
            "weights int4-g32",
            "measure int4-g32",
            "weights int4-g32-gptq",
            "measure int4-g32-gptq",
            "weights int4-g64",
            "measure int4-g64",
            "weights int4-g64-gptq",
            "measure int4-g64-gptq",
        ]
    );
    let base = cells[0].key();
    for cell in &cells[1..] {
        let made = match &cell.task {
            Task::MakeWeights(task) => {
                assert_eq!(cell.needs, std::slice::from_ref(&base));
                let calibrated = cell.label.ends_with("gptq");
                assert_eq!(task.calibration.is_some(), calibrated, "{}", cell.label);
                assert_eq!(cell.inputs.contains_key("train"), calibrated);
                continue;
            }
            Task::MeasureWeights(_) => &cell.needs,
            other => panic!("{other:?}"),
        };
        assert_eq!((made.len(), cell.members.len()), (1, 2), "{}", cell.label);
        assert!(cell.inputs.contains_key("validation"));
    }
    // Every format has had its first turn before any has its second, which begins with another; none shares a key with another.
    assert_eq!(labels(&timed)[6..8], ["time int4-g64-gptq, turn 1", "time bf16, turn 2"]);
    assert_eq!(timed[13].label, "time f32, turn 2");
    let measured = cells.iter().filter(|cell| cell.label.starts_with("measure"));
    for (place, measured) in measured.enumerate() {
        let [first, second] = [&timed[place], &timed[7 + (place + 6) % 7]];
        assert_eq!((&first.needs, &second.needs), (&measured.needs, &measured.needs));
        assert_eq!(first.tags["arm"], measured.tags["arm"]);
        assert_eq!((&first.tags["seed"], &second.tags["seed"]), (&0.into(), &1.into()));
        assert_ne!(first.key(), second.key());
    }
    // More turns are added to those that are there.
    let more = plan(&["timing.turns=3"]);
    let same = cells.iter().chain(&timed).zip(&more).all(|(a, b)| a.key() == b.key());
    assert!(same && more.len() == 14 + 3 * 7);
}

#[test]
fn formats_are_timed_together_or_not_at_all() {
    let keys = |set: &[&str], of: &str| -> Vec<String> {
        let cells = plan(set).into_iter();
        cells.filter(|cell| cell.label.starts_with(of)).map(|cell| cell.key()).collect()
    };
    // Other weights by GPTQ: whatever is timed beside them is timed anew, bf16 too.
    let [now, then] = [&["calibration.n_pieces=3"][..], &[]];
    assert_eq!(keys(now, "measure bf16"), keys(then, "measure bf16"));
    for of in ["time f32", "time bf16", "time int4-g64-gptq"] {
        let [now, then] = [now, then].map(|set| keys(set, of));
        assert_eq!((now.len(), then.len()), (2, 2));
        assert!(now.iter().all(|key| !then.contains(key)), "{of}");
    }
    // More pieces to measure perplexity on are nothing to speeds.
    assert_eq!(keys(&["seeds=3"], "time"), keys(then, "time"));
    assert_ne!(keys(&["seeds=3"], "measure"), keys(then, "measure"));
    // Another program or processor has other speeds.
    let together =
        |program, processor| plan::together(&[Some("a"), None], None, program, processor);
    let here = together("p", Some("fast"));
    assert_eq!(here, together("p", Some("fast")));
    assert!(here != together("q", Some("fast")) && here != together("p", Some("slow")));
}

#[test]
fn speeds_are_judged_over_turns() {
    let experiment = experiment(&["timing.turns=3"]).unwrap();
    let Body::Quantization(body) = &experiment.body else { panic!("another kind") };
    let claim = |name: &str| experiment.claims.iter().find(|claim| claim.name == name).unwrap();
    let (speed, quality) = (claim("int4-writes-faster"), claim("int8-keeps-quality"));
    assert_eq!((body.turns_of(speed), body.turns_of(quality)), (Some(3), None));
    let curve = |arm: &str, series: &str, seed, y| Curve {
        arm: arm.to_owned(),
        seed,
        series: series.to_owned(),
        points: vec![(0.0, y)],
    };
    let turn = |(turn, noise): (u64, f64)| {
        [
            curve("int4-g64-gptq", DECODE_SPEED, turn, 20.0 * noise),
            curve("bf16", DECODE_SPEED, turn, 10.0),
        ]
    };
    let curves: Vec<Curve> = [(0, 1.0), (1, 1.05), (2, 0.97)].into_iter().flat_map(turn).collect();
    let all = judge_all(&experiment, &[], &curves).unwrap();
    let judged = all.into_iter().find(|found| found.name == "int4-writes-faster").unwrap();
    let judgement = judged.judgement;
    assert_eq!(judgement.verdict, Verdict::Reproduced, "{}", judgement.reason);
    assert!(judgement.reason.contains("from 3 turns;"), "{}", judgement.reason);
    assert!(judged.rule.ends_with("over at least 3 paired turns"), "{}", judged.rule);
}

#[test]
fn a_folder_is_measured_as_it_is_where_its_format_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    crate::pretrained::write_drawn(place.path(), 1).unwrap();
    let model = format!("model={}", place.path().display());
    let cells = plan(&[&model]);
    assert_eq!(labels(&cells)[..3], ["measure f32", "weights bf16", "measure bf16"]);
    assert!(cells[0].needs.is_empty() && cells[0].inputs.contains_key("model"));
    assert!(cells[1].inputs.contains_key("model"));
    // Its files decide about the keys, not where they lie.
    let elsewhere = tempfile::tempdir().unwrap();
    crate::pretrained::write_drawn(elsewhere.path(), 1).unwrap();
    let keys = |cells: &[Cell]| cells.iter().map(Cell::key).collect::<Vec<_>>();
    let same = plan(&[&format!("model={}", elsewhere.path().display())]);
    assert_eq!(keys(&cells), keys(&same));
    crate::pretrained::write_drawn(elsewhere.path(), 2).unwrap();
    let other = plan(&[&format!("model={}", elsewhere.path().display())]);
    assert!(keys(&cells).iter().zip(&keys(&other)).all(|(a, b)| a != b));
}

#[test]
fn costs_are_those_of_the_model() {
    let cells = plan(&[]);
    let by_label: BTreeMap<&str, &Cell> =
        cells.iter().map(|cell| (cell.label.as_str(), cell)).collect();
    // 257 · 64 of the table, and for each of two blocks 64 · (64 + 32 + 32 + 64) + 3 · 64 · 128.
    let n_params = 257 * 64 + 2 * (64 * 192 + 3 * 64 * 128);
    let base = by_label["weights as a folder"];
    assert_eq!(base.cost.n_params, n_params);
    assert_eq!(base.cost.disk_bytes, 4 * n_params as u64);
    let packed = by_label["weights int4-g64"].cost.disk_bytes as f64;
    let expected = 257.0 * 64.0 + (n_params - 257 * 64) as f64 * 4.5 / 8.0;
    assert!((packed - expected).abs() < 2.0, "{packed} {expected}");
}

#[track_caller]
fn refused(set: &[&str], expected: &str) {
    let error = format!("{:#}", experiment(set).unwrap_err());
    assert!(error.contains(expected), "{error}");
}

#[test]
fn mistakes_are_named() {
    refused(&["reading.prompt_tokens=0"], "reading.prompt_tokens must be positive, got 0");
    refused(
        &["reading.decode_tokens=17"],
        "reading.piece_tokens must be at least prompt_tokens and decode_tokens together, 33, got 32",
    );
    refused(&["timing.turns=0"], "timing.turns must be positive, got 0");
    refused(&["calibration.piece_tokens=1"], "calibration.piece_tokens must be at least 2, got 1");
    refused(&["arms.int8.weights.blocks=int5"], "int8, int8-g32, int4-g32, int4-g64 or int4-g128");
    refused(
        &["claims.int8-keeps-quality.a.arm=f16"],
        "it measures the arm `f16`, which does not exist",
    );
    refused(
        &["claims.int8-keeps-quality.a.series=loss"],
        "it measures the series `loss`; there are: perplexity",
    );
    refused(
        &["claims.int8-keeps-quality.a.series=decode-speed"],
        "claim `int8-keeps-quality`: it compares `decode-speed`, which has a value a turn, with `perplexity`, which has one a piece",
    );
    refused(
        &[
            "claims.int8-keeps-quality.a.series=decode-speed",
            "claims.int8-keeps-quality.b.series=prompt-speed",
        ],
        "`decode-speed` has a value a turn, but rule.replicate.one is `piece of text`",
    );
    refused(
        &["claims.int4-writes-faster.rule.replicate={ one = 'piece', many = 'pieces' }"],
        "`decode-speed` has a value a turn, but rule.replicate.one is `piece`",
    );
}

#[test]
fn texts_and_models_that_do_not_fit_are_named() {
    let experiment = experiment(&[]).unwrap();
    let Body::Quantization(body) = &experiment.body else { panic!("another kind") };
    let refused = |data: &Prepared| cells(&experiment, body, data).unwrap_err().to_string();
    assert_eq!(refused(&data(63)), "the held-out text has 63 tokens, fewer than 2 pieces of 32");
    let wide = Prepared { vocab_size: 258, ..data(1000) };
    assert_eq!(refused(&wide), "the tokenizer has 258 ids, the model only 257");
    let elsewhere = QuantizationConfig { model: "/nowhere".to_owned(), ..body.clone() };
    let error = cells(&experiment, &elsewhere, &data(1000)).unwrap_err().to_string();
    assert!(error.starts_with("there is no model `/nowhere`"), "{error}");
    let longer = |set: &str| {
        let experiment = self::experiment(&[set]).unwrap();
        let Body::Quantization(body) = &experiment.body else { panic!("another kind") };
        cells(&experiment, body, &data(10_000)).unwrap_err().to_string()
    };
    let expected =
        "at most 512, as the model was made for 512 tokens and 0 come before a text, got 513";
    let error = longer("calibration.piece_tokens=513");
    assert_eq!(error, format!("calibration.piece_tokens must be {expected}"));
    let error = longer("reading.piece_tokens=513");
    assert_eq!(error, format!("reading.piece_tokens must be {expected}"));
}

/// A drawn model in a folder, with a token before every text.
fn with_start(folder: &Path) {
    write_drawn(folder, 1).unwrap();
    let path = folder.join("tokenizer.json");
    let mut tokenizer: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let start = serde_json::json!({ "SpecialToken": { "id": "<|endoftext|>", "type_id": 0 } });
    let text = |id: &str| serde_json::json!({ "Sequence": { "id": id, "type_id": 0 } });
    tokenizer["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [start, text("A")],
        "pair": [start, text("A"), text("B")],
        "special_tokens": {
            "<|endoftext|>": { "id": "<|endoftext|>", "ids": [256], "tokens": ["<|endoftext|>"] },
        },
    });
    std::fs::write(&path, tokenizer.to_string()).unwrap();
}

#[test]
fn what_comes_before_a_text_counts_too() {
    let place = tempfile::tempdir().unwrap();
    with_start(place.path());
    let model = format!("model={}", place.path().display());
    let experiment = experiment(&[&model, "reading.piece_tokens=512"]).unwrap();
    let Body::Quantization(body) = &experiment.body else { panic!("another kind") };
    let error = cells(&experiment, body, &data(10_000)).unwrap_err().to_string();
    assert!(error.contains("at most 511, as the model was made for 512"), "{error}");
    // The command calibrates on such a token as the experiment does.
    let tokenizer = Place::Folder(place.path().to_owned()).tokenizer(None).unwrap();
    let text = Text { name: "t".to_owned(), text: "abcdefgh".to_owned() };
    let found = quantize::pieces(&[text], &tokenizer, 8, 5).unwrap();
    let expected: Vec<Vec<i64>> =
        [b"abcd", b"efgh"].map(|own| [256].into_iter().chain(own.map(i64::from)).collect()).into();
    assert_eq!(found, expected);
}

#[test]
fn a_folder_that_is_quantised_is_refused_before_anything_runs() {
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    write_drawn(&from, 1).unwrap();
    let check = |folder: &Path| {
        let experiment = experiment(&[&format!("model={}", folder.display())]).unwrap();
        let Body::Quantization(body) = &experiment.body else { panic!("another kind") };
        let error = cells(&experiment, body, &data(1000)).unwrap_err().to_string();
        let expected = format!("`{}` is quantised already", folder.display());
        assert!(error.starts_with(&expected), "{error}");
    };
    let int8 = WeightFormat::Int8;
    // Where the tables are kept, the first matrix is as it was.
    for (name, tables) in [("packed", Some(int8)), ("kept", None)] {
        let to = place.path().join(name);
        let config = QuantizeConfig { tables, ..QuantizeConfig::nearest(int8) };
        let mut go_on = |_, _| ControlFlow::Continue(());
        quantize::quantized(&from, &to, &config, &[], &mut go_on, &|| false).unwrap();
        check(&to);
        // The weights tell it too.
        let path = to.join("config.json");
        let mut config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config.as_object_mut().unwrap().remove("quantization_config").unwrap();
        std::fs::write(&path, config.to_string()).unwrap();
        check(&to);
    }
}

#[test]
fn making_weights_by_gptq_is_planned_with_the_memory_of_its_statistics() {
    let cells = plan(&[]);
    let memory = |label: &str| {
        cells.iter().find(|cell| cell.label == label).unwrap().cost.memory_bytes as i64
    };
    let more = memory("weights int4-g64-gptq") - memory("weights int4-g64");
    // Both blocks: 4 · (6 · 64² + 128²) each; and 4 matrices of 128² in f64.
    assert_eq!(more, 2 * 4 * (6 * 64 * 64 + 128 * 128) + 4 * 8 * 128 * 128);
}
