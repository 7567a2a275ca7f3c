use super::*;

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
