//! Odd tables, wrong arguments, and doubts that a reader must hear of.

use std::fs::File;

use serde_json::Value;

use crate::support::{Run, close, data, estimate, fit_text, folder_with, run, two_dozen};

const LAW: [&str; 2] = ["--law", "chinchilla"];

fn csv(runs: &[Run]) -> String {
    let rows: String = runs.iter().map(|(n, d, loss)| format!("{n},{d},{loss}\n")).collect();
    format!("n,d,loss\n{rows}")
}

fn warnings(text: &str, words: &[&str]) -> String {
    fit_text("runs.csv", text, &[&LAW[..], words].concat()).unwrap().1["warnings"].to_string()
}

fn refusal(text: &str, words: &[&str]) -> String {
    fit_text("runs.csv", text, words).unwrap_err()
}

/// Thousands apart: `1 000 000`.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let first = (digits.len() - 1) % 3 + 1;
    let mut out = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        out += " ";
        out += &String::from_utf8_lossy(group);
    }
    out
}

#[test]
fn other_ways_to_write_a_table_are_read() {
    let plain = fit_text("runs.csv", csv(&two_dozen()), &LAW).unwrap().1;
    let same = |name: &str, text: String| {
        let read = fit_text(name, text, &LAW).unwrap().1;
        close(estimate(&read, "params/alpha"), estimate(&plain, "params/alpha"), 1e-9);
        read
    };
    same("runs.csv", csv(&two_dozen()).replace('\n', "\r"));
    same("runs.txt", csv(&two_dozen()).replace(',', "\t"));
    for separator in [" ", "_", "\u{a0}"] {
        let cells = |(n, d, loss): &Run| {
            format!("{},{},{loss}\n", grouped(*n), grouped(*d).replace(' ', separator))
        };
        let rows: String = two_dozen().iter().map(cells).collect();
        same("runs.csv", format!("n,d,loss\n{rows}"));
    }
    let line = |(n, d, loss): &Run| {
        format!(
            "{{\"config\": {{\"n_params\": {n}}}, \"tokens\": {d}, \"summary\": {{\"loss\": {loss}}}}}\n"
        )
    };
    let read = same("runs.jsonl", two_dozen().iter().map(line).collect());
    let notes = read["notes"].to_string();
    let expected = "columns: n = `config.n_params`, d = `tokens`, loss = `summary.loss`";
    assert!(notes.contains(expected), "{notes}");
    assert_eq!(plain["notes"].as_array().map(Vec::len), Some(0), "names of our own are no news");
}

#[test]
fn what_tells_nothing_is_refused() {
    let flat: Vec<Run> = two_dozen().into_iter().map(|(n, d, _)| (n, d, 3.)).collect();
    let expected = "`runs.csv`, column `loss`: is 3 in every row: there is nothing to fit";
    assert_eq!(refusal(&csv(&flat), &LAW), expected);
    let twice = csv(&two_dozen()).replace("n,d,loss", "n,loss,loss");
    let message = refusal(&twice, &[&LAW[..], &["--columns", "d=n"]].concat());
    assert_eq!(
        message,
        "`runs.csv`, column `loss`: two columns have this name, and `loss` may be either"
    );
}

#[test]
fn wrong_arguments_are_named() {
    let check = |words: &[&str], expected: &str| {
        assert_eq!(refusal(&csv(&two_dozen()), &[&LAW[..], words].concat()), expected);
    };
    check(&["--predict", "n=7B,d=-1"], "--predict: `d` must be positive, got -1");
    check(&["--unit", "n=0"], "--unit: `n` must be positive, got 0");
    check(
        &["--predict", "n=7B,d=1T,x=2"],
        "--predict: `x` is no input of the law; it asks for n, d",
    );
    check(
        &["--columns", "size=n"],
        "--columns: `size` is none of n, d, u, batch, lr, loss, weight, family, cluster; write NAME=COLUMN, as n=params",
    );
    check(&["--filter", "residual > 0"], "--filter \"residual > 0\": must be positive, got 0");
    let (_folder, path) = folder_with("runs.csv", csv(&two_dozen()));
    let target = |text: &str| run(&["recommend", "--data", &path, "--target", text]).unwrap_err();
    assert_eq!(target("flop=1e23"), "--target: `flop` is none of n, d, batch, flops");
    assert_eq!(target("flops=0"), "--target: `flops` must be positive, got 0");
}

