use proptest::prelude::*;

use crate::Tokenizer;
use crate::gguf::Writer;
use crate::testing::{BPE, SENTENCE_PIECE, TEXT, byte_level_file, gguf, sentence_piece_file};

fn tokenizer(writer: &Writer) -> Tokenizer {
    Tokenizer::from_gguf(&gguf(writer)).unwrap()
}

fn check_refused(writer: &Writer, expected: &str) {
    let error = Tokenizer::from_gguf(&gguf(writer)).unwrap_err().to_string();
    assert_eq!(error, format!("GGUF file `x.gguf`: {expected}"));
}

fn gpt2() -> Writer {
    let mut writer = byte_level_file();
    writer.string("tokenizer.ggml.pre", "gpt-2");
    writer
}

#[test]
fn ids_are_those_of_sentencepiece() {
    let tokenizer = tokenizer(&sentence_piece_file());
    let cases = SENTENCE_PIECE["cases"].as_array().unwrap();
    assert!(cases.len() > 30);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u64> = tokenizer.encode(text).unwrap().into_iter().map(u64::from).collect();
        let expected: Vec<u64> =
            case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        assert_eq!(ids, expected, "{text:?}");
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        assert_eq!(tokenizer.encode_prompt(text).unwrap()[0], 1, "BOS is added by default");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_byte_level_vocabulary_survives_the_journey(text in any::<String>()) {
        prop_assert_eq!(tokenizer(&gpt2()).encode(&text).unwrap(), BPE.encode(&text).unwrap());
    }

    #[test]
    fn any_text_comes_back_from_any_pre_tokenizer(text in any::<String>(), which in 0..5_usize) {
        let pre = ["smollm", "llama-bpe", "qwen2", "default", "gpt-2"][which];
        let mut writer = byte_level_file();
        writer.string("tokenizer.ggml.pre", pre);
        let tokenizer = tokenizer(&writer);
        prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), text);
    }
}

/// The parts of `text` that `pre` keeps apart, seen by merging everything that may be merged: with
/// these merges, every run of the same letter or digit becomes one token.
fn check_parts(pre: &str, text: &str, expected: &[&str]) {
    let mut tokens = vec!["Ġ".to_owned(), "Ċ".to_owned()];
    tokens.extend("a1'st.".chars().map(String::from));
    let mut merges = vec![];
    let mut joined = |left: &str, right: &str| {
        merges.push(format!("{left} {right}"));
        tokens.push(format!("{left}{right}"));
    };
    for (left, right) in [("1", "1"), ("11", "11"), ("11", "1"), ("'", "s"), ("Ġ", "a"), ("Ġ", "1")]
    {
        joined(left, right);
    }
    let others =
        [(".", "Ċ"), ("Ċ", "Ċ"), ("Ġ", "Ġ"), ("a", "a"), (".", "a"), ("'s", "t"), (".", ".")];
    for (left, right) in others {
        joined(left, right);
    }
    let mut writer = Writer::new();
    writer.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", &tokens);
    writer.strings("tokenizer.ggml.merges", &merges).string("tokenizer.ggml.pre", pre);
    let tokenizer = tokenizer(&writer);
    let ids = tokenizer.encode(text).unwrap();
    let parts: Vec<String> = ids.iter().map(|&id| tokenizer.decode(&[id]).unwrap()).collect();
    assert_eq!(parts, expected, "{pre} {text:?}");
}

#[test]
fn each_pre_tokenizer_splits_where_its_models_do() {
    check_parts("gpt-2", "1111 1 aa's", &["1111", " 1", " a", "a", "'s"]);
    check_parts("smollm", "1111 1 a", &["1", "1", "1", "1", " ", "1", " a"]);
    check_parts("llama-bpe", "1111 1 a", &["111", "1", " ", "1", " a"]);
    check_parts("qwen2", "11 a", &["1", "1", " a"]);
    check_parts("default", "1111 1", &["111", "1", " ", "1"]);
    // A letter joins the sign before it in newer patterns; a line's end joins the signs before it.
    check_parts("gpt-2", ".a", &[".", "a"]);
    check_parts("llama-bpe", ".a", &[".a"]);
    check_parts("gpt-2", "..\n\n", &["..", "\n\n"]);
    check_parts("llama-bpe", ".\n", &[".\n"]);
    check_parts("smollm", "'st", &["'s", "t"]);
}

#[test]
fn a_whole_token_goes_before_merges_where_models_say_so() {
    let tokens = ["a", "b", "c", "ab", "abc", "bc"];
    let check = |pre: &str, expected: &[u32]| {
        let mut writer = Writer::new();
        writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", pre);
        writer.strings("tokenizer.ggml.tokens", &tokens);
        writer.strings("tokenizer.ggml.merges", &["b c", "a b"]);
        assert_eq!(tokenizer(&writer).encode("abc").unwrap(), expected, "{pre}");
    };
    check("llama-bpe", &[4]);
    check("gpt-2", &[0, 5]);
}

