//! The report of a horizon experiment: what was seen in plain words, verdicts, valleys, the law, regrets.

mod figures;
mod findings;
mod readings;
mod tables;
mod words;

use anyhow::Result;
use forerun_runs::recommendation::{Recommendation, RecommendedInterval};
use forerun_runs::report::{Block, KeyNumber, Report};
use serde_json::json;

use super::spread::Known;
use super::{HELD_OUT, HorizonConfig};
use crate::outcome::Outcome;
use crate::plan::counted;
use crate::report_parts::{self, CONFIDENCE, provenance};
use findings::Findings;
use words::{rate_in_words, three_digits, tokens_in_words};

/// Longer horizons than were run that a learning rate is recommended for, in held-out horizons.
const BEYOND: [f64; 2] = [2.0, 4.0];

/// What to set, if the run found out: nothing at the smoke scale, nor from fewer seeds than the claims ask for.
pub(crate) fn recommendation(outcome: &Outcome, body: &HorizonConfig) -> Vec<Recommendation> {
    if !report_parts::can_recommend(&outcome.experiment) {
        return Vec::new();
    }
    let findings = findings(outcome, body);
    let mut list: Vec<Recommendation> = measured(&findings).into_iter().collect();
    list.extend(BEYOND.iter().filter_map(|&times| beyond(&findings, times)));
    list.extend(exponent(&findings));
    list
}

fn findings<'a>(outcome: &'a Outcome, body: &'a HorizonConfig) -> Findings<'a> {
    Findings::new(&outcome.experiment, body, &outcome.rows, &outcome.curves)
}

/// The learning rate of the longest horizon, which was measured.
fn measured(findings: &Findings<'_>) -> Option<Recommendation> {
    let known = findings.optimum(findings.subject()?, HELD_OUT)?;
    let tokens = tokens_in_words(findings.n_tokens(HELD_OUT));
    let mut caveats = words::limits(findings);
    if findings.valleys.best().is_some_and(|best| best.at_edge) {
        caveats.push("the lowest loss lies at the end of what was tried".to_owned());
    }
    let basis = format!(
        "the vertex of a parabola through the mean losses of {} at {tokens} tokens",
        counted(findings.experiment.seeds, "seed")
    );
    Some(rate(format!("optimiser.lr at {tokens} tokens"), known, basis, caveats))
}

/// The learning rate of a longer horizon than any that was run, by the law of all of them.
fn beyond(findings: &Findings<'_>, times: f64) -> Option<Recommendation> {
    let spread = findings.whole.as_ref()?;
    let n_tokens = times * findings.n_tokens(HELD_OUT);
    let tokens = tokens_in_words(n_tokens);
    let mut caveats = words::limits(findings);
    caveats.push(format!("{times} times the longest horizon that was run"));
    if !findings.falls() {
        caveats.push("the exponent of the horizon is not told apart from 0".to_owned());
    }
    let basis = format!(
        "the law through the best learning rates of {}, exponent {}",
        counted(findings.n_horizons() as u64, "horizon"),
        words::known(spread.exponent())
    );
    let known = spread.rate_at(n_tokens);
    Some(rate(format!("optimiser.lr at {tokens} tokens"), known, basis, caveats))
}

/// For horizons of one's own: `LR_long = LR_short · (D_short / D_long)^beta`.
fn exponent(findings: &Findings<'_>) -> Option<Recommendation> {
    let known = findings.whole.as_ref()?.exponent();
    let basis = format!(
        "the best learning rate at {} is multiplied by (shorter / longer)^exponent for a longer one",
        counted(findings.n_horizons() as u64, "horizon")
    );
    let mut caveats = words::limits(findings);
    if !findings.falls() {
        caveats.push("it is not told apart from 0".to_owned());
    }
    let setting = "exponent of the horizon in the best optimiser.lr".to_owned();
    Some(recommend(setting, known, basis, caveats))
}

fn rate(setting: String, known: Known, basis: String, caveats: Vec<String>) -> Recommendation {
    recommend(setting, known, basis, caveats)
}

