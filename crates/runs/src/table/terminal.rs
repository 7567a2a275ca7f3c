//! Tables for a terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid};

use super::{Align, Column, Table};
use crate::text;

/// A rule below the heading and nothing else.
const PRESET: &str = "     ──             ";
/// Widest cell of text that is not worth wrapping.
const COMFORTABLE: usize = 16;

pub(super) fn render(table: &Table, width: usize) -> String {
    let columns = table.all_columns();
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| (0..columns.len()).map(|i| row.get(i).map_or(String::new(), |c| c.plain())))
        .map(Iterator::collect)
        .collect();
    let width = width.max(20);
    let mut out = String::new();
    if !table.caption.is_empty() {
        out.push_str(&(text::wrap(&table.caption, width).join("\n") + "\n\n"));
    }
    let grid =
        if fits(&columns, &rows, width) { grid(&columns, &rows) } else { records(&columns, &rows) };
    out.push_str(&draw(grid, width));
    out
}

fn grid(columns: &[Column], rows: &[Vec<String>]) -> Grid {
    let mut grid = Grid::new();
    if columns.iter().any(|column| !column.name.is_empty()) {
        grid.set_header(columns.iter().map(|column| text::one_line(&column.heading())));
    }
    grid.add_rows(rows);
    for (i, column) in columns.iter().enumerate() {
        if let (Align::Right, Some(drawn)) = (column.align, grid.column_mut(i)) {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
    }
    grid
}

/// One line for each cell: name and value; an empty line between two rows.
fn records(columns: &[Column], rows: &[Vec<String>]) -> Grid {
    let mut grid = Grid::new();
    for (n, row) in rows.iter().enumerate() {
        if n > 0 {
            grid.add_row(["", ""]);
        }
        for (column, cell) in columns.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
            grid.add_row([text::one_line(&column.heading()), cell.clone()]);
        }
    }
    grid
}

fn draw(mut grid: Grid, width: usize) -> String {
    grid.load_preset(PRESET);
    grid.set_content_arrangement(ContentArrangement::Dynamic);
    grid.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    let mut out = String::new();
    for line in grid.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Whether every number and every heading's longest word has room on its line.
fn fits(columns: &[Column], rows: &[Vec<String>], width: usize) -> bool {
    let needed = |(i, column): (usize, &Column)| {
        let cells = rows.iter().filter_map(|row| row.get(i));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        let least = match column.align {
            Align::Right => widest,
            Align::Left => widest.min(COMFORTABLE),
        };
        least.max(longest_word(&column.heading())) + 3
    };
    columns.iter().enumerate().map(needed).sum::<usize>() <= width
}

fn longest_word(heading: &str) -> usize {
    heading.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0)
}
