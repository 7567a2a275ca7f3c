//! `generate`, `perplexity`, `quantize` and `evaluate` as a person uses them: on a tiny model with drawn weights, and on
//! SmolLM2-135M where `cargo xtask model smollm2-135m` has fetched it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use forerun_experiments::pretrained::write_drawn;
use serde_json::Value;

use crate::program::Place;

const SMOLLM2: &str = "smollm2-135m";

/// A folder with a tiny model in `tiny`.
pub(crate) fn place() -> Place {
    let place = Place::new();
    write_drawn(&place.path().join("tiny"), 7).unwrap();
    place
}

pub(crate) fn write(place: &Place, name: &str, text: &str) {
    fs::write(place.path().join(name), text).unwrap();
}

pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_same_seed_gives_the_same_text_alone_and_in_a_batch() {
    let place = place();
    let sampled =
        ["generate", "tiny", "--temperature", "1", "--max-new-tokens", "12", "--log-probs"];
    let with = |more: &[&str]| place.succeed(&[&sampled[..], more].concat());
    let one = with(&["--prompt", "ab", "--seed", "3"]);
    assert_eq!(with(&["--prompt", "ab", "--seed", "3"]), one);
    assert_ne!(with(&["--prompt", "ab", "--seed", "4"]), one);
    // The first of a ragged batch is the one that was alone.
    write(&place, "lines.txt", "ab\n\nthe second prompt\nthird\n");
    let batch = with(&["--prompt-lines", "lines.txt", "--seed", "3"]);
    let of = |text: &str, prompt: u64| -> Vec<Value> {
        lines(text).into_iter().filter(|line| line["prompt"] == prompt).collect()
    };
    assert_eq!(of(&batch, 0), of(&one, 0));
    assert!(!of(&batch, 2).is_empty() && of(&batch, 3).is_empty());
    let in_turn = with(&["--prompt-lines", "lines.txt", "--seed", "3", "--batch", "1"]);
    assert_eq!(in_turn, batch);
    let last = of(&one, 0).pop().unwrap();
    let ends = ["length", "end-token"];
    assert!(ends.contains(&last["end"].as_str().unwrap()), "{last}");
}

#[test]
fn prompts_come_from_the_command_line_files_and_standard_input() {
    let place = place();
    write(&place, "prompt.txt", "from a file\n");
    let greedy = ["generate", "tiny", "--max-new-tokens", "4"];
    let named = place.succeed(&[&greedy[..], &["--prompt", "from a file"]].concat());
    assert_eq!(place.succeed(&[&greedy[..], &["--prompt-file", "prompt.txt"]].concat()), named);
    let mut child =
        place.command(&greedy).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from a file\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), named);
    // Several texts have headings.
    let several = place.succeed(&[&greedy[..], &["--prompt", "a", "--prompt", "b"]].concat());
    assert!(several.starts_with("[1] a\n") && several.contains("\n\n[2] b\n"), "{several}");
    // In a chat, the prompt is what the user says.
    let chat = [&greedy[..], &["--prompt", "hi", "--chat", "--system", "be brief"]].concat();
    let written_out =
        [&greedy[..], &["--prompt", "system: be brief\nuser: hi\nassistant: "]].concat();
    assert_eq!(place.succeed(&chat), place.succeed(&written_out));
}

