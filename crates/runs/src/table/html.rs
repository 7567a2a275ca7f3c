//! Tables as HTML.

use super::{Align, Cell, Column, Table};
use crate::number;
use crate::text;

pub(super) fn render(table: &Table) -> String {
    let columns = table.all_columns();
    let label = if table.caption.is_empty() { "table" } else { &table.caption };
    let mut out = format!(
        "<div class=\"table-box\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">\n<table>\n",
        text::html(&text::one_line(label))
    );
    if !table.caption.is_empty() {
        out.push_str(&format!("<caption>{}</caption>\n", text::html_with_code(&table.caption)));
    }
    if columns.iter().any(|column| !column.name.is_empty()) {
        out.push_str("<thead><tr>");
        columns.iter().for_each(|column| out.push_str(&heading(column)));
        out.push_str("</tr></thead>\n");
    }
    out.push_str("<tbody>\n");
    let decimals: Vec<usize> =
        (0..columns.len()).map(|i| widest_fraction(table, &columns, i)).collect();
    for row in &table.rows {
        out.push_str("<tr>");
        for (i, column) in columns.iter().enumerate() {
            out.push_str(&cell(row.get(i).unwrap_or(&Cell::Empty), column, i, decimals[i]));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    out
}

fn heading(column: &Column) -> String {
    let unit = if column.unit.is_empty() {
        String::new()
    } else {
        format!(" <span class=\"unit\">{}</span>", text::html(&column.unit))
    };
    format!("<th scope=\"col\"{}>{}{unit}</th>", class(column), text::html(&column.name))
}

fn cell(cell: &Cell, column: &Column, index: usize, decimals: usize) -> String {
    let content = match cell {
        Cell::Text(content) => text::html(content),
        Cell::Count(count) => number::grouped(*count),
        other => text::html(&number::typographic(&other.plain())),
    };
    // Invisible digits put the decimal points of a column below each other.
    let pad = match fraction(cell) {
        Some(own) if column.align == Align::Right && own < decimals => {
            let point = if own == 0 { "." } else { "" };
            format!("<i aria-hidden=\"true\">{point}{}</i>", "0".repeat(decimals - own))
        }
        _ => String::new(),
    };
    match index {
        0 => format!("<th scope=\"row\"{}>{content}{pad}</th>", class(column)),
        _ => format!("<td{}>{content}{pad}</td>", class(column)),
    }
}

fn class(column: &Column) -> &'static str {
    match column.align {
        Align::Left => "",
        Align::Right => " class=\"number\"",
    }
}

/// Decimals of a lone number; `None` for what has no place in a decimal alignment.
fn fraction(cell: &Cell) -> Option<usize> {
    match cell {
        Cell::Count(_) => Some(0),
        Cell::Number { interval: None, value, .. } if value.is_finite() => {
            let plain = cell.plain();
            let fraction = plain.split_once('.').map_or(0, |(_, digits)| digits.len());
            (!plain.contains('e')).then_some(fraction)
        }
        _ => None,
    }
}

fn widest_fraction(table: &Table, columns: &[Column], index: usize) -> usize {
    let fractions = table.rows.iter().filter_map(|row| row.get(index).and_then(fraction));
    if columns[index].align == Align::Left { 0 } else { fractions.max().unwrap_or(0) }
}
