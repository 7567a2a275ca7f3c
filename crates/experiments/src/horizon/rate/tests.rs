use serde_json::json;

use super::*;
use crate::cell::MemberResult;

const RATES: [f64; 5] = [0.001, 0.002, 0.004, 0.008, 0.016];
const HORIZONS: [f64; 4] = [1e6, 2e6, 4e6, 8e6];

fn row(lr: f64, loss: Option<f64>, outcome: &str) -> std::collections::BTreeMap<String, Value> {
    let row = [("lr", json!(lr)), ("validation_loss", json!(loss)), ("outcome", json!(outcome))];
    row.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A stack whose losses are a parabola around the law's rate; every seed has its own level.
fn stack(n_tokens: f64, seed: u64, exponent: f64) -> CellResult {
    let best = 0.006 * (1e6 / n_tokens).powf(exponent);
    let member = |&lr: &f64| {
        let loss = 2.0 + 0.1 * seed as f64 + 0.05 * (lr / best).ln().powi(2);
        MemberResult { row: row(lr, Some(loss), "finished"), series: Vec::new() }
    };
    CellResult { members: RATES.iter().map(member).collect(), ..CellResult::default() }
}

fn swept(need: usize, seed: u64, n_tokens: f64) -> SweptCell {
    SweptCell { need, seed, n_tokens }
}

/// The answer to a sweep of two seeds, with the results changed.
fn answer(ask: Ask, exponent: f64, change: impl Fn(&SweptCell, &mut CellResult)) -> Option<f64> {
    let (mut sweep, mut runs) = (Vec::new(), Vec::new());
    for n_tokens in HORIZONS {
        for seed in 0..2 {
            let cell = swept(sweep.len(), seed, n_tokens);
            let mut result = stack(n_tokens, seed, exponent);
            change(&cell, &mut result);
            runs.extend(runs_of(&cell, &result));
            sweep.push(cell);
        }
    }
    SweepRate { sweep, parabola: ParabolaConfig::default(), ask }.answer(&runs)
}

#[track_caller]
fn check(found: Option<f64>, want: f64) {
    let found = found.unwrap();
    assert!((found / want - 1.0).abs() < 1e-6, "{found} instead of {want}");
}

#[test]
fn the_law_of_the_sweep_predicts_a_longer_horizon() {
    let ask = Ask::Predicted { n_tokens: 16e6 };
    check(answer(ask, 0.3, |_, _| {}), 0.006 * 16_f64.powf(-0.3));
    check(answer(ask, 0.0, |_, _| {}), 0.006);
}

#[test]
fn the_best_of_a_horizon_is_its_own() {
    let ask = Ask::BestAt { n_tokens: 2e6 };
    check(answer(ask, 0.3, |_, _| {}), 0.006 * 2_f64.powf(-0.3));
    assert_eq!(answer(Ask::BestAt { n_tokens: 3e6 }, 0.3, |_, _| {}), None);
}

#[test]
fn a_training_that_diverged_counts_at_no_seed() {
    // The loss that it had before it diverged is not looked at, and the other seed's is not compared with nothing.
    let diverge = |cell: &SweptCell, result: &mut CellResult| {
        if cell.seed == 1 {
            result.members[4].row = row(RATES[4], Some(0.5), "diverged");
        }
    };
    check(answer(Ask::Predicted { n_tokens: 16e6 }, 0.3, diverge), 0.006 * 16_f64.powf(-0.3));
}

#[test]
fn without_optima_at_three_horizons_there_is_no_prediction() {
    let flatten = |from: f64| {
        move |cell: &SweptCell, result: &mut CellResult| {
            for member in &mut result.members {
                if cell.n_tokens >= from {
                    // Falls over the whole grid.
                    let lr = member.row["lr"].as_f64().unwrap();
                    member.row.insert("validation_loss".to_owned(), json!(2.0 - lr));
                }
            }
        }
    };
    let ask = Ask::Predicted { n_tokens: 16e6 };
    check(answer(ask, 0.3, flatten(8e6)), 0.006 * 16_f64.powf(-0.3));
    assert_eq!(answer(ask, 0.3, flatten(4e6)), None);
}

#[test]
fn a_cell_that_is_no_stack_is_one_training() {
    let result = CellResult { row: row(0.5, Some(1.5), "finished"), ..CellResult::default() };
    let runs = runs_of(&swept(0, 3, 1e6), &result);
    assert_eq!(runs, [Run { seed: 3, n_tokens: 1e6, lr: 0.5, loss: 1.5 }]);
    let nothing = CellResult { row: row(0.5, None, "diverged"), ..CellResult::default() };
    assert!(runs_of(&swept(0, 3, 1e6), &nothing)[0].loss.is_nan());
}

#[test]
fn what_is_asked_survives_a_cells_file() {
    let rate = SweepRate {
        sweep: vec![swept(0, 1, 1e6)],
        parabola: ParabolaConfig::default(),
        ask: Ask::Predicted { n_tokens: 4e6 },
    };
    let lr = crate::train_stack::LearningRate::FromSweep(rate);
    let text = serde_json::to_string(&lr).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::train_stack::LearningRate>(&text).unwrap(),
        lr,
        "{text}"
    );
}
