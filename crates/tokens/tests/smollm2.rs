//! A real model's file: SmolLM2-135M-Instruct, which `cargo xtask model smollm2-135m` fetches.
//! Without it these tests say so and pass. The expected values are llama.cpp's and the package
//! gguf's; `data/SOURCES.md` says how they were made.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::Path;
use std::time::Instant;

use forerun_tokens::gguf::Gguf;
use forerun_tokens::{ChatMessage, ChatOptions, ModelTokenizer};
use serde_json::Value as Json;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../.models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf"
);

fn file() -> Option<Gguf> {
    if Path::new(FILE).exists() {
        return Some(Gguf::open(FILE).unwrap());
    }
    println!("skipped: `cargo xtask model smollm2-135m` fetches the model that this test needs");
    None
}

fn golden() -> Json {
    serde_json::from_str(include_str!("data/smollm2.json")).unwrap()
}

fn ids(json: &Json) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn token_ids_are_those_of_llama_cpp() {
    let Some(file) = file() else { return };
    let model = ModelTokenizer::from_gguf(&file).unwrap();
    let golden = golden();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 30);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let plain = model.tokenizer().encode(text).unwrap();
        assert_eq!(plain, ids(&case["ids"]), "{text:?}");
        let special = model.tokenizer().encode_special(text).unwrap();
        assert_eq!(special, ids(&case["special"]), "{text:?}");
    }
}

#[test]
fn a_conversation_is_what_llama_cpp_makes_of_it() {
    let Some(file) = file() else { return };
    let model = ModelTokenizer::from_gguf(&file).unwrap();
    let chat = &golden()["chat"];
    let messages: Vec<ChatMessage> = serde_json::from_value(chat["messages"].clone()).unwrap();
    let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
    let prompt = model.chat_template().unwrap().render(&messages, &options).unwrap();
    assert_eq!(prompt, chat["prompt"].as_str().unwrap());
    assert_eq!(model.encode_chat(&messages, &options).unwrap(), ids(&chat["ids"]));
    assert_eq!((model.bos_id(), model.eos_id(), model.end_ids()), (Some(1), Some(2), &[0, 2][..]));
    assert_eq!(model.encode_prompt("a").unwrap(), model.tokenizer().encode("a").unwrap());
}

#[test]
fn weights_are_those_of_the_gguf_package() {
    let Some(file) = file() else { return };
    assert_eq!((file.tensors().len(), file.keys().count()), (272, 33));
    assert_eq!(file.unsigned("llama.block_count").unwrap(), Some(30));
    for expected in golden()["tensors"].as_array().unwrap() {
        let name = expected["name"].as_str().unwrap();
        let info = file.tensor(name).unwrap();
        let shape: Vec<u64> = info.shape.iter().map(|&size| size as u64).collect();
        let expected_shape: Vec<u64> =
            expected["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        assert_eq!(
            (shape, info.kind.to_string()),
            (expected_shape, expected["type"].as_str().unwrap().to_owned())
        );
        let values = file.dequantize(name).unwrap();
        let step = (values.len() / 16).max(1);
        let picked: Vec<f64> = values.iter().step_by(step).take(16).map(|&v| v.into()).collect();
        let expected_picked: Vec<f64> =
            expected["picked"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(picked, expected_picked, "{name}");
        let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
        let expected_sum = expected["sum"].as_f64().unwrap();
        // Both are sums of the same f32s in f64, in different order.
        assert!((sum - expected_sum).abs() < 1e-6 * (1.0 + expected_sum.abs()), "{name}: {sum}");
    }
}

#[test]
fn all_weights_are_unpacked_in_a_moment() {
    let Some(file) = file() else { return };
    let start = Instant::now();
    let n_values: usize =
        file.tensors().iter().map(|info| file.dequantize(&info.name).unwrap().len()).sum();
    let seconds = start.elapsed().as_secs_f64();
    let rate = n_values as f64 * 4e-9 / seconds;
    println!("{n_values} weights in {seconds:.3} s: {rate:.2} GB of f32 a second");
    assert_eq!(n_values, 134_515_008);
}
