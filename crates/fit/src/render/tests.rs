use expect_test::expect;

use super::*;
use crate::output::{ApproachFound, Comparison, DroppedRow, Named, Prediction, SweepFound};

fn output() -> FitOutput {
    let value = |estimate: f64, se: f64| {
        Estimate::new(estimate, Some(se), Some([estimate - se, estimate + se]))
    };
    let mut output = FitOutput {
        law: "chinchilla".into(),
        objective: "huber".into(),
        objective_value: 0.00101827,
        n_points: 240,
        starts: 12,
        interval_method: "profile-likelihood".into(),
        warnings: vec!["the optimum lies on a flat ridge (condition number 3.5e11): single parameters mean little".into()],
        dropped: vec![DroppedRow { part: String::new(), row: 1, target: 5.0056, reason: "one of the 1 highest targets".into() }],
        ..FitOutput::default()
    };
    output.params.push("A", value(477.8258, 124.52));
    output.params.push("E", Estimate::new(1.817218, None, Some([f64::NEG_INFINITY, 1.9])));
    let problem = "its profile never reaches the cut";
    output.params.push(
        "beta",
        Estimate { problem: Some(problem.into()), ..Estimate::new(0.37, None, None) },
    );
    output.derived.push("n_opt(1e23)", value(2.9e10, 3e9));
    let inputs = Named(vec![("n".to_owned(), 7e10), ("d".to_owned(), 1.4e12)]);
    output.predictions.push(Prediction {
        part: String::new(),
        inputs,
        value: value(1.9733, 0.004),
    });
    output
}

#[test]
fn a_terminal_shows_tables_of_80_columns() {
    let text = terminal(&output());
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    expect![[r#"
        chinchilla by huber: objective 0.001018270 over 240 points; 12 starts, 0 optima;
        intervals: profile-likelihood
        left out: row 1 (5.0056); one of the 1 highest targets

        Parameters

                estimate       se      95 % interval
        ─────────────────────────────────────────────
         A        477.83   124.52   353.31 .. 602.35
         E        1.8172        -   unbounded .. 1.9
         beta       0.37        -                  -

        What follows

                       estimate        se          95 % interval
        ─────────────────────────────────────────────────────────
         n_opt(1e23)   2.900e10   3.000e9   2.600e10 .. 3.200e10

        Predictions

                                 estimate      se      95 % interval
        ─────────────────────────────────────────────────────────────
         n=7.000e10 d=1.400e12     1.9733   0.004   1.9693 .. 1.9773

        warning: the optimum lies on a flat ridge (condition number 3.5e11): single
        parameters mean little
    "#]]
    .assert_eq(&text);
}

#[test]
fn reasons_that_are_not_named_are_counted() {
    let row = |row: usize| DroppedRow {
        part: String::new(),
        row,
        target: 3.,
        reason: format!("reason {row:02}"),
    };
    let said = |rows: usize| {
        let dropped = (1..=rows).map(row).collect();
        super::dropped(&FitOutput { dropped, ..FitOutput::default() }).unwrap()
    };
    assert!(said(10).ends_with("row 10 (3); reason 10"), "{}", said(10));
    assert!(said(11).ends_with("row 10 (3); reason 10. And for 1 more reason"), "{}", said(11));
    assert!(said(15).ends_with("And for 5 more reasons"), "{}", said(15));
}

#[test]
fn a_per_cent_sign_stays_with_its_number() {
    let text = wrap(&format!("{} 95 %: so much", "x".repeat(76)), "");
    assert_eq!(text, format!("{}\n95 %: so much\n", "x".repeat(76)));
}

#[test]
fn the_report_is_one_page_that_loads_nothing() {
    let html = report(&output(), vec![], &["forerun-scaling".into(), "fit".into()]).to_html();
    assert!(html.starts_with("<!doctype html>") && html.contains("flat ridge"));
    assert!(!html.contains("http://") && !html.contains("<script"));
}

#[test]
fn every_json_key_is_documented() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SCALING.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut json = serde_json::to_value(output()).unwrap();
    let found = ApproachFound {
        approach: 2,
        n_points: 0,
        a: None,
        n_opt: Named::default(),
        problem: Some("no valley".into()),
    };
    json["approaches"] = serde_json::json!([found]);
    json["comparison"] = serde_json::to_value(Comparison::default()).unwrap();
    let swept = SweepFound {
        cells: 0,
        identified: 0,
        lost: 0,
        valleys: "untested".into(),
        reach: None,
        tested_with: None,
        slant: None,
        p_smooth: None,
        curvature: None,
    };
    json["sweep"] = serde_json::to_value(swept).unwrap();
    let keys = ["approaches", "comparison", "dropped", "predictions", "sweep"];
    let inner = keys.map(|key| json[key].clone());
    let inner = inner.iter().flat_map(|value| {
        let value = value.get(0).unwrap_or(value);
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    });
    for key in json.as_object().unwrap().keys().cloned().chain(inner) {
        assert!(page.contains(&format!("`{key}`")), "docs/SCALING.md lacks `{key}`");
    }
}

#[test]
fn json_keys_are_stable() {
    let json = serde_json::to_value(output()).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    for key in [
        "law",
        "objective",
        "objective_value",
        "n_points",
        "dropped",
        "params",
        "derived",
        "predictions",
        "starts",
        "optima",
        "warnings",
    ] {
        assert!(keys.contains(&key), "{key} of {keys:?}");
    }
    assert_eq!(json["params"]["A"]["ci95"][0], 477.8258 - 124.52);
    assert_eq!(json["params"]["E"]["ci95"][0], serde_json::Value::Null, "an open end");
    assert_eq!(json["predictions"][0]["inputs"]["n"], 7e10);
    assert_eq!(json["predictions"][0]["estimate"], 1.9733);
}
