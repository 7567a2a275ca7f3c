use proptest::prelude::*;

use super::*;
use crate::testing::{BPE, TEXT, folder};

fn check_error<T: std::fmt::Debug>(result: Result<T>, expected: &str) {
    assert_eq!(result.unwrap_err().to_string(), expected);
}

/// The trained tokenizer's file with `find` replaced, which has to be there.
fn edited(find: &str, replacement: &str) -> String {
    let json = String::from_utf8(BPE.vocabulary().unwrap().json.clone()).unwrap();
    assert!(json.contains(find), "{find}");
    json.replace(find, replacement)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_text_comes_back(text in any::<String>()) {
        for tokenizer in [&Tokenizer::bytes(), &*BPE] {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_str());
        }
    }

    #[test]
    fn ids_are_those_of_the_tokenizers_library(text in any::<String>()) {
        let theirs = HuggingFace::from_bytes(&BPE.vocabulary().unwrap().json).unwrap();
        let expected = theirs.encode(text.as_str(), false).unwrap();
        prop_assert_eq!(BPE.encode(&text).unwrap(), expected.get_ids());
    }
}

#[test]
fn a_batch_is_its_texts() {
    let texts = [TEXT, "", "sea", "the\nwhale"];
    let expected: Vec<_> = texts.iter().map(|text| BPE.encode(text).unwrap()).collect();
    assert_eq!(BPE.encode_batch(&texts).unwrap(), expected);
}

#[test]
fn a_saved_tokenizer_is_the_same_when_read() {
    let folder = folder();
    let path = folder.path().join("new/tokenizer.json");
    BPE.save(&path).unwrap();
    let read = Tokenizer::from_file(&path).unwrap();
    assert_eq!(read.hash(), BPE.hash());
    assert_eq!(read.vocab_size(), BPE.vocab_size());
    assert_eq!(read.end_of_document(), Some(256));
    let theirs = HuggingFace::from_file(&path).unwrap();
    assert_eq!(theirs.encode(TEXT, false).unwrap().get_ids(), BPE.encode(TEXT).unwrap());
}

#[test]
fn the_byte_tokenizer_has_no_file() {
    let folder = folder();
    let saved = Tokenizer::bytes().save(folder.path().join("tokenizer.json"));
    check_error(saved, "tokenizer `bytes`: has no file: make it with `Tokenizer::bytes`");
}

#[test]
fn a_document_that_mentions_its_end_does_not_end_there() {
    let text = "a<|endoftext|>b";
    assert!(!BPE.encode(text).unwrap().contains(&256));
    assert_eq!(BPE.decode(&BPE.encode(text).unwrap()).unwrap(), text);
    assert_eq!(BPE.encode_special(text).unwrap(), [97, 256, 98]);
    assert_eq!(BPE.decode(&[97, 256, 98]).unwrap(), "ab");
}

#[test]
fn an_id_out_of_range_is_named() {
    let message = "token id 257 in position 1 is out of range: the vocabulary holds 257 ids";
    check_error(Tokenizer::bytes().decode(&[1, 257]), message);
    let size = BPE.vocab_size();
    let message =
        format!("token id {size} in a stream is out of range: the vocabulary holds {size} ids");
    check_error(BPE.stream_decoder().push(size), &message);
}

#[test]
fn broken_bytes_become_replacement_characters() {
    let text = Tokenizer::bytes().decode(&[97, 0xe6, 0x97, 98, 0xff]).unwrap();
    assert_eq!(text, "a\u{fffd}b\u{fffd}");
}

#[test]
fn truncation_and_padding_in_the_file_lose_nothing() {
    let truncation =
        r#""truncation":{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0}"#;
    let padding = r#""padding":{"strategy":{"Fixed":64},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"!"}"#;
    let json = edited(r#""truncation":null,"padding":null"#, &format!("{truncation},{padding}"));
    let tokenizer = Tokenizer::from_json(json, "short").unwrap();
    assert_eq!(tokenizer.encode(TEXT).unwrap(), BPE.encode(TEXT).unwrap());
    assert_eq!(tokenizer.encode("a").unwrap(), [97]);
}

#[test]
fn a_missing_end_of_document_can_be_added() {
    let without = edited("<|endoftext|>", "<|pad|>");
    let tokenizer = Tokenizer::from_json(without, "no end").unwrap();
    assert_eq!(tokenizer.end_of_document(), None);
    let (hash, size) = (tokenizer.hash(), tokenizer.vocab_size());

    let padded = tokenizer.clone().with_end_of_document("<|pad|>").unwrap();
    assert_eq!((padded.end_of_document(), padded.vocab_size()), (Some(256), size));
    let added = tokenizer.with_end_of_document("<|end|>").unwrap();
    assert_eq!((added.end_of_document(), added.vocab_size()), (Some(size), size + 1));
    assert_eq!(added.encode(TEXT).unwrap(), BPE.encode(TEXT).unwrap());
    assert!(hash != padded.hash() && hash != added.hash() && added.hash() != padded.hash());
}

#[test]
fn the_end_of_the_byte_tokenizer_is_fixed() {
    let changed = Tokenizer::bytes().with_end_of_document("x");
    check_error(changed, "tokenizer `bytes`: ends documents with id 256, always");
}

#[test]
fn a_file_that_is_no_tokenizer_is_refused_by_name() {
    let folder = folder();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, "{\"version\": ").unwrap();
    let message = Tokenizer::from_file(&path).unwrap_err().to_string();
    assert!(message.starts_with(&format!("tokenizer `{}`: ", path.display())), "{message}");
    fs::remove_file(&path).unwrap();
    let message = Tokenizer::from_file(&path).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot read `{}`: ", path.display())), "{message}");
}
