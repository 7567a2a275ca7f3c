use super::*;
use crate::testing::{BPE, byte_level_file, folder, gguf, sentence_piece_file};

const TEMPLATE: &str =
    "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";

/// A folder with the byte-level tokenizer and `config`.
fn model(config: &str, template: Option<&str>) -> Result<ModelTokenizer> {
    let folder = folder();
    BPE.save(folder.path().join("tokenizer.json")).unwrap();
    fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    if let Some(template) = template {
        fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    }
    ModelTokenizer::from_folder(folder.path())
}

fn chat(model: &ModelTokenizer) -> Result<Vec<u32>> {
    model.encode_chat(&[ChatMessage::user("a")], &ChatOptions::default())
}

#[test]
fn a_folder_says_how_texts_begin_and_end() {
    let config = format!(
        r#"{{"bos_token": null, "eos_token": "<|endoftext|>", "chat_template": "{TEMPLATE}", "other": 1}}"#
    );
    let model = model(&config, None).unwrap();
    assert_eq!((model.bos_id(), model.eos_id(), model.end_ids()), (None, Some(256), &[256][..]));
    assert_eq!(chat(&model).unwrap(), [97, 256]);
    assert_eq!(model.encode_prompt("a").unwrap(), [97]);
}

#[test]
fn tokens_and_templates_are_read_in_every_spelling() {
    let token = r#"{"__type": "AddedToken", "content": "<|endoftext|>", "special": true}"#;
    let list = r#"[{"name": "tool_use", "template": "no"}, {"name": "default", "template": "b{{ eos_token }}"}]"#;
    let config = format!(r#"{{"eos_token": {token}, "chat_template": {list}}}"#);
    assert_eq!(chat(&model(&config, None).unwrap()).unwrap(), [98, 256]);
    assert_eq!(chat(&model(&config, Some("c")).unwrap()).unwrap(), [99]);
    let only = r#"{"chat_template": [{"name": "x", "template": "d"}]}"#;
    assert_eq!(chat(&model(only, None).unwrap()).unwrap(), [100]);
}

#[test]
fn a_folder_without_a_config_still_has_its_vocabulary() {
    let folder = folder();
    BPE.save(folder.path().join("tokenizer.json")).unwrap();
    let model = ModelTokenizer::from_folder(folder.path()).unwrap();
    assert_eq!((model.eos_id(), model.end_ids()), (None, &[256][..]), "a known special token");
    let error = chat(&model).unwrap_err().to_string();
    assert!(error.ends_with("tokenizer.json`: has no chat template"), "{error}");
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let error = ModelTokenizer::from_folder(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read `"), "{error}");
}

#[test]
fn a_damaged_config_is_named() {
    let check = |config: &str, expected: &str| {
        let error = model(config, None).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json`: ") && error.contains(expected), "{error}");
    };
    check("{", "EOF while parsing");
    check("[]", "is no JSON object");
    check(r#"{"bos_token": 1}"#, "`bos_token` is neither a text nor an object");
    check(r#"{"eos_token": {}}"#, "`eos_token` has no `content`");
    check(r#"{"chat_template": 1}"#, "`chat_template` is neither a text nor a list");
    check(
        r#"{"chat_template": [{"name": "default"}]}"#,
        "a `chat_template` has no text `template`",
    );
    check(
        r#"{"chat_template": [{"name": "a"}, {"name": "b"}]}"#,
        "none of several `chat_template`s is called `default`",
    );
    let error = model(r#"{"chat_template": "{% if %}"}"#, None).unwrap_err().to_string();
    assert!(error.starts_with("chat template of `") && error.contains("line 1"), "{error}");
}

#[test]
fn a_gguf_file_says_the_same() {
    let mut writer = byte_level_file();
    writer.string("tokenizer.ggml.pre", "gpt-2").string("tokenizer.chat_template", TEMPLATE);
    let model = ModelTokenizer::from_gguf(&gguf(&writer)).unwrap();
    assert_eq!((model.bos_id(), model.eos_id(), model.end_ids()), (None, Some(256), &[256][..]));
    assert_eq!(chat(&model).unwrap(), [97, 256]);

    let mut writer = sentence_piece_file();
    writer.string("tokenizer.chat_template", TEMPLATE).unsigned("tokenizer.ggml.eot_token_id", 7);
    let model = ModelTokenizer::from_gguf(&gguf(&writer)).unwrap();
    assert_eq!((model.bos_id(), model.eos_id(), model.end_ids()), (Some(1), Some(2), &[2, 7][..]));
    assert_eq!(chat(&model).unwrap().first(), Some(&1));
    assert_eq!(
        chat(&model).unwrap().iter().filter(|&&id| id == 1).count(),
        1,
        "one BOS, the template's"
    );

    writer.string("tokenizer.chat_template.rag", "x").unsigned("tokenizer.ggml.eom_token_id", 700);
    let error = ModelTokenizer::from_gguf(&gguf(&writer)).unwrap_err().to_string();
    assert!(error.contains("`tokenizer.ggml.eom_token_id` is 700, and there are 700"), "{error}");
}

#[test]
fn files_that_say_there_is_no_token_are_believed() {
    let mut writer = byte_level_file();
    writer.string("tokenizer.ggml.pre", "gpt-2");
    writer.unsigned("tokenizer.ggml.bos_token_id", u32::MAX);
    assert_eq!(ModelTokenizer::from_gguf(&gguf(&writer)).unwrap().bos_id(), None);
}
