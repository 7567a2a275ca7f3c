//! The report of a stability experiment: what was seen in plain words, verdicts, maps, curves, tables.

mod figures;
mod findings;
mod tables;
mod words;

use anyhow::Result;
use forerun_runs::recommendation::Recommendation;
use forerun_runs::report::{Block, KeyNumber, Report};
use forerun_runs::stats;
use serde_json::json;

use super::{Arm, MagnetoConfig};
use crate::outcome::Outcome;
use crate::plan::counted;
use crate::report_parts::{self, Mean, provenance};
use findings::Findings;

/// What to set, if the run found out: nothing at the smoke scale, nor from fewer seeds than the claims ask for.
pub(crate) fn recommendation(outcome: &Outcome, body: &MagnetoConfig) -> Vec<Recommendation> {
    if !report_parts::can_recommend(&outcome.experiment) {
        return Vec::new();
    }
    let findings = Findings::new(outcome, body);
    let mut list: Vec<Recommendation> = placement(&findings).into_iter().collect();
    for &depth in body.grid.depths.iter().rev() {
        list.extend(body.arms.iter().filter_map(|arm| largest_rate(&findings, arm, depth)));
    }
    list
}

/// Which arm to take for a deep model.
fn placement(findings: &Findings<'_>) -> Option<Recommendation> {
    let depth = findings.body.deepest();
    let (winner, losses) = findings.winner(depth)?;
    let mut basis = format!(
        "lowest loss of all at {depth} layers, each at the learning rate that is best on the other seeds: {:.3} nats per token, mean of {}",
        stats::mean(&losses),
        counted(findings.outcome.experiment.seeds, "seed")
    );
    let mut caveats = vec![words::size_of_models(findings), words::same_for_all(findings)];
    if let Some((next, gap)) = findings.runner_up(depth) {
        basis.push_str(&format!("; {} below the next best, {}", words::nats(gap), next.label));
        if gap.interval.is_none_or(|interval| interval.low <= 0.0) {
            caveats.push(format!("these seeds do not tell it apart from {}", next.label));
        }
    }
    Some(Recommendation {
        setting: format!("model.norm and model.init at {depth} layers"),
        value: json!(winner.label),
        unit: None,
        interval: None, // the value is not a number; the interval of the gap stands in the basis
        basis,
        caveats,
    })
}

/// Up to which learning rate an arm is safe at a depth.
fn largest_rate(findings: &Findings<'_>, arm: &Arm, depth: i64) -> Option<Recommendation> {
    let rate = findings.safe_rate(arm, depth)?;
    let seeds = counted(findings.outcome.experiment.seeds, "seed");
    let mut caveats = vec![format!(
        "{}, and larger rates train narrower models; {}",
        words::size_of_models(findings),
        words::same_for_all(findings)
    )];
    if findings.at_the_end(arm, depth) {
        caveats
            .push("it still trains at the end of the grid: the true one may be larger".to_owned());
    }
    let best = match findings.best_rates(arm, depth).as_slice() {
        [] => String::new(),
        rates => {
            format!("the best is about {}; ", words::rate_in_words(Mean::geometric(rates).value))
        }
    };
    Some(Recommendation {
        setting: format!("optimiser.lr of {} at {depth} layers, at most", arm.label),
        value: json!(rate),
        unit: None,
        interval: findings.border(arm, depth),
        basis: format!(
            "the largest of the grid that trains at every one of {seeds}; {best}the interval is where the border between \
             training and failing lies, the step of the grid included"
        ),
        caveats,
    })
}

/// The report of a run directory.
pub(crate) fn report(outcome: &Outcome, body: &MagnetoConfig) -> Result<Report> {
    let findings = Findings::new(outcome, body);
    let mut blocks = vec![Block::KeyNumbers(key_numbers(&findings))];
    let heading = |blocks: &mut Vec<Block>, text: &str| {
        blocks.push(Block::Heading(text.to_owned()));
    };
    heading(&mut blocks, "What was seen");
    blocks.push(Block::List(words::what_was_seen(&findings)));
    heading(&mut blocks, "Claims");
    blocks
        .push(Block::Verdicts(report_parts::claims(outcome, |claim| words::unit(&claim.a.series))));
    let recommendations = recommendation(outcome, body);
    if !recommendations.is_empty() {
        heading(&mut blocks, "What to set");
        // Those of the other depths stand in the table of results, and all of them in recommendation.json.
        let depth = format!("{} layers", body.deepest());
        let of_depth = |item: &Recommendation| item.setting.contains(&depth);
        blocks.push(Block::Recommendations(recommendations.into_iter().filter(of_depth).collect()));
    }
    heading(&mut blocks, "Which learning rates train");
    for &depth in &body.grid.depths {
        blocks.push(Block::Figure(figures::loss_map(&findings, depth)));
        blocks.push(Block::Figure(figures::failure_map(&findings, depth)));
    }
    blocks.push(Block::Figure(figures::loss_by_rate(&findings)));
    blocks.push(Block::Table(tables::results(&findings)));
    blocks.push(Block::Table(tables::paper_language_models()));
    blocks.push(Block::Table(tables::paper_other_tasks()));
    heading(&mut blocks, "How far one step moves a model");
    blocks.push(Block::Paragraph(words::theory().to_owned()));
    blocks.push(Block::Figure(figures::update_size(&findings, "sgd", "gradient descent")));
    blocks.push(Block::Figure(figures::update_size(&findings, "adamw", "AdamW's first step")));
    blocks.push(Block::Table(tables::slopes(&findings)));
    heading(&mut blocks, "What was run");
    blocks.push(Block::Table(tables::cost(&findings)));
    heading(&mut blocks, "What this does not show");
    blocks.extend(words::caveats(&findings).into_iter().map(Block::Caveat));
    heading(&mut blocks, "What to try next");
    blocks.extend(report_parts::next_steps(&outcome.experiment, &words::NEXT_STEPS));
    heading(&mut blocks, "How it was made");
    blocks.extend(provenance(outcome));
    let title = outcome.experiment.title.clone();
    Ok(Report { title, summary: words::summary(&findings), blocks })
}

fn key_numbers(findings: &Findings<'_>) -> Vec<KeyNumber> {
    let depth = findings.body.deepest();
    let mut numbers = Vec::new();
    let mut add = |value: String, unit: &str, label: String| {
        numbers.push(KeyNumber { value, unit: unit.to_owned(), label });
    };
    if let Some((arm, losses)) = findings.winner(depth) {
        let label = format!("lowest loss at {depth} layers: {}", arm.label);
        add(format!("{:.3}", stats::mean(&losses)), "nats per token", label);
    }
    for arm in findings.arms() {
        let value = match findings.safe_rate(arm, depth) {
            Some(rate) if findings.at_the_end(arm, depth) => {
                format!("≥ {}", words::rate_in_words(rate))
            }
            Some(rate) => words::rate_in_words(rate),
            None => "none".to_owned(),
        };
        add(value, "", format!("{}: largest learning rate that trains {depth} layers", arm.label));
    }
    numbers
}
