//! Reports as Markdown.

use super::claim::{percent, rule_in_words, symbol};
use super::{Block, Claim, Report, Sample, SvgFile};
use crate::number::shortest;
use crate::plot::{Figure, Size};
use crate::recommendation::Recommendation;
use crate::text::{markdown, markdown_fence};

/// The document, and the figures where they are files in `folder`.
pub(super) fn render(report: &Report, folder: Option<&str>) -> (String, Vec<SvgFile>) {
    let mut out = format!("# {}\n\n", markdown(&report.title));
    if !report.summary.is_empty() {
        out.push_str(&paragraph(&report.summary));
    }
    let mut files = Vec::new();
    for block in &report.blocks {
        if let Block::Figure(content) = block {
            out.push_str(&figure(content, folder, &mut files));
        } else {
            out.push_str(&part(block));
        }
    }
    (out.trim_end().to_owned() + "\n", files)
}

fn part(block: &Block) -> String {
    match block {
        Block::Heading(heading) => format!("## {}\n\n", markdown(heading)),
        Block::Paragraph(content) => paragraph(content),
        Block::List(items) => list(items),
        Block::KeyNumbers(numbers) => {
            let line = |n: &super::KeyNumber| format!("{}: {} {}", n.label, n.value, n.unit);
            list(&numbers.iter().map(line).collect::<Vec<_>>())
        }
        Block::Verdicts(claims) => claims.iter().map(claim).collect(),
        Block::Recommendations(all) => all.iter().map(recommendation).collect(),
        Block::Table(table) => table.to_markdown() + "\n",
        // The caller numbers the figures.
        Block::Figure(_) => String::new(),
        Block::Sample(content) => sample(content),
        Block::Note(content) => format!("> **Note.** {}\n\n", markdown(content)),
        Block::Caveat(content) => format!("> **Caveat.** {}\n\n", markdown(content)),
        Block::Command(command) => {
            let label =
                if command.label.is_empty() { String::new() } else { paragraph(&command.label) };
            label + &markdown_fence(&command.lines.join("\n"), "sh") + "\n"
        }
        Block::KeyValues(content) => {
            let columns =
                vec![crate::table::Column::text("name"), crate::table::Column::text("value")];
            let row = |pair: &(String, String)| vec![pair.0.clone().into(), pair.1.clone().into()];
            let rows = content.pairs.iter().map(row).collect();
            let caption = content.caption.clone();
            crate::table::Table { caption, columns, rows }.to_markdown() + "\n"
        }
    }
}

fn paragraph(content: &str) -> String {
    format!("{}\n\n", markdown(content))
}

fn list(items: &[String]) -> String {
    let lines: String = items.iter().map(|item| format!("- {}\n", markdown(item))).collect();
    lines + "\n"
}

fn claim(claim: &Claim) -> String {
    let verdict = claim.judgement.verdict;
    let (basis, n) = claim.basis();
    format!(
        "**{} {verdict}**: {}\n\n- effect: {}\n- {basis}: {}\n- rule: {}\n- reason: {}\n\n",
        symbol(verdict),
        markdown(&claim.text),
        markdown(&claim.effect_in_words()),
        markdown(&n),
        markdown(&rule_in_words(&claim.rule)),
        markdown(&claim.judgement.reason),
    )
}

fn recommendation(recommendation: &Recommendation) -> String {
    let Recommendation { setting, value, unit, interval, basis, caveats } = recommendation;
    let unit = unit.as_deref().map_or(String::new(), |unit| format!(" {}", markdown(unit)));
    let range = interval.map_or(String::new(), |i| {
        format!(", [{}, {}] at {}", shortest(i.low), shortest(i.high), percent(i.confidence))
    });
    let mut out = format!(
        "**Recommended**: {} = **{}**{}\n\n{}",
        markdown(setting),
        markdown(&super::value_text(value)),
        unit + &markdown(&range),
        paragraph(basis),
    );
    if !caveats.is_empty() {
        out.push_str(&list(caveats));
    }
    out
}

fn figure(figure: &Figure, folder: Option<&str>, files: &mut Vec<SvgFile>) -> String {
    let caption =
        if figure.caption.is_empty() { String::new() } else { paragraph(&figure.caption) };
    let Some(folder) = folder else {
        return format!("{}\n{caption}", figure.to_table().to_markdown());
    };
    let name = format!("figure-{}.svg", files.len() + 1);
    let title = markdown(&figure.title);
    let image = format!("![{title}]({}/{name})\n\n{caption}", folder.trim_end_matches('/'));
    files.push(SvgFile { name, content: figure.to_svg(Size::Wide) });
    image
}

fn sample(sample: &Sample) -> String {
    let title = if sample.title.is_empty() { String::new() } else { paragraph(&sample.title) };
    title + &markdown_fence(&format!("{}{}", sample.prompt, sample.text), "text") + "\n"
}
