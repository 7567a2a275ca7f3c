use std::fmt::Write as _;
use std::process::{Child, Command};

use super::*;
use crate::testing::{BPE, TEXT, flipped, folder, names_in, source};

/// Names of the folders that a child process works on.
const CHILD: &str = "FORERUN_TOKENS_TEST_CHILD";

/// The one shard file in `cache`.
fn shard_file(cache: &Path) -> PathBuf {
    let names: Vec<_> =
        names_in(cache).into_iter().filter(|name| name.ends_with(".tokens")).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    cache.join(&names[0])
}

/// A JSONL file of `n` documents of a few hundred bytes.
fn write_lines(path: &Path, n: usize) {
    let mut lines = String::new();
    for i in 0..n {
        writeln!(lines, "{}", serde_json::json!({"text": format!("{i} {TEXT} {}", i * i)}))
            .unwrap();
    }
    fs::write(path, lines).unwrap();
}

fn build(folder: &Path, tokenizer: &Tokenizer) -> Result<Shards> {
    build_or_reuse(&folder.join("cache"), &source(&folder.join("a.jsonl")), tokenizer)
}

#[test]
fn shards_hold_the_documents_and_where_they_came_from() {
    let folder = folder();
    write_lines(&folder.path().join("a.jsonl"), 30);
    let source = source(&folder.path().join("a.jsonl"));
    for tokenizer in [&Tokenizer::bytes(), &*BPE] {
        let shards = build(folder.path(), tokenizer).unwrap();
        let texts = crate::documents(&source).unwrap().map(|document| document.unwrap().text);
        for (index, text) in texts.enumerate() {
            let expected = [tokenizer.encode(&text).unwrap(), vec![256]].concat();
            assert_eq!(shards.document(index).unwrap().to_vec(), expected);
        }
        assert_eq!(shards.n_documents(), 30);
        assert_eq!(shards.tokenizer_hash(), tokenizer.hash());
        assert_eq!(shards.source_hash(), source.hash().unwrap());
        assert_eq!(shards.vocab_size(), tokenizer.vocab_size());
    }
}

#[test]
fn shards_are_built_once_and_again_when_the_text_changes() {
    let folder = folder();
    write_lines(&folder.path().join("a.jsonl"), 3);
    let first = build(folder.path(), &BPE).unwrap();
    let written = fs::metadata(first.path()).unwrap().modified().unwrap();
    let again = build(folder.path(), &BPE).unwrap();
    assert_eq!(again.path(), first.path());
    assert_eq!(fs::metadata(again.path()).unwrap().modified().unwrap(), written);

    let moved = folder.path().join("b.jsonl");
    fs::copy(folder.path().join("a.jsonl"), &moved).unwrap();
    let moved = build_or_reuse(&folder.path().join("cache"), &source(&moved), &BPE).unwrap();
    assert_eq!(moved.path(), first.path());

    write_lines(&folder.path().join("a.jsonl"), 4);
    let changed = build(folder.path(), &BPE).unwrap();
    assert_ne!(changed.path(), first.path());
    assert_ne!(build(folder.path(), &Tokenizer::bytes()).unwrap().path(), changed.path());
}

