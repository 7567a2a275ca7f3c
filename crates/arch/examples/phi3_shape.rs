//! How much memory a model of Phi-3-mini's shape takes with packed weights, and how fast it reads and writes.
//!
//! ```text
//! cargo run -p forerun-arch --example phi3_shape -- make FOLDER [int4-g128]    # 3,821,079,552 random weights
//! cargo run -p forerun-arch --example phi3_shape -- run FOLDER [TOKENS]
//! ```
//!
//! The weights are made, rounded and written one tensor after the other; the folder holds some 2.1 GB then.

#![allow(clippy::print_stdout, reason = "a program that answers on standard output")]

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use forerun_arch::{
    CausalLm, Generation, LmCache, LoadOptions, PackedTensor, packed_metadata, round_to_nearest,
};
use forerun_tensors::kernels::{PackedMatrix, WeightFormat};
use forerun_tensors::{TensorPlan, save_streamed, write_atomic};
use rand::SeedableRng;
use tch::{Device, Kind, Tensor};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const LAYERS: i64 = 32;
const D_MODEL: i64 = 3072;
const D_FF: i64 = 8192;
const VOCAB: i64 = 32_064;

/// As published with the model (microsoft/Phi-3-mini-4k-instruct), as far as the shape goes.
const CONFIG: &str = r#"{
  "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "vocab_size": 32064, "hidden_size": 3072,
  "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
  "hidden_act": "silu", "max_position_embeddings": 4096, "original_max_position_embeddings": 4096,
  "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "rope_scaling": null, "sliding_window": 2047,
  "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000, "tie_word_embeddings": false,
  "attention_bias": false, "torch_dtype": "bfloat16"
}"#;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", folder] => make(Path::new(folder), WeightFormat::Int4 { group: 128 }),
        ["make", folder, format] => make(Path::new(folder), format.parse()?),
        ["run", folder] => run(Path::new(folder), 32),
        ["run", folder, tokens] => run(Path::new(folder), tokens.parse()?),
        _ => Err("usage: phi3_shape make FOLDER [FORMAT] | run FOLDER [TOKENS]".into()),
    }
}

/// Name, shape, and whether it is a table of one row a token.
fn matrices() -> Vec<(String, [i64; 2], bool)> {
    let mut all = vec![
        ("model.embed_tokens.weight".to_owned(), [VOCAB, D_MODEL], true),
        ("lm_head.weight".to_owned(), [VOCAB, D_MODEL], true),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("self_attn.qkv_proj", [3 * D_MODEL, D_MODEL]),
            ("self_attn.o_proj", [D_MODEL, D_MODEL]),
            ("mlp.gate_up_proj", [2 * D_FF, D_MODEL]),
            ("mlp.down_proj", [D_MODEL, D_FF]),
        ] {
            all.push((format!("model.layers.{layer}.{name}.weight"), shape, false));
        }
    }
    all
}

fn norms() -> Vec<String> {
    let of_layer = |layer| {
        ["input_layernorm", "post_attention_layernorm"]
            .map(|norm| format!("model.layers.{layer}.{norm}.weight"))
    };
    let layers = (0..LAYERS).flat_map(of_layer);
    layers.chain(["model.norm.weight".to_owned()]).collect()
}

fn make(folder: &Path, format: WeightFormat) -> Outcome {
    std::fs::create_dir(folder)?;
    tch::manual_seed(1);
    let mut packed = BTreeMap::new();
    let mut plans = Vec::new();
    for (name, size, is_table) in matrices() {
        let format = if is_table { WeightFormat::Int8 } else { format };
        let shape = PackedMatrix::data_shape(format, size[0], size[1])?.to_vec();
        packed.insert(name.clone(), PackedTensor { format, size });
        plans.push(TensorPlan { name, kind: Kind::Uint8, shape });
    }
    plans.extend(norms().into_iter().map(|name| TensorPlan {
        name,
        kind: Kind::Float,
        shape: vec![D_MODEL],
    }));
    let metadata = packed_metadata(&packed, "nearest")?;
    let start = Instant::now();
    save_streamed(
        &folder.join("model.safetensors"),
        &plans,
        &metadata,
        |index| -> Outcome<Tensor> {
            let name = &plans[index].name;
            let Some(PackedTensor { format, size }) = packed.get(name) else {
                return Ok(Tensor::f_ones([D_MODEL], (Kind::Float, Device::Cpu))?);
            };
            let weight = Tensor::f_randn(size, (Kind::Float, Device::Cpu))?.f_mul_scalar(0.02)?;
            Ok(round_to_nearest(&weight, *format)?.data().shallow_clone())
        },
    )?;
    write_atomic(&folder.join("config.json"), CONFIG.as_bytes())?;
    let weights: i64 = packed.values().map(|packed| packed.size.iter().product::<i64>()).sum();
    println!("{weights} weights in matrices, {:.0} s", start.elapsed().as_secs_f64());
    memory("made")
}

fn run(folder: &Path, tokens: usize) -> Outcome {
    let start = Instant::now();
    let model = CausalLm::load(folder, &LoadOptions::default())?;
    println!("loaded in {:.2} s", start.elapsed().as_secs_f64());
    let prompt: Vec<i64> = (0..64).map(|i| 100 + 37 * i % 30_000).collect();
    for turn in ["first", "second"] {
        let mut cache = LmCache::new(&model, prompt.len());
        let start = Instant::now();
        let _ = model.extend(&prompt, &mut cache)?;
        let rate = prompt.len() as f64 / start.elapsed().as_secs_f64();
        println!("prompt of {} tokens, {turn} time: {rate:.1} tokens/s", prompt.len());
    }
    let options = Generation { max_new_tokens: tokens, temperature: 0.0, ..Generation::default() };
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let mut times = Vec::new();
    model.generate(&prompt, &options, &mut rng, &mut |_| {
        times.push(Instant::now());
        ControlFlow::Continue(())
    })?;
    if let [first, .., last] = times[..] {
        let rate = (times.len() - 1) as f64 / (last - first).as_secs_f64();
        println!("decode: {rate:.2} tokens/s over {} tokens", times.len() - 1);
    }
    memory("run")
}

/// What the system says of this process's memory: resident, of which its own, of which the mapped file's, and the most so far.
fn memory(when: &str) -> Outcome {
    let status = std::fs::read_to_string("/proc/self/status")?;
    for field in ["VmRSS", "RssAnon", "RssFile", "VmHWM"] {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        let kib: f64 = line.split_whitespace().nth(1).unwrap_or("0").parse()?;
        println!("{when}: {field} {:.3} GB", kib * 1024.0 / 1e9);
    }
    Ok(())
}
