use std::collections::BTreeMap;

use super::*;
use crate::catalog;
use crate::cell::{Cell, Task};
use crate::config::{Body, Overrides, Scale};
use crate::data::{Part, Prepared};

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
    let cells = plan(&[]);
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
}