#[test]
fn mistakes_are_one_line_that_names_them() {
    let place = place();
    write(&place, "latin1.txt", "x");
    fs::write(place.path().join("latin1.txt"), b"caf\xe9").unwrap();
    write(&place, "empty.txt", "\n \n");
    let check = |arguments: &[&str], expected: &str| {
        let line = place.fail(arguments);
        assert!(line.contains(expected), "`{expected}` is missing from: {line}");
    };
    check(&["generate", "nowhere", "--prompt", "a"], "there is no model `nowhere`");
    check(&["generate", SMOLLM2, "--prompt", "a"], "fetch it: cargo xtask model smollm2-135m");
    check(&["generate", "tiny", "--prompt-file", "none.txt"], "cannot read `none.txt`");
    check(&["generate", "tiny", "--prompt-file", "latin1.txt"], "`latin1.txt` is not UTF-8");
    check(&["generate", "tiny", "--prompt-lines", "empty.txt"], "`empty.txt` has no line");
    check(&["generate", "tiny", "--prompt", "a", "--top-p", "2"], "top_p must be in (0, 1], got 2");
    check(
        &["generate", "tiny", "--prompt", "a", "--stop", ""],
        "stop string must be a non-empty text",
    );
    check(&["generate", "tiny", "--prompt", "a", "--threads", "0"], "--threads must be at least 1");
    check(&["generate", "tiny", "--prompt", "a", "--max-new-tokens", "0"], "--max-new-tokens");
    check(
        &["generate", "tiny", "--prompt", "a", "--precision", "packed"],
        "--precision packed is for GGUF files",
    );
    check(&["perplexity", "tiny", "none.txt"], "none.txt");
    check(&["perplexity", "tiny", "empty.txt", "--window", "1"], "--window must be at least 2");
    check(
        &["perplexity", "tiny", "empty.txt", "--stride", "2000"],
        "--stride must be from 1 to 511",
    );
    check(&["quantize", "tiny", "--out", "tiny", "--format", "int8"], "`tiny` is there already");
    let int4 = ["quantize", "tiny", "--out", "new", "--format", "int4", "--method", "nearest"];
    check(&[&int4[..], &["--group", "128"]].concat(), "128");
    check(&[&int4[..], &["--group", "48"]].concat(), "--group must be 32, 64 or 128, got 48");
    assert!(!place.path().join("new").exists(), "a failure leaves nothing");
    write(&place, "x.gguf", "GGUF");
    let gguf = ["quantize", "x.gguf", "--out", "new", "--format", "int8"];
    check(&gguf, "`x.gguf` is a GGUF file");
    write(
        &place,
        "bad.jsonl",
        "{\"question\": \"Q\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n{}\n",
    );
    check(&["evaluate", "choices", "tiny", "bad.jsonl"], "`bad.jsonl` line 2: has neither");
    write(&place, "blank.jsonl", "{\"text\": \"\"}\n");
    let blank = ["perplexity", "tiny", "blank.jsonl"];
    check(&blank, "`blank.jsonl` has no token to predict");
    check(&[&blank[..], &["blank.jsonl"]].concat(), "none of the 2 texts has a token to predict");
    // Where nothing can be written is found before there is a model.
    write(
        &place,
        "good.jsonl",
        "{\"question\": \"Q\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n",
    );
    check(
        &["evaluate", "choices", "nowhere", "good.jsonl", "--out", "no/such/out.jsonl"],
        "cannot write `no/such/out.jsonl`",
    );
}

#[test]
fn perplexity_is_that_of_the_tokens_one_by_one() {
    let place = place();
    let text = "It was the best of times, it was the worst of times, it was the age of wisdom.";
    write(&place, "text.txt", text);
    let found: Value =
        serde_json::from_str(&place.succeed(&["perplexity", "tiny", "text.txt", "--json"]))
            .unwrap();
    assert_eq!(found["tokens"], text.len() as u64); // bytes, the first predicted from the token that ends a text
    assert_eq!(found["bytes"], text.len() as u64);
    let nats = found["nats"].as_f64().unwrap();
    let per_token = found["perplexity_per_token"]["value"].as_f64().unwrap();
    assert!((per_token.ln() * text.len() as f64 - nats).abs() < 1e-6);
    let bits = found["bits_per_byte"]["value"].as_f64().unwrap();
    assert!((bits * std::f64::consts::LN_2 - nats / text.len() as f64).abs() < 1e-9);
    // The same tokens, as `generate` sees them: the likelihood of what it writes is what perplexity finds.
    let strided: Value = serde_json::from_str(&place.succeed(&[
        "perplexity",
        "tiny",
        "text.txt",
        "--json",
        "--window",
        "16",
        "--stride",
        "4",
        "--max-tokens",
        "40",
    ]))
    .unwrap();
    assert_eq!(strided["tokens"], 40);
    assert_eq!(strided["tokens_left_out"], text.len() as u64 - 40);
    assert_eq!(strided["bytes"], 40);
    // One window of 16, of which the first is what ends a text, then 25 more tokens in steps of 4.
    assert_eq!(strided["pieces"], 8);
}

