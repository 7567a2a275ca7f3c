//! The report: what each format costs and brings, as words, verdicts, pictures and a table.

mod figures;
mod findings;
mod words;

use anyhow::Result;
use forerun_runs::recommendation::Recommendation;
use forerun_runs::report::{Block, KeyNumber, Report};
use forerun_runs::table::{Cell, Column, Table};
use serde_json::json;

use super::{QuantizationConfig, Weights};
use crate::outcome::Outcome;
use crate::plan::counted;
use crate::report_parts::{self, provenance, try_next};
use findings::{Findings, Line};

/// How much perplexity may be lost for a format to be recommended. ours
const ALLOWED: f64 = 1.05;

/// The smallest format whose perplexity is certainly within [`ALLOWED`]; none at the smoke scale, nor from fewer pieces than
/// the claims ask for.
pub(crate) fn recommendation(outcome: &Outcome, body: &QuantizationConfig) -> Vec<Recommendation> {
    if !report_parts::can_recommend(&outcome.experiment) {
        return Vec::new();
    }
    let findings = Findings::new(outcome, body);
    smallest(&findings).map(|line| recommended(&findings, line)).into_iter().collect()
}

fn smallest<'f>(findings: &'f Findings<'_>) -> Option<&'f Line<'f>> {
    let kept = |line: &&Line<'_>| {
        let packed = matches!(line.arm.weights, Weights::Packed { .. });
        packed && line.ratio.interval.is_some_and(|interval| interval.high <= ALLOWED)
    };
    findings.lines.iter().filter(kept).min_by(|a, b| a.size_then_quality(b))
}

fn recommended(findings: &Findings<'_>, line: &Line<'_>) -> Recommendation {
    let mut caveats = vec![format!(
        "on {} of one text; other text, other languages and what a model knows or can do were not looked at",
        counted(findings.outcome.experiment.seeds, "piece")
    )];
    caveats.extend(findings.rounded_to().map(words::rounded_before));
    Recommendation {
        setting: "weights".to_owned(),
        value: json!(line.arm.name),
        unit: None,
        interval: None, // the value is not a number; the interval of the ratio stands in the basis
        basis: format!(
            "the smallest of the formats whose perplexity is at most {:.0} % above that of {}: {}, {}",
            100.0 * (ALLOWED - 1.0),
            findings.baseline(),
            words::ratio(line.ratio),
            words::megabytes(line.weight_bytes)
        ),
        caveats,
    }
}

/// The report of a run directory.
pub(crate) fn report(outcome: &Outcome, body: &QuantizationConfig) -> Result<Report> {
    let findings = Findings::new(outcome, body);
    let mut blocks = vec![Block::KeyNumbers(key_numbers(&findings))];
    let heading = |blocks: &mut Vec<Block>, text: &str| {
        blocks.push(Block::Heading(text.to_owned()));
    };
    heading(&mut blocks, "What was seen");
    blocks.push(Block::List(words::what_was_seen(&findings)));
    heading(&mut blocks, "Claims");
    blocks.push(Block::Verdicts(report_parts::claims(outcome, |_| "")));
    let recommendations = recommendation(outcome, body);
    if !recommendations.is_empty() {
        heading(&mut blocks, "What to set");
        blocks.push(Block::Recommendations(recommendations));
    }
    heading(&mut blocks, "All formats");
    blocks.push(Block::Table(results(&findings)));
    if !findings.lines.is_empty() {
        blocks.push(Block::Figure(figures::quality(&findings)));
        blocks.push(Block::Figure(figures::speed(&findings)));
        blocks.push(Block::Figure(figures::memory(&findings)));
    }
    heading(&mut blocks, "What was run");
    blocks.push(Block::Paragraph(words::design(&findings)));
    heading(&mut blocks, "What this does not show");
    blocks.extend(words::caveats(&findings).into_iter().map(Block::Caveat));
    heading(&mut blocks, "What to try next");
    let experiment = &outcome.experiment;
    blocks.push(try_next(experiment, "Another model", "--set model=path/to/a/folder"));
    blocks.push(try_next(experiment, "On your own text", "--data my.txt"));
    let more = report_parts::more_seeds(experiment);
    blocks.push(try_next(experiment, "More pieces of text, for narrower intervals", &more));
    let more = format!("--set timing.turns={}", body.timing.turns.saturating_mul(2).max(3));
    blocks.push(try_next(experiment, "More turns, for narrower intervals of speeds", &more));
    heading(&mut blocks, "How it was made");
    blocks.extend(provenance(outcome));
    let title = experiment.title.clone();
    Ok(Report { title, summary: words::summary(&findings), blocks })
}

fn key_numbers(findings: &Findings<'_>) -> Vec<KeyNumber> {
    let number = |line: &Line<'_>, value: String, unit: &str, what: &str| KeyNumber {
        value,
        unit: unit.to_owned(),
        label: format!("{}: {what}", line.arm.label),
    };
    let smallest = findings.lines.iter().min_by(|a, b| a.size_then_quality(b));
    let mut numbers = Vec::new();
    if let Some(line) = smallest {
        numbers.push(number(
            line,
            format!("{:.0}", line.weight_bytes / 1e6),
            "MB",
            "the smallest weights",
        ));
        let lost = format!("{:+.1}", 100.0 * (line.ratio.value - 1.0));
        numbers.push(number(
            line,
            lost,
            "%",
            &format!("its perplexity against {}", findings.baseline()),
        ));
    }
    if let Some(line) = findings.fastest() {
        numbers.push(number(
            line,
            format!("{:.0}", line.decode.value),
            "tokens/s",
            "the fastest to write",
        ));
    }
    numbers
}

/// A row for each format.
fn results(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::text("weights"),
        Column::number("bits a weight", ""),
        Column::number("size", "MB"),
        Column::number("memory to write text", "MB"),
        Column::number("perplexity", "a token"),
        Column::number(format!("over that of {}", findings.baseline()), ""),
        Column::number("prompt", "tokens/s"),
        Column::number("writing", "tokens/s"),
    ];
    let row = |line: &Line<'_>| {
        vec![
            Cell::from(line.arm.label.as_str()),
            Cell::number(line.bits, 3),
            Cell::number(line.weight_bytes / 1e6, 3),
            Cell::number(line.memory_bytes / 1e6, 3),
            Cell::number(line.perplexity.value, 4),
            line.ratio.cell(4),
            line.prompt.short_cell(3),
            line.decode.short_cell(3),
        ]
    };
    let n_pieces = counted(findings.outcome.experiment.seeds, "piece");
    let caption = format!(
        "Every format, measured in a process of its own with {} on {n_pieces} of held-out text. Bits a weight: of all that the files \
         hold. Memory: the most that the process held until a piece's prompt and tokens were read, less what it held before there was \
         a model; pages of mapped files count once they are read. Perplexity: geometric mean over pieces; the ratios are paired, \
         with 95 % intervals over pieces. Speeds: means over {}, each in a process of its own, with 95 % intervals over turns.",
        counted(u64::from(findings.outcome.experiment.threads), "thread"),
        counted(findings.body.timing.turns, "turn")
    );
    Table { caption, columns, rows: findings.lines.iter().map(row).collect() }
}

#[cfg(test)]
mod tests;
