//! The program as a process: exit codes, streams, a reader that goes away.

use std::process::{Command, Output, Stdio};

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
