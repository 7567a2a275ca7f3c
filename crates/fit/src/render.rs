//! The answer as text for a terminal, 80 columns wide, and as a report.

mod tables;

use forerun_runs::plot::Figure;
use forerun_runs::report::{Block, Command, KeyNumber, Report};

use crate::number::short;
use crate::output::{DroppedRow, Estimate, FitOutput};

/// Columns of a terminal.
pub(crate) const WIDTH: usize = 80;

fn headline(output: &FitOutput) -> String {
    format!(
        "{} by {}: objective {:.9} over {} points; {}, {}; intervals: {}{}",
        output.law,
        output.objective,
        output.objective_value,
        output.n_points,
        counted(output.starts, "start", "starts"),
        counted(output.optima.len(), "optimum", "optima"),
        output.interval_method,
        if output.draws > 0 { format!(" ({} draws)", output.draws) } else { String::new() },
    )
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn dropped(output: &FitOutput) -> Option<String> {
    if output.dropped.is_empty() {
        return None;
    }
    let row = |drop: &DroppedRow| format!("row {} ({})", drop.row, short(drop.target));
    let mut reasons: Vec<&str> = output.dropped.iter().map(|drop| drop.reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let of = |reason: &&str| {
        let rows: Vec<&DroppedRow> =
            output.dropped.iter().filter(|drop| drop.reason == **reason).collect();
        let shown: Vec<String> = rows.iter().take(MAX_DROPPED).map(|drop| row(drop)).collect();
        let more = rows.len().saturating_sub(MAX_DROPPED);
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{tail}; {reason}", shown.join(", "))
    };
    let groups: Vec<String> = reasons.iter().take(MAX_DROPPED).map(of).collect();
    let tail = match reasons.len().saturating_sub(MAX_DROPPED) {
        0 => String::new(),
        more => format!(". And for {}", counted(more, "more reason", "more reasons")),
    };
    Some(format!("left out: {}{tail}", groups.join(". ")))
}

/// Reasons, and rows of each, that are named one by one.
const MAX_DROPPED: usize = 10;

/// How the table was read, and what could not be answered.
fn notes(output: &FitOutput) -> Vec<String> {
    let approaches = output.approaches.iter().filter_map(|found| {
        let problem = found.problem.as_ref()?;
        Some(format!("approach {} does not apply: {problem}", found.approach))
    });
    // What a fold lacks is a dash in the table; a law that cannot be fitted at all is news.
    let laws = output.comparison.laws.iter().filter(|score| score.n_points == 0);
    let laws =
        laws.filter_map(|score| Some(format!("{}: {}", score.name, score.problems.first()?)));
    output.notes.iter().cloned().chain(dropped(output)).chain(approaches).chain(laws).collect()
}

/// Rows of one table that a terminal shows.
const MAX_ROWS: usize = 40;

/// For a terminal.
pub(crate) fn terminal(output: &FitOutput) -> String {
    let mut text = wrap(&headline(output), "");
    for note in notes(output) {
        text.push_str(&wrap(&note, ""));
    }
    for mut table in tables::all(output) {
        let more = table.rows.len().saturating_sub(MAX_ROWS);
        table.rows.truncate(MAX_ROWS);
        text.push('\n');
        text.push_str(table.to_terminal(WIDTH).trim_end());
        text.push('\n');
        if more > 0 {
            text.push_str(&wrap(
                &format!("and {more} more rows: --json or --report has them"),
                " ",
            ));
        }
    }
    if !output.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &output.warnings {
        text.push_str(&wrap(warning, "warning: "));
    }
    text
}

/// Words of a paragraph; a per cent sign stays with its number.
fn words(text: &str) -> Vec<String> {
    let mut found: Vec<String> = vec![];
    for word in text.split_whitespace() {
        match found.last_mut() {
            Some(last) if word.starts_with('%') => {
                last.push(' ');
                last.push_str(word);
            }
            _ => found.push(word.to_owned()),
        }
    }
    found
}

/// Breaks a paragraph into lines of at most 80 characters.
pub(crate) fn wrap(text: &str, prefix: &str) -> String {
    let mut out = prefix.to_owned();
    let mut width = prefix.chars().count();
    let mut is_first = true;
    for word in words(text) {
        let length = word.chars().count();
        if !is_first && width + 1 + length > WIDTH {
            out.push('\n');
            width = 0;
        } else if !is_first {
            out.push(' ');
            width += 1;
        }
        out.push_str(&word);
        width += length;
        is_first = false;
    }
    out.push('\n');
    out
}

/// One page with everything.
pub(crate) fn report(output: &FitOutput, figures: Vec<Figure>, command: &[String]) -> Report {
    let mut blocks = vec![Block::KeyNumbers(key_numbers(output))];
    blocks.extend(output.warnings.iter().cloned().map(Block::Caveat));
    blocks.push(Block::Heading("Pictures".into()));
    blocks.extend(figures.into_iter().map(Block::Figure));
    blocks.push(Block::Heading("Numbers".into()));
    blocks.extend(tables::all(output).into_iter().map(Block::Table));
    let notes = notes(output);
    if !notes.is_empty() {
        blocks.push(Block::Heading("How the table was read".into()));
        blocks.push(Block::List(notes));
    }
    blocks.push(Block::Heading("Repeat it".into()));
    let label = "The same fit of the same table:".to_owned();
    blocks.push(Block::Command(Command { label, lines: vec![command.join(" ")] }));
    Report { title: format!("Scaling law: {}", output.law), summary: headline(output), blocks }
}

fn key_numbers(output: &FitOutput) -> Vec<KeyNumber> {
    let three =
        |value: f64| if value.is_finite() { format!("{value:.3}") } else { "unbounded".into() };
    let number = |name: &String, value: &Estimate| KeyNumber {
        value: three(value.estimate),
        unit: String::new(),
        label: match value.ci95 {
            Some([low, high]) => format!("{name}, 95 %: {} .. {}", three(low), three(high)),
            None => name.clone(),
        },
    };
    let wanted =
        |name: &str| ["a", "E", "alpha", "beta"].contains(&name) || name.starts_with("gamma_");
    let all = output.derived.0.iter().chain(&output.params.0);
    all.filter(|(name, _)| wanted(name)).take(4).map(|(name, value)| number(name, value)).collect()
}

#[cfg(test)]
mod tests;
