//! Parquet of any writer: numbers, truth values, and the rest as text.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::error::{Result, damaged, io_error};
use crate::results::Row;

/// All rows; columns that are neither numbers, truth values nor text (lists, structures) are left out.
pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| damaged(path, e))?;
    let reader = reader.build().map_err(|e| damaged(path, e))?;
    let mut rows: Vec<Row> = vec![];
    for batch in reader {
        let batch = batch.map_err(|e| damaged(path, e))?;
        let first = rows.len();
        rows.resize(first + batch.num_rows(), Row::new());
        for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
            let Some(values) = values(array) else { continue };
            for (row, value) in rows[first..].iter_mut().zip(values) {
                row.insert(field.name().clone(), value);
            }
        }
    }
    Ok(rows)
}

fn values(array: &ArrayRef) -> Option<Vec<Value>> {
    let kind = array.data_type();
    let is_text = matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if *kind == DataType::Boolean {
        let bools = array.as_boolean_opt()?;
        return Some(bools.iter().map(|value| value.map_or(Value::Null, Value::Bool)).collect());
    }
    if kind.is_integer() && *kind != DataType::UInt64 {
        let whole = cast(array, &DataType::Int64).ok()?;
        let whole = whole.as_primitive_opt::<Int64Type>()?;
        return Some(whole.iter().map(|value| value.map_or(Value::Null, Value::from)).collect());
    }
    if kind.is_numeric() {
        let numbers = cast(array, &DataType::Float64).ok()?;
        let numbers = numbers.as_primitive_opt::<Float64Type>()?;
        return Some(
            numbers.iter().map(|value| value.map_or(Value::Null, super::number)).collect(),
        );
    }
    if is_text || kind.is_temporal() || matches!(kind, DataType::Dictionary(..)) {
        let text = cast(array, &DataType::Utf8).ok()?;
        let text = text.as_string_opt::<i32>()?;
        return Some(text.iter().map(|value| value.map_or(Value::Null, Value::from)).collect());
    }
    None
}
