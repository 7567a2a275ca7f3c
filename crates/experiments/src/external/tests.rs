use std::sync::atomic::{AtomicBool, Ordering};

use forerun_runs::atomic::write_atomic;

use super::*;
use crate::cell::{Cell, Cost, Machine, Task};
use crate::data::Input;

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn placeholders_are_replaced_and_doubled_braces_are_braces() {
    let values = values(&[("lr", "0.004"), ("out", "/tmp/a b")]);
    for (template, want) in [
        ("--lr={lr}", "--lr=0.004"),
        ("{out}/x-{lr}.json", "/tmp/a b/x-0.004.json"),
        ("{{\"lr\": {lr}}}", "{\"lr\": 0.004}"),
        ("plain", "plain"),
        ("", ""),
    ] {
        assert_eq!(fill(template, &values).unwrap(), want);
    }
    assert_eq!(placeholders("{a}{{b}}{a-1}").unwrap(), ["a", "a-1"]);
}

#[test]
fn a_value_is_not_read_as_a_template() {
    assert_eq!(fill("{out}", &values(&[("out", "{lr}")])).unwrap(), "{lr}");
}

#[test]
fn a_placeholder_without_a_value_and_an_odd_brace_are_named() {
    let refused = |template: &str| fill(template, &values(&[("lr", "1")])).unwrap_err().to_string();
    assert_eq!(refused("--x={width}"), "`--x={width}`: there is no {width}; there are: {lr}");
    for odd in ["{", "}", "a}b", "{lr", "{}", "{l r}", "{{lr}"] {
        assert!(refused(odd).contains("a placeholder is a name in braces"), "{odd}");
    }
}

#[track_caller]
fn check_loss(text: &str, want: Option<f64>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics");
    write_atomic(&path, text.as_bytes()).unwrap();
    assert_eq!(metrics::final_loss(&path, "loss").unwrap(), want, "{text}");
}

#[test]
fn the_loss_is_that_of_the_last_record_that_has_one() {
    check_loss("{\"loss\": 1.5}", Some(1.5));
    check_loss("{\n  \"loss\": 2,\n  \"more\": {\"loss\": 3}\n}\n", Some(2.0));
    check_loss("{\"loss\": 3.0}\n{\"loss\": 2.0}\n\n{\"step\": 9}\n", Some(2.0));
}

#[test]
fn a_loss_that_is_no_number_diverged() {
    for word in ["NaN", "Infinity", "-Infinity", "null", "\"nan\"", "\"inf\""] {
        check_loss(&format!("{{\"step\": 1, \"loss\": {word}, \"name\": \"NaN \\\"NaN\"}}"), None);
        check_loss(&format!("{{\"loss\": 1.0}}\n{{\"loss\": {word}}}"), None);
    }
}

#[test]
fn what_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.json");
    let refused = |text: Option<&str>| {
        if let Some(text) = text {
            write_atomic(&path, text.as_bytes()).unwrap();
        }
        format!("{:#}", metrics::final_loss(&path, "loss").unwrap_err())
    };
    assert!(refused(None).contains("it left no `"));
    let missing = refused(Some("{\"step\": 1, \"eval\": 2.0}"));
    assert!(missing.contains("has no `loss`") && missing.contains("eval, step"), "{missing}");
    assert!(refused(Some("")).contains("it is empty"));
    assert!(refused(Some("{\"loss\": 1}\n{\"loss\": ")).contains("line 2"));
    assert!(refused(Some("{\"loss\": \"low\"}")).contains("must be a number, got `low`"));
    assert!(refused(Some("{\"loss\": [1]}")).contains("must be a number, got `[1]`"));
}

/// A command of `sh`, which every machine that runs these tests has.
fn task(script: &str) -> External {
    External {
        command: ["sh", "-c", script, "sh", "{lr}", "{out}"].map(str::to_owned).into(),
        directory: PathBuf::from("."),
        metrics: "{out}/metrics.json".to_owned(),
        loss: "loss".to_owned(),
        values: BTreeMap::new(),
        lr: LearningRate::Fixed { lr: 0.25 },
        n_tokens: 1000.0,
        diverged_status: Vec::new(),
        timeout_secs: 60.0,
        expected_secs: None,
    }
}

fn cell(task: &External) -> Cell {
    Cell {
        task: Task::External(task.clone()),
        machine: Machine { device: "cpu".to_owned(), threads: 1 },
        inputs: BTreeMap::new(),
        needs: Vec::new(),
        label: String::new(),
        tags: BTreeMap::new(),
        members: Vec::new(),
        cost: Cost::default(),
    }
}

