use forerun_runs::results::Row;

use super::*;
use crate::config::Experiment;
use crate::horizon::Rate;
use crate::horizon::tests::small;
use crate::horizon::tests::world::{Made, WORLD, World};

fn found<'a>(experiment: &'a Experiment, body: &'a HorizonConfig, made: &'a Made) -> Findings<'a> {
    Findings::new(experiment, body, &made.rows, &made.curves)
}

/// What is said, as one text.
fn said(findings: &Findings<'_>) -> String {
    words::what_was_seen(findings, &readings::readings(findings)).join("\n")
}

/// A world, in which the longest fitted horizon has other losses.
fn with_longest(body: &HorizonConfig, made: &mut Made, loss: impl Fn(f64) -> f64) {
    for curve in &mut made.curves {
        let place: crate::horizon::Place = curve.arm.parse().unwrap();
        if let (Rate::At(lr), 0.5, "base") = (place.rate, place.part, place.arm.as_str()) {
            curve.points = vec![(body.end(0.5), loss(lr))];
        }
    }
}

#[test]
fn the_exponent_of_the_report_is_that_of_the_claim() {
    let (experiment, body) = small(&["sweep.bootstrap=100"]);
    let made = World { noise: 0.01, ..WORLD }.made(&experiment, &body);
    let findings = found(&experiment, &body, &made);
    let all = crate::outcome::judge_all(&experiment, &made.rows, &made.curves).unwrap();
    let claim = all.iter().find(|one| one.name == "optimum-falls-with-the-horizon").unwrap();
    let effect = claim.judgement.effect.unwrap();
    let exponent = findings.fitted.as_ref().unwrap().exponent();
    assert!((effect - exponent.value).abs() < 1e-12, "{effect} and {exponent:?}");
    let interval = claim.judgement.interval.unwrap();
    let ours = exponent.interval.unwrap();
    assert!((interval.low - ours.low).abs() < 1e-9 && (interval.high - ours.high).abs() < 1e-9);
    let numbers = key_numbers(&findings);
    assert_eq!(numbers[0].value, words::known(exponent));
    assert!(said(&findings).contains(&words::known(exponent)));
}

#[test]
fn a_horizon_without_an_optimum_is_told_with_what_it_would_do() {
    let (experiment, body) = small(&["sweep.bootstrap=100"]);
    let mut made = WORLD.made(&experiment, &body);
    assert!(found(&experiment, &body, &made).missing().is_empty());
    // The best rate of the longest fitted horizon lies below all that are tried: the law falls faster than it says.
    with_longest(&body, &mut made, |lr| 1.6 + 0.04 * (lr / 0.0008_f64).ln().powi(2));
    let findings = found(&experiment, &body, &made);
    let missing = findings.missing();
    assert_eq!((missing.len(), missing[0].part), (1, 0.5));
    let beyond = missing[0].beyond.as_ref().unwrap();
    let without = findings.fitted.as_ref().unwrap().exponent().value;
    assert!(beyond.rate == 0.002 && beyond.grows, "{}", beyond.rate);
    assert!(beyond.exponent > without + 0.1, "{} and {without}", beyond.exponent);
    let said = said(&findings);
    assert!(said.contains("2.1 M tokens have no part in the law: there the best"), "{said}");
    assert!(said.contains("With a best rate of 0.002 there, the end of what was tried"), "{said}");
    // One that does not curve has no part either, and nothing can be said of it.
    with_longest(&body, &mut made, |lr| 1.6 - 0.04 * (lr / 0.005_f64).ln().powi(2));
    let findings = found(&experiment, &body, &made);
    assert!(findings.missing()[0].beyond.is_none());
}

#[test]
fn readings_tell_the_window_and_the_slant() {
    let (experiment, body) = small(&["sweep.bootstrap=100"]);
    let slanted =
        World { best: 0.0027, curvature: 0.06, slant: 0.015, exponent: 0.4, noise: 0.004, ..WORLD };
    let made = slanted.made(&experiment, &body);
    let findings = found(&experiment, &body, &made);
    let readings = readings::readings(&findings);
    let (low, high) = readings::range(&readings).unwrap();
    assert!(low < 0.37 && high > 0.38 && high < 0.45, "{low} to {high}");
    let table = readings::table(&findings, &readings);
    let text = format!("{table:?}");
    for part in [
        "the lowest point and 3 rates on either side (as configured)",
        "all points that have not diverged",
        "2 rates on either side",
        "slant 0.01",
    ] {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
    assert!(said(&findings).contains(&format!("β is {low:.2} to {high:.2}")));
}

#[test]
fn rates_are_told_as_they_were_trained() {
    let (experiment, body) = small(&["sweep.bootstrap=100"]);
    let mut made = WORLD.made(&experiment, &body);
    let caveats = |made: &Made| words::caveats(&found(&experiment, &body, made)).join("\n");
    assert!(!caveats(&made).contains("Read anew"));
    let is_predicted = |row: &&mut Row| row["arm"] == "base/1/predicted";
    for row in made.rows.iter_mut().filter(is_predicted) {
        row.insert("lr".to_owned(), json!(0.005));
    }
    let told = caveats(&made);
    assert!(told.contains("trained at 0.005. Read anew, the same sweep predicts 0.003"), "{told}");
}

#[test]
fn how_far_off_a_rate_is_is_told_with_a_factor_of_two() {
    let (experiment, body) = small(&["sweep.bootstrap=100"]);
    let made = World { exponent: 0.5, best: 0.003, ..WORLD }.made(&experiment, &body);
    let said = said(&found(&experiment, &body, &made));
    let line = |part: &str| said.lines().find(|line| line.contains(part)).unwrap().to_owned();
    assert!(line("the law predicts").contains(", within a factor of two"), "{said}");
    assert!(
        line("carried over unchanged").contains("too high, not within a factor of two"),
        "{said}"
    );
    assert!(line("Single seeds").contains("octaves"), "{said}");
}
