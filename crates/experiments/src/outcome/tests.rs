use super::*;
use crate::catalog::find;
use crate::config::Overrides;

fn experiment(seeds: u64) -> Experiment {
    let overrides = Overrides { seeds: Some(seeds), ..Overrides::default() };
    Experiment::resolve(&find("quickstart").unwrap(), &overrides).unwrap()
}

/// RoPE's loss at 1x and 8x of the training length for every seed; `None` was not measured.
fn measured(values: &[(Option<f64>, Option<f64>)]) -> Vec<Curve> {
    let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let curve = |(seed, (near, far)): (usize, &(Option<f64>, Option<f64>))| Curve {
        arm: "rope".to_owned(),
        seed: seed as u64,
        series: "nll/causal".to_owned(),
        points: vec![(128.0, number(*near)), (1024.0, number(*far))],
    };
    values.iter().enumerate().map(curve).collect()
}

#[track_caller]
fn check(values: &[(Option<f64>, Option<f64>)], verdict: &str) {
    let experiment = experiment(values.len() as u64);
    let claim = experiment.claims.iter().find(|claim| claim.name == "rope-degrades").unwrap();
    let judged = judge_one(&experiment, claim, &[], &measured(values)).unwrap();
    assert_eq!(judged.judgement.verdict.to_string(), verdict, "{}", judged.judgement.reason);
}

#[test]
fn a_claim_is_judged_by_its_rule() {
    let pair = |near, far| (Some(near), Some(far));
    check(&[pair(1.80, 2.91), pair(1.82, 2.80), pair(1.79, 2.95)], "reproduced");
    check(&[pair(1.80, 1.81), pair(1.82, 1.82), pair(1.79, 1.81)], "not reproduced");
    check(&[pair(1.80, 1.81), pair(1.82, 2.90), pair(1.79, 1.78)], "inconclusive");
    check(&[pair(1.80, 2.91)], "inconclusive");
    check(&[pair(1.80, 2.91), pair(1.82, 2.80), (Some(1.79), None)], "inconclusive");
}

#[test]
fn points_become_curves_again() {
    let point = |seed: u64, x: f64, y: Value| -> Row {
        [
            ("arm", json!("a")),
            ("seed", json!(seed)),
            ("series", json!("s")),
            ("x", json!(x)),
            ("y", y),
        ]
        .map(own)
        .into()
    };
    let curves =
        curves(&[point(0, 1.0, json!(2.0)), point(0, 2.0, Value::Null), point(1, 1.0, json!(3))]);
    assert_eq!(curves.len(), 2);
    assert_eq!(curves[0].points[0], (1.0, 2.0));
    assert!(curves[0].points[1].1.is_nan());
    assert_eq!((curves[1].seed, curves[1].points[0]), (1, (1.0, 3.0)));
}
