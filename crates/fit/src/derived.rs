//! What follows from the fitted parameters: frontier, mixtures, predictions, tests.

use anyhow::{Context, Result, bail};
use forerun_scaling::law::{Chinchilla, Scale};
use forerun_scaling::mixture::Weighing;
use forerun_scaling::units::Flops;
use forerun_scaling::{Law, Observations, Quantity, allocation};

use crate::approaches::approaches;
use crate::independent::test_independence;
use crate::mixtures::{Available, optimum};
use crate::output::{Estimate, FitOutput, Named, Prediction};
use crate::problem::{LawName, Problem, ROUNDING};
use crate::solved::Solved;

/// What the caller wants to know besides the parameters.
pub(crate) struct Asked<'a> {
    /// Points to predict: names of inputs with values.
    pub(crate) predict: &'a [Vec<(String, f64)>],
    /// Budgets of the frontier, FLOP; none for those that the data suggest.
    pub(crate) budgets: &'a [f64],
    /// What there is of each family, for samplers that go by it.
    pub(crate) available: &'a Option<Available>,
}

/// Budgets at which the frontier is shown where none was asked for: the data's largest, and factors beyond it.
pub(crate) fn budgets(solved: &Solved, asked: &[f64]) -> Vec<Flops> {
    if !asked.is_empty() {
        return asked.iter().map(|&flops| Flops(flops)).collect();
    }
    let observations = &solved.part.observations;
    let (Some(n), Some(d)) = (observations.input("n"), observations.input("d")) else {
        return vec![];
    };
    let largest = n.iter().zip(d).map(|(n, d)| 6. * n * d).fold(0., f64::max);
    [1., 10., 100.].map(|factor| Flops(rounded(factor * largest))).to_vec()
}

/// Fills `derived`, `approaches`, `mixtures`, `independence` and `predictions`.
pub(crate) fn derive(
    problem: &Problem,
    solved: &[Solved],
    asked: &Asked,
    output: &mut FitOutput,
) -> Result<()> {
    match problem.law {
        LawName::Chinchilla | LawName::ChinchillaTied => {
            let budgets = budgets(&solved[0], asked.budgets);
            frontier(&solved[0], &budgets, output);
            approaches(&solved[0], &budgets, output);
        }
        LawName::DataConstrained => {
            let budgets = budgets(&solved[0], asked.budgets);
            repeated(&solved[0], &budgets, output);
        }
        LawName::LrHorizon => best_rates(&solved[0], output)?,
        LawName::Mixing => {}
        LawName::Multilingual => {
            mixtures(problem, solved, None, asked.available, output)?;
            for inputs in asked.predict {
                if let Some(scale) = find(inputs, "n").zip(find(inputs, "d")) {
                    let found = optimum(solved, Weighing::Sum, scale, asked.available)?;
                    output.mixtures.push(found);
                }
            }
        }
    }
    for inputs in asked.predict {
        refuse_unknown(&solved[0], &problem.shares, inputs)?;
        // Without shares, a size and a horizon ask for the best mixture there.
        let has_shares = inputs.iter().any(|(name, _)| name == "p" || name.starts_with("p_"));
        if problem.law != LawName::Multilingual || has_shares {
            for one in solved {
                output.predictions.push(prediction(one, inputs)?);
            }
        }
        let (law, points) = (solved[0].part.law.as_ref(), &solved[0].part.observations);
        output.warnings.extend(unheard(law, points, inputs));
        output.warnings.extend(far_away(points, inputs));
    }
    Ok(())
}

fn find(inputs: &[(String, f64)], name: &str) -> Option<f64> {
    inputs.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}

/// Beyond this many times the largest run an interval is about the law's parameters, no longer about the law.
const FAR: f64 = 10.;

/// What to know about a prediction far beyond the runs.
pub(crate) fn far_away(points: &Observations, inputs: &[(String, f64)]) -> Option<String> {
    let far = ["n", "d"].into_iter().filter_map(|name| {
        let largest = points.input(name)?.iter().copied().fold(0., f64::max);
        let factor = find(inputs, name)? / largest;
        (factor > FAR).then(|| format!("`{name}` is {factor:.0} times the largest of the table"))
    });
    let far: Vec<String> = far.collect();
    let text = "the interval holds if the law does, and no run says so that far out";
    (!far.is_empty())
        .then(|| format!("a prediction far beyond the runs: {}; {text}", far.join(", ")))
}

