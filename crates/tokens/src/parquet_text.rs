//! A text column of a Parquet file, a few MB at a time.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;

use crate::documents::{Document, Row, Rows, text_column};
use crate::error::{Error, Result};
use crate::format::open_file;
use crate::source::TextSource;

/// Bytes of text to decode at once.
const BATCH_BYTES: i64 = 4 << 20;
const MAX_BATCH_ROWS: i64 = 1024;
const NOT_UTF8: &str = "write the text as UTF-8";
const DAMAGED: &str = "the file is damaged or cut off: fetch or write it again";

pub(crate) struct ParquetReader {
    file: Arc<Path>,
    text: String,
    filter: BTreeMap<String, String>,
    batches: ParquetRecordBatchReader,
    batch: Option<Batch>,
    /// Rows before the current batch.
    n_before: u64,
}

/// Decoded rows, and the next one to hand out.
struct Batch {
    text: StringArray,
    filtered: Vec<(String, String, StringArray)>,
    next: usize,
}

impl ParquetReader {
    pub(crate) fn open(file: &Path, source: &TextSource) -> Result<Self> {
        let builder = builder(file)?;
        let fields = builder.schema().fields();
        let columns: Vec<_> = fields
            .iter()
            .map(|field| (field.name().as_str(), is_text(field.data_type())))
            .collect();
        let text = text_column(&columns, source.column.as_deref(), file, None)?.to_owned();
        for name in source.filter.keys() {
            if !columns.iter().any(|(column, _)| column == name) {
                let names: Vec<_> = columns.iter().map(|(name, _)| format!("`{name}`")).collect();
                let remedy = format!("filter by one of these: {}", names.join(", "));
                let reason = format!("there is no column `{name}`");
                return Err(Error::input(file, None, reason, remedy));
            }
        }
        check_columns(file, &builder)?;
        let batches = batches(file, &text, &source.filter, None)?;
        let filter = source.filter.clone();
        Ok(Self { file: file.into(), text, filter, batches, batch: None, n_before: 0 })
    }

    /// Decodes the next batch; `false` at the end.
    fn next_batch(&mut self) -> Result<bool> {
        self.n_before += self.batch.take().map_or(0, |batch| batch.text.len() as u64);
        let Some(decoded) = next(&mut self.batches) else { return Ok(false) };
        let decoded = decoded.map_err(|reason| {
            let remedy = if reason.contains("UTF-8") { NOT_UTF8 } else { DAMAGED };
            Error::input(&self.file, self.first_bad_row(), reason, remedy)
        })?;
        let column = |name: &str| self.column(&decoded, name);
        let text = column(&self.text)?;
        let filtered = self
            .filter
            .iter()
            .map(|(name, value)| Ok((name.clone(), value.clone(), column(name)?)))
            .collect::<Result<_>>()?;
        self.batch = Some(Batch { text, filtered, next: 0 });
        Ok(true)
    }

    fn column(&self, batch: &RecordBatch, name: &str) -> Result<StringArray> {
        let wanted = |reason: String| {
            let remedy = "name another column, or write this one as strings";
            Error::input(&self.file, None, format!("column `{name}`: {reason}"), remedy)
        };
        let array: &ArrayRef =
            batch.column_by_name(name).ok_or_else(|| wanted("is not in the batch".to_owned()))?;
        let strings = cast(array, &DataType::Utf8).map_err(|error| wanted(error.to_string()))?;
        Ok(strings.as_string().clone())
    }

    /// The row at which decoding fails, found by decoding the rest one by one.
    fn first_bad_row(&self) -> u64 {
        let from = self.n_before;
        let Ok(mut rows) = batches(&self.file, &self.text, &self.filter, Some(from)) else {
            return from + 1;
        };
        let n_good = std::iter::from_fn(|| next(&mut rows)).take_while(|row| row.is_ok()).count();
        from + n_good as u64 + 1
    }
}

