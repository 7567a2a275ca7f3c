use std::collections::BTreeSet;

use serde_json::json;

use super::measure::{Entry, Times, Turn};
use super::*;
use crate::peers::ratio::Spread;
use crate::tidy::root;

#[test]
fn a_turn_has_jobs_a_time_and_objectives() {
    let turn = Turn::parse(&json!({"jobs": 2, "seconds": 0.5, "objectives": [0.1, null]})).unwrap();
    assert_eq!((turn.jobs, turn.seconds), (2., 0.5));
    assert_eq!((turn.objectives, turn.checks), (vec![0.1, f64::INFINITY], None));
    let checked = json!({"jobs": 2, "seconds": 1., "objectives": [], "checked": 40, "improved": 1});
    assert_eq!(Turn::parse(&checked).unwrap().checks, Some((39, 40)));
    for lacking in ["jobs", "seconds", "objectives"] {
        let mut said = json!({"jobs": 2, "seconds": 0.5, "objectives": []});
        said.as_object_mut().unwrap().remove(lacking);
        assert_eq!(Turn::parse(&said), None, "{lacking}");
    }
}

#[test]
fn resamples_are_points_and_differ() {
    let all: Vec<u16> = resamples(50).collect();
    assert_eq!(all.len(), 50 * 240);
    assert!(all.iter().all(|point| u32::from(*point) < N_POINTS));
    let distinct: BTreeSet<&[u16]> = all.chunks(240).collect();
    assert_eq!(distinct.len(), 50);
    // Of 240 draws with replacement about 63.2 % of the points are there.
    let there = |draw: &[u16]| draw.iter().collect::<BTreeSet<_>>().len() as f64 / 240.;
    let mean = all.chunks(240).map(there).sum::<f64>() / 50.;
    assert!((mean - 0.632).abs() < 0.015, "{mean}");
}

fn entry(name: &'static str, processor: f64, objective: f64, refits: &[f64]) -> Entry {
    let times = Times { processor: vec![processor; 3], wall: vec![processor; 3] };
    let (fit, bootstrap) = (times.clone(), times);
    let checks = (name == "forerun").then_some((39, 40));
    Entry { name, fit, bootstrap, objective, refits: refits.to_vec(), checks }
}

fn contest() -> Contest {
    let entries = vec![
        entry("forerun", 0.002, 1., &[]),
        entry("slow", 0.1, 1. + 1e-7, &[1., 2.]),
        entry("quick but astray", 0.001, 1.1, &[1.5, 2.]),
        entry("quicker", 0.03, 1., &[1., 2.]),
    ];
    Contest { objective: "huber", entries, resamples: vec![1., 2.] }
}

#[test]
fn a_rival_that_stops_elsewhere_does_not_count() {
    let contest = contest();
    assert_eq!(contest.fastest_fit().unwrap().name, "quicker");
    assert_eq!(contest.fastest_bootstrap().unwrap().name, "quicker");
    assert_eq!(contest.n_reached(&contest.entries[2]), 1);
    assert_eq!(contest.complaint(), None);
    let ratio = contest.ratio(&contest.entries[3], |entry| &entry.fit).unwrap();
    assert!((ratio.median - 15.).abs() < 1e-9);
}

#[test]
fn that_ours_stops_elsewhere_is_a_failure() {
    let mut contest = contest();
    contest.entries[0].objective = 1.01;
    assert_eq!(
        contest.complaint().unwrap(),
        "huber: ours stops at 1.010000000e0, and 1.000000000e0 was found"
    );
}

#[test]
fn what_is_printed_has_80_columns() {
    let options = Options { objective: None, rounds: 5, rival_draws: 100 };
    let text = format!("{}\n{}", table::definitions(&options), table::render(&contest()));
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(
        text.contains(
            "forerun                    2.00      2.00      0.002     0.002  same     39/40\n"
        ),
        "{text}"
    );
    assert!(text.contains("+1e-1    1/2\n"), "{text}");
    let fit = "  fit: 15.00 (15.00 to 15.00) times less than quicker; 5 reached\n";
    assert!(text.contains(fit), "{text}");
}

#[test]
fn a_goal_that_is_missed_is_called_so() {
    let spread = Spread { median: 4.2, min: 4.1, max: 4.5 };
    let line = table::verdict("draws", Some(("them", Some(spread))), 10.);
    assert_eq!(line, "  draws: 4.20 (4.10 to 4.50) times less than them; 10 missed");
    assert_eq!(table::verdict("fit", None, 5.), "  fit: no rival reaches the optimum");
    let check = |value: f64, expected: &str| assert_eq!(table::digits(value), expected);
    check(21_800., "21800");
    check(43.21, "43.2");
    check(1.234, "1.23");
    check(0.0123, "0.012");
}

#[test]
fn every_rival_is_a_program_with_pinned_packages() {
    let folder = root().join("xtask/peers/scaling");
    for (name, program) in RIVALS {
        assert!(folder.join(program).exists(), "{name}");
        assert!(name.len() <= 20, "{name} fits its column");
    }
    let requirements = fs::read_to_string(folder.join("requirements.txt")).unwrap();
    let pinned: Vec<&str> =
        requirements.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert!(pinned.len() >= 3 && pinned.iter().all(|line| line.contains("==")), "{pinned:?}");
    let table = fs::read_to_string(root().join(TABLE)).unwrap();
    assert_eq!(table.lines().count() as u32, 1 + N_POINTS + DROP_HIGHEST);
}
