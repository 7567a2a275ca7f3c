//! Bad input: one line that names the culprit and the way out.

use std::fs;

use crate::program::Place;

#[track_caller]
fn check(place: &Place, arguments: &[&str], expected: &[&str]) {
    let line = place.fail(arguments);
    for part in expected {
        assert!(line.contains(part), "`{part}` is missing from: {line}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let place = Place::new();
    check(
        &place,
        &["plan", "quickstrat"],
        &["no experiment is called `quickstrat`; there are: quickstart"],
    );
    check(
        &place,
        &["plan", "quickstart", "--set", "training.lr=1"],
        &["training", "unknown field `lr`"],
    );
    check(&place, &["plan", "quickstart", "--set", "training"], &["--set wants KEY=VALUE"]);
    let too_long = ["plan", "quickstart", "--set", "training.seq_len=2048"];
    check(&place, &too_long, &["arms.xpos.model", "scale_base must be at least", "got 64"]);
    let absurd = ["plan", "quickstart", "--set", "training.seq_len=9223372036854775806"];
    check(&place, &absurd, &["the validation text has"]);
    check(&place, &["plan", "quickstart", "--jobs", "0"], &["--jobs must be at least 1, got 0"]);
    check(&place, &["plan", "quickstart", "--device", "cuda:0"], &["cuda"]);
    check(&place, &["report", "nowhere"], &["`nowhere` is not a run directory"]);
    check(&place, &["compare", "a", "b"], &["`a` is not a run directory"]);
}

#[test]
fn bad_text_is_named_with_its_file_and_row() {
    let place = Place::new();
    let write = |name: &str, bytes: &[u8]| fs::write(place.path().join(name), bytes).unwrap();
    write("empty.txt", b"");
    write("latin1.txt", b"caf\xe9 au lait");
    write("short.txt", b"too short");
    write("broken.jsonl", b"{\"text\": \"fine\"}\n{\"text\": ");
    write("numbers.jsonl", b"{\"n\": 1}\n");
    write("not.parquet", b"PAR1 but no");
    let data = |name| ["plan", "quickstart", "--data", name];
    check(&place, &data("empty.txt"), &["empty.txt"]);
    check(&place, &data("latin1.txt"), &["latin1.txt", "UTF-8"]);
    check(&place, &data("short.txt"), &["tokens"]);
    check(&place, &data("broken.jsonl"), &["broken.jsonl", "row 2"]);
    check(&place, &data("numbers.jsonl"), &["numbers.jsonl"]);
    check(&place, &data("not.parquet"), &["not.parquet"]);
    check(&place, &data("missing.txt"), &["missing.txt"]);
    check(&place, &data("picture.png"), &["picture.png"]);
}

#[test]
fn a_cell_that_cannot_be_computed_leaves_a_report_and_no_done() {
    let place = Place::new();
    let smoke = ["run", "quickstart", "--scale", "smoke"];
    place.succeed(&smoke);
    fs::remove_dir_all(place.path().join("runs/quickstart")).unwrap();
    // A file where the trained model should go, which nothing could foresee.
    for cell in place.trainings() {
        fs::remove_file(cell.join("DONE")).unwrap();
        fs::remove_dir_all(cell.join("model")).unwrap();
        fs::write(cell.join("model"), b"in the way").unwrap();
    }
    let evaluations = crate::program::children(&place.path().join("runs/cells")).into_iter();
    for cell in evaluations.filter(|cell| !place.trainings().contains(cell)) {
        fs::remove_dir_all(cell).unwrap();
    }
    let output = place.output(&smoke);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("failed: train rope, seed 0") && said.contains("model"), "{said}");
    assert!(
        said.contains("failed: evaluate rope, seed 0: a cell that it needs could not be computed"),
        "{said}"
    );
    let run = place.only_run("quickstart");
    assert!(run.join("report.html").is_file() && !run.join("DONE").exists());
}
