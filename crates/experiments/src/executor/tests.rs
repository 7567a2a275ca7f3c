use super::*;
use crate::cell::{Cost, Machine};

#[track_caller]
fn check(log: &str, expected: Option<&str>) {
    assert_eq!(telling_line(log), expected, "{log}");
}

#[test]
fn the_message_of_a_panic_tells_more_than_the_line_after_it() {
    let panic = "thread 'main' panicked at src/x.rs:1:2:\nindex out of range\nnote: run with `RUST_BACKTRACE=1` …\n";
    check(panic, Some("index out of range"));
    check("a warning\n\nthe last line\n\n", Some("the last line"));
    check(
        "thread 'main' panicked at src/x.rs:1:2:\n",
        Some("thread 'main' panicked at src/x.rs:1:2:"),
    );
    check("\n", None);
}

#[test]
fn what_an_earlier_attempt_logged_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join(LOG);
    fs::write(&log, "old\n").unwrap();
    assert_eq!(last_words(&log, 4), "");
    fs::write(&log, "old\nnew\n").unwrap();
    assert_eq!(last_words(&log, 4), "; its log ends: new");
    assert_eq!(last_words(&dir.path().join("none"), 0), "");
}

#[test]
fn the_closing_line_counts_every_cell_once() {
    let mut swept = Swept { computed: 8, reused: 4, ..Swept::default() };
    assert_eq!(swept.in_words(12), "12 cells: 8 computed, 4 reused");
    swept.failed.insert("train".to_owned(), "a cause".to_owned());
    assert_eq!(swept.in_words(15), "15 cells: 8 computed, 4 reused, 1 failed, 2 left to do");
}

/// A worker that says nothing, as a script of `sh`.
fn running(script: &str) -> Running {
    let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take();
    Running { child, stdin, last: None, command: None, log_from: 0 }
}

#[test]
fn a_sweep_that_ends_early_lets_its_workers_end_their_commands() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("tidy");
    let mut running = running(&format!("cat > /dev/null; touch '{}'", mark.display()));
    running.stdin = None;
    running.end(Duration::from_secs(60));
    assert!(mark.is_file());
}

#[test]
fn a_worker_that_does_not_stop_is_killed_and_its_command_with_it() {
    let mut command = Command::new("sleep");
    command.arg("77");
    into_group(&mut command);
    let mut command = command.spawn().unwrap();
    let mut running = Running { command: Some(command.id()), ..running("sleep 77") };
    running.stdin = None;
    running.end(Duration::from_millis(50));
    assert!(running.child.try_wait().unwrap().is_some());
    let told = Instant::now();
    while command.try_wait().unwrap().is_none() {
        assert!(told.elapsed() < Duration::from_secs(60), "the command goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn cell(task: serde_json::Value) -> Cell {
    let reading = serde_json::json!({ "piece_tokens": 2, "prompt_tokens": 1, "decode_tokens": 1 });
    let mut task = task;
    if task["kind"] == "time-weights" {
        task["reading"] = reading;
    }
    Cell {
        task: serde_json::from_value(task).unwrap(),
        machine: Machine { device: "cpu".to_owned(), threads: 1 },
        inputs: BTreeMap::new(),
        needs: Vec::new(),
        label: String::new(),
        tags: BTreeMap::new(),
        members: Vec::new(),
        cost: Cost::default(),
    }
}

#[test]
fn a_cell_that_measures_time_runs_alone() {
    let timing = cell(serde_json::json!({
        "kind": "time-weights", "origin": { "from": "needed" }, "turn": 0, "n_pieces": 1, "before": [], "together": "",
    }));
    let other = cell(serde_json::json!({
        "kind": "unigram-loss", "vocab_size": 2, "seq_len": 1, "held_out_rows": 1,
    }));
    let (timing, other) = (&timing, &other);
    let check = |waiting: &[&Cell], running: &[&Cell], expected: Option<usize>| {
        assert_eq!(place_of_next(waiting, running, |_| true), expected);
    };
    check(&[timing, other], &[], Some(1)); // what may run beside others comes first
    check(&[timing, timing], &[], Some(0));
    check(&[timing, timing], &[other], None);
    check(&[timing, other], &[timing], None);
    check(&[timing, other], &[other], Some(1));
    check(&[], &[], None);
    // Needs come before all.
    assert_eq!(place_of_next(&[other, timing], &[], |cell| cell.task.runs_alone()), Some(1));
    assert_eq!(place_of_next(&[other, timing], &[], |_| false), None);
}
