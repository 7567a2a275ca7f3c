use super::*;
use crate::catalog;
use crate::config::Overrides;

fn experiment(name: &str, set: &[&str]) -> Experiment {
    let set = set.iter().map(|text| (*text).to_owned()).collect();
    Experiment::resolve(&catalog::find(name).unwrap(), &Overrides { set, ..Overrides::default() })
        .unwrap()
}

#[track_caller]
fn check(direction: Direction, effect: Effect, found: f64, expected: &str) {
    let rule = experiment("phi3-quantize", &[]).claims.remove(0).rule;
    assert_eq!(found_from(&Rule { direction, effect, ..rule }, found), expected);
}

#[test]
fn what_can_be_found_is_said_as_the_rule_compares() {
    // A ratio that may fall short by 1 % is found from 0.4 % above it on.
    check(Direction::Lower, Effect::Ratio, -0.004, "a ratio of 1.0040 or less");
    check(Direction::Lower, Effect::Ratio, -0.0004, "a ratio of 1.00040 or less");
    check(Direction::Higher, Effect::Ratio, 0.93, "a ratio of 1.930 or more");
    check(Direction::Higher, Effect::Difference, -0.05, "a difference of -0.050 or more");
    check(Direction::Same, Effect::Difference, 0.12, "a difference of 0.120 or less");
}

#[test]
fn noise_is_between_what_the_rule_names() {
    let text = claims(&experiment("phi3-quantize", &["timing.turns=2"])).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("(at a noise of 0.01 between pieces of text)"), "{text}");
    assert!(text.contains("unpowered with 2 turns;"), "{text}");
    let text = claims(&experiment("multilingual-mixture", &[])).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("(at a noise of 0.2 between mixtures)"), "{text}");
    assert!(text.contains("over at least 15 paired mixtures"), "{text}");
    assert!(text.contains("between seeds)") && !text.contains("unpowered"), "{text}");
}

#[test]
fn what_runs_alone_gains_nothing_from_more_workers() {
    let (beside, alone) = (1e12, 2e12);
    let planned = |task: Value, flops: f64| {
        let task: Task = serde_json::from_value(task).unwrap();
        let experiment = experiment("quickstart", &[]);
        let cost = Cost { flops, ..Cost::default() };
        PlannedCell::new(cell(&experiment, task, String::new(), &[], cost))
    };
    let reading = json!({ "piece_tokens": 2, "prompt_tokens": 1, "decode_tokens": 1 });
    let timing = json!({
        "kind": "time-weights", "origin": { "from": "needed" }, "turn": 0, "n_pieces": 1, "before": [], "together": "",
        "reading": reading,
    });
    let other =
        json!({ "kind": "unigram-loss", "vocab_size": 2, "seq_len": 1, "held_out_rows": 1 });
    let plan = Plan { cells: vec![planned(other, beside), planned(timing, alone)] };
    let store = tempfile::tempdir().unwrap();
    let rate = Rate { flops_per_sec: 1e12, n_cells: 0 };
    let secs = |jobs| plan.seconds_left(&Store::new(store.path()), rate, jobs);
    assert!((secs(1) - 3.0).abs() < 1e-9 && (secs(4) - 2.25).abs() < 1e-9);
}
