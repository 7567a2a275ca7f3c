//! `results.parquet`: one row a cell, with named columns of one type each.
//!
//! Columns are sorted by name. Whole numbers make an `Int64` column (`UInt64` if one needs it), a
//! column with any fraction is `Float64`, the rest is `Utf8` and `Boolean`; what a row does not say is
//! null. A column of nulls alone keeps the type `Null`. The same rows give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, NullArray, RecordBatch,
    StringArray, UInt64Array,
};
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, Schema, UInt64Type,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Number, Value};

use crate::atomic::write_atomic_with;
use crate::error::{Error, Result, damaged, ensure, io_error};

/// One row: column name to number, text, truth value or null.
pub type Row = BTreeMap<String, Value>;

/// Largest whole number up to which every one is an `f64`.
const EXACT: u64 = 1 << 53;

/// Writes rows as Parquet (zstd), atomically.
///
/// # Errors
/// [`Error::Column`] with column and row if a column mixes types, or holds a list or an object;
/// [`Error::Config`] if there are rows and none has a column; [`Error::Io`] if the file cannot be written.
pub fn write_results(path: &Path, rows: &[Row]) -> Result<()> {
    let names: BTreeSet<&String> = rows.iter().flat_map(BTreeMap::keys).collect();
    ensure(rows.is_empty() || !names.is_empty(), "rows", "rows with columns", "empty rows")?;
    let columns = names.iter().map(|name| column(name, rows)).collect::<Result<Vec<_>>>()?;
    let fields = names.iter().zip(&columns);
    let fields = fields.map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    write_atomic_with(path, |file| {
        let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(|e| damaged(path, e))?;
        if !rows.is_empty() {
            let batch = RecordBatch::try_new(schema, columns).map_err(|e| damaged(path, e))?;
            writer.write(&batch).map_err(|e| damaged(path, e))?;
        }
        writer.close().map(|_| ()).map_err(|e| damaged(path, e))
    })
}

/// Reads rows back; every row has every column, with null where there is no value. A fraction that is
/// not finite becomes null too.
///
/// # Errors
/// [`Error::Io`] if there is no such file, [`Error::File`] if it is cut off, is not Parquet, or has a
/// column of another type.
pub fn read_results(path: &Path) -> Result<Vec<Row>> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let bad = |e: &dyn std::fmt::Display| damaged(path, e);
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| bad(&e))?;
    let reader = reader.build().map_err(|e| bad(&e))?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| bad(&e))?;
        let first = rows.len();
        rows.resize(first + batch.num_rows(), Row::new());
        for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
            let values = values(array).ok_or_else(|| {
                bad(&format!("column `{}` has type {}", field.name(), array.data_type()))
            })?;
            for (row, value) in rows[first..].iter_mut().zip(values) {
                row.insert(field.name().clone(), value);
            }
        }
    }
    Ok(rows)
}

/// What a column holds, as far as it has been seen.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Null,
    Bool,
    Number,
    Text,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a truth value",
            Self::Number => "a number",
            Self::Text => "text",
        }
    }
}

fn column(name: &str, rows: &[Row]) -> Result<ArrayRef> {
    let cells = || rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null));
    let mut kind = Kind::Null;
    for (row, cell) in cells().enumerate() {
        let mixed = |got: &str| {
            let want = if kind == Kind::Null { "a single value" } else { kind.name() };
            Error::Column { column: name.to_owned(), row, want, got: got.to_owned() }
        };
        let new = match cell {
            Value::Null => continue,
            Value::Bool(_) => Kind::Bool,
            Value::Number(_) => Kind::Number,
            Value::String(_) => Kind::Text,
            Value::Array(_) => return Err(mixed("a list")),
            Value::Object(_) => return Err(mixed("an object")),
        };
        if kind != Kind::Null && kind != new {
            return Err(mixed(new.name()));
        }
        kind = new;
    }
    Ok(match kind {
        Kind::Null => Arc::new(NullArray::new(rows.len())),
        Kind::Bool => Arc::new(cells().map(Value::as_bool).collect::<BooleanArray>()),
        Kind::Text => Arc::new(cells().map(Value::as_str).collect::<StringArray>()),
        Kind::Number => {
            let numbers =
                cells().map(|cell| if let Value::Number(n) = cell { Some(n) } else { None });
            number_column(name, &numbers.collect::<Vec<_>>())?
        }
    })
}

fn number_column(name: &str, cells: &[Option<&Number>]) -> Result<ArrayRef> {
    let fits = |row: Option<usize>, want: &'static str| match row {
        None => Ok(()),
        Some(row) => {
            let got = cells[row].map_or_else(String::new, Number::to_string);
            Err(Error::Column { column: name.to_owned(), row, want, got })
        }
    };
    let find =
        |wanted: &dyn Fn(&Number) -> bool| cells.iter().position(|cell| cell.is_some_and(wanted));
    if find(&|n| n.is_f64()).is_some() {
        let magnitude = |n: &Number| n.as_u64().or(n.as_i64().map(i64::unsigned_abs));
        let inexact = find(&|n| magnitude(n).is_some_and(|n| n > EXACT));
        fits(inexact, "a whole number that a fraction's type can hold")?;
        let values = cells.iter().map(|cell| cell.and_then(Number::as_f64));
        return Ok(Arc::new(values.collect::<Float64Array>()));
    }
    if find(&|n| !n.is_i64()).is_some() {
        fits(find(&|n| !n.is_u64()), "no negative number beside one above 2^63")?;
        let values = cells.iter().map(|cell| cell.and_then(Number::as_u64));
        return Ok(Arc::new(values.collect::<UInt64Array>()));
    }
    Ok(Arc::new(cells.iter().map(|cell| cell.and_then(Number::as_i64)).collect::<Int64Array>()))
}

/// Cells of a column of a known type.
fn values(array: &ArrayRef) -> Option<Vec<Value>> {
    fn all<T: Into<Value>>(cells: impl Iterator<Item = Option<T>>) -> Vec<Value> {
        cells.map(|cell| cell.map_or(Value::Null, Into::into)).collect()
    }
    Some(match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => all(array.as_boolean().iter()),
        DataType::Int32 => all(array.as_primitive::<Int32Type>().iter()),
        DataType::Int64 => all(array.as_primitive::<Int64Type>().iter()),
        DataType::UInt64 => all(array.as_primitive::<UInt64Type>().iter()),
        DataType::Float32 => all(array.as_primitive::<Float32Type>().iter()),
        DataType::Float64 => all(array.as_primitive::<Float64Type>().iter()),
        DataType::Utf8 => all(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => all(array.as_string::<i64>().iter()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
