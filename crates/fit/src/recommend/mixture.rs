//! The shares of a mixture.

use anyhow::{Context, Result};

use super::{Advice, RecommendArguments, find, recommendation};
use crate::derived;
use crate::number::short;
use crate::output::{Estimate, FitOutput};
use crate::problem::Problem;
use crate::solved::Solved;

pub(super) fn advise(
    problem: &Problem,
    solved: &[Solved],
    target: &[(String, f64)],
    arguments: &RecommendArguments,
) -> Result<Advice> {
    let mut output = FitOutput::default();
    let available = arguments.sampling.parse()?;
    let scale = find(target, "n").zip(find(target, "d"));
    derived::mixtures(problem, solved, scale, &available, &mut output)?;
    let found = output.mixtures.last().context("no mixture follows from the fits")?;
    let basis = format!("Smallest {}: {}.", found.objective, short(found.value));
    let share = |(name, value): &(String, Estimate)| {
        let mut one = recommendation(&format!("mixture.{name}"), value, None, basis.clone());
        one.caveats.clone_from(&output.warnings);
        one
    };
    let line = |(sampler, value): &(String, f64)| {
        let more = 100. * (value / found.value - 1.);
        format!("{sampler}: {} ({more:.2} % more)", short(*value))
    };
    let recommendations = found.shares.0.iter().map(share).collect();
    Ok(Advice { recommendations, lines: found.others.0.iter().map(line).collect() })
}
