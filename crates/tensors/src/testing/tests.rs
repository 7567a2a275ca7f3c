use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::{Golden, GoldenRole, Tolerance, compare};
use crate::fixtures::{leaf, randn};
use crate::safetensors::save;

/// Writes `x.json` and, unless there are no tensors, `x.safetensors`; returns the stem.
fn golden(json: &Value, tensors: &[(&str, Tensor)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let stem = folder.path().join("magneto.v2");
    fs::write(folder.path().join("magneto.v2.json"), json.to_string()).unwrap();
    if !tensors.is_empty() {
        let named: Vec<_> = tensors
            .iter()
            .map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone()))
            .collect();
        save(&folder.path().join("magneto.v2.safetensors"), &named, &BTreeMap::new()).unwrap();
    }
    (folder, stem)
}

fn example() -> (Value, Vec<(&'static str, Tensor)>) {
    let entry = |shape: &[i64], dtype: &str, role: &str| json!({"shape": shape, "dtype": dtype, "role": role});
    let mut json = json!({"name": "magneto", "config": {"layers": 2}, "tensors": {
        "tokens": entry(&[3], "int64", "input"),
        "w.b": entry(&[2], "float32", "weight"),
        "w.a": entry(&[2, 2], "float32", "weight"),
        "logits": entry(&[2], "float32", "output"),
        "mask": entry(&[2], "uint8", "output"),
        "loss": entry(&[], "float32", "output"),
    }});
    json["tensors"]["loss"]["tol"] = json!({"atol": 1e-3, "rtol": 0.0});
    json["tensors"]["mask"]["tol"] = json!("exact");
    let tensors = vec![
        ("tokens", Tensor::from_slice(&[5i64, 6, 7])),
        ("w.b", randn(&[2], 1)),
        ("w.a", randn(&[2, 2], 2)),
        ("logits", Tensor::from_slice(&[1f32, 100.0])),
        ("mask", Tensor::from_slice(&[1u8, 0])),
        ("loss", Tensor::from(2f32)),
    ];
    (json, tensors)
}

#[test]
fn roles_tolerances_and_config_come_from_the_json() {
    let (json, tensors) = example();
    let (folder, stem) = golden(&json, &tensors);
    let file = Golden::open(&stem).unwrap();
    assert_eq!(Golden::open(&folder.path().join("magneto.v2.json")).unwrap().path(), file.path());
    assert_eq!(file.config()["layers"], 2);
    assert_eq!(file.names(GoldenRole::Output).collect::<Vec<_>>(), ["logits", "loss", "mask"]);
    assert_eq!(file.input("tokens").unwrap(), tensors[0].1);
    let weights = file.weights("w.").unwrap();
    assert_eq!(weights.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(weights[0].1, tensors[2].1);
    assert_eq!(file.tolerance("logits").unwrap(), Tolerance { atol: 1e-5, rtol: 1e-4 });
    assert_eq!(file.tolerance("loss").unwrap(), Tolerance { atol: 1e-3, rtol: 0.0 });
    assert_eq!(file.tolerance("mask").unwrap(), Tolerance::EXACT);
    assert_eq!(
        file.tolerance("tokens").unwrap(),
        Tolerance::EXACT,
        "integers are exact unless said"
    );

    let near = Tensor::from_slice(&[1f32, 100.009]);
    let found = file.check("logits", &near).unwrap();
    assert!(found.agrees() && found.max_error_over_tolerance > 0.85, "{found}");
    let far = file.check("logits", &Tensor::from_slice(&[1f32, 100.02])).unwrap();
    assert!(!far.agrees());
    assert_eq!(far.worst.unwrap().index, 1);
    assert!(file.check("mask", &Tensor::from_slice(&[true, false])).unwrap().agrees());
    assert!(!file.check("mask", &Tensor::from_slice(&[true, true])).unwrap().agrees());
    let refused = |result: Result<_, crate::Error>, want: &str| {
        let message = result.map(|_: Tensor| ()).unwrap_err().to_string();
        assert!(message.ends_with(want), "{message}");
    };
    refused(file.output("tokens"), "tensor `tokens` has role Input, not Output");
    refused(file.input("nothing"), "tensor `nothing` is not described");
}

#[test]
fn files_that_do_not_agree_are_refused() {
    let (json, tensors) = example();
    let refused = |json: &Value, tensors: &[(&str, Tensor)], want: &str| {
        let (_folder, stem) = golden(json, tensors);
        let message = Golden::open(&stem).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    };
    refused(&json, &[], "magneto.v2.safetensors`: missing; `");
    refused(&json, &tensors[1..], "tensor `tokens` is missing");
    let mut other = json.clone();
    other["tensors"]["loss"]["shape"] = json!([1]);
    refused(&other, &tensors, "tensor `loss` is Float [], but described as float32 [1]");
    let mut other = json.clone();
    other["tensors"]["loss"]["dtype"] = json!("float64");
    refused(&other, &tensors, "tensor `loss` is Float [], but described as float64 []");
    let mut other = json.clone();
    other["tensors"].as_object_mut().unwrap().remove("loss");
    refused(&other, &tensors, "tensor `loss` is not described in the JSON");
    let mut other = json.clone();
    other["tensors"]["loss"]["tol"] = json!("roughly");
    refused(&other, &tensors, "magneto.v2.json`: unreadable");
    let (folder, _) = golden(&json, &[]);
    let message = Golden::open(&folder.path().join("absent")).unwrap_err().to_string();
    assert!(message.contains("absent.json`: "), "{message}");
}

#[test]
fn a_file_without_tensors_needs_no_companion() {
    let (_folder, stem) = golden(&json!({"name": "init", "rows": [1, 2]}), &[]);
    let file = Golden::open(&stem).unwrap();
    assert_eq!(file.json()["rows"][1], 2);
    assert!(file.config().is_null() && !file.contains("rows"));
}

#[test]
fn odd_numbers_are_compared_with_care() {
    let ratio = |a: f64, b: f64, tolerance| {
        let (a, b) = (Tensor::from_slice(&[a]), Tensor::from_slice(&[b]));
        compare(&a, &b, tolerance).unwrap().max_error_over_tolerance
    };
    let (inf, nan, usual) = (f64::INFINITY, f64::NAN, Tolerance::default());
    for same in [inf, -inf, nan, 0.0] {
        assert_eq!(ratio(same, same, usual), 0.0);
        assert_eq!(ratio(same, same, Tolerance::EXACT), 0.0);
    }
    for (a, b) in [(inf, -inf), (inf, 1.0), (1.0, inf), (nan, 1.0), (1.0, nan), (nan, inf)] {
        assert_eq!(ratio(a, b, usual), inf, "{a} {b}");
    }
    assert_eq!(ratio(1.0, 1.0 + f64::EPSILON, Tolerance::EXACT), inf);
    let big = |x: i64| Tensor::from_slice(&[x]);
    let found = compare(&big(1 << 60), &big((1 << 60) + 1), usual).unwrap();
    assert!(!found.agrees(), "not compared by way of f64, where they coincide");
    let empty = Tensor::zeros([0, 3], (Kind::Float, Device::Cpu));
    let found = compare(&empty, &empty, usual).unwrap();
    assert!(found.agrees() && found.n_elements == 0 && found.worst.is_none());
}

#[test]
fn shapes_must_be_equal_and_kinds_need_not() {
    let wide = randn(&[2, 3], 1);
    let message = compare(&wide, &wide.view([3, 2]), Tolerance::default()).unwrap_err().to_string();
    assert_eq!(message, "actual must have shape [3, 2], got [2, 3]");
    let tolerance = Tolerance { atol: 0.0, rtol: 1.0 / 128.0 };
    let found = compare(&wide.to_kind(Kind::BFloat16), &wide, tolerance).unwrap();
    assert!(found.agrees() && found.max_abs_error > 0.0);
    let graph = leaf(&[2], 1) * 2.0;
    let found = compare(&graph, &graph.detach().transpose(0, 0), Tolerance::EXACT).unwrap();
    assert_eq!(found.to_string(), "2 numbers, largest error 0.00e0, 0.000 of the tolerance");
}
