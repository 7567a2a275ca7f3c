//! Throughput of turning text into token shards, on one core.
//!
//! `bytes into shards` reads a file, makes ids of its bytes and writes checked shards: megabytes of
//! text a second. `BPE` encodes with a vocabulary trained on the same book, by this crate and by
//! the `tokenizers` library alone; the ratio of the two is printed at the end, above 1 where this
//! crate is faster.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark, not a library")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use forerun_tokens::{BpeConfig, TextSource, Tokenizer, build_or_reuse, documents, train_bpe};

/// The first book that the repository carries, and all of it in paragraphs.
fn book() -> (String, Vec<String>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments/assets/english/books.parquet");
    let book = documents(&TextSource::new(path)).unwrap().next().unwrap().unwrap().text;
    let paragraphs = book.split("\n\n").map(str::to_owned).collect();
    (book, paragraphs)
}

fn bytes_into_shards(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let (book, paragraphs) = book();
    let repeats = 16;
    let text = folder.path().join("books.txt");
    fs::write(&text, book.repeat(repeats)).unwrap();
    let lines = folder.path().join("paragraphs.jsonl");
    let line = |paragraph: &String| format!("{}\n", serde_json::json!({ "text": paragraph }));
    let all: String = paragraphs.iter().map(line).collect();
    fs::write(&lines, all.repeat(repeats)).unwrap();

    let mut group = criterion.benchmark_group("bytes into shards");
    for path in [&text, &lines] {
        let n_bytes = repeats * paragraphs.iter().map(String::len).sum::<usize>();
        group.throughput(Throughput::Bytes(n_bytes as u64));
        let name = path.extension().unwrap().to_str().unwrap();
        let source = TextSource::new(path.to_str().unwrap());
        group.bench_function(name, |bencher| {
            let cache = || tempfile::tempdir_in(folder.path()).unwrap();
            let build = |cache: tempfile::TempDir| {
                build_or_reuse(cache.path(), &source, &Tokenizer::bytes()).unwrap();
                cache
            };
            bencher.iter_batched(cache, build, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn bpe(criterion: &mut Criterion) {
    let (book, paragraphs) = book();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let config = BpeConfig { vocab_size: 4096, min_frequency: 2 };
    let ours = train_bpe([Ok(&book)], &config).unwrap();
    ours.save(&path).unwrap();
    let theirs = tokenizers::Tokenizer::from_file(Path::new(&path)).unwrap();

    let encode_ours = || paragraphs.iter().map(|text| ours.encode(text).unwrap().len()).sum();
    let encode_theirs = || {
        let ids = |text: &String| theirs.encode_fast(text.as_str(), false).unwrap().len();
        paragraphs.iter().map(ids).sum::<usize>()
    };
    assert_eq!(encode_theirs(), encode_ours());

    let mut group = criterion.benchmark_group("BPE");
    group.throughput(Throughput::Bytes(paragraphs.iter().map(String::len).sum::<usize>() as u64));
    group.bench_function("forerun-tokens", |bencher| bencher.iter(encode_ours));
    group.bench_function("tokenizers", |bencher| bencher.iter(encode_theirs));
    group.finish();
    print_ratio(&encode_ours, &encode_theirs);
}

/// The best of interleaved runs of each, so that neither meets a busier machine.
fn print_ratio(ours: &dyn Fn() -> usize, theirs: &dyn Fn() -> usize) {
    let time = |encode: &dyn Fn() -> usize| {
        let start = Instant::now();
        black_box(encode());
        start.elapsed()
    };
    let mut best = [Duration::MAX; 2];
    for _ in 0..10 {
        best = [best[0].min(time(ours)), best[1].min(time(theirs))];
    }
    let ratio = best[1].as_secs_f64() / best[0].as_secs_f64();
    println!("BPE: {ratio:.2} times the speed of the tokenizers library");
}

fn one_core() -> Criterion {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3))
}

criterion_group! { name = benches; config = one_core(); targets = bytes_into_shards, bpe }
criterion_main!(benches);
