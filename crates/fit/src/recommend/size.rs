//! Parameters and tokens for a budget.

use anyhow::Result;
use forerun_scaling::Quantity;
use forerun_scaling::allocation::{optimal_allocation, wasted_compute};
use forerun_scaling::law::predict;
use forerun_scaling::next_run;
use forerun_scaling::units::Flops;

use super::{Advice, RecommendArguments, next, recommendation, require};
use crate::derived::far_away;
use crate::number::short;
use crate::solved::Solved;

pub(super) fn advise(
    solved: &Solved,
    target: &[(String, f64)],
    arguments: &RecommendArguments,
) -> Result<Advice> {
    let flops = Flops(require(target, "flops")?);
    let law = solved.part.law.as_ref();
    let best = optimal_allocation(law, &solved.fit.theta, flops, &[])?;
    let quantity = Quantity::optimal_params(flops);
    let n = solved.estimate(&quantity);
    let d = solved.estimate(&Quantity::optimal_tokens(flops));
    let basis = format!(
        "Lowest predicted loss for {} FLOP, {} nats per token, by a law of {} runs.",
        short(flops.0),
        short(best.loss),
        solved.fit.n_points
    );
    let mut advice = Advice {
        recommendations: vec![
            recommendation("n", &n, Some("parameters"), basis.clone()),
            recommendation("d", &d, Some("tokens"), basis),
        ],
        lines: vec![],
    };
    let place = [("n".to_owned(), best.n.0), ("d".to_owned(), best.d.0)];
    if let Some(far) = far_away(&solved.part.observations, &place) {
        advice.recommendations.iter_mut().for_each(|one| one.caveats.push(far.clone()));
    }
    if let Some([low, high]) = n.bounded() {
        let loss = |n: f64| predict(law, &solved.fit.theta, &[("n", n), ("d", flops.0 / 6. / n)]);
        // A normal error of N in logarithms: the ends of its interval lie 1.96 standard errors out.
        let at_ends = 0.5 * (loss(low)? + loss(high)?) - best.loss;
        let regret = (at_ends / 1.96_f64.powi(2)).max(0.);
        let wasted = wasted_compute(law, &solved.fit.theta, flops, regret, &[])?;
        advice.lines.push(format!(
            "expected loss above the best, as N is not known better: {} nats, worth {:.2} % of the compute",
            short(regret),
            100. * wasted
        ));
    }
    let points = &solved.part.observations;
    let (sizes, tokens) =
        (points.input("n").unwrap_or_default(), points.input("d").unwrap_or_default());
    let dearest = sizes.iter().zip(tokens).map(|(n, d)| 6. * n * d).fold(0., f64::max);
    let budget = arguments.budget.unwrap_or(dearest);
    // Far from the shapes that were fitted the law is a guess, and so is the noise.
    let shapes = || solved.fit.used.iter().map(|&i| tokens[i] / sizes[i]);
    let (thin, fat) = (shapes().fold(f64::INFINITY, f64::min), shapes().fold(0., f64::max));
    let mut options = next_run::grid(points, 2., 15, budget);
    options.retain(|option| {
        let [n, d] = [0, 1].map(|i| option.inputs[i].1);
        (thin..=fat).contains(&(d / n))
    });
    options.retain(|option| option.cost <= budget);
    advice.lines.push(if options.is_empty() {
        format!(
            "no run of a size and horizon like those of the table costs {} FLOP or less",
            short(budget)
        )
    } else {
        match next_run::rank(law, &solved.fit, points, &quantity, &options, budget) {
            Ok(gains) => next(&gains, &options, "n"),
            Err(error) => error.to_string(),
        }
    });
    Ok(advice)
}