/// What to know about inputs of a prediction that the law does not ask for, as the runs do not vary them.
pub(crate) fn unheard(
    law: &dyn Law,
    points: &Observations,
    inputs: &[(String, f64)],
) -> Option<String> {
    let asked = law.inputs();
    let idle = inputs.iter().filter(|(name, _)| {
        ["n", "d", "batch"].contains(&name.as_str())
            && asked.iter().all(|input| input.name != *name)
    });
    let said = idle.filter_map(|(name, value)| match points.input(name).map(|known| known[0]) {
        Some(known) if known == *value => None,
        Some(known) => Some(format!("all runs have {name} = {}", tidy(known))),
        None => Some(format!("the table does not say `{name}` of its runs")),
    });
    let said: Vec<String> = said.collect();
    (!said.is_empty())
        .then(|| format!("{}: what another one changes is not in the answer", said.join(", ")))
}

/// Tests independence, and finds the best mixture of the normalised sum, or of the plain one at a size and horizon.
pub(crate) fn mixtures(
    problem: &Problem,
    solved: &[Solved],
    scale: Option<(f64, f64)>,
    available: &Option<Available>,
    output: &mut FitOutput,
) -> Result<()> {
    if let Some(available) = available {
        available.check(solved)?;
    }
    test_independence(problem, solved, output);
    match optimum(solved, Weighing::Normalised, (1., 1.), available) {
        Ok(found) => output.mixtures.push(found),
        Err(error) => output.warnings.push(format!("{error:#}")),
    }
    if let Some(scale) = scale {
        output.mixtures.push(optimum(solved, Weighing::Sum, scale, available)?);
    }
    Ok(())
}

fn frontier(solved: &Solved, budgets: &[Flops], output: &mut FitOutput) {
    exponents(solved, output);
    let g = |theta: &[f64]| Chinchilla::frontier(theta).g.ln();
    output.derived.push("G", solved.estimate(&Quantity::new("G", Scale::Log, g)));
    for &flops in budgets {
        let quantities =
            [Quantity::optimal_params(flops), Quantity::optimal_tokens(flops), lowest_loss(flops)];
        for quantity in quantities {
            output.derived.push(quantity.name(), solved.estimate(&quantity));
        }
    }
}

/// `N* ∝ C^a` and `D* ∝ C^b`.
fn exponents(solved: &Solved, output: &mut FitOutput) {
    output.derived.push("a", solved.estimate(&Quantity::frontier_exponent()));
    let b = |theta: &[f64]| 1. - Chinchilla::frontier(theta).exponent;
    output.derived.push("b", solved.estimate(&Quantity::new("b", Scale::Linear, b)));
}

/// Epochs whose worth is shown.
const EPOCHS: [f64; 3] = [2., 4., 16.];

/// Exponents for fresh tokens; what repeated ones are worth; the best use of budgets with the most unique tokens of the
/// table.
fn repeated(solved: &Solved, budgets: &[Flops], output: &mut FitOutput) {
    exponents(solved, output);
    let limit = |theta: &[f64]| theta[6].exp();
    for epochs in EPOCHS {
        // D' / D of the law: all tokens that were seen, in units of fresh ones.
        let worth = move |theta: &[f64]| {
            let limit = limit(theta);
            ((1. - limit * (-(epochs - 1.) / limit).exp_m1()) / epochs).ln()
        };
        let name = format!("worth({epochs})");
        output.derived.push(&name, solved.estimate(&Quantity::new(&name, Scale::Log, worth)));
    }
    let half = move |theta: &[f64]| (1. + limit(theta) * std::f64::consts::LN_2).ln();
    output
        .derived
        .push("half_life", solved.estimate(&Quantity::new("half_life", Scale::Log, half)));
    let unique = solved.part.observations.input("u").unwrap_or_default();
    let others = [("u", unique.iter().copied().fold(0., f64::max))];
    let law = solved.part.law.as_ref();
    for &flops in budgets {
        let size = allocation::optimal_params(law, flops, &others);
        let n = solved.estimate(&size);
        if !n.estimate.is_finite() {
            continue;
        }
        let tokens = |n: f64| flops.0 / 6. / n;
        let d = Estimate {
            estimate: tokens(n.estimate),
            se: n.se.map(|se| se / n.estimate * tokens(n.estimate)),
            ci95: n.ci95.map(|ends| tokens_between(flops.0, ends)),
            problem: n.problem.clone(),
        };
        output.derived.push(size.name(), n);
        output.derived.push(format!("d_opt({:e})", flops.0), d);
        let loss = allocation::optimal_loss(law, flops, &others);
        output.derived.push(loss.name(), solved.estimate(&loss));
    }
}

/// The tokens that a budget leaves to sizes between two ends. An open end of the size is the other, open, end of the tokens.
fn tokens_between(flops: f64, [low, high]: [f64; 2]) -> [f64; 2] {
    [high, low].map(|n| if n.is_finite() { flops / 6. / n } else { -n })
}

/// Horizons at which the best learning rate is shown, times the longest of the table.
const HORIZONS: [f64; 3] = [1., 4., 16.];

