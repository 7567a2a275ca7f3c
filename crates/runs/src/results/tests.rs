use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn rows(text: Value) -> Vec<Row> {
    serde_json::from_value(text).unwrap()
}

fn round_trip(rows: &[Row]) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.parquet");
    write_results(&path, rows)?;
    read_results(&path)
}

fn check(input: Value, expected: Value) {
    let back = round_trip(&rows(input)).unwrap();
    assert_eq!(serde_json::to_value(back).unwrap(), expected);
}

fn check_refused(input: Value, expected: &str) {
    assert_eq!(round_trip(&rows(input)).unwrap_err().to_string(), expected);
}

#[test]
fn every_type_comes_back_and_gaps_become_null() {
    check(
        json!([{"arm": "xpos", "loss": 1.25, "seed": u64::MAX, "step": -3, "ok": true, "gap": null}, {"seed": 1}]),
        json!([
            {"arm": "xpos", "loss": 1.25, "seed": u64::MAX, "step": -3, "ok": true, "gap": null},
            {"arm": null, "loss": null, "seed": 1, "step": null, "ok": null, "gap": null},
        ]),
    );
}

#[test]
fn whole_numbers_beside_fractions_become_fractions() {
    check(json!([{"lr": 1}, {"lr": 0.5}]), json!([{"lr": 1.0}, {"lr": 0.5}]));
    check(json!([{"n": 1}, {"n": -2}]), json!([{"n": 1}, {"n": -2}]));
}

#[test]
fn mixed_columns_are_named_with_their_row() {
    check_refused(
        json!([{"a": 1}, {"a": null}, {"a": "x"}]),
        "column `a` row 2: expected a number, got text",
    );
    check_refused(
        json!([{"a": true}, {"a": 1}]),
        "column `a` row 1: expected a truth value, got a number",
    );
    check_refused(json!([{"a": [1]}]), "column `a` row 0: expected a single value, got a list");
    check_refused(json!([{"a": "x"}, {"a": {}}]), "column `a` row 1: expected text, got an object");
    check_refused(
        json!([{"a": u64::MAX}, {"a": -1}]),
        "column `a` row 1: expected no negative number beside one above 2^63, got -1",
    );
    check_refused(
        json!([{"a": 0.5}, {"a": 9007199254740993_u64}]),
        "column `a` row 1: expected a whole number that a fraction's type can hold, got 9007199254740993",
    );
}

#[test]
fn no_rows_are_fine_and_rows_of_nothing_are_not() {
    assert_eq!(round_trip(&[]).unwrap(), Vec::<Row>::new());
    check_refused(json!([{}, {}]), "`rows` must be rows with columns, got empty rows");
}

#[test]
fn the_same_rows_give_the_same_bytes_with_columns_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    write_results(&a, &rows(json!([{"z": 1, "a": 2.5}, {"m": "x"}]))).unwrap();
    write_results(&b, &rows(json!([{"a": 2.5, "z": 1}, {"m": "x"}]))).unwrap();
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    let file = File::open(&a).unwrap();
    let schema = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().schema().clone();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["a", "m", "z"]);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.parquet");
    write_results(&path, &rows(json!([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]))).unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..cut]).unwrap();
        let error = read_results(&path).unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
    }
}

fn cell() -> impl Strategy<Value = (Option<i64>, Option<f64>, Option<String>, Option<bool>)> {
    use prop::option::of;
    (of(any::<i64>()), of(any::<f64>()), of(".{0,8}"), of(any::<bool>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn rows_come_back(cells in prop::collection::vec(cell(), 0..20)) {
        let rows: Vec<Row> = cells
            .into_iter()
            .map(|(int, float, text, truth)| {
                let cells = [("i", json!(int)), ("f", json!(float)), ("t", json!(text)), ("b", json!(truth))];
                cells.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            })
            .collect();
        prop_assert_eq!(round_trip(&rows).unwrap(), rows);
    }
}
