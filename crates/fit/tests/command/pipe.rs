//! The program as a process: exit codes, streams, a reader that goes away.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::data;

fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forerun-scaling"));
    command.args(words);
    command
}

fn output(words: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program(words).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (status.code(), stdout, stderr)
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let table = data("synth_lr_A.csv").to_string_lossy().into_owned();
    let mut child = program(&["fit", "--law", "lr-horizon", "--data", &table])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(String::from_utf8_lossy(&stderr), "");
}

#[test]
fn a_failure_is_one_line_on_standard_error() {
    let (code, out, err) = output(&["fit", "--law", "chinchilla", "--data", "no/such.csv"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, "error: cannot read `no/such.csv`: No such file or directory (os error 2)\n");
    let (_, _, err) = output(&["import", "no/such.jsonl"]);
    assert_eq!(err, "error: cannot read `no/such.jsonl`: No such file or directory (os error 2)\n");
    let (code, _, err) = output(&["fit", "--law", "nonsense", "--data", "x.csv"]);
    assert!(code == Some(2) && err.contains("possible values"), "{err}");
}

#[test]
fn help_fits_80_columns() {
    for command in ["", "fit", "recommend", "audit-lr", "import", "retrospective"] {
        let words: Vec<&str> = [command, "--help"].into_iter().filter(|w| !w.is_empty()).collect();
        let (code, out, _) = output(&words);
        assert_eq!(code, Some(0));
        assert!(out.contains("cargo xtask"), "{out}");
        for line in out.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn our_side_of_the_comparison_answers_turn_by_turn() {
    let folder = tempfile::tempdir().unwrap();
    let resamples = folder.path().join("resamples.u16");
    let points: Vec<u8> = (0..480_u16).flat_map(|i| (i % 240).to_le_bytes()).collect();
    std::fs::write(&resamples, &points).unwrap();
    let table = data("chinchilla_epoch245.csv");
    let setup = json!({ "table": table, "drop_highest": 5, "resamples": resamples }).to_string();
    let told = |lines: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fit_speed"))
            .arg(&setup)
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = told("fit huber 0.01\nbootstrap huber 20\nrefit huber 2\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let [ready, fit, bootstrap, refit] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((&ready["ready"], &ready["points"]), (&json!(true), &json!(240)));
    assert!(fit["jobs"].as_u64() > Some(0), "{fit}");
    assert_eq!((&bootstrap["jobs"], &bootstrap["failed"]), (&json!(20), &json!(0)));
    // Each point once: the same fit.
    for objective in [&fit["objectives"][0], &refit["objectives"][0], &refit["objectives"][1]] {
        assert!((objective.as_f64().unwrap() / 0.001018274018 - 1.).abs() < 1e-6, "{objective}");
    }
    for nonsense in ["rest\n", "fit median 1\n", "sleep huber 1\n", "fit huber long\n"] {
        let output = told(nonsense);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said, format!("Error: not understood: {nonsense}"));
    }
}
