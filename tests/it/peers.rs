//! Our programs of `cargo xtask peers`: what they answer, line by line.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// `train_step` with a tiny model, told `lines`.
fn train_step(setup: &Value, lines: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_train_step"))
        .arg(setup.to_string())
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that has ended already does not listen; its output tells why.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    child.wait_with_output().unwrap()
}

fn setup(tokens: &Path, block: &str, precision: &str) -> Value {
    json!({
        "block": block, "precision": precision, "threads": 1, "tokens": tokens,
        "vocab_size": 32, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 32,
        "seq_len": 8, "batch_size": 2,
        "lr": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1,
    })
}

fn answers(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Four rows of the one token 7, in a file.
fn sevens() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), [7_u8, 0].repeat(4 * 9)).unwrap();
    file
}

#[test]
fn a_training_program_trains_every_block_in_both_precisions() {
    let tokens = sevens();
    // Matrices, biases, norms of two blocks, final norm, embedding and head, learned positions.
    for (block, parameters) in [("magneto", 5696), ("gpt", 5632), ("llama", 6224)] {
        for precision in ["f32", "bf16"] {
            let setup = setup(tokens.path(), block, precision);
            let answers = answers(&train_step(&setup, "steps 3\nsteps 2\n"));
            let [ready, first, second] = &answers[..] else { panic!("{answers:?}") };
            assert_eq!(ready["ready"], true);
            assert_eq!(ready["parameters"], parameters, "{block}");
            assert_eq!((&first["steps"], &second["steps"]), (&json!(3), &json!(2)));
            let losses: Vec<f64> = [first, second]
                .iter()
                .flat_map(|turn| turn["losses"].as_array().unwrap())
                .map(|loss| loss.as_f64().unwrap())
                .collect();
            assert_eq!(losses.len(), 5);
            // The same token again and again is learnt at once.
            assert!(losses[4] < losses[0] - 0.2, "{block} {precision} {losses:?}");
        }
    }
}

#[test]
fn a_training_program_says_in_one_line_what_it_cannot_do() {
    let tokens = sevens();
    let check = |setup: &Value, lines: &str, expected: &str| {
        let output = train_step(setup, lines);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stderr).trim_end(), expected);
    };
    check(&setup(tokens.path(), "gpt", "f32"), "rest\n", "not understood: rest");
    let mut odd = setup(tokens.path(), "gpt", "f32");
    odd["seq_len"] = json!(10);
    let expected = format!("`{}` does not hold rows of 11 tokens", tokens.path().display());
    check(&odd, "", &expected);
    let mut huge = setup(tokens.path(), "gpt", "f32");
    huge["d_model"] = json!(15);
    let output = train_step(&huge, "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("d_model") && said.lines().count() == 1, "{said}");
}

#[test]
fn event_files_are_shown_as_one_history() {
    let folder = tempfile::tempdir().unwrap();
    let program = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensorboard_events"));
        command.arg(verb).arg(folder.path()).output().unwrap()
    };
    assert!(answers(&program("write")).is_empty());
    let points = answers(&program("show"));
    // Six series of 700 steps, ten odd numbers, two texts; what the killed run had from step 400 on is gone.
    assert_eq!(points.len(), 6 * 700 + 10 + 2);
    let at_450 = |point: &&Value| point["tag"] == "loss" && point["step"] == 450;
    let at_450: Vec<&Value> = points.iter().filter(at_450).collect();
    assert_eq!(at_450.len(), 1);
    assert_eq!(at_450[0]["wall_time"], 1_790_000_000.0 + 1000.0 + 450.0 * 0.25);
    let scalars = |bits: &str| points.iter().filter(|point| point["scalar"] == bits).count();
    assert_eq!((scalars("nan"), scalars("80000000")), (1, 1));
    assert_eq!(scalars("7f800000"), 2); // infinity, and what is too large for 32 bits
}
