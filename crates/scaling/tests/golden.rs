//! Reference fits, and that the check of them can fail.

#![allow(clippy::unwrap_used, reason = "a test's own files")]

use std::fs;
use std::path::{Path, PathBuf};

use forerun_scaling::golden::{Check, check_folder};

fn carried() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/scaling")
}

/// A folder with some of the carried files, the reference changed by `edit`.
fn changed(stem: &str, edit: impl Fn(String) -> String) -> Check {
    let folder = std::env::temp_dir().join(format!("forerun-golden-{}-{stem}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let table = format!("{stem}.csv");
    fs::copy(carried().join(&table), folder.join(&table)).unwrap();
    let reference = format!("{stem}.ref.json");
    let text = fs::read_to_string(carried().join(&reference)).unwrap();
    let edited = edit(text.clone());
    assert_ne!(text, edited, "the edit found nothing to change");
    fs::write(folder.join(&reference), edited).unwrap();
    let check = check_folder(&folder).unwrap().remove(0);
    fs::remove_dir_all(&folder).unwrap();
    check
}

#[test]
fn every_reference_fit_is_reproduced() {
    let checks = check_folder(&carried()).unwrap();
    assert_eq!(checks.len(), 8);
    for check in checks {
        assert!(check.passes(), "{}: {:#?}", check.name, check.problems);
    }
}

#[test]
fn a_changed_digit_fails() {
    let check =
        changed("synth_transfer_violation_A", |text| text.replace("0.0846383100", "0.0849383100"));
    assert!(!check.passes());
    assert_eq!(check.problems.len(), 1, "{:?}", check.problems);
    assert!(check.problems[0].contains("Germanic.gamma_hat"), "{:?}", check.problems);
}

#[test]
fn an_objective_is_held_to_a_millionth() {
    let check =
        changed("gadre_rpj", |text| text.replacen("\"objective\": ", "\"objective\": 1", 1));
    assert!(!check.passes() && check.problems[0].contains("objective"), "{:?}", check.problems);
}
