//! What follows from the fitted parameters: frontier, mixtures, best learning rates, predictions, tests.

use anyhow::{Context, Result, bail};
use forerun_scaling::independence::{holm, independence};
use forerun_scaling::interval::percentile_interval;
use forerun_scaling::law::{Chinchilla, Scale};
use forerun_scaling::mixture::{self, Component, Mixture, Weighing, optimise};
use forerun_scaling::units::Flops;
use forerun_scaling::{Observations, Quantity};

use crate::output::{Estimate, FitOutput, IndependenceFound, MixtureFound, Named, Prediction};
use crate::problem::{LawName, Problem};
use crate::solved::Solved;

/// Level at which the test of independence is called a rejection.
const LEVEL: f64 = 0.05;

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

/// Fills `derived`, `mixtures`, `independence` and `predictions`.
pub(crate) fn derive(
    problem: &Problem,
    solved: &[Solved],
    predict: &[Vec<(String, f64)>],
    asked_budgets: &[f64],
    output: &mut FitOutput,
) -> Result<()> {
    match problem.law {
        LawName::Chinchilla | LawName::ChinchillaTied => {
            frontier(&solved[0], asked_budgets, output)
        }
        LawName::DataConstrained | LawName::LrHorizon | LawName::Mixing => {}
        LawName::Multilingual => {
            mixtures(problem, solved, None, output)?;
            for inputs in predict {
                let at = |name: &str| {
                    inputs.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
                };
                let scale = at("n").zip(at("d"));
                output
                    .mixtures
                    .extend(scale.map(|scale| optimum(solved, Weighing::Sum, scale)).transpose()?);
            }
        }
    }
    for inputs in predict {
        // Without shares, a size and a horizon ask for the best mixture there.
        let has_shares = inputs.iter().any(|(name, _)| name == "p" || name.starts_with("p_"));
        if problem.law != LawName::Multilingual || has_shares {
            for one in solved {
                output.predictions.push(prediction(one, inputs)?);
            }
        }
    }
    Ok(())
}

