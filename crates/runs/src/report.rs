//! Reports that people want to read: one HTML file that needs nothing else, or Markdown.
//!
//! A [`Report`] is a list of [`Block`]s, data without layout. [`Report::to_html`] makes a single
//! page with style sheet and figures inside, without scripts, that loads nothing and follows
//! the reader's choice of light or dark. All text is escaped, whoever wrote it.

mod claim;
mod html;
mod markdown;
mod page;

pub use claim::{Claim, rule_in_words};

use serde_json::Value;

use crate::number::shortest;
use crate::plot::Figure;
use crate::recommendation::Recommendation;
use crate::table::Table;

/// A report on one run.
///
/// ```
/// use forerun_runs::report::{Block, Report};
/// let report = Report {
///     title: "Length extrapolation".to_owned(),
///     summary: "What happens beyond the training length.".to_owned(),
///     blocks: vec![Block::Note("Two seeds are not enough for a verdict.".to_owned())],
/// };
/// assert!(report.to_html().starts_with("<!doctype html>"));
/// assert!(report.to_markdown().starts_with("# Length extrapolation\n"));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Name of the experiment.
    pub title: String,
    /// What was asked and what came out, in a sentence or two.
    pub summary: String,
    /// The content from top to bottom.
    pub blocks: Vec<Block>,
}

/// One part of a report.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a report has some dozens of blocks")]
pub enum Block {
    /// Starts a section, which the list of contents names.
    Heading(String),
    /// A paragraph.
    Paragraph(String),
    /// A list with bullets.
    List(Vec<String>),
    /// A few numbers in large type.
    KeyNumbers(Vec<KeyNumber>),
    /// The claims and their verdicts.
    Verdicts(Vec<Claim>),
    /// What to set.
    Recommendations(Vec<Recommendation>),
    /// A table.
    Table(Table),
    /// A figure, followed by its numbers.
    Figure(Figure),
    /// A sample of text from data or a model.
    Sample(Sample),
    /// Something the reader should know.
    Note(String),
    /// Something that limits what the results mean.
    Caveat(String),
    /// A command to type.
    Command(Command),
    /// Names and values, such as the manifest.
    KeyValues(KeyValues),
}

/// A number in large type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyNumber {
    /// The number, formatted, such as `3.21`.
    pub value: String,
    /// Its unit; may be empty.
    pub unit: String,
    /// What it is.
    pub label: String,
}

/// A sample of text. It is shown as it is, untrusted, with its line breaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Where it comes from, such as the arm and the sampling temperature.
    pub title: String,
    /// What the model was given; may be empty.
    pub prompt: String,
    /// What it wrote.
    pub text: String,
}

/// A command to type, such as the one that repeats the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// What it does.
    pub label: String,
    /// The lines to type.
    pub lines: Vec<String>,
}

/// Names and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValues {
    /// What they are; may be empty.
    pub caption: String,
    /// Pairs in reading order.
    pub pairs: Vec<(String, String)>,
}

/// A file that belongs to a Markdown report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvgFile {
    /// Its name inside the folder of figures, such as `figure-1.svg`.
    pub name: String,
    /// Its content.
    pub content: String,
}

impl Report {
    /// One HTML page without references to anything outside of it.
    pub fn to_html(&self) -> String {
        page::render(self)
    }

    /// Markdown in which every figure is the table of its numbers.
    pub fn to_markdown(&self) -> String {
        markdown::render(self, None).0
    }

    /// Markdown in which every figure is an image `FOLDER/figure-N.svg`, and the images that the
    /// caller should write there. `folder` is relative to the Markdown file.
    pub fn to_markdown_with_figures(&self, folder: &str) -> (String, Vec<SvgFile>) {
        markdown::render(self, Some(folder))
    }
}

/// A recommended value as people write it: a number, a word, or several of them.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(word) => word.clone(),
        Value::Array(values) => values.iter().map(value_text).collect::<Vec<_>>().join(", "),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(|| number.to_string(), shortest)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
