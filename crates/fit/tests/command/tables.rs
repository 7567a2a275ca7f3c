//! Tables as people have them: what is read, what is refused and how, what is warned of.

use serde_json::Value;

use crate::support::{Run, close, estimate, fit_text, run, runs, two_dozen};

const LAW: [&str; 2] = ["--law", "chinchilla"];

fn refusal(text: &str, words: &[&str]) -> String {
    fit_text("runs.csv", text, words).unwrap_err()
}

#[test]
fn refusals_name_file_row_and_column() {
    let check = |text: &str, expected: &str| assert_eq!(refusal(text, &LAW), expected);
    check(
        "n,d,loss\n1e8,2e9,3\n-5,2e9,3\n",
        "`runs.csv`, row 2, column `n`: must be positive, got -5",
    );
    check(
        "n,d,loss\n1e8,2e9,NaN\n",
        "`runs.csv`, row 1, column `loss`: must be a finite number, got NaN",
    );
    check(
        "n,d,loss\n1e8,2e9,3\n",
        "`chinchilla` has 5 free parameters and needs more than 1 points",
    );
    let missing = refusal("n,loss\n1e8,3\n", &LAW);
    assert!(
        missing.starts_with("`runs.csv`, column `d`: no column for this (tokens of training"),
        "{missing}"
    );
    assert!(missing.ends_with("name one with --columns d=COLUMN"), "{missing}");
    let sums = "family,p_a,p_b,loss\na,0.5,0.5,3\na,0.5,0.7,3\n";
    let message = refusal(sums, &["--law", "multilingual"]);
    assert_eq!(
        message,
        "`runs.csv`, row 2, column `p_…`: the shares of this row sum to 1.2, not to 1"
    );
}

#[test]
fn what_is_no_table_is_called_so() {
    let check = |text: &str, expected: &str| assert_eq!(refusal(text, &LAW), expected);
    check("", "`runs.csv` is empty");
    check("\n\r\n", "`runs.csv` is empty");
    check("n,d,loss\n", "`runs.csv` has a header and no rows");
    check("n,d,loss\n1,2\n", "`runs.csv`, row 1, column `loss`: the row has 2 cells, the header 3");
    check("n,d,loss\n1e8,many,3\n", "`runs.csv`, row 1, column `d`: `many` is no number");
    let four = "n,d,loss\n1e8,2e9,3\n2e8,2e9,2.9\n4e8,2e9,2.8\n8e8,8e9,2.7\n";
    check(four, "`chinchilla` has 5 free parameters and needs more than 4 points");
    let latin = fit_text("runs.csv", b"n,d,loss\n1,2,\xe9\n", &LAW).unwrap_err();
    let expected = "cannot read `runs.csv`: its text is not UTF-8; save it as such: ";
    assert!(latin.starts_with(expected), "{latin}");
    let other = fit_text("runs.xlsx", "PK", &LAW).unwrap_err();
    assert!(other.contains("expected .csv, .tsv"), "{other}");
}

#[test]
fn a_folder_without_runs_is_refused() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().to_string_lossy().into_owned();
    let message = run(&["fit", "--law", "chinchilla", "--data", &path]).unwrap_err();
    assert!(message.contains("neither event files nor `trainer_state.json`"), "{message}");
}

/// Two dozen runs as a table in someone's way of writing; what is fitted.
fn fitted(name: &str, header: &str, row: &dyn Fn(&Run) -> String, words: &[&str]) -> Value {
    let rows: Vec<String> = two_dozen().iter().map(row).collect();
    let text = format!("{header}\r\n{}\r\n", rows.join("\r\n"));
    fit_text(name, text, &[&LAW, words].concat()).unwrap().1
}

