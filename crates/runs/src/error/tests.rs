use super::*;

#[test]
fn messages_name_the_culprit_and_its_value() {
    let config = ensure(false, "confidence", "between 0 and 1", 1.5).unwrap_err();
    assert_eq!(config.to_string(), "`confidence` must be between 0 and 1, got 1.5");
    let missing = io::Error::from(io::ErrorKind::NotFound);
    let io = io_error("read", Path::new("a/b"))(missing);
    assert_eq!(io.to_string(), "cannot read `a/b`: entity not found");
    let file = damaged(Path::new("x.json"), "empty");
    assert_eq!(file.to_string(), "`x.json` is damaged or of another kind: empty");
    let record = Error::Record { path: "m.jsonl".into(), line: 3, reason: "not an object".into() };
    assert_eq!(record.to_string(), "`m.jsonl` line 3: not an object");
}