#[test]
fn a_text_without_tokens_does_not_end_the_others() {
    let place = place();
    write(
        &place,
        "some.jsonl",
        "{\"text\": \"one two\"}\n{\"text\": \"\"}\n{\"text\": \"three\"}\n",
    );
    let said = place.succeed(&["perplexity", "tiny", "some.jsonl", "--json"]);
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["tokens"], "one twothree".len() as u64);
    assert_eq!((&found["texts_without_tokens"], &found["window"]), (&1.into(), &512.into()));
    let table = place.succeed(&["perplexity", "tiny", "some.jsonl"]);
    assert!(table.contains("1 text had nothing to predict."), "{table}");
}

#[test]
fn as_many_tokens_follow_as_the_models_makers_say() {
    let place = place();
    write(&place, "tiny/generation_config.json", "{\"max_length\": 9, \"eos_token_id\": 256}");
    write(&place, "lines.txt", "abcd\nabcdef\n");
    let said = place.succeed(&["generate", "tiny", "--prompt-lines", "lines.txt", "--log-probs"]);
    let of = |prompt: u64| lines(&said).into_iter().filter(|line| line["prompt"] == prompt).count();
    assert_eq!((of(0), of(1)), (5 + 1, 3 + 1)); // tokens, and the line that ends each
    let ends: Vec<Value> =
        lines(&said).into_iter().filter(|line| line.get("end").is_some()).collect();
    assert!(ends.len() == 2 && ends.iter().all(|line| line["end"] == "length"), "{said}");
    let line = place.fail(&["generate", "tiny", "--prompt", "abcdefghi"]);
    assert!(line.contains("`max_length` of generation_config.json leaves none"), "{line}");
    place.succeed(&["generate", "tiny", "--prompt", "abcdefghi", "--max-new-tokens", "2"]);
}

#[test]
fn a_quantised_folder_is_smaller_and_still_itself() {
    let place = place();
    write(&place, "text.txt", &"the cat sat on the mat and looked at the moon. ".repeat(40));
    let perplexity = |model: &str| -> f64 {
        let said = place.succeed(&[
            "perplexity",
            model,
            "text.txt",
            "--json",
            "--max-tokens",
            "300",
            "--window",
            "128",
        ]);
        let found: Value = serde_json::from_str(&said).unwrap();
        found["perplexity_per_token"]["value"].as_f64().unwrap()
    };
    let plain = perplexity("tiny");
    let size = |folder: &str| {
        fs::metadata(place.path().join(folder).join("model.safetensors")).unwrap().len()
    };
    for (name, options) in [
        ("int8", &["--format", "int8", "--method", "nearest"][..]),
        ("nearest", &["--format", "int4", "--group", "32", "--method", "nearest"]),
        ("gptq", &["--format", "int4", "--group", "64", "--text", "text.txt"]),
    ] {
        let said = place.succeed(&[&["quantize", "tiny", "--out", name], options].concat());
        assert!(said.contains("tensors packed"), "{said}");
        assert!(place.path().join(name).join("tokenizer.json").is_file());
        assert!(2 * size(name) < size("tiny"), "{name}: {} of {}", size(name), size("tiny"));
        let packed = perplexity(name);
        assert!((packed / plain - 1.0).abs() < 0.05, "{name}: {packed} {plain}");
        // Once is enough.
        let line = place
            .fail(&["quantize", name, "--out", "twice", "--format", "int8", "--method", "nearest"]);
        assert!(line.contains("quantised already"), "{line}");
        place.succeed(&["generate", name, "--prompt", "a", "--max-new-tokens", "2"]);
    }
}

