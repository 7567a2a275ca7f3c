//! The best size for a budget, by the three approaches of Hoffmann et al. 2022 side by side.

use std::collections::BTreeMap;

use forerun_scaling::isoflop::{PowerFit, envelope, exponent, power_fit, profiles};
use forerun_scaling::parabola::{ParabolaConfig, Window};
use forerun_scaling::units::Flops;

use crate::output::{ApproachFound, Estimate, FitOutput, Named};
use crate::solved::Solved;

/// Runs whose compute differs by less than this are of one budget.
const SAME_BUDGET: f64 = 0.05;
/// The best run counts once in each factor of compute of this size.
const STEP: f64 = 2.;
/// A parabola goes through this many sizes on either side of the best: wider ones bias it where the valley is lopsided.
const WINDOW: usize = 3;
/// Points that a power law needs before it has an interval.
const MIN_POINTS: usize = 3;

/// Sizes, compute and losses of the runs that were fitted.
struct Runs {
    n: Vec<f64>,
    flops: Vec<f64>,
    loss: Vec<f64>,
}

impl Runs {
    fn of(solved: &Solved) -> Self {
        let points = solved.used();
        let column = |name: &str| points.input(name).unwrap_or_default().to_vec();
        let (n, d) = (column("n"), column("d"));
        let flops = n.iter().zip(&d).map(|(n, d)| 6. * n * d).collect();
        Self { n, flops, loss: points.target().to_vec() }
    }

    /// Budgets, a factor [`STEP`] each, with runs of several sizes: only there can a run be better than another.
    fn n_contested(&self) -> usize {
        let mut sizes: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (n, flops) in self.n.iter().zip(&self.flops) {
            let budget = (flops.ln() / STEP.ln()).floor() as i64;
            sizes.entry(budget).or_default().push(n.to_bits());
        }
        let is_contested = |sizes: &&Vec<u64>| sizes.iter().any(|n| *n != sizes[0]);
        sizes.values().filter(is_contested).count()
    }

    /// The best run of each factor of compute.
    fn first(&self) -> Result<PowerFit, String> {
        let n = self.n_contested();
        if n < MIN_POINTS {
            return Err(too_few(n, "budgets with runs of several sizes"));
        }
        let best = envelope(&self.n, &self.flops, &self.loss, STEP);
        let best = best.map_err(|error| error.to_string())?;
        if best.len() < MIN_POINTS {
            return Err(too_few(best.len(), "best runs"));
        }
        let (flops, n): (Vec<f64>, Vec<f64>) = best.iter().map(|(c, n)| (c.0, n.0)).unzip();
        power_fit(&flops, &n, None).map_err(|error| error.to_string())
    }

    /// Parabolas through runs of equal compute.
    fn second(&self) -> Result<PowerFit, String> {
        let config = ParabolaConfig { window: Window::Around(WINDOW), ..ParabolaConfig::default() };
        let budgets = profiles(&self.n, &self.flops, &self.loss, SAME_BUDGET, &config);
        let budgets = budgets.map_err(|error| error.to_string())?;
        match budgets.iter().filter(|budget| budget.optimum.vertex().is_some()).count() {
            n if n < MIN_POINTS => Err(too_few(n, "budgets with a valley")),
            _ => exponent(&budgets).map_err(|error| error.to_string()),
        }
    }
}

/// Fills `approaches`; the law's exponent is in `derived` already.
pub(crate) fn approaches(solved: &Solved, budgets: &[Flops], output: &mut FitOutput) {
    let runs = Runs::of(solved);
    for (approach, fit) in [(1, runs.first()), (2, runs.second())] {
        output.approaches.push(match fit {
            Ok(fit) => found(approach, &fit, budgets),
            Err(problem) => ApproachFound {
                approach,
                n_points: 0,
                a: None,
                n_opt: Named::default(),
                problem: Some(problem),
            },
        });
    }
    let derived = |name: String| output.derived.get(&name).map(|value| value.estimate);
    let n_opt = budgets.iter().map(|c| {
        let name = format!("{:e}", c.0);
        derived(format!("n_opt({name})")).map(|n| (name, n))
    });
    let law = ApproachFound {
        approach: 3,
        n_points: solved.fit.n_points,
        a: output.derived.get("a").cloned(),
        n_opt: Named(n_opt.flatten().collect()),
        problem: None,
    };
    output.approaches.push(law);
}

fn too_few(n: usize, what: &str) -> String {
    format!("{n} {what}, and {MIN_POINTS} are needed")
}

fn found(approach: usize, fit: &PowerFit, budgets: &[Flops]) -> ApproachFound {
    let interval = fit.exponent_ci95;
    let ends = [interval.low, interval.high];
    ApproachFound {
        approach,
        n_points: fit.used.len(),
        a: Some(Estimate::new(fit.exponent, None, Some(ends))),
        n_opt: Named(budgets.iter().map(|c| (format!("{:e}", c.0), fit.at(c.0))).collect()),
        problem: None,
    }
}
