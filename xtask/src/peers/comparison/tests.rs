use super::*;

const LINES: &str = r#"a warning of PyTorch's
{"peer": "PEFT 0.21.2"}
{"what": "logits", "worst": 1.0e-06, "size": 2.0}
{"what": "merged", "worst": 0.01, "size": 2.0}"#;

#[test]
fn what_differs_by_more_than_rounding_fails() {
    let answers = Answers::parse(LINES).unwrap();
    assert_eq!(answers.peer, "PEFT 0.21.2");
    let lines: Vec<String> =
        answers.comparisons.iter().map(|c| c.line("tiny", &answers.peer)).collect();
    assert_eq!(
        lines,
        [
            "pass  tiny: logits: off by 1.0e-6 where the largest is 2.000 (PEFT 0.21.2)",
            "fail  tiny: merged: off by 1.0e-2 where the largest is 2.000 (PEFT 0.21.2)",
        ]
    );
    assert!(!answers.passed(2));
}

#[test]
fn a_comparison_that_was_not_made_fails() {
    let passing = LINES.replace("0.01", "0.0");
    let answers = Answers::parse(&passing).unwrap();
    assert!(answers.passed(2) && !answers.passed(3));
}

#[test]
fn what_is_not_a_number_fails() {
    let comparison = Comparison { what: String::new(), worst: f64::NAN, size: 1.0 };
    assert!(!comparison.passed());
    let answers = Answers::parse(&LINES.replace("1.0e-06", "null")).unwrap();
    assert!(answers.comparisons[0].worst.is_nan());
}

#[test]
fn a_program_without_a_version_is_no_peer() {
    assert!(Answers::parse("{}").is_err());
}
