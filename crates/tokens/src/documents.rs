//! The documents of a source, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use crate::error::{Error, Result};
use crate::format::Format;
use crate::jsonl::JsonlReader;
use crate::parquet_text::ParquetReader;
use crate::plain_text::TextReader;
use crate::source::TextSource;

/// Columns in which a text is looked for when none is named.
pub(crate) const TEXT_COLUMNS: [&str; 3] = ["text", "content", "document"];
/// Values of a filtered column that an error lists.
const MAX_LISTED: usize = 8;

/// One text and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text, whole.
    pub text: String,
    /// The file that holds it.
    pub file: Arc<Path>,
    /// Its row (Parquet) or line (JSONL), counted from 1; 1 for plain text.
    pub row: u64,
}

impl AsRef<str> for Document {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// What a reader found in the next row.
pub(crate) enum Row {
    Kept(Document),
    /// The filter left it out: the first column that differed, and its value.
    Skipped(String, String),
}

/// A file's rows; `None` at the end.
pub(crate) trait Rows: Send {
    fn next_row(&mut self) -> Result<Option<Row>>;
}

/// Iterator over the documents of a [`TextSource`]; ends after the first error.
pub struct Documents {
    source: TextSource,
    files: vec::IntoIter<PathBuf>,
    current: Option<(PathBuf, Box<dyn Rows>)>,
    n_rows_in_file: u64,
    n_kept: u64,
    skipped: BTreeMap<String, BTreeSet<String>>,
    done: bool,
}

/// Reads the documents of `source` as a stream: of a Parquet file a few MB at a time, of the others
/// a document at a time.
///
/// # Errors
/// At once as [`TextSource::files`]. On the way, and then it ends: [`Error::Input`] with file and
/// row for text that is not UTF-8, a missing column or key, a value that is no string, a damaged or
/// truncated file, a file without documents, or a filter that leaves none; [`Error::Io`] for a file
/// that cannot be read.
pub fn documents(source: &TextSource) -> Result<Documents> {
    Ok(Documents::of_files(source, source.files()?))
}

impl Documents {
    pub(crate) fn of_files(source: &TextSource, files: Vec<PathBuf>) -> Self {
        Self {
            source: source.clone(),
            files: files.into_iter(),
            current: None,
            n_rows_in_file: 0,
            n_kept: 0,
            skipped: BTreeMap::new(),
            done: false,
        }
    }

    fn next_document(&mut self) -> Result<Option<Document>> {
        loop {
            let Some((file, rows)) = &mut self.current else {
                let Some(file) = self.files.next() else { return self.end() };
                let rows = open(&file, &self.source)?;
                (self.current, self.n_rows_in_file) = (Some((file, rows)), 0);
                continue;
            };
            match rows.next_row()? {
                Some(Row::Kept(document)) => {
                    (self.n_rows_in_file, self.n_kept) = (self.n_rows_in_file + 1, self.n_kept + 1);
                    return Ok(Some(document));
                }
                Some(Row::Skipped(column, value)) => {
                    self.n_rows_in_file += 1;
                    let values = self.skipped.entry(column).or_default();
                    if values.len() < MAX_LISTED {
                        values.insert(value);
                    }
                }
                None if self.n_rows_in_file == 0 => {
                    let remedy = "remove it from the input or write it again";
                    return Err(Error::input(file, None, "the file holds no documents", remedy));
                }
                None => self.current = None,
            }
        }
    }

    /// The end, unless the filter has left nothing.
    fn end(&self) -> Result<Option<Document>> {
        let Some((column, values)) = self.skipped.iter().next().filter(|_| self.n_kept == 0) else {
            return Ok(None);
        };
        let wanted = self.source.filter.get(column).map_or("", String::as_str);
        let seen: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        let reason = format!("no document has `{column}` = `{wanted}`");
        let remedy = format!("change the filter; values there are {}", seen.join(", "));
        Err(Error::input(Path::new(&self.source.paths.join(", ")), None, reason, remedy))
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_document().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

fn open(file: &Path, source: &TextSource) -> Result<Box<dyn Rows>> {
    Ok(match Format::of(file)? {
        Format::Parquet => Box::new(ParquetReader::open(file, source)?),
        Format::Jsonl(compression) => Box::new(JsonlReader::open(file, compression, source)?),
        Format::Text(compression) => Box::new(TextReader::open(file, compression, source)?),
    })
}

/// The column that holds the text among `columns` with whether each holds strings: the named one,
/// else one with a telling name, else the only one with strings.
pub(crate) fn text_column<'a>(
    columns: &[(&'a str, bool)],
    named: Option<&str>,
    file: &Path,
    row: Option<u64>,
) -> Result<&'a str> {
    let list = || {
        let names: Vec<_> = columns.iter().map(|(name, _)| format!("`{name}`")).collect();
        if names.is_empty() { "there are none".to_owned() } else { names.join(", ") }
    };
    let find = |wanted: &str| columns.iter().find(|(name, _)| *name == wanted);
    if let Some(named) = named {
        return match find(named) {
            Some((name, true)) => Ok(name),
            Some(_) => Err(Error::input(
                file,
                row,
                format!("column `{named}` does not hold strings"),
                format!("name another column; the columns are {}", list()),
            )),
            None => Err(Error::input(
                file,
                row,
                format!("there is no column `{named}`"),
                format!("name one of these: {}", list()),
            )),
        };
    }
    if let Some((name, _)) = TEXT_COLUMNS.iter().filter_map(|name| find(name)).find(|(_, is)| *is) {
        return Ok(name);
    }
    let mut strings = columns.iter().filter(|(_, is_string)| *is_string);
    match (strings.next(), strings.next()) {
        (Some((name, _)), None) => Ok(name),
        (None, _) => {
            let remedy = format!("give a file that has one; the columns are {}", list());
            Err(Error::input(file, row, "no column holds strings", remedy))
        }
        _ => {
            let remedy = format!("name one of these: {}", list());
            Err(Error::input(file, row, "several columns could hold the text", remedy))
        }
    }
}

/// The error for text that is not UTF-8 from byte `offset` (from 0) of row `row` on.
pub(crate) fn not_utf8(file: &Path, row: u64, byte: Option<u8>, offset: usize) -> Error {
    let what = byte.map_or("a cut-off character".to_owned(), |byte| format!("byte 0x{byte:02X}"));
    let reason = format!("is not UTF-8: {what} at offset {offset} of the row");
    Error::input(file, row, reason, "convert the file, for example with `iconv -t utf-8`")
}

#[cfg(test)]
mod tests;