/// The best learning rate of the largest size, at the longest horizon and beyond.
fn best_rates(solved: &Solved, output: &mut FitOutput) -> Result<()> {
    let points = &solved.part.observations;
    let column = |name: &str| points.input(name).unwrap_or_default();
    let largest = |name: &str| column(name).iter().copied().reduce(f64::max);
    let longest = largest("d").unwrap_or(f64::NAN);
    for factor in HORIZONS {
        let law = solved.part.law.as_ref();
        let place = law.inputs().into_iter().filter_map(|input| {
            let value = largest(&input.name)?;
            let value = if input.name == "d" { factor * longest } else { value };
            Some((input.name, value))
        });
        let place: Vec<(String, f64)> = place.collect();
        let pairs: Vec<(&str, f64)> = place.iter().map(|(name, v)| (name.as_str(), *v)).collect();
        let words: Vec<String> =
            pairs.iter().map(|(name, v)| format!("{name}={}", tidy(*v))).collect();
        let quantity = Quantity::prediction(law, &pairs)?;
        output.derived.push(format!("lr_opt({})", words.join(",")), solved.estimate(&quantity));
    }
    Ok(())
}

/// A count for a name: three significant digits.
fn tidy(value: f64) -> String {
    let text = format!("{value:.2e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// The lowest loss of a two-power law for a budget, from its closed frontier: the general search of
/// `forerun_scaling::allocation` finds the same, some thousand times slower.
pub(crate) fn lowest_loss(flops: Flops) -> Quantity<'static> {
    Quantity::new(format!("loss_opt({:e})", flops.0), Scale::Log, move |theta: &[f64]| {
        let (n, d) = Chinchilla::frontier(theta).at(flops);
        let power =
            |ln_amplitude: f64, exponent: f64, x: f64| (ln_amplitude - exponent * x.ln()).exp();
        (theta[2].exp() + power(theta[0], theta[3], n.0) + power(theta[1], theta[4], d.0)).ln()
    })
}

/// Two significant digits, for names that people read.
fn rounded(flops: f64) -> f64 {
    let unit = 10_f64.powf(flops.log10().floor() - 1.);
    let text = format!("{:.0}e{}", flops / unit, unit.log10().round());
    text.parse().unwrap_or(flops)
}

/// Refuses what no law and no table of runs asks for.
fn refuse_unknown(solved: &Solved, shares: &[String], inputs: &[(String, f64)]) -> Result<()> {
    let given: Vec<f64> =
        shares.iter().filter_map(|share| find(inputs, &format!("p_{share}"))).collect();
    let sum: f64 = given.iter().sum();
    if sum > 1. + ROUNDING
        || given.len() == shares.len() && !shares.is_empty() && sum < 1. - ROUNDING
    {
        bail!("--predict: the shares sum to {sum}, not to 1");
    }
    let wanted: Vec<String> =
        solved.part.law.inputs().into_iter().map(|input| input.name).collect();
    let is_known = |name: &str| {
        ["n", "d", "batch"].contains(&name)
            || name
                .strip_prefix("p_")
                .is_some_and(|share| shares.iter().any(|known| known == share))
            || wanted.iter().any(|known| known == name)
    };
    match inputs.iter().find(|(name, _)| !is_known(name)) {
        Some((name, _)) => {
            bail!("--predict: `{name}` is no input of the law; it asks for {}", wanted.join(", "))
        }
        None => Ok(()),
    }
}

/// One prediction; shares of a multilingual law are named `p` or `p_FAMILY`.
fn prediction(solved: &Solved, inputs: &[(String, f64)]) -> Result<Prediction> {
    let mut known: Vec<(String, f64)> = inputs.to_vec();
    let own = format!("p_{}", solved.part.name);
    if let (false, Some((_, share))) = (
        known.iter().any(|(name, _)| name == "p"),
        known.iter().find(|(name, _)| *name == own).cloned(),
    ) {
        known.push(("p".into(), share));
    }
    let wanted = solved.part.law.inputs();
    let mut used = Named::default();
    for input in &wanted {
        let Some((_, value)) = known.iter().find(|(name, _)| *name == input.name) else {
            let names: Vec<&str> = wanted.iter().map(|input| input.name.as_str()).collect();
            bail!("--predict needs {}; `{}` is missing", names.join(", "), input.name);
        };
        used.push(&input.name, *value);
    }
    let pairs: Vec<(&str, f64)> =
        used.0.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let quantity = Quantity::prediction(solved.part.law.as_ref(), &pairs).context("--predict")?;
    let value = solved.estimate(&quantity);
    Ok(Prediction { part: solved.part.name.clone(), inputs: used, value })
}

#[cfg(test)]
mod tests;