/// What a command that was told to end is given here.
const SHORT: Duration = Duration::from_millis(200);

fn compute(task: &External, stop: &AtomicBool) -> (Result<End>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let cell = cell(task);
    let work = Work { dir: dir.path(), cell: &cell, stop };
    (run_within(task, &work, SHORT), dir)
}

fn finished(task: &External) -> CellResult {
    match compute(task, &AtomicBool::new(false)).0.unwrap() {
        End::Result(result) => result,
        End::Stopped { .. } => panic!("nobody stopped it"),
    }
}

fn failed(task: &External) -> String {
    format!("{:#}", compute(task, &AtomicBool::new(false)).0.unwrap_err())
}

#[test]
fn a_command_is_handed_its_learning_rate_and_leaves_its_loss() {
    let result = finished(&task("echo said; echo \"{{\\\"loss\\\": $1}}\" > \"$2/metrics.json\""));
    assert_eq!(result.row["outcome"], "finished");
    assert_eq!(result.row["validation_loss"], 0.25);
    assert_eq!(result.row["lr"], 0.25);
    assert_eq!(result.series[0].name, "validation-loss");
    assert_eq!((result.series[0].x[0], result.series[0].y[0]), (1000.0, Some(0.25)));
}

#[test]
fn a_loss_that_is_no_number_is_a_result() {
    let result = finished(&task("echo '{{\"loss\": NaN}}' > \"$2/metrics.json\""));
    assert_eq!(result.row["outcome"], "diverged");
    assert!(result.row["validation_loss"].is_null() && result.series[0].x.is_empty());
}

/// Its last loss, and then the status with which it ends.
fn ends_with(loss: &str, status: i32) -> External {
    task(&format!("echo '{{{{\"loss\": {loss}}}}}' > \"$2/metrics.json\"; exit {status}"))
}

#[test]
fn a_command_that_gives_up_over_a_loss_that_is_no_number_diverged() {
    for loss in ["NaN", "null", "Infinity"] {
        assert_eq!(finished(&ends_with(loss, 1)).row["outcome"], "diverged", "{loss}");
    }
    let error = failed(&ends_with("1.5", 1));
    assert!(error.contains("ended with exit status: 1"), "{error}");
}

#[test]
fn an_exit_status_can_say_that_it_diverged() {
    let says = |status| External { diverged_status: vec![3, 4], ..ends_with("9.5", status) };
    let result = finished(&says(4));
    assert_eq!(result.row["outcome"], "diverged");
    assert!(result.row["validation_loss"].is_null() && result.series[0].x.is_empty());
    assert_eq!(finished(&says(0)).row["validation_loss"], 9.5);
    assert!(failed(&says(5)).contains("exit status: 5"));
}

