//! A column `weight`, which every law that can reads.

use crate::support::{data, fit_text};

/// Shares and losses of two domains, with a weight a row.
fn mixtures(weight: &dyn Fn(u32) -> f64) -> String {
    let row = |i: u32| {
        let a = 0.1 + 0.8 * f64::from((7 * i) % 30) / 30.;
        let loss = |t: f64| 2. + (0.3 - t * a).exp() * (1. + 1e-3 * f64::from(i).sin());
        format!("{a},{},{},{},{}\n", 1. - a, loss(1.), loss(-0.5), weight(i))
    };
    let rows: String = (0..30).map(row).collect();
    format!("p_a,p_b,loss_a,loss_b,weight\n{rows}")
}

#[test]
fn weights_of_families_are_read() {
    let fit = |weight: &dyn Fn(u32) -> f64| {
        fit_text("runs.csv", mixtures(weight), &["--law", "mixing"]).unwrap().1
    };
    let plain = fit(&|_| 1.);
    assert_eq!(plain["n_points"], 60);
    assert_eq!(plain["params"], fit(&|_| 7.)["params"]);
    let without = fit(&|i| f64::from(u8::from(i != 4)));
    assert_eq!(without["n_points"], 58);
    assert_eq!(without["dropped"][0]["row"], 5);
    assert_ne!(plain["params"]["c_a"], fit(&|i| f64::from(1 + i % 3))["params"]["c_a"]);
}

/// Best learning rates, with a weight each.
fn optima(weight: &dyn Fn(u32) -> f64) -> String {
    let row = |i: u32| {
        let d = 1e9 * 2_f64.powi(i as i32);
        let lr = 2e-3 * (d / 1e9).powf(-0.3) * (1. + 0.02 * f64::from(3 * i).sin());
        format!("{d},{lr},{}\n", weight(i))
    };
    format!("tokens,lr,weight\n{}", (0..8).map(row).collect::<String>())
}

#[test]
fn weights_of_best_learning_rates_are_read() {
    let fit = |weight: &dyn Fn(u32) -> f64| {
        fit_text("runs.csv", optima(weight), &["--law", "lr-horizon"]).unwrap().1
    };
    let plain = fit(&|_| 1.);
    assert_ne!(plain["params"]["beta"], fit(&|i| f64::from(1 + i))["params"]["beta"]);
    assert_eq!(fit(&|i| f64::from(u8::from(i != 4)))["n_points"], 7);
}

#[test]
fn weights_of_the_runs_of_a_sweep_are_refused() {
    let sweep = std::fs::read_to_string(data("synth_lr_A.csv")).unwrap();
    let with = |weight: &dyn Fn(usize) -> usize| {
        let line = |(i, line): (usize, &str)| match i {
            0 => format!("{line},weight\n"),
            _ => format!("{line},{}\n", weight(i)),
        };
        let text: String = sweep.lines().enumerate().map(line).collect();
        fit_text("runs.csv", text, &["--law", "lr-horizon"])
    };
    let expected = "`runs.csv`, column `weight`: a sweep over learning rates is read without weights: leave runs out with \
                    --filter, and take this column away or give all runs the same";
    assert_eq!(with(&|i| 1 + i % 2).unwrap_err(), expected);
    assert_eq!(with(&|_| 2).unwrap().1["sweep"]["cells"], 25);
}

#[test]
fn a_weight_that_is_none_is_named_as_the_table_has_it() {
    for law in ["lr-horizon", "mixing"] {
        for (bad, reason) in
            [(-1., "must not be negative"), (f64::NAN, "must be a finite number, got NaN")]
        {
            let weight = |i: u32| if i == 2 { bad } else { 1. };
            let text = if law == "mixing" { mixtures(&weight) } else { optima(&weight) };
            let text = text.replacen("weight", "How sure", 1);
            let words = ["--law", law, "--columns", "weight=How sure"];
            let expected = format!("`runs.csv`, row 3, column `How sure`: {reason}");
            assert_eq!(fit_text("runs.csv", text, &words).unwrap_err(), expected);
        }
    }
}
