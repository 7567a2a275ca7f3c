use forerun_runs::manifest::{Code, FORMAT, Manifest};
use forerun_runs::results::Row;
use forerun_runs::seed::Seed;

use super::*;
use crate::catalog;
use crate::config::{Body, Experiment, Overrides, Scale};
use crate::environment;
use crate::outcome::Curve;
use crate::quantization::{DECODE_SPEED, PERPLEXITY, PROMPT_SPEED};

/// A run in which these arms read and write so fast, turn by turn.
fn outcome(scale: Scale, set: &[&str], speeds: &[(&str, &[f64])]) -> Outcome {
    let set = set.iter().map(|text| (*text).to_owned()).collect();
    let overrides = Overrides { scale, set, ..Overrides::default() };
    let experiment =
        Experiment::resolve(&catalog::find("phi3-quantize").unwrap(), &overrides).unwrap();
    let row = |arm: &str| -> Row {
        let texts = [("arm", json!(arm)), ("step", json!("measure"))];
        let numbers = [("weight_bytes", json!(100)), ("n_params", json!(100))];
        texts.into_iter().chain(numbers).map(|(name, value)| (name.to_owned(), value)).collect()
    };
    let curves = |&(arm, speeds): &(&str, &[f64])| -> Vec<Curve> {
        let pieces: &[f64] = &[10.0, 11.0];
        let all = [(PERPLEXITY, pieces), (PROMPT_SPEED, speeds), (DECODE_SPEED, speeds)];
        let of = |(series, values): (&str, &[f64])| -> Vec<Curve> {
            let curve = |(seed, &value): (usize, &f64)| Curve {
                arm: arm.to_owned(),
                seed: seed as u64,
                series: series.to_owned(),
                points: vec![(0.0, value)],
            };
            values.iter().enumerate().map(curve).collect()
        };
        all.into_iter().flat_map(of).collect()
    };
    Outcome {
        experiment,
        manifest: manifest(),
        rows: speeds.iter().map(|(arm, _)| row(arm)).collect(),
        curves: speeds.iter().flat_map(curves).collect(),
        texts: Vec::new(),
        verdicts: Vec::new(),
    }
}

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        experiment: "phi3-quantize".to_owned(),
        config_sha256: String::new(),
        code: Code {
            version: String::new(),
            commit: None,
            dirty: None,
            lock_sha256: None,
            rustc: String::new(),
            libtorch: None,
        },
        machine: environment::machine("cpu", 2, 1),
        seed: Seed::new(0),
        inputs: Vec::new(),
        cells: Vec::new(),
        started: environment::now(),
        resumed: Vec::new(),
        ended: None,
    }
}

fn body(outcome: &Outcome) -> &QuantizationConfig {
    let Body::Quantization(body) = &outcome.experiment.body else { panic!("another kind") };
    body
}

#[track_caller]
fn check_fastest(speeds: &[(&str, &[f64])], expected: Option<&str>) {
    let outcome = outcome(Scale::Small, &[], speeds);
    let numbers = key_numbers(&Findings::new(&outcome, body(&outcome)));
    let found: Vec<&str> = numbers
        .iter()
        .filter_map(|number| number.label.strip_suffix(": the fastest to write"))
        .collect();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_format_is_called_the_fastest_only_where_no_other_may_be() {
    let f32: (&str, &[f64]) = ("f32", &[10.0, 11.0, 9.0]);
    let int8: (&str, &[f64]) = ("int8", &[20.0, 21.0, 19.0]);
    let nearest: (&str, &[f64]) = ("int4-g64", &[30.0, 31.0, 29.0]);
    let gptq: (&str, &[f64]) = ("int4-g64-gptq", &[32.0, 33.0, 31.0]);
    check_fastest(&[f32, int8], Some("8 bits"));
    // The same format however it was rounded: neither is the faster of the two.
    check_fastest(&[f32, int8, nearest, gptq], Some("4 bits, groups of 64"));
    // Groups of 32 are another format, and may be as fast as one of the two.
    check_fastest(&[f32, ("int4-g32", &[28.0, 29.0, 27.0]), nearest, gptq], None);
    check_fastest(&[nearest, gptq], None);
    check_fastest(&[("f32", &[10.0]), ("int8", &[20.0])], None); // one turn has no interval
    check_fastest(&[("f32", &[]), ("int8", &[])], None);
}

#[test]
fn ratios_of_speeds_are_taken_turn_by_turn() {
    // The machine became four times as fast, which tells nothing of formats.
    let speeds: [(&str, &[f64]); 3] =
        [("f32", &[10.0, 20.0, 40.0]), ("bf16", &[20.0, 42.0, 76.0]), ("int8", &[])];
    let outcome = outcome(Scale::Small, &[], &speeds);
    let seen = words::what_was_seen(&Findings::new(&outcome, body(&outcome)));
    // By hand: logarithms of 2, 2.1 and 1.9, Student's interval with two degrees of freedom.
    let expected = "; a prompt 2.00 times as fast (95 % interval 1.76 to 2.26), writing 2.00 times (1.76 to 2.26).";
    assert!(seen[1].ends_with(expected), "{}", seen[1]);
    assert!(seen[2].ends_with("times as large."), "{}", seen[2]);
}

#[test]
fn what_there_is_too_little_of_is_named() {
    let check = |set: &[&str], expected: &[&str], recommends: bool| {
        let outcome = outcome(Scale::Small, set, &[]);
        let found = report_parts::caveats(&outcome.experiment);
        assert_eq!(found, expected);
        assert_eq!(report_parts::can_recommend(&outcome.experiment), recommends);
    };
    check(&[], &[], true);
    // What to set rests on perplexity, and so on pieces.
    check(&["timing.turns=2"], &["2 turns; the claims ask for 3."], true);
    check(&["seeds=4"], &["4 pieces of text; the claims ask for 8."], false);
    check(
        &["claims.int4-writes-faster.rule.min_seeds=20"],
        &["5 turns; the claims ask for 20."],
        true,
    );
}

#[test]
fn more_turns_are_the_advice_for_speeds() {
    let f32: (&str, &[f64]) = ("f32", &[10.0]);
    let outcome = outcome(Scale::Small, &[], &[f32]);
    let report = report(&outcome, body(&outcome)).unwrap().to_markdown();
    assert!(report.contains("--set timing.turns=10"), "{report}");
    assert!(report.contains("in the same minutes"), "{report}");
}
