use forerun_tokens::{BpeConfig, Tokenizer, train_bpe};
use tch::Device;

use super::*;
use crate::pretrained::{Place, write_drawn};

fn texts(choices: &[&str]) -> Vec<String> {
    choices.iter().map(|choice| (*choice).to_owned()).collect()
}

#[test]
fn accuracies_are_those_of_the_harness_worked_out_by_hand() {
    // Sums: the third is highest. A character: -6/2 = -3, -8/4 = -2, -5/1. A byte: é and € count 2 and 3 of them.
    let choices = texts(&["aé", "abcd", "€"]);
    assert_eq!(answers(&[-6.0, -8.0, -5.0], &choices), [2, 1, 2]); // bytes: -2, -2, -5/3
    assert_eq!(answers(&[-6.0, -8.8, -5.4], &choices), [2, 1, 2]); // bytes: -2, -2.2, -1.8
    assert_eq!(answers(&[-3.0, -8.8, -5.4], &choices), [0, 0, 0]);
    // Ties go to the first, as with numpy's argmax.
    assert_eq!(answers(&[-4.0, -4.0, -4.0], &texts(&["ab", "cd", "ef"])), [0, 0, 0]);
    assert_eq!(answers(&[-4.0, -4.0, -2.0], &texts(&["a", "cd", "e"])), [2, 1, 1]);
    assert_eq!(answers(&[f64::NEG_INFINITY, -9.0], &texts(&["a", "b"])), [1, 1, 1]);
}

#[test]
fn the_standard_error_is_that_of_a_mean() {
    let (value, error) = accuracy(&[1.0, 0.0, 1.0, 1.0]);
    assert_eq!(value, 0.75);
    assert!((error - 0.25).abs() < 1e-12, "{error}"); // sqrt(0.25 / 4): variance 3/4 · 1/4 · 4/3
    assert!(accuracy(&[1.0]).1.is_nan());
}

/// A vocabulary in which `ab` is one token.
fn tokenizer() -> Tokenizer {
    train_bpe([Ok("ab ab ab")], &BpeConfig { vocab_size: 258, min_frequency: 2 }).unwrap()
}

#[track_caller]
fn check(context: &str, continuation: &str, expected: (&[i64], &[i64])) {
    let tokenizer = ModelTokenizer::plain(tokenizer());
    let found = Pair::encode(&tokenizer, context, continuation, false).unwrap();
    assert_eq!((found.context.as_slice(), found.continuation.as_slice()), expected);
}

#[test]
fn a_choice_is_what_both_together_have_beyond_the_contexts_own_tokens() {
    const AB: i64 = 257;
    let [a, b, x, space] = [b'a', b'b', b'x', b' '].map(i64::from);
    assert_eq!(tokenizer().encode("xab").unwrap(), [u32::from(b'x'), 257]);
    check("x", "ab", (&[x], &[AB]));
    // A token of the joined text lies over the border: nothing of the choice gets into the context.
    check("xa", "bx", (&[x, a], &[x]));
    check("a", "b", (&[a], &[]));
    // Spaces at the end of a context go to the choice.
    check("x ", "a", (&[x], &[space, a]));
    check("x  ", "b", (&[x], &[space, space, b]));
    // An empty context is the token that ends a text, where none begins one.
    check("", "ab", (&[256], &[AB]));
    // The choice has it already.
    check("", "<|endoftext|>ab", (&[256], &[AB]));
}

