use std::collections::BTreeMap;

use super::files::{Answer, Files, Grade};
use super::*;
use crate::commands::evaluate::judge::tests::{endpoint, says};
use crate::pretrained::write_drawn;

fn settings() -> Settings {
    let (model, precision) = ("m".to_owned(), "as stored".to_owned());
    let (files_sha256, tokenizer) = (Some("f".to_owned()), Some("own".to_owned()));
    Settings { model, files_sha256, tokenizer, precision, max_new_tokens: 4, seed: 1 }
}

#[test]
fn the_questions_are_all_there() {
    let all = questions(None).unwrap();
    assert_eq!(all.len(), 80);
    let mut of_category = BTreeMap::<&str, usize>::new();
    for question in &all {
        *of_category.entry(&question.category).or_default() += 1;
    }
    assert!(of_category.len() == 8 && of_category.values().all(|&n| n == 10), "{of_category:?}");
    assert_eq!(all.iter().filter(|question| question.reference.is_some()).count(), 39);
    // Coding lacks one question's references, reasoning three questions' for the second turn.
    let lacking = |turn| all.iter().filter(|question| question.lacks_references(turn)).count();
    assert_eq!((lacking(1), lacking(2)), (1, 4));
    assert_eq!(questions(Some(2)).unwrap().len(), 16);
}

#[test]
fn a_folder_goes_on_and_refuses_other_settings() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("a/b");
    let files = Files::open(&dir, &settings()).unwrap();
    let answer = |question_id| Answer {
        question_id,
        category: "math".to_owned(),
        turns: ["1\n".to_owned(), "2".to_owned()],
    };
    files.add_answer(&answer(1)).unwrap();
    // A kill in the middle of a line.
    let mut bytes = std::fs::read(files.answers()).unwrap();
    bytes.extend(b"{\"question_id\": 9");
    std::fs::write(files.answers(), &bytes).unwrap();
    let files = Files::open(&dir, &settings()).unwrap();
    assert_eq!(files.read_answers().unwrap(), [answer(1)]);
    files.add_answer(&answer(2)).unwrap();
    assert_eq!(files.read_answers().unwrap(), [answer(1), answer(2)]);
    let refused = |other: Settings| Files::open(&dir, &other).unwrap_err().to_string();
    let error = refused(Settings { tokenizer: Some("bytes".to_owned()), ..settings() });
    assert!(error.contains("(tokenizer: own, not bytes)"), "{error}");
    let error = refused(Settings { files_sha256: Some("g".to_owned()), ..settings() });
    assert!(error.contains("(the model's files have changed since)"), "{error}");
    // A model that is not there any more is not asked for again.
    Files::open(&dir, &Settings { files_sha256: None, ..settings() }).unwrap();
    let other = Settings { max_new_tokens: 5, seed: 2, ..settings() };
    let error = Files::open(&dir, &other).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "holds answers of other settings (max-new-tokens: 4, not 5, seed: 1, not 2); choose another --out"
        ),
        "{error}"
    );
}

#[test]
fn what_older_settings_do_not_say_is_not_compared() {
    let old = r#"{"model": "m", "precision": "as stored", "max_new_tokens": 4, "seed": 1}"#;
    let by_time = r#"{"model": "m", "files": "a hash of times", "tokenizer": "own", "precision": "as stored", "max_new_tokens": 4,
        "seed": 1}"#;
    for text in [old, by_time] {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("settings.json"), text).unwrap();
        Files::open(place.path(), &settings()).unwrap();
        let other = Settings { seed: 2, ..settings() };
        let error = Files::open(place.path(), &other).unwrap_err().to_string();
        assert!(error.contains("other settings (seed: 1, not 2);"), "{error}");
    }
}

#[test]
fn the_last_grade_of_a_judge_counts() {
    let place = tempfile::tempdir().unwrap();
    let files = Files::open(place.path(), &settings()).unwrap();
    let grade = |judge: &str, turn, rating| Grade {
        question_id: 1,
        turn,
        judge: judge.to_owned(),
        rating,
        text: String::new(),
    };
    for (judge, turn, rating) in
        [("a", 1, None), ("b", 1, Some(2.0)), ("a", 2, Some(3.0)), ("a", 1, Some(4.0))]
    {
        files.add_grade(&grade(judge, turn, rating)).unwrap();
    }
    let found = files.grades("a").unwrap();
    assert_eq!(found, [grade("a", 2, Some(3.0)), grade("a", 1, Some(4.0))]);
}

