use std::fs;

use proptest::prelude::*;

use super::*;
use crate::testing::{flipped, folder, names_in};

/// Writes `documents` of a vocabulary, whose last id ends them.
fn write(path: &Path, vocab_size: u32, documents: &[Vec<u32>]) -> Result<Shards> {
    let mut writer = ShardWriter::create(path, vocab_size, vocab_size - 1)?;
    for document in documents {
        writer.push(document)?;
    }
    writer.finish()
}

fn check_refused(bytes: &[u8], expected: &str) {
    let folder = folder();
    let path = folder.path().join("a.tokens");
    fs::write(&path, bytes).unwrap();
    let message = Shards::open(&path).unwrap_err().to_string();
    let message = message.replace(&path.display().to_string(), "PATH");
    assert!(message.starts_with("token shards `PATH`: "), "{message}");
    assert!(message.contains(expected), "{message}");
}

/// The bytes of a small file.
fn small() -> Vec<u8> {
    let folder = folder();
    let path = folder.path().join("a.tokens");
    write(&path, 257, &[vec![1, 2, 3], vec![], vec![4]]).unwrap();
    fs::read(path).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn documents_come_back(
        vocab_size in prop::sample::select(vec![257, 1 << 16, (1 << 16) + 1, 1 << 20]),
        shares in prop::collection::vec(prop::collection::vec(0.0..1.0_f64, 0..30), 1..10),
    ) {
        let id = |share: &f64| (share * f64::from(vocab_size)) as u32;
        let documents: Vec<Vec<u32>> = shares.iter().map(|d| d.iter().map(id).collect()).collect();
        let folder = folder();
        let path = folder.path().join("a.tokens");
        let written = write(&path, vocab_size, &documents).unwrap();
        let read = Shards::open(&path).unwrap();
        prop_assert_eq!(names_in(folder.path()), ["a.tokens"]);
        prop_assert_eq!(read.hash(), written.hash());
        prop_assert_eq!(read.n_documents(), documents.len());
        prop_assert_eq!(read.n_tokens() as usize, documents.iter().map(|d| d.len() + 1).sum::<usize>());
        for (index, document) in documents.iter().enumerate() {
            let ids = read.document(index).unwrap();
            prop_assert_eq!(matches!(ids, Tokens::U16(_)), vocab_size <= 1 << 16);
            let expected = [document.as_slice(), &[vocab_size - 1]].concat();
            prop_assert_eq!(ids.iter().collect::<Vec<_>>(), expected.as_slice());
            prop_assert_eq!(ids.to_vec(), expected);
        }
    }
}

#[test]
fn documents_longer_than_a_block_come_back() {
    for vocab_size in [257, 100_000] {
        let ids: Vec<u32> = (0..1_300_001).map(|i| i % vocab_size).collect();
        let folder = folder();
        let documents = [vec![5; 3], ids, vec![6; 70_000]];
        let shards = write(&folder.path().join("a.tokens"), vocab_size, &documents).unwrap();
        for (index, document) in documents.iter().enumerate() {
            let read = shards.document(index).unwrap().to_vec();
            assert!(read[..document.len()] == *document && read.len() == document.len() + 1);
        }
    }
}

#[test]
fn a_flipped_bit_in_any_byte_is_refused() {
    let bytes = small();
    for bit in (0..bytes.len()).map(|byte| 8 * byte + byte % 8) {
        check_refused(&flipped(&bytes, bit), "");
    }
}

#[test]
fn every_cut_is_refused() {
    let bytes = small();
    for n_bytes in (0..bytes.len()).rev().step_by(7) {
        check_refused(&bytes[..n_bytes], "cut off");
    }
    check_refused(&[bytes.as_slice(), &[0]].concat(), "cut off or damaged");
}

#[test]
fn refusals_say_what_is_wrong() {
    let bytes = small();
    check_refused(&[0; 4096], "is no file of token shards");
    check_refused(&flipped(&bytes, 8 * 8), "has version 0, not 1; build it again");
    check_refused(&flipped(&bytes, 8 * 20), "the header's checksum does not match; remove it and");
    check_refused(&flipped(&bytes, 8 * 256), "its checksum does not match; remove it and");
}

/// A foreign writer may get checksums right and the content wrong.
#[test]
fn content_that_cannot_be_is_refused_in_spite_of_good_checksums() {
    let sealed = |edit: &dyn Fn(&mut [u8], &mut Header)| {
        let mut bytes = small();
        let mut header = Header::decode(&bytes).unwrap();
        edit(&mut bytes[HEADER_BYTES..], &mut header);
        header.body_hash = header::hash_body(&bytes[HEADER_BYTES..]);
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        bytes
    };
    check_refused(&sealed(&|body, _| body[6] = 1), "a document has no end");
    check_refused(&sealed(&|body, _| body[16] = 1), "its documents do not follow one another");
    check_refused(
        &sealed(&|_, header| header.n_tokens = u64::MAX),
        "announces an impossible number",
    );
    check_refused(&sealed(&|_, header| header.id_bytes = 3), "stores ids in 3 bytes");

    let folder = folder();
    let path = folder.path().join("a.tokens");
    fs::write(&path, sealed(&|body, _| body[1] = 2)).unwrap();
    let message = Shards::open(&path).unwrap_err().to_string();
    assert!(message.starts_with("token id 513 in `"), "{message}");
    assert!(message.ends_with("is out of range: the vocabulary holds 257 ids"), "{message}");
}

#[test]
fn an_id_out_of_range_is_named_and_not_written() {
    let folder = folder();
    let mut writer = ShardWriter::create(folder.path().join("a.tokens"), 300, 0).unwrap();
    writer.push(&[1, 2]).unwrap();
    let message = writer.push(&[3, 300]).unwrap_err().to_string();
    let expected = "token id 300 in document 1, position 1 is out of range: \
                    the vocabulary holds 300 ids";
    assert_eq!(message, expected);
    let shards = writer.finish().unwrap();
    assert_eq!((shards.n_documents(), shards.n_tokens()), (1, 3));

    let end = ShardWriter::create(folder.path().join("b.tokens"), 300, 300).unwrap_err();
    assert!(end.to_string().starts_with("token id 300 in the end of a document"), "{end}");
    assert_eq!(names_in(folder.path()), ["a.tokens"]);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let folder = folder();
    let path = folder.path().join("a.tokens");
    let mut writer = ShardWriter::create(&path, 300, 0).unwrap();
    writer.push(&vec![7; 1 << 20]).unwrap();
    assert_eq!(names_in(folder.path()), ["a.tokens.partial"]);
    drop(writer);
    assert!(names_in(folder.path()).is_empty());
    let none = ShardWriter::create(&path, 300, 0).unwrap().finish().unwrap_err();
    assert_eq!(none.to_string(), "documents must be at least one, got none");
    assert!(names_in(folder.path()).is_empty());
}

#[test]
fn a_document_that_is_not_there_is_refused_by_name() {
    let folder = folder();
    let shards = write(&folder.path().join("a.tokens"), 300, &[vec![1]]).unwrap();
    for index in [1, usize::MAX] {
        let message = shards.document(index).unwrap_err().to_string();
        assert_eq!(message, format!("document must be below 1, got {index}"));
    }
}