#[test]
fn control_tokens_are_special_and_user_defined_ones_are_found() {
    let mut writer = Writer::new();
    writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
    writer.strings("tokenizer.ggml.tokens", &["a", "<", ">", "<a>", "a<a"]);
    writer.integers("tokenizer.ggml.token_type", &[1, 1, 1, 3, 4]);
    writer.strings("tokenizer.ggml.merges", &[""; 0]);
    let tokenizer = tokenizer(&writer);
    assert_eq!(tokenizer.encode("<a>").unwrap(), [1, 0, 2]);
    assert_eq!(tokenizer.encode_special("<a>").unwrap(), [3]);
    assert_eq!(tokenizer.encode("aa<a").unwrap(), [0, 4]);
    assert_eq!(tokenizer.decode(&[3, 0, 4]).unwrap(), "aa<a");
    assert!(tokenizer.is_special(3) && !tokenizer.is_special(4) && !tokenizer.is_special(0));
}

#[test]
fn bos_and_eos_are_added_where_the_file_says_so() {
    let check = |adds: [Option<bool>; 2], expected: &[u32]| {
        let mut writer = sentence_piece_file();
        for (key, adds) in ["add_bos_token", "add_eos_token"].iter().zip(adds) {
            if let Some(adds) = adds {
                writer.boolean(&format!("tokenizer.ggml.{key}"), adds);
            }
        }
        let tokenizer = tokenizer(&writer);
        assert_eq!(tokenizer.encode_prompt("the").unwrap(), expected);
        assert_eq!(tokenizer.encode("the").unwrap(), [264]);
    };
    check([None, None], &[1, 264]);
    check([Some(false), None], &[264]);
    check([Some(true), Some(true)], &[1, 264, 2]);
    check([Some(false), Some(true)], &[264, 2]);
    let mut writer = gpt2();
    writer.unsigned("tokenizer.ggml.bos_token_id", 256);
    assert_eq!(tokenizer(&writer).encode_prompt("a").unwrap(), [97]);
    let mut writer = byte_level_file();
    writer.unsigned("tokenizer.ggml.bos_token_id", 256).string("tokenizer.ggml.pre", "llama-bpe");
    assert_eq!(tokenizer(&writer).encode_prompt("a").unwrap(), [256, 97]);
}

#[test]
fn without_a_space_prefix_none_is_added_or_taken() {
    let mut writer = sentence_piece_file();
    writer.boolean("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = tokenizer(&writer);
    let ids = tokenizer.encode(" the the").unwrap();
    assert_eq!(ids, [264, 264]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), " the the");
}

#[test]
fn phi3_drops_blanks_after_its_control_tokens() {
    let mut writer = sentence_piece_file();
    writer.string("general.architecture", "phi3");
    let tokenizer = tokenizer(&writer);
    assert_eq!(tokenizer.encode_special("</s>\n the").unwrap(), [2, 264]);
    let unchanged = Tokenizer::from_gguf(&gguf(&sentence_piece_file())).unwrap();
    assert_ne!(unchanged.encode_special("</s>\n the").unwrap(), [2, 264]);
}

#[test]
fn a_tokenizer_from_gguf_can_be_saved_as_json() {
    let folder = crate::testing::folder();
    let path = folder.path().join("tokenizer.json");
    for writer in [sentence_piece_file(), gpt2()] {
        let tokenizer = tokenizer(&writer);
        tokenizer.save(&path).unwrap();
        let saved = Tokenizer::from_file(&path).unwrap();
        assert_eq!(saved.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap());
        assert_eq!(saved.hash(), tokenizer.hash());
    }
}

#[test]
fn a_vocabulary_that_contradicts_itself_is_refused() {
    check_refused(&Writer::new(), "has no metadata `tokenizer.ggml.model`");
    let base = || {
        let mut writer = Writer::new();
        writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "gpt-2");
        writer
    };
    check_refused(&base(), "has no metadata `tokenizer.ggml.tokens`");
    check_refused(
        base().strings("tokenizer.ggml.tokens", &[""; 0]),
        "metadata `tokenizer.ggml.tokens` holds 0 tokens",
    );
    check_refused(
        base().strings("tokenizer.ggml.tokens", &["a", "b", "a"]),
        "tokens 0 and 2 are both `a`",
    );
    let with_tokens = || {
        let mut writer = base();
        writer.strings("tokenizer.ggml.tokens", &["a", "b", "ab"]);
        writer
    };
    check_refused(&with_tokens(), "has no metadata `tokenizer.ggml.merges`");
    for merge in ["a", "a c", "b a", "", " "] {
        check_refused(
            with_tokens().strings("tokenizer.ggml.merges", &["a b", merge]),
            &format!(
                "metadata `tokenizer.ggml.merges`: element 1, `{merge}`, does not join two tokens to a third"
            ),
        );
    }
    check_refused(
        with_tokens().integers("tokenizer.ggml.token_type", &[1]),
        "metadata `tokenizer.ggml.token_type` has 1 values for 3 tokens",
    );
    check_refused(
        with_tokens().unsigned("tokenizer.ggml.bos_token_id", 3),
        "metadata `tokenizer.ggml.bos_token_id` is 3, and there are 3 tokens",
    );
    let mut writer = Writer::new();
    writer.string("tokenizer.ggml.model", "bert");
    check_refused(
        &writer,
        "metadata `tokenizer.ggml.model` is `bert`; `gpt2` and `llama` can be read",
    );
    let mut writer = byte_level_file();
    writer.string("tokenizer.ggml.pre", "tekken");
    let error = Tokenizer::from_gguf(&gguf(&writer)).unwrap_err().to_string();
    assert!(error.contains("`tokenizer.ggml.pre` is `tekken`; known are gpt-2, phi-2"), "{error}");
}