fn frontier(solved: &Solved, asked: &[f64], output: &mut FitOutput) {
    output.derived.push("a", solved.estimate(&Quantity::frontier_exponent()));
    let g = |theta: &[f64]| Chinchilla::frontier(theta).g.ln();
    output.derived.push("G", solved.estimate(&Quantity::new("G", Scale::Log, g)));
    for flops in budgets(solved, asked) {
        let quantities =
            [Quantity::optimal_params(flops), Quantity::optimal_tokens(flops), lowest_loss(flops)];
        for quantity in quantities {
            output.derived.push(quantity.name(), solved.estimate(&quantity));
        }
    }
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

/// Tests independence, and finds the best mixture of the normalised sum, or of the plain one at a size and horizon.
pub(crate) fn mixtures(
    problem: &Problem,
    solved: &[Solved],
    scale: Option<(f64, f64)>,
    output: &mut FitOutput,
) -> Result<()> {
    test_independence(problem, solved, output);
    match optimum(solved, Weighing::Normalised, (1., 1.)) {
        Ok(found) => output.mixtures.push(found),
        Err(error) => output.warnings.push(format!("{error:#}")),
    }
    output.mixtures.extend(scale.map(|scale| optimum(solved, Weighing::Sum, scale)).transpose()?);
    Ok(())
}

fn components(
    solved: &[Solved],
    theta: &[&[f64]],
    weighing: Weighing,
    scale: (f64, f64),
) -> Result<Vec<Component>> {
    let component = |(one, theta): (&Solved, &&[f64])| {
        let law = one.part.family.as_ref().context("no family law")?;
        Ok(Component::fitted(&one.part.name, law, theta, weighing, 1., scale)?)
    };
    solved.iter().zip(theta).map(component).collect()
}

/// The optimal mixture with intervals: from aligned bootstrap draws, else from the covariances of the fits.
fn optimum(solved: &[Solved], weighing: Weighing, scale: (f64, f64)) -> Result<MixtureFound> {
    let names: Vec<String> = solved.iter().map(|one| one.part.name.clone()).collect();
    let theta: Vec<&[f64]> = solved.iter().map(|one| one.fit.theta.as_slice()).collect();
    let parts = components(solved, &theta, weighing, scale)?;
    let best = optimise(&parts)?;
    let drawn = draws(solved, weighing, scale);
    let shares = match drawn {
        Some(drawn) => from_draws(&best, &drawn),
        None => from_covariances(solved, &parts, &best, weighing, scale),
    };
    let words = match weighing {
        Weighing::Normalised => "sum of L_i / L_i(p = 1)".to_owned(),
        Weighing::Sum => format!("sum of L_i at n = {:e}, d = {:e}", scale.0, scale.1),
    };
    let mut found = FitOutput::mixture(&words, &names, &best, shares);
    let uniform = mixture::uniform(parts.len())?;
    found.others.push("uniform", mixture::objective(&parts, &uniform));
    Ok(found)
}

/// The optimal shares of every bootstrap draw, `[draw][family]`; draws whose losses fall with no share are left out.
fn draws(solved: &[Solved], weighing: Weighing, scale: (f64, f64)) -> Option<Vec<Vec<f64>>> {
    let tables: Option<Vec<_>> =
        solved.iter().map(|one| one.bootstrap.as_ref().map(|b| &b.theta)).collect();
    let tables = tables?;
    let n = tables.iter().map(|table| table.nrows()).min()?;
    let draw = |k: usize| {
        let rows: Vec<Vec<f64>> = tables.iter().map(|table| table.row(k).to_vec()).collect();
        let theta: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let parts = components(solved, &theta, weighing, scale).ok()?;
        optimise(&parts).ok().map(|mixture| mixture.shares)
    };
    Some((0..n).filter_map(draw).collect())
}

fn from_draws(best: &Mixture, drawn: &[Vec<f64>]) -> Vec<Estimate> {
    let estimate = |(i, &share): (usize, &f64)| {
        let values: Vec<f64> = drawn.iter().map(|shares| shares[i]).collect();
        let interval = percentile_interval(&values, 0.95);
        let (_, sd) = forerun_scaling::interval::mean_and_sd(&values);
        Estimate { estimate: share, se: Some(sd), ci95: Some([interval.low, interval.high]) }
    };
    best.shares.iter().enumerate().map(estimate).collect()
}

fn from_covariances(
    solved: &[Solved],
    parts: &[Component],
    best: &Mixture,
    weighing: Weighing,
    scale: (f64, f64),
) -> Vec<Estimate> {
    let errors: Option<Vec<[[f64; 2]; 2]>> =
        solved.iter().map(|one| amplitude_covariance(one, weighing, scale)).collect();
    let Some(errors) = errors else {
        let plain = |&estimate: &f64| Estimate { estimate, se: None, ci95: None };
        return best.shares.iter().map(plain).collect();
    };
    let errors = mixture::share_errors(parts, &best.shares, &errors);
    let pair = |(&share, se): (&f64, f64)| {
        let half = (1.96 * se / share).exp();
        Estimate {
            estimate: share,
            se: Some(se),
            ci95: Some([share / half, (share * half).min(1.)]),
        }
    };
    best.shares.iter().zip(errors).map(pair).collect()
}

/// Covariance of `(ln amplitude, gamma)` of one family.
fn amplitude_covariance(
    one: &Solved,
    weighing: Weighing,
    (n, d): (f64, f64),
) -> Option<[[f64; 2]; 2]> {
    let law = one.part.family.as_ref()?;
    let covariance = one.fit.covariance.as_ref()?;
    let ln_amplitude = |theta: &[f64]| match weighing {
        Weighing::Normalised => 0.,
        Weighing::Sum => law.scale_factor(theta, n, d).ln(),
    };
    let of_amplitude =
        Quantity::new("amplitude", Scale::Linear, ln_amplitude).gradient(&one.fit.theta);
    let gamma = law.gamma_index();
    let p = of_amplitude.len();
    let pairs = (0..p).flat_map(|i| (0..p).map(move |j| (i, j)));
    let aa = pairs.map(|(i, j)| of_amplitude[i] * covariance[[i, j]] * of_amplitude[j]).sum();
    let ag = (0..p).map(|i| of_amplitude[i] * covariance[[i, gamma]]).sum();
    Some([[aa, ag], [ag, covariance[[gamma, gamma]]]])
}

/// Smallest own share of the rows that are tested: `ln p` breaks at 0, and rounded shares near it are mostly rounding.
const MIN_SHARE: f64 = 0.005;

fn with_own_share(points: &Observations) -> Observations {
    let own = points.input("p").unwrap_or_default();
    let kept: Vec<usize> = (0..own.len()).filter(|&i| own[i] >= MIN_SHARE).collect();
    points.select(&kept)
}

/// Tests every family, corrects for their number, and says in words what was found.
fn test_independence(problem: &Problem, solved: &[Solved], output: &mut FitOutput) {
    let mut found = vec![];
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