#[test]
fn a_row_far_off_and_rows_that_are_there_twice_are_named() {
    let mut runs = two_dozen();
    assert!(!warnings(&csv(&runs), &[]).contains("off the fit"));
    runs[6].2 = 9.9;
    let said = warnings(&csv(&runs), &[]);
    assert!(
        said.contains("row 7 lies more than 8 robust standard deviations off the fit"),
        "{said}"
    );
    assert!(!warnings(&csv(&runs), &["--filter", "residual > 8"]).contains("off the fit"));
    let twice = two_dozen().repeat(2);
    let said = warnings(&csv(&twice), &[]);
    assert!(
        said.contains("24 rows are another one again to all digits (row 25 is row 1)"),
        "{said}"
    );
}

#[test]
fn few_draws_are_doubted() {
    let said = |draws: &str| warnings(&csv(&two_dozen()), &["--bootstrap", draws]);
    assert!(said("1").contains("1 bootstrap draw: the ends"), "{}", said("1"));
    assert!(said("60").contains("60 bootstrap draws: the ends"));
    assert!(!said("200").contains("a matter of luck") && !said("0").contains("a matter of luck"));
}

#[test]
fn two_shares_say_nothing_of_independence() {
    let rows: String = (1..24)
        .map(|i| {
            let a = f64::from(i) / 24.;
            let loss = |p: f64| 2. * p.powf(-0.2) * (1. + 1e-3 * f64::from(7 * i).sin());
            format!("{a},{},{},{}\n", 1. - a, loss(a), loss(1. - a))
        })
        .collect();
    let text = format!("p_a,p_b,loss_a,loss_b\n{rows}");
    let (_, json) = fit_text("runs.csv", &text, &["--law", "multilingual"]).unwrap();
    let said = json["warnings"].to_string();
    assert!(said.contains("with two shares one follows from the other") && !said.contains("got 1"));
    let at = |place: &str| refusal(&text, &["--law", "multilingual", "--predict", place]);
    assert_eq!(at("p_a=0.5,p_b=0.7"), "--predict: the shares sum to 1.2, not to 1");
    assert!(at("p_a=0.5,p_c=0.5").starts_with("--predict: `p_c` is no input of the law"));
}

/// Sweeps of learning rates around `2^middle` times the best one.
fn sweep(cells: i32, middle: i32) -> String {
    let mut rows = String::new();
    for cell in 0..cells {
        let d = 1e9 * 2_f64.powi(cell);
        for i in -3..4 {
            let lr = 2e-3 * (d / 1e9).powf(-0.3) * 2_f64.powi(i + middle);
            let x = f64::from(i + middle) * std::f64::consts::LN_2;
            let error = 1e-4 * (12.9898 * f64::from(31 * cell + i)).sin();
            rows += &format!("{d},{lr},{}\n", 3. + 0.02 * x * x + error);
        }
    }
    format!("d,lr,loss\n{rows}")
}

#[test]
fn a_sweep_that_shows_no_law_says_what_to_add() {
    let law = ["--law", "lr-horizon"];
    assert_eq!(
        refusal(&sweep(5, 6), &law),
        "`runs.csv`: the best learning rate is not identified: none of 5 cells encloses an optimum: in 5 the loss still \
         falls towards lower learning rates: try lower ones"
    );
    assert!(refusal(&sweep(1, 0), &law).ends_with("has the same horizon: add runs of others"));
    let two = refusal(&sweep(2, 0), &law);
    assert!(two.starts_with("`runs.csv`: `lr-horizon` has 2 free parameters"), "{two}");
}

#[test]
fn a_size_that_the_table_does_not_say_is_not_bought() {
    let (_folder, path) = folder_with("runs.csv", sweep(8, 0));
    let text = run(&["recommend", "--data", &path, "--target", "n=7B,d=200B"]).unwrap();
    assert!(text.contains("but: the table does not say `n`"), "{text}");
    assert!(text.contains("next, buy d = ") && !text.contains("buy n"), "{text}");
}

