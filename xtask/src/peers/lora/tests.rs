use super::*;

const LINES: &str = r#"a warning of PyTorch's
{"peft": "0.21.2"}
{"what": "logits", "worst": 1.0e-06, "size": 2.0}
{"what": "merged", "worst": 0.01, "size": 2.0}"#;

#[test]
fn what_differs_by_more_than_rounding_fails() {
    let answers = parse(LINES).unwrap();
    assert_eq!(answers.peft, "0.21.2");
    let lines: Vec<String> = answers.comparisons.iter().map(|c| c.line(&answers.peft)).collect();
    assert_eq!(
        lines,
        [
            "pass  logits: off by 1.0e-6 where the largest is 2.000 (PEFT 0.21.2)",
            "fail  merged: off by 1.0e-2 where the largest is 2.000 (PEFT 0.21.2)",
        ]
    );
}

#[test]
fn what_is_not_a_number_fails() {
    let comparison = Comparison { what: String::new(), worst: f64::NAN, size: 1.0 };
    assert!(!comparison.passed());
}

#[test]
fn a_program_without_a_version_is_not_peft() {
    assert!(parse("{}").is_err());
}
