use std::thread;

use proptest::prelude::*;

use super::*;

const HASH: &str = "3f9c1a2b00000000";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_375_867 + second).unwrap()
}

fn file_name(run: &RunDir) -> &str {
    run.path().file_name().unwrap().to_str().unwrap()
}

#[test]
fn the_name_is_start_and_hash() {
    let base = tempfile::tempdir().unwrap();
    let run = RunDir::create(base.path(), "quickstart", HASH, at(0)).unwrap();
    assert_eq!(run.path(), base.path().join("quickstart/2026-11-22T19-31-07Z-3f9c1a2b"));
    assert!(run.path().is_dir());
    assert_eq!(run.file("config.toml"), run.path().join("config.toml"));
}

#[test]
fn runs_of_the_same_second_never_share_a_directory() {
    let base = tempfile::tempdir().unwrap();
    let create = || RunDir::create(base.path(), "x", HASH, at(0)).unwrap();
    let mut names: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..12).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|t| file_name(&t.join().unwrap()).to_owned()).collect()
    });
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 12);
    let listed = RunDir::list(base.path(), "x").unwrap();
    assert_eq!(file_name(listed.last().unwrap()), "2026-11-22T19-31-07Z-3f9c1a2b-12");
}

#[test]
fn the_newest_unfinished_run_of_the_same_config_is_found() {
    let base = tempfile::tempdir().unwrap();
    let find = |hash| RunDir::find_unfinished(base.path(), "x", hash).unwrap();
    assert_eq!(find(HASH), None);
    let old = RunDir::create(base.path(), "x", HASH, at(0)).unwrap();
    let new = RunDir::create(base.path(), "x", HASH, at(5)).unwrap();
    RunDir::create(base.path(), "x", "ffffffff", at(9)).unwrap();
    RunDir::create(base.path(), "y", HASH, at(9)).unwrap();
    fs::create_dir(base.path().join("x/notes")).unwrap();
    fs::write(base.path().join("x/2099-11-22T19-31-07Z-3f9c1a2b"), "a file").unwrap();
    assert_eq!(find(HASH), Some(new.clone()));
    new.finish().unwrap();
    assert!(new.is_done() && !old.is_done());
    assert_eq!(find(HASH), Some(old.clone()));
    old.finish().unwrap();
    assert_eq!(find(HASH), None);
    old.reopen().unwrap();
    old.reopen().unwrap();
    assert_eq!(find(HASH), Some(old));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let base = tempfile::tempdir().unwrap();
    for name in ["", ".", "..", "a/b", "/a", ".hidden", "a b", "a\0", "cells"] {
        let error = RunDir::create(base.path(), name, HASH, at(0)).unwrap_err();
        assert!(error.to_string().starts_with("`name` must be"), "{error}");
    }
    for hash in ["", "3f9c1a2", "3F9C1A2B", "3f9c1a2g", "3f9c1a2b/..", "äääääääää"] {
        let error = RunDir::create(base.path(), "x", hash, at(0)).unwrap_err();
        assert!(error.to_string().starts_with("`config_hash` must be"), "{error}");
    }
    assert_eq!(fs::read_dir(base.path().join("x")).unwrap().count(), 0);
}

#[test]
fn opening_says_what_is_wrong() {
    let base = tempfile::tempdir().unwrap();
    let none = base.path().join("none");
    assert!(RunDir::open(&none).unwrap_err().to_string().starts_with("cannot open `"));
    fs::write(&none, "").unwrap();
    assert!(RunDir::open(&none).unwrap_err().to_string().ends_with("not a directory"));
    assert_eq!(RunDir::open(base.path()).unwrap().path(), base.path());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn runs_are_listed_in_the_order_of_their_starts(seconds in prop::collection::vec(0_i64..3, 1..9)) {
        let base = tempfile::tempdir().unwrap();
        let mut made = Vec::new();
        for second in seconds {
            made.push((second, RunDir::create(base.path(), "x", HASH, at(second)).unwrap()));
        }
        made.sort_by_key(|(second, _)| *second); // stable: attempts stay in order
        let made: Vec<_> = made.into_iter().map(|(_, run)| run).collect();
        prop_assert_eq!(made, RunDir::list(base.path(), "x").unwrap());
    }
}
