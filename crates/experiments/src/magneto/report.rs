//! The report of a stability experiment: what was seen in plain words, verdicts, maps, curves, tables.

mod figures;
mod findings;
mod tables;
mod words;

use anyhow::Result;
use forerun_runs::recommendation::Recommendation;
use forerun_runs::report::{Block, Claim, Command, KeyNumber, KeyValues, Report};
use forerun_runs::stats;
use serde_json::json;

use super::{Arm, MagnetoConfig};
use crate::config::Scale;
use crate::outcome::Outcome;
use crate::plan::counted;
use findings::{Findings, Mean};

/// What to set, if the run found out: nothing at the smoke scale, nor from fewer seeds than the claims ask for.
pub(crate) fn recommendation(outcome: &Outcome, body: &MagnetoConfig) -> Vec<Recommendation> {
    let experiment = &outcome.experiment;
    let needed =
        experiment.claims.iter().map(|claim| claim.rule.min_seeds as u64).max().unwrap_or(2);
    if experiment.scale == Scale::Smoke || experiment.seeds < needed {
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
        "lowest loss of all at {depth} layers, each at its best learning rate: {:.3} nats per token, mean of {}",
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
    let best = findings.best_rates(arm, depth);
    Some(Recommendation {
        setting: format!("optimiser.lr of {} at {depth} layers, at most", arm.label),
        value: json!(rate),
        unit: None,
        interval: findings.border(arm, depth),
        basis: format!(
            "the largest of the grid that trains at every one of {seeds}, with every smaller one down to the best, {}; the \
             interval is where the border between training and failing lies",
            words::rate_in_words(Mean::geometric(&best).value)
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
    blocks.push(Block::Verdicts(claims(outcome)));
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
    blocks.extend(words::next_steps(&outcome.experiment));
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

fn claims(outcome: &Outcome) -> Vec<Claim> {
    let rules = outcome.experiment.claims.iter();
    rules
        .filter_map(|claim| {
            let verdict = outcome.verdicts.iter().find(|verdict| verdict.name == claim.name)?;
            Some(Claim {
                text: claim.statement.clone(),
                unit: words::unit(&claim.a.series).to_owned(),
                rule: claim.rule.clone(),
                judgement: verdict.judgement.clone(),
            })
        })
        .collect()
}

fn provenance(outcome: &Outcome) -> Vec<Block> {
    let (experiment, manifest) = (&outcome.experiment, &outcome.manifest);
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let commit = manifest.code.commit.as_deref().map_or("none".to_owned(), |commit| {
        let dirty = if manifest.code.dirty == Some(true) { " and uncommitted changes" } else { "" };
        format!("{}{dirty}", commit.get(..12).unwrap_or(commit))
    });
    let workers = format!("{} of {} thread(s)", manifest.machine.jobs, manifest.machine.threads);
    let started = manifest.started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let mut pairs: Vec<(String, String)> = [
        ("paper", experiment.paper.clone()),
        ("started", started),
        ("commit", commit),
        ("rustc", manifest.code.rustc.clone()),
        ("libtorch", or_unknown(&manifest.code.libtorch)),
        ("processor", or_unknown(&manifest.machine.processor)),
        ("device", manifest.machine.device.clone()),
        ("workers", workers),
        ("root seed", experiment.root_seed.to_string()),
        ("configuration", format!("sha256 {}", manifest.config_sha256)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for input in &manifest.inputs {
        pairs.push((input.role.clone(), format!("{} (sha256 {})", input.path, input.sha256)));
    }
    let again =
        Command { label: "Run it again".to_owned(), lines: vec![words::command(experiment)] };
    vec![
        Block::Command(again),
        Block::KeyValues(KeyValues { caption: "Manifest".to_owned(), pairs }),
    ]
}
