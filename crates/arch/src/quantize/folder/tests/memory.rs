//! What quantising takes, measured in a process of its own.

use std::env;
use std::process::Command;

use super::*;

const FOLDER: &str = "FORERUN_TEST_QUANTIZE_FOLDER";
const SHARDS: usize = 6;
const LAYERS_OF_SHARD: usize = 8;

/// A Llama in bf16: six files, 4.2 million weights in each of 48 blocks, 2 MB in the largest matrix. Returns the bytes.
fn large_checkpoint(folder: &Path) -> u64 {
    fs::create_dir(folder).unwrap();
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 64, "hidden_size": 512,
        "num_hidden_layers": SHARDS * LAYERS_OF_SHARD, "num_attention_heads": 8, "num_key_value_heads": 8,
        "intermediate_size": 2048, "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 512,
        "rope_theta": 10000.0, "tie_word_embeddings": true,
    });
    fs::write(folder.join(CONFIG), config.to_string()).unwrap();
    // The same numbers in each block: what they are does not matter here.
    let randn = |size: &[i64]| Tensor::randn(size, (Kind::BFloat16, Device::Cpu));
    let (square, wide, high) = (randn(&[512, 512]), randn(&[2048, 512]), randn(&[512, 2048]));
    let norm = Tensor::ones([512], (Kind::BFloat16, Device::Cpu));
    let (mut map, mut bytes) = (BTreeMap::new(), 0);
    for shard in 0..SHARDS {
        let mut tensors = Vec::new();
        for layer in shard * LAYERS_OF_SHARD..(shard + 1) * LAYERS_OF_SHARD {
            let parts = [
                ("self_attn.q_proj", &square),
                ("self_attn.k_proj", &square),
                ("self_attn.v_proj", &square),
                ("self_attn.o_proj", &square),
                ("mlp.gate_proj", &wide),
                ("mlp.up_proj", &wide),
                ("mlp.down_proj", &high),
                ("input_layernorm", &norm),
                ("post_attention_layernorm", &norm),
            ];
            for (name, tensor) in parts {
                tensors.push((format!("{BLOCKS}{layer}.{name}.weight"), tensor.shallow_clone()));
            }
        }
        if shard == 0 {
            tensors.push(("model.embed_tokens.weight".to_owned(), randn(&[64, 512])));
            tensors.push(("model.norm.weight".to_owned(), norm.shallow_clone()));
        }
        let file = format!("model-{:05}-of-{SHARDS:05}.safetensors", shard + 1);
        forerun_tensors::save(&folder.join(&file), &tensors, &BTreeMap::new()).unwrap();
        bytes += fs::metadata(folder.join(&file)).unwrap().len();
        map.extend(tensors.into_iter().map(|(name, _)| (name, file.clone())));
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    fs::write(folder.join(INDEX), index.to_string()).unwrap();
    bytes
}

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

/// What the child does: says how much memory it held at most, less what it held with libtorch alone.
fn measured(folder: &Path) {
    let warm = Tensor::randn([64, 64], (Kind::Float, Device::Cpu));
    round_to_nearest(&warm, INT4).unwrap();
    let before = status("VmRSS:");
    quantize(&folder.join("from"), &folder.join("to"), &QuantizeConfig::nearest(INT4)).unwrap();
    println!("took {} bytes", status("VmHWM:").saturating_sub(before));
}

#[test]
fn rounding_a_model_to_the_nearest_takes_memory_for_a_tensor_and_not_for_the_model() {
    if let Some(folder) = env::var_os(FOLDER) {
        return measured(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let bytes = large_checkpoint(&folder.path().join("from"));
    assert!(bytes > 400_000_000, "{bytes}");
    let name = "rounding_a_model_to_the_nearest_takes_memory_for_a_tensor_and_not_for_the_model";
    let (_, path) = module_path!().split_once("::").unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("{path}::{name}"), "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    let (_, rest) = said.split_once("took ").unwrap();
    let took: u64 = rest.split_whitespace().next().unwrap().parse().unwrap();
    println!("quantising {bytes} bytes took {took}");
    // A ninth when this was written; it fails if files stay mapped.
    assert!(took < bytes / 5, "{took} of {bytes}");
    assert!(folder.path().join("to").join(CONFIG).is_file());
}