#[test]
fn an_audit_says_all_its_doubts_in_its_json_too() {
    let (folder, path) = folder_with("runs.csv", sweep(6, 0));
    let json = folder.path().join("audit.json").to_string_lossy().into_owned();
    let audit = |words: &[&str]| {
        let fixed = ["audit-lr", "--d", "1T", "--lr", "1e-3", "--json", &json];
        let text = run(&[&fixed, words].concat()).unwrap();
        let found: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
        (text.split_whitespace().collect::<Vec<_>>().join(" "), found["problem"].clone())
    };
    let (text, problem) = audit(&["--n", "7B", "--data", &path]);
    for doubt in ["the table does not say `n` of its runs", "`d` is 31 times the largest"] {
        assert!(text.contains(doubt), "{text}");
        assert!(problem.as_str().unwrap().contains(doubt), "{problem}");
    }
    let (text, problem) = audit(&["--n", "7B"]);
    assert!(problem.as_str().unwrap().contains("a published law has no interval here"));
    assert!(text.contains("warning: a published law has no interval here"), "{text}");
    let known = data("synth_lr_A.csv").to_string_lossy().into_owned();
    let (text, problem) = audit(&["--n", "1B", "--data", &known]);
    assert!(problem.is_null() && !text.contains("warning"), "{problem} {text}");
}

#[test]
fn recommendations_far_beyond_the_runs_say_so() {
    let (_folder, path) = folder_with("runs.csv", csv(&two_dozen()));
    let advice = |words: &[&str]| {
        let text = run(&[&["recommend", "--data", &path, "--target"], words].concat()).unwrap();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(advice(&["flops=1e26"]).matches("a prediction far beyond the runs").count(), 1);
    let near = advice(&["flops=1e22", "--budget", "1e15"]);
    assert!(!near.contains("far beyond"), "{near}");
    assert!(near.contains("costs 1.000e15 FLOP or less"), "{near}");
}

#[test]
fn an_import_keeps_what_fits_read_and_refuses_what_is_no_run() {
    let import = |name: &str, text: &str, words: &[&str]| {
        let (folder, path) = folder_with(name, text);
        let out = folder.path().join("out.csv").to_string_lossy().into_owned();
        let text = run(&[&["import", &path, "--out", &out], words].concat())?;
        Ok::<_, String>((text, std::fs::read_to_string(&out).unwrap()))
    };
    let (text, table) =
        import("a.csv", "Params,Tokens,loss\n70M,\"2,000,000,000\",3\n", &[]).unwrap();
    assert!(
        text.contains("`70M` is read as 70000000") && text.contains("wrote 1 run to"),
        "{text}"
    );
    assert!(table.contains("\n70000000.0,2000000000.0,"), "{table}");
    let (_, table) =
        import("a.csv", "n,d,family,p_a,p_b,loss,loss_scale\n1e8,1e9,a,0.5,0.5,3,1\n", &[])
            .unwrap();
    assert!(table.starts_with("n,d,flops,loss,family,p_a,p_b\n"), "{table}");
    let state = r#"{"total_flos": 6e17, "num_input_tokens_seen": 0, "log_history": [{"step": 9, "eval_loss": 3}]}"#;
    let (text, table) = import("trainer_state.json", state, &["--set", "n=100M"]).unwrap();
    assert!(text.contains("d = flops / (6 n)") && table.contains("1000000000.0"), "{text}{table}");
    let unknown = import("a.csv", "size,cost\n1,2\n", &[]).unwrap_err();
    assert!(
        unknown.contains("name them with --columns") && unknown.contains("cost, size"),
        "{unknown}"
    );
    assert!(import("a.csv", "n,d,loss\n", &[]).unwrap_err().ends_with("holds no runs"));
}

#[test]
fn a_full_disk_is_a_failure() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        println!("skipped: no /dev/full");
        return;
    };
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_forerun-scaling"))
        .args(["audit-lr", "--n", "7B", "--d", "1T", "--lr", "3e-4"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).starts_with("error: cannot write the answer: ")
    );
}
