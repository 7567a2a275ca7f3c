//! Tables of text and numbers, for a page (HTML), a document (Markdown) and a terminal.

mod html;
mod terminal;

use crate::number;
use crate::text;

/// A table with a caption. Rows may be shorter than `columns`; the rest stays empty.
///
/// ```
/// use forerun_runs::table::{Cell, Column, Table};
/// let table = Table {
///     caption: "Loss at the end".to_owned(),
///     columns: vec![Column::text("arm"), Column::number("loss", "nats")],
///     rows: vec![vec![Cell::from("xPos"), Cell::plus_minus(3.2142, 0.031)]],
/// };
/// assert!(table.to_markdown().contains("| xPos | 3.214 ± 0.031 |"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// What the table shows; empty for none.
    pub caption: String,
    /// Columns from left to right.
    pub columns: Vec<Column>,
    /// Rows from top to bottom.
    pub rows: Vec<Vec<Cell>>,
}

/// Heading and alignment of one column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Name as people read it.
    pub name: String,
    /// Unit of the numbers; empty where there is none.
    pub unit: String,
    /// Side to which the cells are aligned.
    pub align: Align,
}

/// Side to which cells are aligned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// Text.
    #[default]
    Left,
    /// Numbers.
    Right,
}

/// Content of one cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// Any text; untrusted text is fine.
    Text(String),
    /// A number of things; grouped in threes on a page.
    Count(u64),
    /// A measurement.
    Number {
        /// The value.
        value: f64,
        /// Significant digits, where no interval decides them.
        digits: usize,
        /// What is known about its uncertainty.
        interval: Option<Interval>,
    },
}

/// Uncertainty of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interval {
    /// Symmetric: `value ± this`.
    PlusMinus(f64),
    /// From `low` to `high`.
    Range {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
}

impl Column {
    /// A column of text, aligned left.
    pub fn text(name: impl Into<String>) -> Self {
        Self { name: name.into(), unit: String::new(), align: Align::Left }
    }

    /// A column of numbers in `unit`, aligned right.
    pub fn number(name: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { name: name.into(), unit: unit.into(), align: Align::Right }
    }

    fn heading(&self) -> String {
        if self.unit.is_empty() {
            self.name.clone()
        } else {
            format!("{} ({})", self.name, self.unit)
        }
    }
}

impl Cell {
    /// A measurement shown with `digits` significant digits.
    pub fn number(value: f64, digits: usize) -> Self {
        Self::Number { value, digits, interval: None }
    }

    /// A measurement with a symmetric uncertainty, which decides the digits.
    pub fn plus_minus(value: f64, uncertainty: f64) -> Self {
        let interval = Some(Interval::PlusMinus(uncertainty));
        Self::Number { value, digits: DIGITS, interval }
    }

    /// A measurement with an interval, whose width decides the digits.
    pub fn range(value: f64, low: f64, high: f64) -> Self {
        Self::Number { value, digits: DIGITS, interval: Some(Interval::Range { low, high }) }
    }

    /// A setting, shown with exactly the digits that it has.
    pub fn setting(value: f64) -> Self {
        Self::Text(number::shortest(value))
    }

    /// The cell as plain text on one line, numbers with a plain minus sign.
    pub(crate) fn plain(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(content) => text::one_line(content),
            Self::Count(count) => count.to_string(),
            &Self::Number { value, digits, interval } => match interval {
                None => number::significant(value, digits),
                Some(Interval::PlusMinus(by)) => number::plus_minus(value, by),
                Some(Interval::Range { low, high }) => number::with_range(value, low, high),
            },
        }
    }
}

impl From<&str> for Cell {
    fn from(content: &str) -> Self {
        Self::Text(content.to_owned())
    }
}

impl From<String> for Cell {
    fn from(content: String) -> Self {
        Self::Text(content)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Cell {
    /// A measurement with four significant digits.
    fn from(value: f64) -> Self {
        Self::number(value, DIGITS)
    }
}

impl Table {
    /// The table as HTML inside a box of its own that scrolls sideways; needs the style sheet
    /// of [`crate::report::Report::to_html`].
    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// The table in GitHub's Markdown, the caption as a paragraph before it.
    pub fn to_markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = String::new();
        if !self.caption.is_empty() {
            out.push_str(&format!("**{}**\n\n", text::markdown(&self.caption)));
        }
        let columns = self.all_columns();
        out.push_str(&line(columns.iter().map(|c| text::markdown(&c.heading())).collect()));
        let rule = |column: &Column| match column.align {
            Align::Left => ":--".to_owned(),
            Align::Right => "--:".to_owned(),
        };
        out.push_str(&line(columns.iter().map(rule).collect()));
        for row in &self.rows {
            let cell = |i: usize| row.get(i).map_or(String::new(), markdown_cell);
            out.push_str(&line((0..columns.len()).map(cell).collect()));
        }
        out
    }

    /// The table in plain characters, at most `width` wide (80 suits every terminal). Where the
    /// columns do not fit side by side, each row becomes a short list of name and value.
    pub fn to_terminal(&self, width: usize) -> String {
        terminal::render(self, width)
    }

    /// The columns, with unnamed ones added where a row is longer than the heading.
    fn all_columns(&self) -> Vec<Column> {
        let n = self.rows.iter().map(Vec::len).max().unwrap_or(0).max(self.columns.len());
        let mut columns = self.columns.clone();
        columns.resize(n, Column::default());
        columns
    }
}

/// Significant digits of a measurement where nobody says otherwise.
const DIGITS: usize = 4;

fn markdown_cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(content) => text::markdown(content),
        Cell::Number { .. } => cell.plain().replace('[', "\\[").replace(']', "\\]"),
        other => other.plain(),
    }
}

#[cfg(test)]
mod tests;