#[test]
fn the_same_runs_are_the_same_however_they_are_written() {
    let plain = fitted("runs.csv", "n,d,loss", &|(n, d, l)| format!("{n},{d},{l}"), &[]);
    assert_eq!(plain["n_points"], 24);
    let same = |other: &Value| {
        for name in ["params/alpha", "params/E", "derived/a"] {
            close(estimate(other, name), estimate(&plain, name), 1e-6);
        }
    };
    let quoted = |(n, d, l): &Run| format!("\"a, b\",\"{n}\",\"{d}\",{l}");
    let names = "\u{feff}\"name\",\"N_params\",\"Tokens\",\"val_loss\"";
    same(&fitted("runs.csv", names, &quoted, &[]));
    let german = |(n, d, l): &Run| format!("{n};{d};{}", l.to_string().replace('.', ","));
    same(&fitted("runs.csv", "n;d;loss", &german, &[]));
    same(&fitted("runs.tsv", "n\td\tloss", &|(n, d, l)| format!("{n}\t{d}\t{l}"), &[]));
    let suffixes = |(n, d, l): &Run| format!("{}M,{}B,{l}", n / 1e6, d / 1e9);
    let read = fitted("RUNS.CSV", "n,d,loss", &suffixes, &[]);
    same(&read);
    let notes = read["notes"].to_string();
    assert!(notes.contains("column `n`: `100M` is read as 100000000"), "{notes}");
    let billions = |(n, d, l): &Run| format!("{},{},{l}", n / 1e9, d / 1e9);
    same(&fitted("runs.csv", "n,d,loss", &billions, &["--unit", "n=1e9,d=1B"]));
    let thousands = |(n, d, l): &Run| format!("\"{}\",{d},{l}", grouped(*n));
    same(&fitted("runs.csv", "n,d,loss", &thousands, &[]));
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn warnings(json: &Value) -> String {
    json["warnings"].to_string()
}

#[test]
fn counts_in_billions_are_noticed() {
    let billions = |(n, d, l): &Run| format!("{},{},{l}", n / 1e9, d / 1e9);
    let json = fitted("runs.csv", "n,d,loss", &billions, &[]);
    let expected =
        "`n` is at most 3.2 and `d` is at most 128, which looks like millions or billions";
    assert!(warnings(&json).contains(expected), "{json}");
    assert!(warnings(&json).contains("--unit n=1e9,d=1e9"), "{json}");
}

fn csv(runs: &[Run]) -> String {
    let rows: String = runs.iter().map(|(n, d, loss)| format!("{n},{d},{loss}\n")).collect();
    format!("n,d,loss\n{rows}")
}

#[test]
fn two_dozen_runs_give_three_approaches_and_three_laws() {
    let (text, json) = fit_text("runs.csv", csv(&two_dozen()), &LAW).unwrap();
    // The sizes and horizons are powers of 2 and 4, so that runs of equal compute are there.
    let approaches = json["approaches"].as_array().unwrap();
    assert_eq!(approaches.len(), 3);
    let truth = 0.36 / 0.70;
    for found in approaches {
        let a = found["a"]["estimate"].as_f64().unwrap_or_else(|| panic!("{found}"));
        assert!((a - truth).abs() < 0.15, "{found}");
        assert_eq!(found["n_opt"].as_object().unwrap().len(), 3, "{found}");
    }
    assert!(text.contains("by three approaches") && text.contains("3: law (24 runs)"), "{text}");
    let laws = json["comparison"]["laws"].as_array().unwrap();
    let names: Vec<&str> = laws.iter().map(|law| law["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["chinchilla", "chinchilla-tied", "kaplan"]);
    for law in laws {
        for key in ["aic", "bic", "fold_error", "held_out_error"] {
            assert!(law[key].is_f64(), "{key} of {law}");
        }
    }
    // The runs follow the first; the last has no floor.
    assert!(laws[0]["held_out_error"].as_f64() < laws[2]["held_out_error"].as_f64());
    assert_eq!(json["comparison"]["held_out"]["input"], "n");
    assert!(text.contains("Which law?"), "{text}");
}

#[test]
fn runs_of_one_horizon_leave_the_horizon_open() {
    let one = csv(&runs(&[1e8, 2e8, 4e8, 8e8, 1.6e9, 3.2e9, 6.4e9], &[2e10]));
    let (text, json) = fit_text("runs.csv", one, &LAW).unwrap();
    let expected = "`d` takes 1 value, and an exponent needs 3: runs at other values of `d`";
    assert!(warnings(&json).contains(expected), "{}", warnings(&json));
    // All runs cost in proportion to their size: the best of each factor of compute are the only ones.
    assert_eq!(json["approaches"][0]["a"], Value::Null, "{text}");
    assert_eq!(json["approaches"][1]["a"], Value::Null, "{text}");
}

#[test]
fn predictions_far_away_are_warned_of() {
    let at = |place: &str| {
        let words = [&LAW[..], &["--predict", place]].concat();
        warnings(&fit_text("runs.csv", csv(&two_dozen()), &words).unwrap().1)
    };
    let far = at("n=70B,d=1.4T");
    let expected = "`n` is 22 times the largest of the table, `d` is 11 times";
    assert!(far.contains(expected), "{far}");
    assert!(!at("n=7B,d=200B").contains("far beyond"));
}
