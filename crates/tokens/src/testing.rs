//! What the tests of several modules need: files of every format, and tokenizers.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::{BpeConfig, TextSource, Tokenizer, train_bpe};

pub(crate) const TEXT: &str = "The whale, the white whale! Was it the whale, or the sea, or the \
    white of the sea? Call me what you will: “a whale” is what they saw — naïve 日本語 🐋🐋.\n\n\tEnd.";

/// The books that the repository carries.
pub(crate) const BOOKS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments/assets/english/books.parquet");

/// The first 60,000 characters of one of them.
pub(crate) fn some_book() -> String {
    let book = crate::documents(&TextSource::new(BOOKS)).unwrap().next().unwrap().unwrap();
    book.text.chars().take(60_000).collect()
}

/// A byte-level BPE with a few merges.
pub(crate) static BPE: LazyLock<Tokenizer> = LazyLock::new(|| {
    let config = BpeConfig { vocab_size: 300, min_frequency: 2 };
    train_bpe([Ok(TEXT)], &config).unwrap()
});

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn source(path: &Path) -> TextSource {
    TextSource::new(path.to_str().unwrap())
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Writes string columns in row groups of `group_rows`.
pub(crate) fn parquet(path: &Path, columns: &[(&str, Vec<Option<&str>>)], group_rows: usize) {
    let arrays = columns.iter().map(|(name, values)| {
        (*name, Arc::new(StringArray::from(values.clone())) as ArrayRef, true)
    });
    write_parquet(path, &RecordBatch::try_from_iter_with_nullable(arrays).unwrap(), group_rows);
}

pub(crate) fn write_parquet(path: &Path, batch: &RecordBatch, group_rows: usize) {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))
        .set_max_row_group_row_count(Some(group_rows))
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// `bytes` with one bit changed.
pub(crate) fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Names of the files in `folder`, sorted.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