#[test]
fn grades_are_averaged_by_category_and_turn() {
    let all = questions(None).unwrap();
    let grade = |question: &Question, turn, rating| Grade {
        question_id: question.question_id,
        turn,
        judge: "j".to_owned(),
        rating,
        text: String::new(),
    };
    let (writing, math) = (&all[0], all.iter().find(|q| q.category == "math").unwrap());
    let grades = [
        grade(writing, 1, Some(8.0)),
        grade(writing, 2, Some(5.0)),
        grade(math, 1, Some(2.0)),
        grade(math, 2, None),
    ];
    let text = score::in_words(&all, &grades, "j");
    let row = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("all"), ["all", "5.00", "5.00", "5.00", "3"]);
    assert_eq!(row("math")[..2], ["math", "2.00"]);
    assert_eq!(row("writing"), ["writing", "8.00", "5.00", "6.50", "2"]);
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(one_line.contains("1 answer of the judge had no grade in it, left out."), "{text}");
    assert!(!one_line.contains("reference"), "{text}");
    // Question 103 has a reference for its first turn only.
    let half = all.iter().find(|q| q.question_id == 103).unwrap();
    let grades = [grade(half, 1, Some(2.0)), grade(half, 2, Some(3.0))];
    let text = score::in_words(&all, &grades, "j");
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(one_line.contains("1 was given without a reference answer"), "{text}");
}

#[test]
fn a_judge_is_never_told_that_nothing_is_right() {
    let all = questions(None).unwrap();
    let turns = ["A1".to_owned(), "A2".to_owned()];
    for question in &all {
        let category = question.category.clone();
        let answer = Answer { question_id: question.question_id, category, turns: turns.clone() };
        for turn in 1..=2 {
            let asked = prompt(&exchanges(question, &answer, turn)).unwrap().user;
            let shown = question.wants_references() && !question.lacks_references(turn);
            assert_eq!(asked.contains("Reference Answer"), shown, "{}", question.question_id);
            assert!(!asked.contains("[The Start of Reference Answer]\n\n"), "{asked}");
            assert!(!asked.contains("### Reference answer:\n\n"), "{asked}");
        }
    }
    let half = all.iter().find(|question| question.question_id == 103).unwrap();
    assert!(half.reference(0).is_some() && half.reference(1).is_none());
}

fn args(model: &str, out: &std::path::Path, judge: Option<String>) -> MtBenchArgs {
    MtBenchArgs {
        model: ModelArgs {
            model: model.to_owned(),
            precision: None,
            tokenizer: None,
            device: "cpu".to_owned(),
            threads: Some(1),
        },
        out: out.to_owned(),
        answers_only: judge.is_none(),
        judge,
        judge_model: Some("j".to_owned()),
        max_new_tokens: 3,
        batch: 8,
        limit: Some(1),
        seed: 1,
    }
}

#[test]
fn answers_are_written_once_and_graded_when_a_judge_is_there() {
    let place = tempfile::tempdir().unwrap();
    let (model, out) = (place.path().join("model"), place.path().join("out"));
    write_drawn(&model, 1).unwrap();
    let model = model.to_str().unwrap();
    assert_eq!(mt_bench(&args(model, &out, None)).unwrap(), 0);
    let before = std::fs::read(out.join("answers.jsonl")).unwrap();
    assert_eq!(before.iter().filter(|&&byte| byte == b'\n').count(), 8);
    // The judge goes away in the middle.
    let grades: Vec<_> = (0..9).map(|_| says("Rating: [[6]]")).collect();
    let (url, seen) = endpoint([grades, vec![(400, "", "too long".to_owned())]].concat());
    let error = mt_bench(&args(model, &out, Some(url))).unwrap_err().to_string();
    assert!(error.ends_with("status 400: too long"), "{error}");
    assert_eq!(seen.iter().count(), 10);
    // What was graded is not asked again, and nothing is answered again.
    let (url, seen) = endpoint((0..7).map(|_| says("Rating: [[6]]")).collect());
    assert_eq!(mt_bench(&args(model, &out, Some(url))).unwrap(), 0);
    let bodies: Vec<_> = seen.iter().map(|seen| seen.body.to_string()).collect();
    assert_eq!(bodies.len(), 7);
    assert_eq!(std::fs::read(out.join("answers.jsonl")).unwrap(), before);
    // The grades end with a second turn, whose prompt shows both.
    let last = questions(Some(1)).unwrap().pop().unwrap();
    let shown = serde_json::to_string(&last.turns[1]).unwrap();
    assert!(bodies[6].contains(shown.trim_matches('"')), "{}", bodies[6]);
}