#[test]
fn a_command_that_fails_is_told_with_its_status_and_last_words() {
    let error = failed(&task("echo first; echo 'out of luck' >&2; exit 3"));
    assert!(error.contains("exit status: 3"), "{error}");
    assert!(error.contains("it printed last: out of luck"), "{error}");
    let error = failed(&task("true"));
    assert!(error.contains("ended well") && error.contains("it left no `"), "{error}");
    let missing = External { command: vec!["no-such-program".to_owned()], ..task("") };
    assert!(failed(&missing).contains("cannot start `no-such-program`"));
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_what_it_started() {
    // A machine that is busy may not come to the second word in time: then it gets more.
    for timeout_secs in [0.5, 5.0, 50.0] {
        let slow = External { timeout_secs, ..task("sleep 77 & echo $! > \"$2/pid\"; wait") };
        let (result, dir) = compute(&slow, &AtomicBool::new(false));
        let error = format!("{:#}", result.unwrap_err());
        let want = format!("stopped after {timeout_secs} seconds, external.timeout_secs");
        assert!(error.contains(&want), "{error}");
        let pid = fs::read_to_string(dir.path().join("out/pid")).unwrap_or_default();
        if !pid.is_empty() {
            assert!(!is_alive(pid.trim()), "the sleep goes on");
            return;
        }
    }
    panic!("the command never began");
}

#[test]
fn what_a_command_leaves_behind_is_ended_however_it_ends() {
    for status in [0, 3] {
        let leaves = task(&format!("sleep 77 & echo $! > \"$2/pid\"; exit {status}"));
        let (result, dir) = compute(&leaves, &AtomicBool::new(false));
        assert!(result.is_err()); // without metrics also where it ends well
        let pid = fs::read_to_string(dir.path().join("out/pid")).unwrap();
        assert!(!pid.trim().is_empty() && !is_alive(pid.trim()), "the sleep goes on");
    }
}

#[test]
fn a_command_that_does_not_listen_is_killed_when_the_run_stops() {
    // It ignores the polite signal.
    let deaf = task("trap '' TERM; echo $$ > \"$2/pid\"; while :; do sleep 0.1; done");
    let dir = tempfile::tempdir().unwrap();
    let (cell, stop) = (cell(&deaf), AtomicBool::new(false));
    let work = Work { dir: dir.path(), cell: &cell, stop: &stop };
    let end = std::thread::scope(|scope| {
        scope.spawn(|| {
            while fs::read_to_string(dir.path().join("out/pid")).unwrap_or_default().is_empty() {
                std::thread::sleep(Duration::from_millis(10));
            }
            stop.store(true, Ordering::Relaxed);
        });
        run_within(&deaf, &work, SHORT).unwrap()
    });
    assert_eq!(end, End::Stopped { resumable: false });
    let pid = fs::read_to_string(dir.path().join("out/pid")).unwrap();
    assert!(!is_alive(pid.trim()), "it goes on");
}

/// Whether a process runs: one that ended and that nobody has asked for does not.
fn is_alive(pid: &str) -> bool {
    // It may take a moment until the system has taken it away.
    for _ in 0..1000 {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if status.is_empty() || status.contains(") Z ") {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn a_second_attempt_finds_nothing_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = fresh(dir.path()).unwrap();
    fs::write(first.join("metrics.json"), "{\"loss\": 1}").unwrap();
    let second = fresh(dir.path()).unwrap();
    assert_eq!(fs::read_dir(second).unwrap().count(), 0);
}

fn key(task: External) -> String {
    cell(&task).key()
}

#[test]
fn what_changes_no_result_is_not_part_of_the_key() {
    let base = key(task("true"));
    let check = |what: &str, task: External| assert_eq!(key(task), base, "{what}");
    check("its time", External { timeout_secs: 5.0, ..task("true") });
    check("how long it is expected to take", External { expected_secs: Some(5.0), ..task("true") });
    check("how it says that it diverged", External { diverged_status: vec![3], ..task("true") });
    check(
        "a value that is not used",
        External { values: values(&[("width", "64")]), ..task("true") },
    );
}

#[test]
fn what_the_command_is_told_is_part_of_the_key() {
    let base = key(task("true"));
    let check = |what: &str, task: External| assert_ne!(key(task), base, "{what}");
    check("the learning rate", External { lr: LearningRate::Fixed { lr: 0.5 }, ..task("true") });
    check("a word", task("false"));
    check("the file", External { metrics: "{out}/other.json".to_owned(), ..task("true") });
    check("the key in it", External { loss: "eval".to_owned(), ..task("true") });
    check("the horizon", External { n_tokens: 2000.0, ..task("true") });
    let told = |seed: &str| External { values: values(&[("seed", seed)]), ..task("{seed}") };
    assert_ne!(key(told("1")), key(told("2")));
    // What is written is not taken for what a run finds out.
    let written = External { metrics: "{{out}}/metrics.json".to_owned(), ..task("true") };
    check("braces", written);
}

#[test]
fn the_number_of_a_device_is_not_part_of_the_key_and_its_kind_is() {
    let on = |device: &str| {
        let task = External { values: values(&[("device", device)]), ..task("{device}") };
        let machine = Machine { device: device.to_owned(), threads: 1 };
        Cell { machine, ..cell(&task) }.key()
    };
    assert_eq!(on("cuda:0"), on("cuda:1"));
    assert_ne!(on("cuda:0"), on("cpu"));
}

#[test]
fn files_stand_for_the_folder_that_they_lie_in() {
    let key = |directory: &str, hash: Option<&str>| {
        let task = External { directory: directory.into(), ..task("true") };
        let input = |hash: &str| {
            let path = PathBuf::from(directory).join("train.py");
            ("file 0".to_owned(), Input { path, hash: hash.to_owned(), tokens: None })
        };
        Cell { inputs: hash.into_iter().map(input).collect(), ..cell(&task) }.key()
    };
    assert_eq!(key("/a", Some("one")), key("/b", Some("one")));
    assert_ne!(key("/a", Some("one")), key("/a", Some("two")));
    assert_ne!(key("/a", None), key("/b", None));
}
