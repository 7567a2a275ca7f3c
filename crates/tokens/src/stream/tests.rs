use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::testing::{BPE, TEXT};

/// A SentencePiece-like vocabulary: `▁` for spaces, bytes where it has no piece.
static SENTENCE_PIECE: LazyLock<Tokenizer> = LazyLock::new(|| {
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = ["▁", "a", "b", "▁a", "▁ab", "ab", "日", "<unk>", "</s>"].map(str::to_owned);
    let vocab: Map<String, Value> =
        bytes.chain(pieces).enumerate().map(|(id, piece)| (piece, id.into())).collect();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{
            "id": 264, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": vocab, "merges": [["▁", "a"], ["▁a", "b"], ["a", "b"]],
        },
    });
    Tokenizer::from_json(json.to_string(), "sentence piece").unwrap()
});

/// The pieces, the last from the end of the stream.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut decoder = tokenizer.stream_decoder();
    let mut pieces: Vec<_> = ids.iter().map(|&id| decoder.push(id).unwrap()).collect();
    pieces.push(decoder.finish().unwrap());
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_make_up_the_whole_for_any_bytes(ids in prop::collection::vec(0..257_u32, 0..40)) {
        let tokenizer = Tokenizer::bytes();
        prop_assert_eq!(pieces(&tokenizer, &ids).concat(), tokenizer.decode(&ids).unwrap());
    }

    #[test]
    fn pieces_make_up_the_whole_for_any_byte_level_ids(
        ids in prop::collection::vec(0..BPE.vocab_size(), 0..40)
    ) {
        prop_assert_eq!(pieces(&BPE, &ids).concat(), BPE.decode(&ids).unwrap());
    }

    #[test]
    fn pieces_of_a_text_are_whole_characters_of_it(text in "[ab日é🐋 ]{0,24}") {
        for tokenizer in [&Tokenizer::bytes(), &*BPE, &*SENTENCE_PIECE] {
            let ids = tokenizer.encode(&text).unwrap();
            let pieces = pieces(tokenizer, &ids);
            prop_assert_eq!(pieces.concat(), text.as_str());
            let broken = pieces.iter().any(|piece| piece.contains('\u{fffd}'));
            prop_assert!(!broken);
            prop_assert_eq!(pieces.last().unwrap(), "", "nothing is held back to the end");
        }
    }
}

#[test]
fn a_character_appears_with_its_last_byte() {
    let ids: Vec<u32> = "é🐋".bytes().map(u32::from).collect();
    let expected = ["", "é", "", "", "", "🐋", ""];
    assert_eq!(pieces(&Tokenizer::bytes(), &ids), expected);
    assert_eq!(pieces(&SENTENCE_PIECE, &ids), expected);
}

#[test]
fn broken_bytes_of_a_fallback_do_not_hold_the_stream_up() {
    let pieces = pieces(&SENTENCE_PIECE, &[vec![0xff; 20], vec![257]].concat());
    assert!(pieces[..10].concat().contains('\u{fffd}'), "{pieces:?}");
    assert!(pieces.concat().ends_with('a'));
}

#[test]
fn an_unfinished_character_shows_at_the_end() {
    assert_eq!(pieces(&Tokenizer::bytes(), &[97, 0xf0, 0x9f]), ["a", "", "", "\u{fffd}"]);
    assert_eq!(pieces(&BPE, &[97, 0xf0, 0x9f]), ["a", "", "", "\u{fffd}"]);
}

#[test]
fn special_tokens_show_nothing() {
    assert_eq!(pieces(&Tokenizer::bytes(), &[97, 256, 98]), ["a", "", "b", ""]);
    assert_eq!(pieces(&SENTENCE_PIECE, &[257, 264, 258]), ["a", "", "b", ""]);
}

#[test]
fn a_refused_id_loses_nothing() {
    let tokenizer = Tokenizer::bytes();
    let mut decoder = tokenizer.stream_decoder();
    assert_eq!(decoder.push(0xc3).unwrap(), "");
    decoder.push(300).unwrap_err();
    assert_eq!(decoder.push(0xa9).unwrap(), "é");
}

#[test]
fn real_text_streams_through_every_tokenizer() {
    for tokenizer in [&Tokenizer::bytes(), &*BPE, &*SENTENCE_PIECE] {
        let ids = tokenizer.encode(TEXT).unwrap();
        assert_eq!(pieces(tokenizer, &ids).concat(), tokenizer.decode(&ids).unwrap());
    }
}
