//! What the tests of several modules need: files of every format, and tokenizers.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value as Json;

use crate::gguf::{Gguf, Writer};
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

/// What SentencePiece made of texts; `tests/data/SOURCES.md` says how.
pub(crate) static SENTENCE_PIECE: LazyLock<Json> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../tests/data/sentencepiece.json")).unwrap()
});

/// The vocabulary of [`SENTENCE_PIECE`] as GGUF metadata.
pub(crate) fn sentence_piece_file() -> Writer {
    let pieces = SENTENCE_PIECE["pieces"].as_array().unwrap();
    let column = |i: usize| pieces.iter().map(move |piece| &piece[i]);
    let tokens: Vec<&str> = column(0).map(|token| token.as_str().unwrap()).collect();
    let scores: Vec<f32> = column(1).map(|score| score.as_f64().unwrap() as f32).collect();
    let types: Vec<i32> = column(2).map(|kind| kind.as_i64().unwrap() as i32).collect();
    let mut writer = Writer::new();
    writer.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", &tokens);
    writer.floats("tokenizer.ggml.scores", &scores).integers("tokenizer.ggml.token_type", &types);
    writer.unsigned("tokenizer.ggml.bos_token_id", 1).unsigned("tokenizer.ggml.eos_token_id", 2);
    writer
}

/// The vocabulary of [`BPE`] as GGUF metadata, whose only control token is its end of a document;
/// it lacks the name of a pre-tokenizer.
pub(crate) fn byte_level_file() -> Writer {
    let folder = folder();
    let path = folder.path().join("tokenizer.json");
    BPE.save(&path).unwrap();
    let json: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![""; vocab.len()];
    for (token, id) in vocab {
        tokens[id.as_u64().unwrap() as usize] = token;
    }
    let merge =
        |pair: &Json| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    let merges: Vec<String> =
        json["model"]["merges"].as_array().unwrap().iter().map(merge).collect();
    let types: Vec<i32> = (0..tokens.len()).map(|id| if id == 256 { 3 } else { 1 }).collect();
    let mut writer = Writer::new();
    writer.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", &tokens);
    writer.strings("tokenizer.ggml.merges", &merges).integers("tokenizer.ggml.token_type", &types);
    writer.unsigned("tokenizer.ggml.eos_token_id", 256);
    writer
}

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

/// The file that `writer` holds.
pub(crate) fn gguf(writer: &Writer) -> Gguf {
    Gguf::from_bytes(writer.to_bytes().unwrap(), "x.gguf").unwrap()
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
