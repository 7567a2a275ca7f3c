use proptest::prelude::*;
use serde_json::json;

use super::*;

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    (dir, path)
}

fn write_steps(writer: &mut JsonlWriter, steps: std::ops::Range<u64>) {
    for step in steps {
        writer.write(&json!({"step": step, "loss": 1.0 / (step + 1) as f64})).unwrap();
    }
}

#[test]
fn records_come_back_and_numbers_keep_every_digit() {
    let (_dir, path) = scratch();
    let mut writer = JsonlWriter::create(&path).unwrap();
    writer.write(&json!({"loss": 0.1 + 0.2, "seed": u64::MAX, "text": "a\nb"})).unwrap();
    writer.write(&json!({"loss": f64::NAN})).unwrap();
    let records = read_metrics(&path).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["loss"].as_f64(), Some(0.1 + 0.2));
    assert_eq!(records[0]["seed"].as_u64(), Some(u64::MAX));
    assert_eq!(records[0]["text"], "a\nb");
    assert_eq!(records[1]["loss"], Value::Null);
}

#[test]
fn a_resumed_file_equals_an_undisturbed_one() {
    let (_dir, path) = scratch();
    let mut writer = JsonlWriter::create(&path).unwrap();
    write_steps(&mut writer, 0..5);
    writer.sync().unwrap();
    let checkpoint = writer.offset();
    assert_eq!(checkpoint, fs::metadata(&path).unwrap().len());
    write_steps(&mut writer, 5..9);
    drop(writer);
    let whole = fs::read(&path).unwrap();
    // Killed in the middle of any byte after the checkpoint.
    for cut in checkpoint as usize..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut writer = JsonlWriter::resume(&path, checkpoint).unwrap();
        assert_eq!(writer.offset(), checkpoint);
        write_steps(&mut writer, 5..9);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn offsets_that_do_not_fit_are_refused_and_change_nothing() {
    let (_dir, path) = scratch();
    let mut writer = JsonlWriter::create(&path).unwrap();
    write_steps(&mut writer, 0..3);
    let whole = fs::read(&path).unwrap();
    let inside = writer.truncate_to(4).unwrap_err();
    assert!(inside.to_string().ends_with("byte 4 is inside a record"), "{inside}");
    let beyond = JsonlWriter::resume(&path, 1000).unwrap_err();
    assert!(beyond.to_string().contains("cannot be cut back to 1000"), "{beyond}");
    assert_eq!(fs::read(&path).unwrap(), whole);
    writer.truncate_to(0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn appending_cuts_a_torn_line_and_keeps_the_rest() {
    let (_dir, path) = scratch();
    write_steps(&mut JsonlWriter::append(&path).unwrap(), 0..400); // longer than one piece
    let whole = fs::read(&path).unwrap();
    let torn = [&whole[..], &vec![b'x'; 5000]].concat();
    fs::write(&path, torn).unwrap();
    let mut writer = JsonlWriter::append(&path).unwrap();
    assert_eq!(writer.offset(), whole.len() as u64);
    write_steps(&mut writer, 400..401);
    assert_eq!(read_metrics(&path).unwrap().len(), 401);
}

#[test]
fn a_bad_record_is_named_by_file_and_line() {
    let (_dir, path) = scratch();
    for (text, line) in [
        ("{\"a\":1}\n\n{oops}\n{\"a\":2}\n", 3),
        ("[1]\n", 1),
        ("{\"a\":1}\n\"\u{7f}\n", 2),
        ("{\"a\":1}\n{\"a\":\n", 2),
    ] {
        fs::write(&path, text).unwrap();
        let error = read_metrics(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("metrics.jsonl` line {line}: not a JSON object")),
            "{error}"
        );
    }
    fs::write(&path, b"{\"a\":\"\xff\"}\n").unwrap();
    assert!(matches!(read_metrics(&path), Err(Error::Record { line: 1, .. })));
}

#[test]
fn a_last_line_without_a_break_counts_if_it_is_whole() {
    let (_dir, path) = scratch();
    fs::write(&path, "{\"a\":1}\n{\"a\":2}").unwrap();
    assert_eq!(read_metrics(&path).unwrap().len(), 2);
    fs::write(&path, "{\"a\":1}\n{\"a\":2").unwrap();
    assert_eq!(read_metrics(&path).unwrap().len(), 1);
    fs::write(&path, "").unwrap();
    assert_eq!(read_metrics(&path).unwrap().len(), 0);
}

#[test]
fn only_objects_are_records() {
    let (_dir, path) = scratch();
    let mut writer = JsonlWriter::create(&path).unwrap();
    assert!(writer.write(&[1, 2]).is_err());
    assert!(writer.write(&"text").is_err());
    assert_eq!(writer.offset(), 0);
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn comparison_ignores_times_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let check = |left: &str, right: &str, expected: Option<&str>| {
        let paths = ["left", "right"].map(|name| dir.path().join(name));
        fs::write(&paths[0], left).unwrap();
        fs::write(&paths[1], right).unwrap();
        let difference = compare_metrics(&paths[0], &paths[1]).unwrap();
        assert_eq!(difference.map(|d| d.to_string()).as_deref(), expected);
    };
    let base = r#"{"step":1,"loss":0.5,"tokens_per_sec":10,"mfu":0.1,"step_secs":2,"wall_time":1}"#;
    check(base, r#"{"step":1,"loss":0.5,"tokens_per_sec":99}"#, None);
    check(base, r#"{"loss":0.5,"step":1}"#, None);
    check(base, r#"{"step":1,"loss":0.51}"#, Some("record 1, `loss`: 0.5 against 0.51"));
    check(base, r#"{"step":1}"#, Some("record 1, `loss`: 0.5 against nothing"));
    check(r#"{"loss":null}"#, r#"{"loss":1.0}"#, Some("record 1, `loss`: null against 1.0"));
    check("{}\n{\"a\":1}\n", "{}\n", Some("record 2: {\"a\":1} against nothing"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_the_cut_whole_records_survive(
        losses in prop::collection::vec(any::<f64>(), 1..12),
        share in 0.0_f64..1.0,
    ) {
        let (_dir, path) = scratch();
        let mut writer = JsonlWriter::create(&path).unwrap();
        let mut ends = vec![0];
        for loss in &losses {
            writer.write(&json!({"loss": loss})).unwrap();
            ends.push(writer.offset());
        }
        let cut = (share * writer.offset() as f64) as u64;
        File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        prop_assert_eq!(JsonlWriter::append(&path).unwrap().offset(), ends[whole]);
        let records = read_metrics(&path).unwrap();
        prop_assert_eq!(records.len(), whole);
        for (record, loss) in records.iter().zip(&losses) {
            prop_assert_eq!(record["loss"].as_f64(), Some(*loss).filter(|x| x.is_finite()));
        }
    }
}
