//! How far to believe what is read off a sweep over learning rates.

use serde_json::Value;

use crate::support::{fit_text, run};

/// Cells of learning rates a factor of 2 apart, whose valleys are parabolas or steeper to the right, with errors that look
/// random and hang on a seed.
fn sweep(cells: i32, rates: i32, slant: f64, seed: i32) -> String {
    let mut rows = String::new();
    for cell in 0..cells {
        let d = 1e9 * 2_f64.powi(cell);
        let best = 2e-3 * (d / 1e9).powf(-0.3);
        for i in 0..rates {
            let lr = 1.1 * best * 2_f64.powf(f64::from(i) - 0.5 * f64::from(rates - 1));
            let x = (lr / best).ln();
            let error = 2e-4
                * ((f64::from(1000 * seed + cell * 37 + i) * 12.9898).sin() * 43_758.545).fract();
            rows += &format!("{d},{lr},{}\n", 3. + 0.02 * x * x + slant * x.powi(3) + error);
        }
    }
    format!("d,lr,loss\n{rows}")
}

/// The doubt that is said of all intervals, and in the terminal's words; none if none is.
fn doubt(text: &str) -> Option<String> {
    let words = ["--law", "lr-horizon", "--predict", "d=1T"];
    let (shown, json) = fit_text("runs.csv", text, &words).unwrap();
    let derived = json["derived"].as_object().unwrap().values();
    let all = json["params"]
        .as_object()
        .unwrap()
        .values()
        .chain(derived)
        .chain([&json["predictions"][0]]);
    let problems: Vec<&Value> = all.map(|value| &value["problem"]).collect();
    assert!(
        problems.len() == 6 && problems.iter().all(|problem| *problem == problems[0]),
        "{json}"
    );
    let said = json["warnings"].as_array().unwrap().iter().filter(|text| *text == problems[0]);
    assert_eq!(said.count(), usize::from(problems[0].is_string()), "{json}");
    let caution = "may be off to one side by more than their intervals say";
    let plain = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(plain.matches(caution).count(), usize::from(problems[0].is_string()), "{shown}");
    problems[0].as_str().map(str::to_owned)
}

#[test]
fn what_was_not_tested_is_a_warning_and_a_problem_of_every_interval() {
    let untested = doubt(&sweep(4, 4, 0., 0)).unwrap();
    assert!(untested.starts_with("the points are too few to tell whether valleys"), "{untested}");
    let weakly = (0..4).filter(|&seed| {
        let text = doubt(&sweep(4, 6, 0.002, seed)).unwrap();
        text.starts_with("whether valleys have one slant was tested with ")
    });
    assert!(weakly.count() > 2);
    // Chance refuses wide windows now and then.
    assert!((0..4).filter(|&seed| doubt(&sweep(12, 9, 0.002, seed)).is_none()).count() > 2);
}

#[test]
fn recommendations_carry_the_doubt() {
    let (_folder, path) = crate::support::folder_with("runs.csv", sweep(4, 4, 0., 0));
    let text = run(&["recommend", "--data", &path, "--target", "d=20B"]).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(text.matches("but: the points are too few to tell").count(), 1, "{text}");
    assert_eq!(text.matches("the points are too few to tell").count(), 1, "{text}");
    let audit =
        run(&["audit-lr", "--data", &path, "--n", "1B", "--d", "20B", "--lr", "1e-3"]).unwrap();
    assert!(audit.contains("warning: the points are too few to tell"), "{audit}");
}

#[test]
fn a_slant_is_said_with_its_error_and_without_a_side() {
    let words = ["--law", "lr-horizon"];
    let (_, json) = fit_text("runs.csv", sweep(8, 9, 0., 0), &words).unwrap();
    let notes = json["notes"].to_string();
    assert!(
        notes.contains("nats per cube of ln lr, the same for all valleys, is taken out"),
        "{notes}"
    );
    assert!(notes.contains("a slant of ") && !notes.contains("steeper"), "{notes}");
    let sweep = &json["sweep"];
    assert_eq!((sweep["lost"].as_u64(), sweep["valleys"].as_str()), (Some(0), Some("one-slant")));
    assert!(sweep["tested_with"].as_f64().unwrap() >= 8., "{sweep}");
}
