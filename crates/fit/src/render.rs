//! The answer as text for a terminal, 80 columns wide, and as a report.

use forerun_runs::plot::Figure;
use forerun_runs::report::{Block, Command, KeyNumber, Report};
use forerun_runs::table::{Cell, Column, Table};

use crate::number::short;
use crate::output::{Estimate, FitOutput, Named};

/// Columns of a terminal.
pub(crate) const WIDTH: usize = 80;

fn interval(value: &Estimate) -> String {
    let end = |end: f64| if end.is_finite() { short(end) } else { "open".to_owned() };
    value
        .ci95
        .map_or_else(|| "-".to_owned(), |[low, high]| format!("{} .. {}", end(low), end(high)))
}

fn cells(name: &str, value: &Estimate) -> Vec<Cell> {
    let se = value.se.filter(|se| se.is_finite()).map_or_else(|| "-".to_owned(), short);
    [name.to_owned(), short(value.estimate), se, interval(value)].map(Cell::from).to_vec()
}

/// Names, values, standard errors, intervals.
fn estimates(caption: &str, values: &Named<Estimate>) -> Table {
    Table {
        caption: caption.to_owned(),
        columns: vec![
            Column::text(""),
            Column::number("estimate", ""),
            Column::number("se", ""),
            Column::number("95 % interval", ""),
        ],
        rows: values.0.iter().map(|(name, value)| cells(name, value)).collect(),
    }
}

fn predictions(output: &FitOutput) -> Table {
    let mut named = Named::default();
    for prediction in &output.predictions {
        let inputs =
            prediction.inputs.0.iter().map(|(name, value)| format!("{name}={}", short(*value)));
        let place = inputs.collect::<Vec<_>>().join(" ");
        named.push(format!("{} {place}", prediction.part).trim(), prediction.value);
    }
    estimates("Predictions", &named)
}

fn independence(output: &FitOutput) -> Table {
    let row = |(family, test): &(String, crate::output::IndependenceFound)| {
        let strongest = test.strongest.as_ref();
        vec![
            Cell::from(family.clone()),
            Cell::from(short(test.f)),
            Cell::from(format!("{}, {}", test.df[0], test.df[1])),
            Cell::from(short(test.p)),
            Cell::from(short(test.p_holm)),
            Cell::from(
                strongest.map_or_else(String::new, |(name, by)| format!("{name} {}", short(*by))),
            ),
        ]
    };
    Table {
        caption: "Does a loss depend on its own share alone? F-test, and the strongest other share"
            .into(),
        columns: vec![
            Column::text("family"),
            Column::number("F", ""),
            Column::number("df", ""),
            Column::number("p", ""),
            Column::number("p (Holm)", ""),
            Column::text("strongest"),
        ],
        rows: output.independence.0.iter().map(row).collect(),
    }
}

/// All tables that have rows.
fn tables(output: &FitOutput) -> Vec<Table> {
    let mut tables = vec![estimates("Parameters", &output.params)];
    tables.push(estimates("What follows", &output.derived));
    for mixture in &output.mixtures {
        let others =
            mixture.others.0.iter().map(|(name, value)| format!("{name} {}", short(*value)));
        let others = others.collect::<Vec<_>>().join(", ");
        let caption = format!(
            "Best mixture for the {}: {} ({others})",
            mixture.objective,
            short(mixture.value)
        );
        tables.push(estimates(&caption, &mixture.shares));
    }
    tables.push(independence(output));
    tables.push(predictions(output));
    tables.retain(|table| !table.rows.is_empty());
    tables
}

fn headline(output: &FitOutput) -> String {
    format!(
        "{} by {}: objective {:.9} over {} points; {} starts, {} optima; intervals: {}{}",
        output.law,
        output.objective,
        output.objective_value,
        output.n_points,
        output.starts,
        output.optima.len(),
        output.interval_method,
        if output.draws > 0 { format!(" ({} draws)", output.draws) } else { String::new() },
    )
}

fn dropped(output: &FitOutput) -> Option<String> {
    if output.dropped.is_empty() {
        return None;
    }
    let row =
        |drop: &crate::output::DroppedRow| format!("row {} ({})", drop.row, short(drop.target));
    let shown: Vec<String> = output.dropped.iter().take(10).map(row).collect();
    let more = output.dropped.len().saturating_sub(10);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!("left out: {}{tail}; {}", shown.join(", "), output.dropped[0].reason))
}

/// For a terminal.
pub(crate) fn terminal(output: &FitOutput) -> String {
    let mut text = wrap(&headline(output), "");
    for note in output.notes.iter().cloned().chain(dropped(output)) {
        text.push_str(&wrap(&note, ""));
    }
    for table in tables(output) {
        text.push('\n');
        text.push_str(table.to_terminal(WIDTH).trim_end());
        text.push('\n');
    }
    if !output.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &output.warnings {
        text.push_str(&wrap(warning, "warning: "));
    }
    text
}

/// Breaks a paragraph into lines of at most 80 characters.
pub(crate) fn wrap(text: &str, prefix: &str) -> String {
    let mut out = prefix.to_owned();
    let mut width = prefix.chars().count();
    let mut is_first = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !is_first && width + 1 + length > WIDTH {
            out.push('\n');
            width = 0;
        } else if !is_first {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
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
    blocks.extend(tables(output).into_iter().map(Block::Table));
    let notes: Vec<String> = output.notes.iter().cloned().chain(dropped(output)).collect();
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
    let number = |name: &String, value: &Estimate| KeyNumber {
        value: short(value.estimate),
        unit: String::new(),
        label: match value.ci95 {
            Some(_) => format!("{name}, 95 %: {}", interval(value)),
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
