//! Does a loss depend on its own share alone? A test of every family.

use forerun_scaling::Observations;
use forerun_scaling::independence::{holm, independence};

use crate::output::{FitOutput, IndependenceFound};
use crate::problem::{Problem, of_scale};
use crate::solved::Solved;

/// Level at which the test of independence is called a rejection.
const LEVEL: f64 = 0.05;

/// Smallest own share of the rows that are tested: `ln p` breaks at 0, and rounded shares near it are mostly rounding.
const MIN_SHARE: f64 = 0.005;

fn with_own_share(points: &Observations) -> Observations {
    let own = points.input("p").unwrap_or_default();
    let kept: Vec<usize> = (0..own.len()).filter(|&i| own[i] >= MIN_SHARE).collect();
    let kept = points.select(&kept);
    // Its cells are sizes and horizons, whatever the bootstrap draws.
    let cells = of_scale(&kept);
    kept.with_clusters(cells)
}

/// Tests every family, corrects for their number, and says in words what was found.
pub(crate) fn test_independence(problem: &Problem, solved: &[Solved], output: &mut FitOutput) {
    let mut found = vec![];
    if problem.shares.len() == 2 {
        output.warnings.push(
            "with two shares one follows from the other: whether a loss depends on its own alone cannot be tested".into(),
        );
        return;
    }
    for one in solved {
        let others: Vec<String> = problem
            .shares
            .iter()
            .filter(|share| **share != one.part.name)
            .map(|share| format!("p_{share}"))
            .collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        match independence(&one.part.name, &with_own_share(&one.part.observations), &others) {
            Ok(test) => found.push(test),
            Err(error) => output.warnings.push(error.to_string()),
        }
    }
    let adjusted = holm(&found.iter().map(|test| test.p_value).collect::<Vec<f64>>());
    let rejected: Vec<&str> = found
        .iter()
        .zip(&adjusted)
        .filter(|(_, p)| **p < LEVEL)
        .map(|(test, _)| test.family.as_str())
        .collect();
    if !rejected.is_empty() {
        output.warnings.push(format!(
            "the loss of {} depends on the shares of others too (F-test, level {LEVEL}, Holm): the law and its optimal \
             mixture leave that out",
            rejected.join(", ")
        ));
    }
    for (test, p_holm) in found.into_iter().zip(adjusted) {
        let strongest =
            test.strongest.map(|(name, effect)| (name.trim_start_matches("p_").to_owned(), effect));
        let entry =
            IndependenceFound { f: test.f, df: test.df, p: test.p_value, p_holm, strongest };
        output.independence.push(test.family, entry);
    }
}