/// Three digits are all that is known; the interval holds the value as it is rounded.
fn recommend(setting: String, known: Known, basis: String, caveats: Vec<String>) -> Recommendation {
    let value = three_digits(known.value);
    let interval = known.interval.map(|interval| RecommendedInterval {
        low: three_digits(interval.low).min(value),
        high: three_digits(interval.high).max(value),
        confidence: CONFIDENCE,
    });
    Recommendation { setting, value: json!(value), unit: None, interval, basis, caveats }
}

/// The report of a run directory.
pub(crate) fn report(outcome: &Outcome, body: &HorizonConfig) -> Result<Report> {
    let findings = findings(outcome, body);
    let readings = readings::readings(&findings);
    let mut blocks = vec![Block::KeyNumbers(key_numbers(&findings))];
    let heading = |blocks: &mut Vec<Block>, text: &str| {
        blocks.push(Block::Heading(text.to_owned()));
    };
    heading(&mut blocks, "What was seen");
    blocks.push(Block::List(words::what_was_seen(&findings, &readings)));
    heading(&mut blocks, "Claims");
    let claims = report_parts::claims(outcome, |claim| words::unit(&claim.a.series));
    blocks.push(Block::Verdicts(claims));
    let recommendations = recommendation(outcome, body);
    if !recommendations.is_empty() {
        heading(&mut blocks, "What to set");
        blocks.push(Block::Recommendations(recommendations));
    }
    heading(&mut blocks, "Where the loss is lowest");
    blocks.push(Block::Figure(figures::valleys(&findings)));
    blocks.push(Block::Table(tables::optima(&findings)));
    heading(&mut blocks, "The law");
    blocks.push(Block::Figure(figures::law(&findings)));
    blocks.push(Block::Table(tables::law(&findings)));
    blocks.push(Block::Table(readings::table(&findings, &readings)));
    blocks.push(Block::Table(tables::paper()));
    heading(&mut blocks, "What the held-out horizon lost");
    blocks.push(Block::Table(tables::regrets(&findings)));
    if body.arms.len() > 1 {
        heading(&mut blocks, "Other widths and parametrisations");
        blocks.push(Block::Figure(figures::arms(&findings)));
        blocks.push(Block::Table(tables::arms(&findings)));
    }
    heading(&mut blocks, "What was run");
    blocks.push(Block::Table(tables::cost(&findings)));
    heading(&mut blocks, "What this does not show");
    blocks.extend(words::caveats(&findings).into_iter().map(Block::Caveat));
    heading(&mut blocks, "What to try next");
    blocks.extend(words::next_steps(&findings));
    heading(&mut blocks, "How it was made");
    blocks.extend(provenance(outcome));
    let title = outcome.experiment.title.clone();
    Ok(Report { title, summary: words::summary(&findings), blocks })
}

fn key_numbers(findings: &Findings<'_>) -> Vec<KeyNumber> {
    let mut numbers = Vec::new();
    let mut add = |value: String, unit: &str, label: String| {
        numbers.push(KeyNumber { value, unit: unit.to_owned(), label });
    };
    let tokens = tokens_in_words(findings.n_tokens(HELD_OUT));
    let exponent = findings.fitted.as_ref().map(|spread| spread.exponent());
    add(
        exponent.map_or("not identified".to_owned(), words::known),
        "",
        "exponent of the horizon, from the fitted horizons".to_owned(),
    );
    add(
        findings.valleys.predicted.map_or("none".to_owned(), rate_in_words),
        "",
        format!("learning rate predicted for {tokens} tokens"),
    );
    let optimum = findings.subject().and_then(|arm| findings.optimum(arm, HELD_OUT));
    add(
        optimum.map_or("not identified".to_owned(), |known| rate_in_words(known.value)),
        "",
        format!("best learning rate at {tokens} tokens"),
    );
    if let Some(regret) = findings.regret(findings.valleys.predicted) {
        let label = "loss of the predicted rate above the best of the others".to_owned();
        add(format!("{:.4}", regret.value), "nats per token", label);
    }
    numbers
}

#[cfg(test)]
mod tests;
