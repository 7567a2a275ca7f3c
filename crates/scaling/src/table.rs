//! A table of runs as read: named columns of text, with the file and rows that messages need.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::observations::Observations;

/// Named columns of equal length, cells as text; a number is parsed when it is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The file that it came from, for messages.
    pub file: Option<PathBuf>,
    names: Vec<String>,
    rows: Vec<Vec<String>>,
    numbers: Vec<usize>,
}

impl Table {
    /// Reads comma-separated values with a header line; quotes as in RFC 4180.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Data`] names the row whose number of cells differs.
    pub fn read_csv(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Self::parse_csv(&text, Some(path))
    }

    /// As [`Table::read_csv`], from text; `file` is named in messages.
    ///
    /// # Errors
    /// [`Error::Data`] names the row whose number of cells differs from the header's.
    pub fn parse_csv(text: &str, file: Option<&Path>) -> Result<Self> {
        let mut records = records(text.trim_start_matches('\u{feff}')).into_iter();
        let names: Vec<String> =
            records.next().unwrap_or_default().into_iter().map(|name| name.trim().into()).collect();
        let rows: Vec<Vec<String>> = records.collect();
        for (index, row) in rows.iter().enumerate() {
            if row.len() != names.len() {
                let reason = format!("the row has {} cells, the header {}", row.len(), names.len());
                let last = names.last().map_or("", String::as_str);
                return Err(Error::data(file, index + 1, last, reason));
            }
        }
        let numbers = (1..=rows.len()).collect();
        Ok(Self { file: file.map(Path::to_owned), names, rows, numbers })
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Names of the columns, in the file's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Numbers of the rows in the file, counted from 1 without the header.
    pub fn row_numbers(&self) -> &[usize] {
        &self.numbers
    }

    fn index(&self, column: &str) -> Result<usize> {
        self.names.iter().position(|name| name == column).ok_or_else(|| {
            let reason = format!("no such column; there are {}", self.names.join(", "));
            Error::data(self.file.as_deref(), None, column, reason)
        })
    }

    /// A column as text.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such column.
    pub fn text(&self, column: &str) -> Result<Vec<&str>> {
        let index = self.index(column)?;
        Ok(self.rows.iter().map(|row| row[index].as_str()).collect())
    }

    /// A column as numbers; an empty cell and `nan` are `NaN`.
    ///
    /// # Errors
    /// [`Error::Data`] names the row and column of a cell that is no number.
    pub fn numbers(&self, column: &str) -> Result<Vec<f64>> {
        let index = self.index(column)?;
        let parse = |(row, &number): (&Vec<String>, &usize)| match row[index].trim() {
            "" => Ok(f64::NAN),
            cell => cell.parse().map_err(|_| {
                let reason = format!("`{cell}` is no number");
                Error::data(self.file.as_deref(), number, column, reason)
            }),
        };
        self.rows.iter().zip(&self.numbers).map(parse).collect()
    }

    /// The rows for which `keep` says so; they keep their numbers.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.len()).filter(|&row| keep(row)).collect();
        Self {
            file: self.file.clone(),
            names: self.names.clone(),
            rows: kept.iter().map(|&row| self.rows[row].clone()).collect(),
            numbers: kept.iter().map(|&row| self.numbers[row]).collect(),
        }
    }

    /// Observations of `target` with `inputs`, pairs of a law's input and the column that holds it.
    ///
    /// # Errors
    /// [`Error::Data`] names file, row and column of what is missing or no finite number.
    pub fn observations(&self, target: &str, inputs: &[(&str, &str)]) -> Result<Observations> {
        let mut observations = Observations::new(target, self.numbers(target)?)
            .with_rows(self.numbers.clone())
            .with_file(self.file.clone());
        for (input, column) in inputs {
            observations = observations
                .with_input(input, self.numbers(column)?)
                .with_column_name(input, column);
        }
        observations.check()?;
        Ok(observations)
    }
}

/// Splits text into records and cells.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut cell) = (vec![], vec![], String::new());
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            _ => cell.push(c),
        }
    }
    if !cell.is_empty() || !record.is_empty() {
        record.push(cell);
        records.push(record);
    }
    records.retain(|record| record.iter().any(|cell| !cell.trim().is_empty()));
    records
}

#[cfg(test)]
mod tests;
