use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::{env, thread};

use super::*;

#[test]
fn a_second_holder_is_refused_until_the_first_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let first = lock_dir(dir.path()).unwrap();
    let refused = lock_dir(dir.path()).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    assert!(refused.to_string().ends_with(".lock` is locked by another process"), "{refused}");
    drop(first);
    lock_dir(dir.path()).unwrap();
}

#[test]
fn of_many_who_ask_at_once_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let (start, end) = (Barrier::new(8), Barrier::new(8));
    let holders: usize = thread::scope(|scope| {
        let ask = || {
            start.wait();
            let lock = lock_dir(dir.path());
            end.wait(); // nobody lets go before everybody has asked
            usize::from(lock.is_ok())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(holders, 1);
}

#[test]
fn a_missing_directory_is_an_error_and_not_a_lock() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(lock_dir(&dir.path().join("none")), Err(Error::Io { .. })));
}

/// Set for the child of the test below: the directory to hold.
const HOLD: &str = "FORERUN_RUNS_TEST_HOLD";

#[test]
fn a_killed_process_lets_go() {
    let name = "lock::tests::a_killed_process_lets_go";
    if let Some(dir) = env::var_os(HOLD) {
        let _lock = lock_dir(Path::new(&dir)).unwrap();
        eprintln!("held");
        loop {
            thread::park();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(HOLD, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let refused = lock_dir(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(refused, Err(Error::Locked { .. })));
    lock_dir(dir.path()).unwrap();
}
