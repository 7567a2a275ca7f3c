use super::*;

const OURS: &str = r#"{"tag":"loss","scalar":"3f800000","step":0,"wall_time":5.0}
{"tag":"loss","scalar":"nan","step":1,"wall_time":6.5}
{"tag":"note","text":"a","step":0,"wall_time":5.0}"#;

const THEIRS: &str = r#"{"tensorboard":"2.0"}
{"tag":"loss","scalar":"3f800000","step":0,"wall_time":5.0}
{"tag":"loss","scalar":"nan","step":1,"wall_time":6.5}
{"tag":"note/text_summary","text":"a","step":0,"wall_time":5.0}"#;

fn check(theirs: &str, expected: &[&str]) {
    let comparison = Comparison::of(&parse(OURS), &parse(theirs));
    assert_eq!(comparison.differences, expected);
    assert_eq!(comparison.passed(), expected.is_empty());
}

#[test]
fn what_reads_back_the_same_passes() {
    check(THEIRS, &[]);
    let comparison = Comparison::of(&parse(OURS), &parse(THEIRS));
    assert_eq!(
        comparison.line(Path::new("runs/x"), &version(THEIRS)),
        "pass  runs/x: 3 points of 2 series, 0 differ as TensorBoard 2.0 reads them"
    );
}

#[test]
fn a_wrong_value_step_tag_or_time_fails() {
    check(
        &THEIRS.replace("3f800000", "3f800001"),
        &[r#"loss, step 0: wrote [("3f800000", "5.0")], TensorBoard reads [("3f800001", "5.0")]"#],
    );
    check(
        &THEIRS.replace("6.5", "6.25"),
        &[r#"loss, step 1: wrote [("nan", "6.5")], TensorBoard reads [("nan", "6.25")]"#],
    );
    check(
        &THEIRS.replace(r#""step":1"#, r#""step":2"#),
        &["loss, step 1: TensorBoard reads nothing", "loss, step 2: nothing was written"],
    );
    check(
        &THEIRS.replace("note/", "nota/"),
        &["note, step 0: TensorBoard reads nothing", "nota, step 0: nothing was written"],
    );
}

#[test]
fn a_point_that_is_read_twice_fails() {
    let twice = format!("{THEIRS}\n{}", THEIRS.lines().nth(1).unwrap());
    check(
        &twice,
        &[
            r#"loss, step 0: wrote [("3f800000", "5.0")], TensorBoard reads [("3f800000", "5.0"), ("3f800000", "5.0")]"#,
        ],
    );
}

#[test]
fn nothing_read_of_nothing_is_no_pass() {
    assert!(!Comparison::of(&Series::new(), &Series::new()).passed());
}

#[test]
fn folders_with_events_are_found_below() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("cell/a");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::create_dir_all(root.path().join("empty")).unwrap();
    std::fs::write(deep.join("events.out.tfevents.1.x.0"), "").unwrap();
    assert_eq!(folders_with_events(root.path()), [deep]);
}