impl Rows for ParquetReader {
    fn next_row(&mut self) -> Result<Option<Row>> {
        while self.batch.as_ref().is_none_or(|batch| batch.next == batch.text.len()) {
            if !self.next_batch()? {
                return Ok(None);
            }
        }
        let Some(batch) = &mut self.batch else { return Ok(None) };
        let index = batch.next;
        batch.next += 1;
        for (name, wanted, values) in &batch.filtered {
            let value = if values.is_null(index) { "null" } else { values.value(index) };
            if value != wanted {
                return Ok(Some(Row::Skipped(name.clone(), value.to_owned())));
            }
        }
        let row = self.n_before + index as u64 + 1;
        if batch.text.is_null(index) {
            let reason = format!("column `{}` is null", self.text);
            return Err(Error::input(
                &self.file,
                row,
                reason,
                "drop the row, or fill it with text",
            ));
        }
        let text = batch.text.value(index).to_owned();
        Ok(Some(Row::Kept(Document { text, file: Arc::clone(&self.file), row })))
    }
}

/// The next batch. The reader may panic on bytes that no writer wrote; that is an error like any
/// other.
fn next(batches: &mut ParquetRecordBatchReader) -> Option<Result<RecordBatch, String>> {
    match catch_unwind(AssertUnwindSafe(|| batches.next())) {
        Ok(batch) => batch.map(|batch| batch.map_err(|error| error.to_string())),
        Err(_) => Some(Err("the Parquet reader gave up".to_owned())),
    }
}

fn builder(file: &Path) -> Result<ParquetRecordBatchReaderBuilder<std::fs::File>> {
    let opened = open_file(file)?;
    match catch_unwind(AssertUnwindSafe(|| ParquetRecordBatchReaderBuilder::try_new(opened))) {
        Ok(builder) => builder.map_err(|error| error.to_string()),
        Err(_) => Err("the Parquet reader gave up".to_owned()),
    }
    .map_err(|reason| Error::input(file, None, reason, DAMAGED))
}

/// Refuses by name what the reader would take for damage, or panic about, later.
fn check_columns(
    file: &Path,
    builder: &ParquetRecordBatchReaderBuilder<std::fs::File>,
) -> Result<()> {
    use Compression::{GZIP, SNAPPY, UNCOMPRESSED, ZSTD};
    for column in builder.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        if start < 0 || column.compressed_size() < 0 {
            let reason = format!("column `{}` lies outside the file", column.column_path());
            return Err(Error::input(file, None, reason, DAMAGED));
        }
        let compression = column.compression();
        if !matches!(compression, UNCOMPRESSED | SNAPPY | GZIP(_) | ZSTD(_)) {
            let reason = format!("the compression {compression} is not supported");
            let remedy = "write the file with zstd, snappy or gzip";
            return Err(Error::input(file, None, reason, remedy));
        }
    }
    Ok(())
}

/// Batches of the text and the filtered columns; one row at a time, from a row (from 0) on, if
/// `from` is given.
fn batches(
    file: &Path,
    text: &str,
    filter: &BTreeMap<String, String>,
    from: Option<u64>,
) -> Result<ParquetRecordBatchReader> {
    let mut builder = builder(file)?;
    let wanted = |name: &String| name == text || filter.contains_key(name);
    let fields = builder.schema().fields().iter().enumerate();
    let roots: Vec<_> =
        fields.filter(|(_, field)| wanted(field.name())).map(|(root, _)| root).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let n_rows = match from {
        Some(from) => {
            builder = builder.with_offset(usize::try_from(from).unwrap_or(usize::MAX));
            1
        }
        None => rows_at_once(&builder),
    };
    let builder = builder.with_projection(mask).with_batch_size(n_rows);
    match catch_unwind(AssertUnwindSafe(|| builder.build())) {
        Ok(reader) => reader.map_err(|error| error.to_string()),
        Err(_) => Err("the Parquet reader gave up".to_owned()),
    }
    .map_err(|reason| Error::input(file, None, reason, DAMAGED))
}

/// Rows that make up [`BATCH_BYTES`] in the row group with the longest ones.
fn rows_at_once(builder: &ParquetRecordBatchReaderBuilder<std::fs::File>) -> usize {
    let groups = builder.metadata().row_groups().iter();
    let bytes_per_row = groups.map(|group| group.total_byte_size() / group.num_rows().max(1)).max();
    let n_rows = BATCH_BYTES / bytes_per_row.unwrap_or(1).max(1);
    usize::try_from(n_rows.clamp(1, MAX_BATCH_ROWS)).unwrap_or(1)
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}
