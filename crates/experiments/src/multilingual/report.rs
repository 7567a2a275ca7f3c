//! The report of a mixture experiment: what was seen in plain words, verdicts, the mixtures, the laws and their tests,
//! what was carried to the larger size.

mod companions;
mod errors;
mod figures;
mod findings;
mod tables;
mod words;

use anyhow::Result;
use forerun_runs::recommendation::{Recommendation, RecommendedInterval};
use forerun_runs::report::{Block, KeyNumber, Report};
use serde_json::json;

use super::MixtureConfig;
use crate::outcome::Outcome;
use crate::plan::counted;
use crate::report_parts::{CONFIDENCE, can_recommend, claims, provenance};
use findings::Findings;

/// The share of every family, if the run found out: nothing at the smoke scale, nor from fewer seeds than the claims ask
/// for.
pub(crate) fn recommendation(outcome: &Outcome, body: &MixtureConfig) -> Vec<Recommendation> {
    if !can_recommend(&outcome.experiment) {
        return Vec::new();
    }
    let findings = Findings::new(outcome, body);
    let Some(found) = &findings.small else { return Vec::new() };
    let share = |(index, family): (usize, &super::FamilyConfig)| {
        let (value, low, high) = (found.shares[index], found.low[index], found.high[index]);
        let mut caveats = vec![words::sizes(&findings), words::one_domain().to_owned()];
        caveats.extend(words::regret_in_words(&findings));
        caveats.extend(words::cap_in_words(&findings, index));
        Recommendation {
            setting: format!("share of {}", family.label),
            value: json!(rounded(value)),
            unit: None,
            interval: (low.is_finite() && high.is_finite()).then(|| RecommendedInterval {
                low: rounded(low).min(rounded(value)),
                high: rounded(high).max(rounded(value)),
                confidence: CONFIDENCE,
            }),
            basis: format!(
                "share of training tokens that minimises {}, by laws fitted to {} of {} to {} tokens; interval from {} \
                 draws of a bootstrap over mixtures",
                words::objective(body),
                counted(found.n_models, "small model"),
                words::tokens(body.design.tokens.first().copied().unwrap_or(0)),
                words::tokens(body.design.tokens.last().copied().unwrap_or(0)),
                body.mixing.draws
            ),
            caveats,
        }
    };
    body.families.iter().enumerate().map(share).collect()
}

/// Four decimals of a share are more than any run can know.
fn rounded(share: f64) -> f64 {
    (share * 1e4).round() / 1e4
}

/// The report of a run directory.
pub(crate) fn report(outcome: &Outcome, body: &MixtureConfig) -> Result<Report> {
    let findings = Findings::new(outcome, body);
    let mut blocks = vec![Block::KeyNumbers(key_numbers(&findings))];
    let heading = |blocks: &mut Vec<Block>, text: &str| {
        blocks.push(Block::Heading(text.to_owned()));
    };
    heading(&mut blocks, "What was seen");
    blocks.push(Block::List(words::what_was_seen(&findings)));
    heading(&mut blocks, "Claims");
    blocks.push(Block::Verdicts(claims(outcome, words::unit)));
    let recommendations = recommendation(outcome, body);
    if !recommendations.is_empty() {
        heading(&mut blocks, "What to set");
        blocks.push(Block::Recommendations(recommendations));
    }
    heading(&mut blocks, "The best mixture");
    blocks.push(Block::Figure(figures::mixtures(&findings)));
    blocks.push(Block::Table(tables::mixtures(&findings)));
    heading(&mut blocks, "At the larger size");
    blocks.push(Block::Figure(figures::regrets(&findings)));
    blocks.push(Block::Table(tables::transfer(&findings)));
    heading(&mut blocks, "The laws");
    blocks.push(Block::Figure(figures::loss_by_share(&findings)));
    blocks.push(Block::Table(tables::laws(&findings)));
    blocks.push(Block::Table(errors::by_set(&findings)));
    blocks.push(Block::Table(errors::by_family(&findings)));
    blocks.push(Block::Figure(figures::held_out(&findings)));
    heading(&mut blocks, "Does a family's loss depend on its own share alone?");
    blocks.push(Block::Paragraph(words::about_effects().to_owned()));
    blocks.push(Block::Table(companions::effects(&findings)));
    blocks.push(Block::Paragraph(words::about_tests().to_owned()));
    blocks.push(Block::Table(companions::tests(&findings)));
    heading(&mut blocks, "Beside the paper");
    blocks.push(Block::Table(tables::paper(&findings)));
    blocks.push(Block::Note(words::about_the_paper().to_owned()));
    heading(&mut blocks, "What was run");
    blocks.push(Block::Table(tables::families(&findings)));
    blocks.push(Block::Table(tables::trainings(&findings)));
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
    let mut numbers = Vec::new();
    let mut add = |value: String, unit: &str, label: String| {
        numbers.push(KeyNumber { value, unit: unit.to_owned(), label });
    };
    if let Some(found) = &findings.small {
        for (label, share) in findings.body.labels().iter().zip(&found.shares) {
            add(format!("{:.1}", 100.0 * share), "%", format!("best share of {label}"));
        }
    }
    if let Some(regret) = findings.regret() {
        let label = "regret of that mixture at the larger size, against the best other";
        add(format!("{:+.2}", regret.value), "%", label.to_owned());
    }
    numbers
}
