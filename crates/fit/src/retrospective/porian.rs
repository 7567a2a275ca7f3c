//! Size for a budget: Porian et al. 2024, five experiments of up to 12 budgets.

use anyhow::Result;
use forerun_scaling::isoflop::{envelope, exponent, power_fit, profiles};
use forerun_scaling::law::Chinchilla;
use forerun_scaling::parabola::{ParabolaConfig, Window};
use forerun_scaling::units::Flops;
use forerun_scaling::{FitConfig, Observations, Table, fit};

use super::{Tried, distinct, lowest, only, regret};

/// Budgets that are decided for, the largest.
const HELD_OUT: usize = 3;

const METHODS: [&str; 5] = [
    "a law of all runs (approach 3, Huber)",
    "parabolas, +-3 points (approach 2)",
    "best runs so far (approach 1)",
    "20 tokens a parameter",
    "the size of the last budget, unchanged",
];

pub(super) fn regrets(table: &Table) -> Result<Vec<Tried>> {
    let mut tried = METHODS.map(|method| Tried { method, regrets: vec![] });
    for name in distinct(table, "experiment")? {
        let runs = only(table, "experiment", &name)?;
        let column = |name: &str| runs.numbers(name);
        let (flops, n, loss) = (column("flops")?, column("N")?, column("loss")?);
        let mut budgets = flops.clone();
        budgets.sort_by(f64::total_cmp);
        budgets.dedup();
        let (seen, held) = budgets.split_at(budgets.len().saturating_sub(HELD_OUT));
        let Some(&largest) = seen.last() else { continue };
        let small: Vec<usize> =
            (0..n.len()).filter(|&i| flops[i] <= largest && loss[i].is_finite()).collect();
        let pick = |values: &[f64]| small.iter().map(|&i| values[i]).collect::<Vec<f64>>();
        let (c, size, l) = (pick(&flops), pick(&n), pick(&loss));
        let at = |budget: f64| -> Vec<(f64, f64)> {
            let is_here = |&i: &usize| flops[i] == budget && loss[i].is_finite();
            (0..n.len()).filter(is_here).map(|i| (n[i], loss[i])).collect()
        };
        let config = ParabolaConfig { window: Window::Around(3), ..ParabolaConfig::default() };
        let second = exponent(&profiles(&size, &c, &l, 0.05, &config)?).ok();
        let best = envelope(&size, &c, &l, 2.)?;
        let (x, y): (Vec<f64>, Vec<f64>) = best.iter().map(|(c, n)| (c.0, n.0)).unzip();
        let first = power_fit(&x, &y, None).ok();
        let d = c.iter().zip(&size).map(|(c, n)| c / 6. / n).collect();
        let points = Observations::new("loss", l).with_input("n", size.clone()).with_input("d", d);
        let third = fit(&Chinchilla::new(), &points, &FitConfig::default()).ok();
        for &budget in held {
            let choices = [
                third
                    .as_ref()
                    .map_or(f64::NAN, |fit| Chinchilla::frontier(&fit.theta).at(Flops(budget)).0.0),
                second.as_ref().map_or(f64::NAN, |fit| fit.at(budget)),
                first.as_ref().map_or(f64::NAN, |fit| fit.at(budget)),
                (budget / 120.).sqrt(),
                lowest(&at(largest)).0,
            ];
            for (tried, choice) in tried.iter_mut().zip(choices) {
                tried.regrets.push(regret(&at(budget), choice));
            }
        }
    }
    Ok(tried.into())
}
