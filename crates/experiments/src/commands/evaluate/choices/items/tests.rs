use super::*;

#[track_caller]
fn check(line: &str, expected: Result<(usize, usize), &str>) {
    match (parse(line, 7), expected) {
        (Ok(item), Ok((n, answer))) => assert_eq!((item.choices.len(), item.answer), (n, answer)),
        (Err(error), Err(expected)) => assert_eq!(format!("{error}"), expected),
        (found, expected) => panic!("{line}: {found:?}, not {expected:?}"),
    }
}

#[test]
fn answers_are_numbers_letters_or_choices() {
    let item = |answer: &str| {
        format!(r#"{{"id": 3, "question": "Q", "choices": ["x", "B", "z"], "answer": {answer}}}"#)
    };
    check(&item("0"), Ok((3, 0)));
    check(&item("2"), Ok((3, 2)));
    check(&item(r#""C""#), Ok((3, 2)));
    check(&item(r#""c""#), Ok((3, 2)));
    check(&item(r#""z""#), Ok((3, 2)));
    check(&item(r#""B""#), Ok((3, 1))); // a choice goes before a letter
    let refused = |answer| {
        format!("its `answer` {answer} is neither a number from 0 to 2, nor a letter, nor a choice")
    };
    for answer in ["3", "-1", "1.5", "null", r#""D""#, r#""xx""#, r#""""#] {
        check(&item(answer), Err(&refused(answer)));
    }
}

#[test]
fn what_a_question_lacks_is_named() {
    check("[1]", Err("is no JSON object"));
    check("{", Err("is no JSON object"));
    check(r#"{"choices": ["a", "b"], "answer": 0}"#, Err("has neither `question` nor `context`"));
    check(
        r#"{"question": 1, "choices": ["a", "b"], "answer": 0}"#,
        Err("its `question` is no text"),
    );
    check(
        r#"{"question": "", "context": "", "choices": ["a", "b"], "answer": 0}"#,
        Err("has both `question` and `context`, which mean the same"),
    );
    check(r#"{"context": "", "answer": 0}"#, Err("has no list `choices`"));
    check(
        r#"{"context": "", "choices": ["a"], "answer": 0}"#,
        Err("`choices` must be two or more, got 1"),
    );
    check(
        r#"{"context": "", "choices": ["a", 1], "answer": 0}"#,
        Err("its `choices` are not all texts"),
    );
    check(
        r#"{"context": "", "choices": ["a", ""], "answer": 0}"#,
        Err("one of its `choices` is empty"),
    );
    check(r#"{"context": "", "choices": ["a", "b"]}"#, Err("has no `answer`"));
    check(r#"{"context": "", "choices": ["a", "b"], "answer": 1}"#, Ok((2, 1)));
}