#[test]
fn choices_are_counted_in_all_three_ways() {
    let place = place();
    write(
        &place,
        "items.jsonl",
        "{\"question\": \"Two and two?\", \"choices\": [\"four\", \"five\"], \"answer\": \"A\"}\n\
         {\"context\": \"\", \"choices\": [\"é\", \"yes indeed\", \"no\"], \"answer\": 2}\n",
    );
    let said = place.succeed(&[
        "evaluate",
        "choices",
        "tiny",
        "items.jsonl",
        "--json",
        "--out",
        "out.jsonl",
    ]);
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["questions"], 2);
    let each = lines(&fs::read_to_string(place.path().join("out.jsonl")).unwrap());
    for (metric, lengths) in [
        ("acc", [vec![1.0, 1.0], vec![1.0, 1.0, 1.0]]),
        ("acc_norm", [vec![4.0, 4.0], vec![1.0, 10.0, 2.0]]),
        ("acc_bytes", [vec![4.0, 4.0], vec![2.0, 10.0, 2.0]]),
    ] {
        let mut n_right = 0;
        for (line, lengths) in each.iter().zip(&lengths) {
            let sums = line["log_likelihoods"].as_array().unwrap();
            let scores: Vec<f64> = sums
                .iter()
                .zip(lengths)
                .map(|(sum, length)| sum.as_f64().unwrap() / length)
                .collect();
            let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
            assert_eq!(line[metric], best as u64, "{metric}: {line}");
            n_right += u32::from(line["answer"] == best as u64);
        }
        assert_eq!(found[metric]["value"], f64::from(n_right) / 2.0, "{metric}");
    }
    // A pipe takes the same lines.
    let questions = ["evaluate", "choices", "tiny", "items.jsonl", "--json"];
    let piped = place.succeed(&[&questions[..], &["--out", "/dev/stdout"]].concat());
    assert_eq!(lines(&piped), [each, vec![found]].concat());
    let table = place.succeed(&["evaluate", "choices", "tiny", "items.jsonl", "--limit", "1"]);
    assert!(table.contains("1 question; a guess is right 50.0 % of the time."), "{table}");
}

#[test]
fn help_fits_80_columns() {
    let place = Place::new();
    for command in [
        &["generate"][..],
        &["perplexity"],
        &["quantize"],
        &["evaluate"],
        &["evaluate", "choices"],
        &["evaluate", "mt-bench"],
    ] {
        for line in place.succeed(&[command, &["--help"]].concat()).lines() {
            assert!(line.chars().count() <= 80, "{command:?}: {line}");
        }
    }
}

/// SmolLM2's folder, if it was fetched.
fn smollm2() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models").join(SMOLLM2);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: SmolLM2-135M is not there; cargo xtask model {SMOLLM2}");
    None
}

#[test]
fn smollm2_answers_a_plain_question() {
    let Some(folder) = smollm2() else { return };
    let place = Place::new();
    let ask = |model: &str| {
        let output = place
            .command(&[
                "generate",
                model,
                "--chat",
                "--prompt",
                "What is the capital of France?",
                "--max-new-tokens",
                "32",
            ])
            .env("FORERUN_MODELS", folder.parent().unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = ask(SMOLLM2);
    assert!(answer.contains("Paris"), "{answer}");
    assert_eq!(ask(folder.to_str().unwrap()), answer);
}

#[test]
fn smollm2_prefers_right_answers() {
    let Some(folder) = smollm2() else { return };
    let place = Place::new();
    write(
        &place,
        "items.jsonl",
        "{\"question\": \"The capital of France is\", \"choices\": [\"Madrid\", \"Paris\", \"Rome\"], \"answer\": 1}\n\
         {\"question\": \"Water freezes into\", \"choices\": [\"steam\", \"ice\", \"sand\"], \"answer\": 1}\n\
         {\"question\": \"The opposite of hot is\", \"choices\": [\"cold\", \"chair\", \"seven\"], \"answer\": 0}\n",
    );
    let questions = ["evaluate", "choices", folder.to_str().unwrap(), "items.jsonl", "--json"];
    for precision in ["f32", "packed"] {
        let said = place.succeed(&[&questions[..], &["--precision", precision]].concat());
        let found: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(found["acc"]["value"], 1.0, "{precision}: {said}");
    }
}
