use std::ops::ControlFlow;

use forerun_arch::Chosen;
use forerun_tokens::Tokenizer;

use super::prompts::Prompt;
use super::*;

fn prompts(texts: &[&str]) -> Vec<Prompt> {
    texts.iter().map(|text| Prompt { text: (*text).to_owned(), ids: vec![0], limit: 99 }).collect()
}

/// Feeds bytes to texts, `(text, byte)`, and says what is on the screen after each and at the end.
fn shown(
    n_texts: usize,
    stops: &[&str],
    log_probs: bool,
    bytes: &[(usize, u8)],
    ends: &[End],
) -> Vec<String> {
    let tokenizer = Tokenizer::bytes();
    let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
    let settings = Settings { stops: &stops, log_probs, headings: n_texts > 1 };
    let mut out = Vec::new();
    let mut seen = Vec::new();
    let names: Vec<String> = (0..n_texts).map(|index| format!("prompt {index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // The screen is looked at between tokens: a cell shared with the session.
    let screen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    struct Screen(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);
    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut session =
        Session::new(&prompts(&names), 0, &tokenizer, &settings, Screen(screen.clone())).unwrap();
    for &(index, byte) in bytes {
        let chosen = Chosen { token: i64::from(byte), log_prob: -0.5 };
        let flow = session.push(index, chosen).unwrap();
        out.push(flow);
        seen.push(String::from_utf8(screen.borrow().clone()).unwrap());
    }
    session.finish(ends.to_vec()).unwrap();
    seen.push(String::from_utf8(screen.borrow().clone()).unwrap());
    if !stops.is_empty() {
        assert!(out.contains(&ControlFlow::Break(())), "no stop string was met");
    }
    seen
}

fn one(text: &str) -> Vec<(usize, u8)> {
    text.bytes().map(|byte| (0, byte)).collect()
}

#[test]
fn half_a_character_is_never_shown() {
    let seen = shown(1, &[], false, &one("aé€"), &[End::Length]);
    assert_eq!(seen, ["a", "a", "aé", "aé", "aé", "aé€", "aé€\n"]);
    let cut = shown(1, &[], false, &one("é")[..1], &[End::Length]);
    assert_eq!(cut, ["", "\u{fffd}\n"]);
}

#[test]
fn nothing_of_a_stop_string_is_ever_shown() {
    let seen = shown(1, &["END"], false, &one("xENyEND"), &[End::Token]);
    assert_eq!(seen, ["x", "x", "x", "xENy", "xENy", "xENy", "xENy", "xENy\n"]);
    // What only began like one is shown in the end.
    let tokenizer = Tokenizer::bytes();
    let stops = ["END".to_owned()];
    let settings = Settings { stops: &stops, log_probs: false, headings: false };
    let mut out = Vec::new();
    let mut session = Session::new(&prompts(&["p"]), 0, &tokenizer, &settings, &mut out).unwrap();
    for byte in *b"xEN" {
        let _ = session.push(0, Chosen { token: byte.into(), log_prob: 0.0 }).unwrap();
    }
    session.finish(vec![End::Length]).unwrap();
    assert_eq!(out, b"xEN\n");
}

#[test]
fn texts_of_a_batch_are_shown_one_after_the_other() {
    // Steps go through the texts in order; the first ends after one token, the second after two.
    let bytes = [(0, b'a'), (1, b'b'), (2, b'c'), (1, b'd'), (2, b'e'), (2, b'f')];
    let seen = shown(3, &[], false, &bytes, &[End::Token, End::Token, End::Length]);
    let first = "[1] prompt 0\na";
    assert_eq!(seen[0], first);
    assert_eq!(seen[1], first);
    assert_eq!(seen[2], first);
    // The second token of the second text shows that the first is over.
    assert_eq!(seen[3], format!("{first}\n\n[2] prompt 1\nbd"));
    assert_eq!(seen[4], seen[3]);
    assert_eq!(seen[5], format!("{}\n\n[3] prompt 2\ncef", seen[3]));
    assert_eq!(seen[6], format!("{}\n", seen[5]));
}

#[test]
fn json_has_a_line_a_token_and_one_for_the_end() {
    let seen = shown(1, &["d"], true, &one("cd"), &[End::Token]);
    let lines: Vec<serde_json::Value> =
        seen[2].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[0],
        serde_json::json!({"prompt": 0, "token": 99, "text": "c", "log_prob": -0.5})
    );
    assert_eq!(lines[1]["token"], 100);
    assert_eq!(lines[2], serde_json::json!({"prompt": 0, "text": "c", "end": "stop-string"}));
}

#[test]
fn what_is_not_given_is_as_the_model_has_it() {
    let none = SamplingArgs {
        temperature: None,
        top_k: None,
        top_p: None,
        min_p: None,
        repetition_penalty: None,
        seed: 0,
    };
    let greedy = GenerationDefaults { eos_tokens: vec![2], ..GenerationDefaults::default() };
    let drawn = GenerationDefaults {
        do_sample: true,
        temperature: Some(0.6),
        top_p: Some(0.9),
        ..greedy.clone()
    };
    let of = |args: &SamplingArgs, defaults| {
        let options = args.options(defaults, 9).unwrap();
        assert_eq!((options.max_new_tokens, options.stop_tokens), (9, vec![2]));
        (options.temperature, options.top_k, options.top_p)
    };
    assert_eq!(of(&none, &greedy), (0.0, None, None));
    assert_eq!(of(&none, &drawn), (0.6, None, Some(0.9)));
    let top_k = SamplingArgs { top_k: Some(5), ..none };
    assert_eq!(of(&top_k, &greedy), (1.0, Some(5), None)); // to draw from five is to draw
    let cold = SamplingArgs { temperature: Some(0.0), ..top_k };
    assert_eq!(of(&cold, &drawn), (0.0, Some(5), Some(0.9)));
    let wrong = SamplingArgs { top_p: Some(1.5), ..cold };
    let error = wrong.options(&greedy, 9).unwrap_err().to_string();
    assert_eq!(error, "top_p must be in (0, 1], got 1.5");
}

#[test]
fn a_heading_is_one_short_line() {
    let of = |text: &str| {
        let settings = Settings { stops: &[], log_probs: false, headings: true };
        let tokenizer = Tokenizer::bytes();
        let mut out = Vec::new();
        let session = Session::new(&prompts(&[text]), 4, &tokenizer, &settings, &mut out).unwrap();
        drop(session);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(of(" Why?\n"), "\n[5] Why?\n");
    assert_eq!(of("a\nb"), "\n[5] a…\n");
    assert_eq!(of(&"é".repeat(80)), format!("\n[5] {}…\n", "é".repeat(72)));
}

#[test]
fn as_many_tokens_follow_as_were_asked_for_or_else_as_the_models_makers_allow() {
    let silent = GenerationDefaults::default();
    let length = GenerationDefaults { max_length: Some(100), ..silent.clone() };
    let new = GenerationDefaults { max_new_tokens: Some(40), ..length.clone() };
    let check = |asked, defaults, n_prompt, expected| {
        assert_eq!(limit(asked, defaults, n_prompt).unwrap(), expected);
    };
    check(None, &silent, 10, 256);
    check(None, &length, 10, 90);
    check(None, &new, 10, 40);
    check(Some(7), &new, 10, 7);
    check(Some(7), &length, 100, 7);
    let error = limit(None, &length, 100).unwrap_err().to_string();
    assert!(error.starts_with("a prompt has 100 tokens, and the `max_length`"), "{error}");
}

#[test]
fn a_text_of_a_batch_ends_at_its_own_length() {
    let tokenizer = Tokenizer::bytes();
    let settings = Settings { stops: &[], log_probs: true, headings: false };
    let mut two = prompts(&["a", "b"]);
    two[0].limit = 1;
    let mut out = Vec::new();
    let mut session = Session::new(&two, 0, &tokenizer, &settings, &mut out).unwrap();
    let x = Chosen { token: i64::from(b'x'), log_prob: 0.0 };
    assert_eq!(session.push(0, x).unwrap(), ControlFlow::Break(()));
    assert_eq!(session.push(1, x).unwrap(), ControlFlow::Continue(()));
    assert_eq!(session.push(1, x).unwrap(), ControlFlow::Continue(()));
    session.finish(vec![End::Length, End::Token]).unwrap();
    let out = String::from_utf8(out).unwrap();
    let ends: Vec<&str> = out.lines().filter(|line| line.contains("\"end\"")).collect();
    assert!(ends[0].contains("length") && ends[1].contains("end-token"), "{out}");
}
