//! A real model: SmolLM2-135M-Instruct in 4 bits, which `cargo xtask model smollm2-135m` fetches.

use std::ops::ControlFlow;
use std::path::Path;

use forerun_tokens::{ChatMessage, ChatOptions, ModelTokenizer};

use super::*;
use crate::hf::LoadOptions;
use crate::sample::Generation;

/// The file, if it has been fetched.
fn file() -> Option<Gguf> {
    let name = ".models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    if !path.exists() {
        eprintln!("skipped: `{name}` is not there; `cargo xtask model smollm2-135m` fetches it");
        return None;
    }
    Some(Gguf::open(path).unwrap())
}

fn prompt(tokenizer: &ModelTokenizer) -> Vec<i64> {
    let question = ChatMessage::user("What is the capital of France?");
    let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
    let ids = tokenizer.encode_chat(&[question], &options).unwrap();
    ids.into_iter().map(i64::from).collect()
}

/// What it says if no chance is involved, each token with its log-probability.
fn answer(model: &CausalLm, tokenizer: &ModelTokenizer) -> (String, Vec<f64>) {
    let stop_tokens = tokenizer.end_ids().iter().map(|&id| i64::from(id)).collect();
    let greedy = Generation { max_new_tokens: 20, temperature: 0.0, ..Generation::default() };
    let options = Generation { stop_tokens, ..greedy };
    let mut log_probs = Vec::new();
    let mut on_token = |chosen: crate::Chosen| {
        log_probs.push(chosen.log_prob);
        ControlFlow::Continue(())
    };
    let prompt = prompt(tokenizer);
    let new = model.generate(&prompt, &options, &mut rng(1), &mut on_token).unwrap();
    let new: Vec<u32> = new.into_iter().map(|id| id as u32).collect();
    (tokenizer.tokenizer().decode(&new).unwrap(), log_probs)
}

/// What transformers 5.23.0 (f32) computes with the tensors that gguf-py 0.19.0 reads from the file; those are ours to the last bit.
const LOG_PROBS: [f64; 7] = [-1.88271, -0.01967, -0.01147, -0.0109, -0.03879, -0.04996, -0.56561];

#[test]
fn a_real_model_answers() {
    let Some(file) = file() else { return };
    let tokenizer = ModelTokenizer::from_gguf(&file).unwrap();
    let model = CausalLm::from_gguf(&file, Kind::Float, CPU).unwrap();
    let (text, log_probs) = answer(&model, &tokenizer);
    assert_eq!(text, "The capital of France is Paris.");
    assert_eq!(log_probs.len(), LOG_PROBS.len());
    for (got, want) in log_probs.iter().zip(LOG_PROBS) {
        assert!((got - want).abs() < 1e-4, "{log_probs:?}");
    }
}

/// Every product rounds what comes in to 8 bits. That moves the log-probability of a token of the prompt by 0.076 nats in the mean, where f32
/// weights made bf16 move it by 0.052; the first token of the answer is nearly a draw, and may be another.
#[test]
fn with_its_four_bits_it_reads_the_same() {
    let Some(file) = file() else { return };
    let text = prompt(&ModelTokenizer::from_gguf(&file).unwrap());
    let plain = CausalLm::from_gguf(&file, Kind::Float, CPU).unwrap();
    let packed = CausalLm::from_gguf_packed(&file, Kind::Float).unwrap();
    for (packed, plain) in packed.projections().zip(plain.projections()) {
        let crate::Map::Packed(matrix) = packed.map() else { panic!("{}", packed.name()) };
        let got = matrix.matrix.dequantize(Kind::Float).unwrap();
        assert_eq!(got, plain.linear().unwrap().weight, "{}", packed.name());
    }
    let (got, want) = (packed.log_probs(&text).unwrap(), plain.log_probs(&text).unwrap());
    let moved: f64 = got.iter().zip(&want).map(|(got, want)| (got - want).abs()).sum();
    let mean = moved / want.len() as f64;
    assert!(mean < 0.12, "{mean}");
}

/// Its 540 MB are written and read again.
#[test]
fn saved_as_safetensors_it_is_the_same_model() {
    if std::env::var_os("RUN_SLOW").is_none() {
        return;
    }
    let Some(file) = file() else { return };
    let tokenizer = ModelTokenizer::from_gguf(&file).unwrap();
    let model = CausalLm::from_gguf(&file, Kind::Float, CPU).unwrap();
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    let loaded = CausalLm::load(folder.path(), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.config(), model.config());
    let text = prompt(&tokenizer);
    assert_eq!(loaded.log_probs(&text).unwrap(), model.log_probs(&text).unwrap());
}