#[test]
fn damaged_shards_are_built_again() {
    let folder = folder();
    write_lines(&folder.path().join("a.jsonl"), 3);
    let hash = build(folder.path(), &BPE).unwrap().hash();
    let path = shard_file(&folder.path().join("cache"));
    let bytes = fs::read(&path).unwrap();
    for damaged in [flipped(&bytes, 8 * 300), bytes[..bytes.len() - 1].to_vec(), vec![]] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(build(folder.path(), &BPE).unwrap().hash(), hash);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn shards_under_a_wrong_name_are_not_taken() {
    let folder = folder();
    write_lines(&folder.path().join("a.jsonl"), 3);
    let right = build(folder.path(), &BPE).unwrap();
    let (path, hash) = (right.path().to_owned(), right.hash());
    write_lines(&folder.path().join("a.jsonl"), 4);
    let other = build(folder.path(), &BPE).unwrap();
    fs::rename(other.path(), &path).unwrap();
    write_lines(&folder.path().join("a.jsonl"), 3);
    assert_eq!(build(folder.path(), &BPE).unwrap().hash(), hash);
}

#[test]
fn bad_input_loses_nothing_already_built() {
    let folder = folder();
    let path = folder.path().join("a.jsonl");
    write_lines(&path, 300);
    build(folder.path(), &BPE).unwrap();
    let cache = folder.path().join("cache");
    let (shards, before) = (shard_file(&cache), fs::read(shard_file(&cache)).unwrap());

    let mut lines = fs::read(&path).unwrap();
    lines.extend_from_slice(b"{\"txt\": 1}\n");
    fs::write(&path, lines).unwrap();
    for tokenizer in [&Tokenizer::bytes(), &*BPE] {
        let message = build(folder.path(), tokenizer).unwrap_err().to_string();
        let expected = format!("`{}` row 301: there is no key `text`", path.display());
        assert!(message.starts_with(&expected), "{message}");
    }
    assert_eq!(fs::read(shards).unwrap(), before);
    assert!(names_in(&cache).iter().all(|name| !name.ends_with(".partial")));
}

#[test]
fn a_tokenizer_without_an_end_of_a_document_is_refused() {
    let folder = folder();
    write_lines(&folder.path().join("a.jsonl"), 3);
    let json = r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#;
    let tokenizer = Tokenizer::from_json(json, "words").unwrap();
    let message = build(folder.path(), &tokenizer).unwrap_err().to_string();
    let expected = "tokenizer `words`: has no token that ends a document; \
                    name one with `with_end_of_document`";
    assert_eq!(message, expected);
    let shards = build(folder.path(), &tokenizer.with_end_of_document("b").unwrap()).unwrap();
    assert_eq!((shards.end_of_document(), shards.vocab_size()), (1, 2));
}

#[test]
fn a_text_that_the_tokenizer_cannot_take_is_named_by_row() {
    let folder = folder();
    fs::write(folder.path().join("a.jsonl"), "{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
    let json = r#"{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0,"</s>":1},"unk_token":"?"}}"#;
    let tokenizer = Tokenizer::from_json(json, "words").unwrap();
    let message = build(folder.path(), &tokenizer).unwrap_err().to_string();
    assert!(message.contains("a.jsonl` row 2: tokenizer `words`: "), "{message}");
}

#[test]
fn builders_at_the_same_time_get_the_same_shards() {
    let folder = folder();
    write_lines(&folder.path().join("a.jsonl"), 200);
    let hashes: Vec<_> = std::thread::scope(|scope| {
        let builders: Vec<_> =
            (0..4).map(|_| scope.spawn(|| build(folder.path(), &BPE).unwrap().hash())).collect();
        builders.into_iter().map(|builder| builder.join().unwrap()).collect()
    });
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
    shard_file(&folder.path().join("cache"));
}

/// Does nothing in a test run of its own; see [`start_child`].
#[test]
fn child_that_builds() {
    if let Some(folder) = std::env::var_os(CHILD) {
        build(Path::new(&folder), &Tokenizer::bytes()).unwrap();
    }
}

/// Starts another process that builds the shards of `folder`.
fn start_child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cache::tests::child_that_builds"])
        .env(CHILD, folder)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// Invariant: killed and built again equals uninterrupted, byte for byte.
#[test]
fn killed_and_built_again_equals_uninterrupted() {
    let folder = folder();
    write_lines(&folder.path().join("a.jsonl"), 30_000);
    let cache = folder.path().join("cache");
    let mut n_killed_halfway = 0;
    for n_blocks in 0..4 {
        let mut child = start_child(folder.path());
        loop {
            let names = names_in(folder.path());
            let partial = names.contains(&"cache".to_owned()).then(|| {
                let mut names = names_in(&cache).into_iter();
                names.find(|name| name.ends_with(".partial")).map(|name| cache.join(name))
            });
            let n_bytes = partial.flatten().and_then(|path| Some(fs::metadata(path).ok()?.len()));
            if n_bytes > Some(n_blocks << 20) || child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        n_killed_halfway += usize::from(names_in(&cache).iter().all(|n| !n.ends_with(".tokens")));
    }
    assert!(n_killed_halfway > 0, "no child was stopped before its end");
    build(folder.path(), &Tokenizer::bytes()).unwrap();
    assert!(names_in(&cache).iter().all(|name| !name.ends_with(".partial")));
    let rebuilt = fs::read(shard_file(&cache)).unwrap();
    fs::remove_dir_all(&cache).unwrap();
    build(folder.path(), &Tokenizer::bytes()).unwrap();
    assert!(rebuilt == fs::read(shard_file(&cache)).unwrap());
}
