//! Plain text: one document a file.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use crate::documents::{Document, Row, Rows, not_utf8};
use crate::error::{Error, Result};
use crate::format::{Compression, open, read_error};
use crate::source::TextSource;

/// Some editors put this in front of UTF-8; it is no part of the text.
pub(crate) const BYTE_ORDER_MARK: &str = "\u{feff}";

pub(crate) struct TextReader {
    file: Arc<Path>,
    bytes: Option<Box<dyn BufRead + Send>>,
}

impl TextReader {
    pub(crate) fn open(file: &Path, compression: Compression, source: &TextSource) -> Result<Self> {
        let asked = source.column.iter().chain(source.filter.keys()).next();
        if let Some(column) = asked {
            let reason = format!("plain text has no columns, and so no `{column}`");
            let remedy = "leave column and filter out, or give Parquet or JSONL";
            return Err(Error::input(file, None, reason, remedy));
        }
        Ok(Self { file: file.into(), bytes: Some(open(file, compression)?) })
    }
}

impl Rows for TextReader {
    fn next_row(&mut self) -> Result<Option<Row>> {
        let Some(mut reader) = self.bytes.take() else { return Ok(None) };
        let mut bytes = Vec::new();
        if let Err(error) = reader.read_to_end(&mut bytes) {
            return Err(read_error(&self.file, line_of(&bytes, bytes.len()).0, error));
        }
        let mut text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let (line, offset) = line_of(error.as_bytes(), at);
            let byte = error.utf8_error().error_len().map(|_| error.as_bytes()[at]);
            not_utf8(&self.file, line, byte, offset)
        })?;
        if text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len());
        }
        let document = Document { text, file: Arc::clone(&self.file), row: 1 };
        Ok((!document.text.is_empty()).then_some(Row::Kept(document)))
    }
}

/// Line, counted from 1, and offset in it of byte `at`.
fn line_of(bytes: &[u8], at: usize) -> (u64, usize) {
    let before = &bytes[..at];
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let n_newlines = before.iter().filter(|&&byte| byte == b'\n').count();
    (n_newlines as u64 + 1, at - start)
}
