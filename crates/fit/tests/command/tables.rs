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
        "`runs.csv`: `chinchilla` has 5 free parameters and needs more points than that, got 1",
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
    check(
        four,
        "`runs.csv`: `chinchilla` has 5 free parameters and needs more points than that, got 4",
    );
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

#[test]
fn every_law_can_be_bootstrapped_by_groups() {
    let cluster = ["--bootstrap", "20", "--resample", "cluster"];
    let (_, json) =
        fit_text("runs.csv", csv(&two_dozen()), &[&LAW[..], &cluster].concat()).unwrap();
    assert_eq!(json["interval_method"], "bootstrap-cluster");
    // Six sizes.
    assert!(warnings(&json).contains("the bootstrap draws from 6 groups"), "{json}");
    let named: String = two_dozen()
        .iter()
        .enumerate()
        .map(|(i, (n, d, loss))| format!("{n},{d},{loss},lab {}\n", i % 12))
        .collect();
    let named = format!("n,d,loss,made by\n{named}");
    let words = [&LAW[..], &cluster, &["--columns", "cluster=made by"]].concat();
    let (_, json) = fit_text("runs.csv", &named, &words).unwrap();
    assert!(!warnings(&json).contains("groups"), "{json}");
    let one = csv(&runs(&[1e8], &[1e9, 2e9, 4e9, 8e9, 1.6e10, 3.2e10]));
    let refused = fit_text("runs.csv", one, &[&LAW[..], &cluster].concat()).unwrap_err();
    assert!(refused.contains("all points are of one group; name a column"), "{refused}");
}

#[test]
fn an_interval_without_an_end_says_so_in_words_and_in_json() {
    // Three horizons that are long beside the sizes: the data hardly say what the tokens do.
    let few = csv(&runs(&[1e8, 2e8, 4e8, 8e8, 1.6e9], &[1e12, 1.1e12, 1.2e12]));
    let (text, json) = fit_text("runs.csv", few, &LAW).unwrap();
    let ends = &json["params"]["B"]["ci95"];
    assert!(ends[0].is_null() || ends[1].is_null() || ends.is_null(), "{json}");
    assert!(text.contains("unbounded") || warnings(&json).contains("no interval for"), "{text}");
    for value in json["params"].as_object().unwrap().values() {
        assert!(value["ci95"][0] != 0., "an open end of a positive number is no 0: {value}");
    }
}

#[test]
fn parameters_of_several_parts_say_whose_they_are() {
    let rows: String = (0..30)
        .map(|i| {
            let a = 0.1 + 0.8 * f64::from((7 * i) % 30) / 30.;
            let loss = |t: f64| 2. + (0.3 - t * a).exp() * (1. + 1e-3 * f64::from(i).sin());
            format!("{a},{},{},{}\n", 1. - a, loss(1.), loss(-0.5))
        })
        .collect();
    let table = format!("p_a,p_b,loss_a,loss_b\n{rows}");
    let (_, json) = fit_text("runs.csv", table, &["--law", "mixing"]).unwrap();
    let mut names: Vec<&String> = json["params"].as_object().unwrap().keys().collect();
    names.sort_unstable();
    let want = ["c_a", "c_b", "t_p_a_a", "t_p_a_b", "t_p_b_a", "t_p_b_b"];
    assert_eq!(names, want, "domain last");
}

#[test]
fn a_weight_of_zero_leaves_a_run_out_and_large_ones_are_only_ratios() {
    let with = |weight: &dyn Fn(usize) -> f64| {
        let rows: String = two_dozen()
            .iter()
            .enumerate()
            .map(|(i, (n, d, loss))| format!("{n},{d},{loss},{}\n", weight(i)))
            .collect();
        fit_text("runs.csv", format!("n,d,loss,weight\n{rows}"), &LAW).unwrap()
    };
    let (_, plain) = with(&|_| 1.);
    let (_, large) = with(&|_| 1e12);
    assert_eq!(plain["params"], large["params"]);
    let (text, without) = with(&|i| if i == 3 { 0. } else { 1. });
    assert_eq!(without["n_points"], 23);
    assert!(text.contains("left out: row 4") && text.contains("its weight is 0"), "{text}");
}

/// Two dozen runs under names of one's own, one row of them changed.
fn odd(row: usize, cells: &dyn Fn(&Run) -> String) -> String {
    let plain = |(n, d, l): &Run| format!("{:.0}M,{},{l}", n / 1e6, d / 1e9);
    let rows = two_dozen();
    let rows =
        rows.iter().enumerate().map(|(i, run)| if i == row { cells(run) } else { plain(run) });
    format!("Model Size (non-emb.),Tokens [B],Val  Loss\n{}\n", rows.collect::<Vec<_>>().join("\n"))
}

const ODD: &str = "n=Model Size (non-emb.),d=Tokens [B],loss=Val  Loss";

#[test]
fn names_of_ones_own_are_those_of_the_messages() {
    let words = [&LAW[..], &["--columns", ODD, "--unit", "d=1B"]].concat();
    let check = |row: usize, cells: &dyn Fn(&Run) -> String, expected: &str| {
        assert_eq!(refusal(&odd(row, cells), &words), expected);
    };
    check(
        5,
        &|(_, d, l)| format!("big,{},{l}", d / 1e9),
        "`runs.csv`, row 6, column `Model Size (non-emb.)`: `big` is no number",
    );
    check(
        7,
        &|(n, _, l)| format!("{n},0,{l}"),
        "`runs.csv`, row 8, column `Tokens [B]`: must be positive, got 0",
    );
    check(
        9,
        &|(n, d, _)| format!("{n},{},nan", d / 1e9),
        "`runs.csv`, row 10, column `Val  Loss`: must be a finite number, got NaN",
    );
    let all = refusal(&odd(99, &|_| String::new()), &LAW);
    assert!(all.starts_with("`runs.csv`: no columns for `n` (") && all.contains("`d` ("), "{all}");
    assert!(all.ends_with("name them with --columns n=COLUMN,d=COLUMN,loss=COLUMN"), "{all}");
    let (_, json) = fit_text("runs.csv", odd(99, &|_| String::new()), &words).unwrap();
    assert_eq!(json["n_points"], 24);
}

#[test]
fn a_name_with_spaces_is_one_with_underscores() {
    let rows: String = (0..24)
        .map(|i| {
            let (d, lr) = (1e9 * 2_f64.powi(i / 6), 5e-4 * 2_f64.powi(i % 6));
            let x = (lr / 2e-3 * (d / 1e9).powf(0.3)).ln();
            let loss = if i == 23 { "NaN".into() } else { format!("{}", 3. + 0.02 * x * x) };
            format!("{d},{lr},{loss}\n")
        })
        .collect();
    let (text, json) =
        fit_text("runs.csv", format!("Tokens,Peak LR,Val-Loss\n{rows}"), &["--law", "lr-horizon"])
            .unwrap();
    close(estimate(&json, "params/beta"), 0.3, 1e-3);
    assert!(text.contains("1 run of these cells diverged"), "{text}");
    // Recommendations of a sweep of one size that nobody told.
    let (_folder, path) =
        crate::support::folder_with("runs.csv", format!("tokens,lr,loss\n{rows}"));
    let text = run(&["recommend", "--data", &path, "--target", "d=20B"]).unwrap();
    assert!(text.contains("next, buy d = ") && !text.contains("NaN"), "{text}");
}
