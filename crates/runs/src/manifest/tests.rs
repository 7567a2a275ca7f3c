use std::fs;

use expect_test::expect;

use super::*;
use crate::Error;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_375_867 + second).unwrap()
}

fn example() -> Manifest {
    Manifest {
        format: FORMAT,
        experiment: "quickstart".into(),
        config_sha256: "3f9c1a2b".into(),
        code: Code {
            version: "0.1.0".into(),
            commit: Some("250cf03".into()),
            dirty: Some(false),
            lock_sha256: Some("aa".into()),
            rustc: "rustc 1.95.0".into(),
            libtorch: Some("2.13.0".into()),
        },
        machine: Machine {
            platform: "linux x86_64".into(),
            processor: None,
            device: "cpu".into(),
            threads: 1,
            jobs: 2,
        },
        seed: Seed::new(u64::MAX),
        inputs: vec![Input {
            role: "train".into(),
            path: "books.parquet".into(),
            bytes: 12,
            sha256: "bb".into(),
        }],
        cells: vec![Cell::planned("k1", "xpos seed 1"), Cell::planned("k2", "rope seed 1")],
        started: at(0),
        resumed: vec![],
        ended: None,
    }
}

#[test]
fn people_can_read_it() {
    let mut manifest = example();
    manifest.set_state("k1", CellState::Running, at(1)).unwrap();
    manifest.set_state("k1", CellState::Diverged { step: 7 }, at(2)).unwrap();
    let text = serde_json::to_string_pretty(&manifest).unwrap();
    let tail = &text[text.find("  \"seed\"").unwrap()..];
    expect![[r#"
          "seed": 18446744073709551615,
          "inputs": [
            {
              "role": "train",
              "path": "books.parquet",
              "bytes": 12,
              "sha256": "bb"
            }
          ],
          "cells": [
            {
              "key": "k1",
              "label": "xpos seed 1",
              "state": "diverged",
              "step": 7,
              "started": "2026-11-22T19:31:08Z",
              "ended": "2026-11-22T19:31:09Z"
            },
            {
              "key": "k2",
              "label": "rope seed 1",
              "state": "planned"
            }
          ],
          "started": "2026-11-22T19:31:07Z",
          "ended": null
        }"#]]
    .assert_eq(tail);
}

#[test]
fn it_comes_back_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manifest.json");
    let mut manifest = example();
    manifest.set_state("k2", CellState::Failed { reason: "killed".into() }, at(3)).unwrap();
    manifest.resumed.push(at(9));
    manifest.ended = Some(at(10));
    manifest.write(&path).unwrap();
    assert_eq!(Manifest::read(&path).unwrap(), manifest);
}

#[test]
fn a_cut_file_and_a_later_layout_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manifest.json");
    example().write(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    for cut in [0, 1, 40, text.len() - 3] {
        fs::write(&path, &text[..cut]).unwrap();
        assert!(matches!(Manifest::read(&path), Err(Error::File { .. })));
    }
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 2, \"new\": []")).unwrap();
    let error = Manifest::read(&path).unwrap_err();
    assert!(error.to_string().ends_with("layout 2 is newer than 1"), "{error}");
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 1, \"new\": []")).unwrap();
    assert_eq!(Manifest::read(&path).unwrap(), example());
}

#[test]
fn an_unknown_cell_is_named() {
    let error = example().set_state("k3", CellState::Running, at(0)).unwrap_err();
    assert_eq!(error.to_string(), "`key` must be the key of a planned cell, got k3");
}

#[test]
fn only_results_are_final() {
    let open = [CellState::Planned, CellState::Running, CellState::Failed { reason: "x".into() }];
    assert!(open.iter().all(|state| !state.is_final()));
    let results = [
        CellState::Finished,
        CellState::Reused,
        CellState::Diverged { step: 1 },
        CellState::OutOfMemory,
    ];
    assert!(results.iter().all(CellState::is_final));
}
