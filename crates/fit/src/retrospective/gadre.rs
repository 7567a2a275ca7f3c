//! The loss of a larger run: Gadre et al. 2024, trained below 1e9 parameters, tested on 1.4e9 and 6.9e9.

use anyhow::Result;
use forerun_scaling::law::{Chinchilla, predict};
use forerun_scaling::{Constraint, FitConfig, Objective, Table, fit};

use super::{Tried, only};

/// The size above which runs are held out.
const ABOVE: f64 = 1e9;

pub(super) fn errors(table: &Table) -> Result<Vec<Tried>> {
    let runs = only(table, "val", "c4_val")?;
    let (n, d, loss) = (runs.numbers("N")?, runs.numbers("D")?, runs.numbers("loss")?);
    let train =
        runs.filter(|row| n[row] < ABOVE).observations("loss", &[("n", "N"), ("d", "D")])?;
    let held: Vec<usize> = (0..n.len()).filter(|&row| n[row] > ABOVE).collect();
    let law = Chinchilla::new();
    let tie = vec![Constraint::Equal("alpha".into(), "beta".into())];
    let configs = [
        (
            "tied exponents, least squares of logs",
            FitConfig { constraints: tie, ..FitConfig::new(Objective::NlsLog) },
        ),
        ("Chinchilla, Huber", FitConfig::default()),
        ("Chinchilla, least squares of logs", FitConfig::new(Objective::NlsLog)),
    ];
    let mut tried = vec![];
    for (method, config) in configs {
        let fitted = fit(&law, &train, &config)?;
        let error = |&row: &usize| -> Result<f64> {
            let predicted = predict(&law, &fitted.theta, &[("n", n[row]), ("d", d[row])])?;
            Ok((predicted / loss[row] - 1.).abs())
        };
        tried.push(Tried { method, regrets: held.iter().map(error).collect::<Result<_>>()? });
    }
    let lowest = train.target().iter().copied().fold(f64::INFINITY, f64::min);
    let habit = held.iter().map(|&row| (lowest / loss[row] - 1.).abs()).collect();
    tried.push(Tried { method: "the best loss so far", regrets: habit });
    Ok(tried)
}
