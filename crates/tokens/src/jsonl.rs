//! JSON Lines: one object a line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::BufRead;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::documents::{Document, Row, Rows, not_utf8, text_column};
use crate::error::{Error, Result};
use crate::format::{Compression, open, read_error};
use crate::plain_text::BYTE_ORDER_MARK;
use crate::source::TextSource;

pub(crate) struct JsonlReader {
    file: Arc<Path>,
    lines: Box<dyn BufRead + Send>,
    /// Line that was read last, counted from 1.
    row: u64,
    line: Vec<u8>,
    /// The key of the text, once it is known.
    column: Option<String>,
    filter: BTreeMap<String, String>,
}

impl JsonlReader {
    pub(crate) fn open(file: &Path, compression: Compression, source: &TextSource) -> Result<Self> {
        Ok(Self {
            file: file.into(),
            lines: open(file, compression)?,
            row: 0,
            line: Vec::new(),
            column: source.column.clone(),
            filter: source.filter.clone(),
        })
    }

    /// The next line that is not blank, checked to be UTF-8.
    fn next_line(&mut self) -> Result<Option<String>> {
        loop {
            self.line.clear();
            let n_bytes = self
                .lines
                .read_until(b'\n', &mut self.line)
                .map_err(|error| read_error(&self.file, self.row + 1, error))?;
            if n_bytes == 0 {
                return Ok(None);
            }
            self.row += 1;
            let line = std::str::from_utf8(&self.line).map_err(|error| {
                let at = error.valid_up_to();
                let byte = error.error_len().map(|_| self.line[at]);
                not_utf8(&self.file, self.row, byte, at)
            })?;
            let line = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| self.row == 1).unwrap_or(line);
            if !line.trim().is_empty() {
                return Ok(Some(line.to_owned()));
            }
        }
    }

    fn parse<'de, S: DeserializeSeed<'de>>(&self, line: &'de str, seed: S) -> Result<S::Value> {
        let mut json = serde_json::Deserializer::from_str(line);
        let parsed = seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
        parsed.map_err(|error| {
            // Each line is parsed for itself, so its own number is of no use.
            let error_text = error.to_string().replace(" at line 1 column ", " at column ");
            let reason = format!("is no JSON object on one line: {error_text}");
            let remedy = if error.is_eof() { "the line is cut off" } else { "the line is damaged" };
            let remedy = format!("{remedy}: write or fetch the file again, or remove the line");
            Error::input(&self.file, self.row, reason, remedy)
        })
    }

    /// The key of the text, found in the first object.
    fn find_column(&self, line: &str) -> Result<String> {
        let object: BTreeMap<String, Value> = self.parse(line, PhantomData)?;
        let keys: Vec<_> =
            object.iter().map(|(key, value)| (key.as_str(), value.is_string())).collect();
        text_column(&keys, None, &self.file, Some(self.row)).map(str::to_owned)
    }

    /// The first filtered key that has another value.
    fn difference(&self, line: &str, picked: &Picked) -> Result<Option<(String, String)>> {
        for (key, wanted) in &self.filter {
            let value = match picked.filtered.get(key) {
                Some(Value::String(value)) => value.clone(),
                Some(other) => other.to_string(),
                None => return Err(self.missing(key, line)),
            };
            if value != *wanted {
                return Ok(Some((key.clone(), value)));
            }
        }
        Ok(None)
    }

    /// The error for a line without `key`, with the keys that it has.
    fn missing(&self, key: &str, line: &str) -> Error {
        let object: BTreeMap<String, IgnoredAny> = match self.parse(line, PhantomData) {
            Ok(object) => object,
            Err(error) => return error,
        };
        let reason = format!("there is no key `{key}`");
        let keys: Vec<_> = object.keys().map(|key| format!("`{key}`")).collect();
        let keys = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
        let remedy = format!("add it, remove the line, or name another key; those here are {keys}");
        Error::input(&self.file, self.row, reason, remedy)
    }
}

impl Rows for JsonlReader {
    fn next_row(&mut self) -> Result<Option<Row>> {
        let Some(line) = self.next_line()? else { return Ok(None) };
        if self.column.is_none() {
            self.column = Some(self.find_column(&line)?);
        }
        let column = self.column.as_deref().unwrap_or_default();
        let picked = self.parse(&line, Pick { column, filter: &self.filter })?;
        if let Some((key, value)) = self.difference(&line, &picked)? {
            return Ok(Some(Row::Skipped(key, value)));
        }
        match picked.text {
            Some(Value::String(text)) => {
                Ok(Some(Row::Kept(Document { text, file: Arc::clone(&self.file), row: self.row })))
            }
            Some(_) => {
                let reason = format!("key `{column}` does not hold a string");
                let remedy = "make it one, or remove the line";
                Err(Error::input(&self.file, self.row, reason, remedy))
            }
            None => Err(self.missing(column, &line)),
        }
    }
}

/// Picks the text and the filtered keys from an object and passes over the rest.
#[derive(Clone, Copy)]
struct Pick<'a> {
    column: &'a str,
    filter: &'a BTreeMap<String, String>,
}

#[derive(Default)]
struct Picked {
    text: Option<Value>,
    filtered: BTreeMap<String, Value>,
}

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = Picked;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Picked, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Picked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Picked, A::Error> {
        let mut picked = Picked::default();
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let (is_text, is_filtered) =
                (key.0 == self.column, self.filter.contains_key(key.0.as_ref()));
            if !is_text && !is_filtered {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value = map.next_value()?;
            if is_filtered {
                picked.filtered.insert(key.0.into_owned(), value.clone());
            }
            if is_text {
                picked.text = Some(value);
            }
        }
        Ok(picked)
    }
}

/// A key, borrowed from the line unless it has escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