#[test]
fn log_likelihoods_are_sums_over_the_choices_tokens() {
    let place = tempfile::tempdir().unwrap();
    write_drawn(place.path(), 3).unwrap();
    let folder = Place::Folder(place.path().to_owned());
    let pretrained = folder.load(None, Device::Cpu, None).unwrap();
    let item =
        Item { line: 1, context: "What? ".to_owned(), choices: texts(&["yes", "no"]), answer: 0 };
    let found = log_likelihoods(&pretrained, &item, " ", false).unwrap();
    // By hand: bytes are tokens, and the context loses its space to the choice.
    let by_hand = |text: &str, n: usize| -> f64 {
        let ids: Vec<i64> = text.bytes().map(i64::from).collect();
        let log_probs = pretrained.model.log_probs(&ids).unwrap();
        log_probs[log_probs.len() - n..].iter().sum()
    };
    let expected = [by_hand("What?  yes", 5), by_hand("What?  no", 4)];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
    // A context that is too long loses its beginning: 512 tokens are read to predict the last.
    let long = Item { context: "x".repeat(600), choices: texts(&["y", "z"]), ..item };
    let found = log_likelihoods(&pretrained, &long, "", false).unwrap();
    let expected = by_hand(&format!("{}y", "x".repeat(512)), 1);
    assert!((found[0] - expected).abs() < 1e-9, "{found:?} {expected}");
    // A choice that is too long is refused.
    let longer = Item { choices: texts(&[&"y".repeat(513), "z"]), ..long };
    let error = log_likelihoods(&pretrained, &longer, "", false).unwrap_err().to_string();
    assert!(error.ends_with("has 513 tokens, the model is made for 512"), "{error}");
}

#[test]
fn lines_are_in_the_file_at_once_and_old_ones_stay_until_the_model_is_there() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("out.jsonl");
    std::fs::write(&path, "old").unwrap();
    let read = || std::fs::read_to_string(&path).unwrap();
    let mut lines = Lines::open(&path).unwrap();
    assert_eq!(read(), "old");
    lines.begin().unwrap();
    lines.add(&json!({"a": 1})).unwrap();
    assert_eq!(read(), "{\"a\":1}\n");
    lines.add(&json!(2)).unwrap();
    assert_eq!(read(), "{\"a\":1}\n2\n");
}

#[test]
fn what_has_no_length_can_be_written_to() {
    let mut lines = Lines::open(Path::new("/dev/null")).unwrap();
    lines.begin().unwrap();
    lines.add(&json!(1)).unwrap();
}

#[test]
fn without_a_model_files_are_as_they_were() {
    let place = tempfile::tempdir().unwrap();
    let [file, old, new] = ["items.jsonl", "old", "new"].map(|name| place.path().join(name));
    let item = json!({"question": "Q", "choices": ["a", "b"], "answer": 0});
    std::fs::write(&file, item.to_string()).unwrap();
    std::fs::write(&old, "old").unwrap();
    let run = |out: &Path| {
        let args = ChoicesArgs {
            model: ModelArgs {
                model: place.path().display().to_string(),
                precision: None,
                tokenizer: None,
                device: "cpu".to_owned(),
                threads: Some(1),
            },
            file: file.clone(),
            delimiter: " ".to_owned(),
            bos: false,
            limit: None,
            out: Some(out.to_owned()),
            json: false,
        };
        choices(&args).unwrap_err().to_string()
    };
    for out in [&old, &new] {
        assert!(run(out).contains("is no model"), "{}", run(out));
    }
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "old");
    assert!(!new.exists());
}

#[test]
fn what_was_stopped_says_so() {
    let item = |n: usize| Item {
        line: n,
        context: "Q".to_owned(),
        choices: vec!["a".to_owned(); n],
        answer: 0,
    };
    let items = [item(2), item(4)];
    let right = [vec![1.0], vec![0.0], vec![1.0]];
    let text = in_words(&right, &items[..1], 2);
    let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // A guess among the two choices of what was answered, not among the four of what was not.
    let expected = "1 of 2 questions, then it was stopped; a guess is right 50.0 % of the time.";
    assert!(said.ends_with(expected), "{text}");
    assert_eq!(in_json(&right, false)["whole"], false);
    assert_eq!(conclude(&right, &items, true), INTERRUPTED);
    assert_eq!(conclude(&right, &items[..1], true), 0);
    assert_eq!(conclude(&Default::default(), &items, true), INTERRUPTED);
}
