//! `generation_config.json`.

use super::*;

#[test]
fn makers_options_are_read() {
    let folder = folder();
    let path = folder.path().join(GENERATION);
    let read = || GenerationDefaults::read(folder.path());
    assert_eq!(read().unwrap().eos_tokens, [2]);
    fs::write(&path, r#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 50, "eos_token_id": [7, 8]}"#).unwrap();
    let options = read().unwrap().options(5);
    assert_eq!((options.max_new_tokens, options.temperature), (5, 0.6));
    assert_eq!((options.top_p, options.top_k), (Some(0.9), Some(50)));
    assert_eq!(options.stop_tokens, [7, 8]);
    fs::write(&path, r#"{"temperature": 0.6, "top_k": -1}"#).unwrap();
    let options = read().unwrap().options(5);
    assert_eq!(
        (options.temperature, options.top_k, options.stop_tokens.as_slice()),
        (0.0, None, [2].as_slice())
    );
    fs::write(&path, r#"{"top_p": 1.5}"#).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(
        error.ends_with("generation_config.json`: top_p must be in (0, 1], got 1.5"),
        "{error}"
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(read().unwrap(), GenerationDefaults { eos_tokens: vec![2], ..Default::default() });
}

/// transformers' `GenerationConfig`: 50 where nothing is said, no bound at null and 0.
#[test]
fn drawing_without_a_word_on_top_k_is_from_fifty() {
    let folder = folder();
    let path = folder.path().join(GENERATION);
    let top_k = |text: &str| {
        fs::write(&path, text).unwrap();
        GenerationDefaults::read(folder.path()).unwrap().options(5).top_k
    };
    assert_eq!(top_k(r#"{"do_sample": true}"#), Some(50));
    assert_eq!(top_k(r#"{"do_sample": true, "top_k": 7}"#), Some(7));
    assert_eq!(top_k(r#"{"do_sample": true, "top_k": null}"#), None);
    assert_eq!(top_k(r#"{"do_sample": true, "top_k": 0}"#), None);
    assert_eq!(top_k(r#"{"do_sample": false}"#), None);
    fs::write(&path, r#"{"top_k": -3}"#).unwrap();
    let error = GenerationDefaults::read(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("`top_k` must not be negative, got -3"), "{error}");
}

/// transformers: `max_length` counts the prompt in, and `max_new_tokens` goes before it.
#[test]
fn what_the_makers_say_about_length_is_kept() {
    let folder = folder();
    let path = folder.path().join(GENERATION);
    let left = |text: &str, n_prompt: usize| {
        fs::write(&path, text).unwrap();
        GenerationDefaults::read(folder.path()).unwrap().new_tokens_after(n_prompt)
    };
    assert_eq!(left(r#"{"max_length": 20}"#, 5), Some(15));
    assert_eq!(left(r#"{"max_length": 20}"#, 20), Some(0));
    assert_eq!(left(r#"{"max_length": 20}"#, 21), Some(0));
    assert_eq!(left(r#"{"max_length": 20, "max_new_tokens": 7}"#, 5), Some(7));
    assert_eq!(left(r#"{"max_length": 20, "max_new_tokens": 7}"#, 30), Some(7));
    assert_eq!(left(r#"{"max_length": null}"#, 5), None);
    assert_eq!(left("{}", 5), None);
    for (text, expected) in [
        (r#"{"max_length": 0}"#, "`max_length` must be positive, got 0"),
        (r#"{"max_new_tokens": -1}"#, "`max_new_tokens` must be positive, got -1"),
    ] {
        fs::write(&path, text).unwrap();
        let error = GenerationDefaults::read(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn options_are_written_as_they_are_read_and_survive_a_saved_model() {
    let folder = folder();
    let some = GenerationDefaults {
        do_sample: true,
        temperature: Some(0.7),
        top_k: None,
        top_p: Some(0.9),
        min_p: Some(0.01),
        repetition_penalty: Some(1.1),
        eos_tokens: vec![2, 7],
        max_new_tokens: Some(100),
        max_length: Some(4096),
    };
    let bare = GenerationDefaults { top_k: Some(20), ..GenerationDefaults::default() };
    for defaults in [some, bare] {
        defaults.save(folder.path()).unwrap();
        assert_eq!(GenerationDefaults::read(folder.path()).unwrap(), defaults);
        load(folder.path()).unwrap().save(folder.path()).unwrap();
        assert_eq!(GenerationDefaults::read(folder.path()).unwrap(), defaults);
    }
}
