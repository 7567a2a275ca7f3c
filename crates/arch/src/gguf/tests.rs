mod smollm2;

use forerun_tokens::gguf::{GgmlType, Writer};

use super::*;
use crate::testing::mutation::survives;
use crate::testing::{CPU, all_lm_configs, lm, lm_config, max_diff, rng, tokens};

/// What llama.cpp's converter does to queries and keys of `llama`: [`halves_apart`] undone, written from the other side.
fn neighbours(rows: &Tensor, n_heads: i64) -> Tensor {
    let half = rows.size()[0] / n_heads / 2;
    let order: Vec<i64> = (0..n_heads)
        .flat_map(|head| (0..2 * half).map(move |row| head * 2 * half + row % 2 * half + row / 2))
        .collect();
    rows.index_select(0, &Tensor::from_slice(&order))
}

pub(super) fn bytes(tensor: &Tensor) -> Vec<u8> {
    let values: Vec<f32> = Vec::try_from(tensor.contiguous().view([-1])).unwrap();
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// `model` as its converter would write it.
fn written(model: &CausalLm, edit: impl FnOnce(&mut Writer)) -> Gguf {
    Gguf::from_bytes(file_of(model, edit), "model.gguf").unwrap()
}

/// As [`written`], its tensors in the format and with the bytes that `store` gives for their own names.
pub(super) fn file_with(
    model: &CausalLm,
    store: impl Fn(&str, &Tensor) -> (GgmlType, Vec<u8>),
) -> Gguf {
    let bytes = stored(model, store, |_| ()).to_bytes().unwrap();
    Gguf::from_bytes(bytes, "model.gguf").unwrap()
}

fn file_of(model: &CausalLm, edit: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let store = |_: &str, tensor: &Tensor| (GgmlType::F32, bytes(tensor));
    stored(model, store, edit).to_bytes().unwrap()
}

fn stored(
    model: &CausalLm,
    store: impl Fn(&str, &Tensor) -> (GgmlType, Vec<u8>),
    edit: impl FnOnce(&mut Writer),
) -> Writer {
    let config = model.config();
    let name = if config.family == LmFamily::Llama { "llama" } else { "phi3" };
    let mut writer = Writer::new();
    writer.string("general.architecture", name);
    for (key, value) in [
        ("embedding_length", config.d_model),
        ("block_count", config.n_layers),
        ("feed_forward_length", config.d_ff),
        ("attention.head_count", config.n_heads),
        ("attention.head_count_kv", config.n_kv_heads),
        ("context_length", config.max_seq_len),
        ("rope.dimension_count", config.rope.rotary_dim),
        ("attention.sliding_window", config.sliding_window.unwrap_or(0)),
    ] {
        writer.unsigned(&format!("{name}.{key}"), value as u32);
    }
    writer.float(&format!("{name}.rope.freq_base"), config.rope.theta as f32);
    writer.float(&format!("{name}.attention.layer_norm_rms_epsilon"), config.norm_eps as f32);
    writer.unsigned("tokenizer.ggml.bos_token_id", 1).unsigned("tokenizer.ggml.eos_token_id", 2);
    if let RopeScaling::LongRope { short_factors, long_factors, original_max_seq_len, scales } =
        &config.rope.scaling
    {
        let pairs = [short_factors.len()];
        for (tensor, list) in [(SHORT_FACTORS, short_factors), (LONG_FACTORS, long_factors)] {
            writer.tensor(
                tensor,
                &pairs,
                GgmlType::F32,
                bytes(&Tensor::from_slice(list).to_kind(Kind::Float)),
            );
        }
        let original = *original_max_seq_len as u32;
        writer.unsigned(&format!("{name}.rope.scaling.original_context_length"), original);
        writer.float(&format!("{name}.rope.scaling.attn_factor"), scales[0] as f32);
    }
    for (name, tensor) in model.named_tensors().unwrap() {
        let own = own_name(&name);
        let heads = match () {
            () if own.contains("attn_q.") => Some(config.n_heads),
            () if own.contains("attn_k.") => Some(config.n_kv_heads),
            () => None,
        };
        let tensor = heads.map_or(tensor.shallow_clone(), |heads| neighbours(&tensor, heads));
        let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
        let (kind, bytes) = store(&own, &tensor);
        writer.tensor(&own, &shape, kind, bytes);
    }
    edit(&mut writer);
    writer
}

#[test]
fn a_converted_model_computes_what_it_did() {
    for config in all_lm_configs() {
        if config.phi3_small().is_some() {
            continue;
        }
        let model = lm(&config, 1);
        let loaded = CausalLm::from_gguf(&written(&model, |_| ()), Kind::Float, CPU).unwrap();
        let text = tokens(2, 20, 37, &mut rng(2));
        let logits = |model: &CausalLm| tch::no_grad(|| model.logits(&text).unwrap());
        // Hyperparameters are f32 in the file.
        assert!(max_diff(&logits(&loaded), &logits(&model)) < 1e-4);
        assert_eq!(loaded.config().eos_tokens, [2]);
        assert_eq!(loaded.config().sliding_window, config.sliding_window);
    }
}

#[test]
fn factors_of_llama_3_divide_the_frequencies() {
    let factors = [1.0_f32, 2.0, 4.0, 8.0];
    let file = written(&lm(&lm_config(), 1), |writer| {
        writer.tensor(FACTORS, &[4], GgmlType::F32, bytes(&Tensor::from_slice(&factors)));
    });
    let config = LmConfig::from_gguf(&file).unwrap();
    let RopeScaling::Divided { factors: got } = config.rope.scaling else { panic!() };
    assert_eq!(got, factors.map(f64::from));
}

#[test]
fn what_is_wrong_is_named() {
    let model = lm(&lm_config(), 1);
    let message = |edit: fn(&mut Writer)| {
        CausalLm::from_gguf(&written(&model, edit), Kind::Float, CPU).unwrap_err().to_string()
    };
    let said = message(|writer| {
        writer.tensor("blk.9.odd", &[1], GgmlType::F32, vec![0; 4]);
    });
    let want =
        "`model.gguf`: tensor `blk.9.odd` is unexpected: the model has no tensor of that name";
    assert_eq!(said, want);
    let said = message(|writer| {
        writer.string("llama.rope.scaling.type", "yarn");
    });
    assert_eq!(said, "`model.gguf`: `llama.rope.scaling.type`: `yarn` is not one of none, linear");
    let file = |edit: &dyn Fn(&mut Writer)| {
        let mut writer = Writer::new();
        edit(&mut writer);
        Gguf::from_bytes(writer.to_bytes().unwrap(), "model.gguf").unwrap()
    };
    let message = |edit: &dyn Fn(&mut Writer)| {
        CausalLm::from_gguf(&file(edit), Kind::Float, CPU).unwrap_err().to_string()
    };
    let said = message(&|writer| {
        writer.string("general.architecture", "gpt2");
    });
    assert_eq!(said, "`model.gguf`: `general.architecture`: `gpt2` is not one of llama, phi3");
    assert!(message(&|_| ()).contains("general.architecture"));
    let said = message(&|writer| {
        writer.string("general.architecture", "llama").unsigned("llama.embedding_length", 10);
        writer.unsigned("llama.attention.head_count", 0);
    });
    assert!(said.contains("`llama.attention.head_count` = 0"), "{said}");
}

#[test]
fn heads_may_be_wider_than_the_stream() {
    let rope = LmRope { rotary_dim: 12, ..lm_config().rope };
    let model = lm(&LmConfig { head_dim: 12, rope, ..lm_config() }, 1);
    let with = |value_length| {
        written(&model, |writer| {
            writer.unsigned("llama.attention.key_length", 12);
            writer.unsigned("llama.attention.value_length", value_length);
        })
    };
    let loaded = CausalLm::from_gguf(&with(12), Kind::Float, CPU).unwrap();
    let text = tokens(2, 20, 37, &mut rng(2));
    let logits = |model: &CausalLm| tch::no_grad(|| model.logits(&text).unwrap());
    assert!(max_diff(&logits(&loaded), &logits(&model)) < 1e-4);
    let said = CausalLm::from_gguf(&with(8), Kind::Float, CPU).unwrap_err().to_string();
    assert_eq!(said, "`model.gguf`: `llama.attention.value_length` must be 12, got 8");
}

#[test]
fn damaged_files_are_errors_or_models() {
    let file = file_of(&lm(&lm_config(), 1), |_| ());
    let (header, weights) = file.split_at(2_000);
    let sound = survives(&[header.to_vec()], 400, |header| {
        let file = Gguf::from_bytes([header, weights].concat(), "model.gguf");
        file.is_ok_and(|file| CausalLm::from_gguf(&file, Kind::Float, CPU).is_ok())
    });
    assert!(sound > 0.01 && sound < 0.8, "{sound}");
}
