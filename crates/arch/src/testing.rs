//! What the tests share: small models, seeded data, and attention as a double loop.

pub(crate) mod mutation;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use forerun_tensors::{Mask, save};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::block_sparse::BlockSparse;
use crate::config::{DecoderConfig, Init, Positions};
use crate::decoder::Decoder;
use crate::lm::{CausalLm, LmConfig, LmFamily, LmRope, Phi3Small, RopeScaling};

pub(crate) const CPU: Device = Device::Cpu;

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    tch::set_num_threads(1);
    ChaCha20Rng::seed_from_u64(seed)
}

/// Two Magneto layers with xPos whose decay is felt within a few tokens.
pub(crate) fn tiny() -> DecoderConfig {
    DecoderConfig {
        vocab_size: 29,
        d_model: 16,
        n_layers: 2,
        n_heads: 4,
        d_ff: 24,
        positions: Positions::Xpos { base: 10_000.0, gamma: 0.4, scale_base: 8.0 },
        ..DecoderConfig::default()
    }
}

/// A model whose biases and norms are not at their neutral values, so that a forgotten one shows.
pub(crate) fn model(config: &DecoderConfig, seed: u64) -> Decoder {
    let mut rng = rng(seed);
    let config = DecoderConfig { init: Init::Torchscale, ..config.clone() };
    let model = Decoder::new(&config, &mut rng, CPU).unwrap();
    let _guard = tch::no_grad_guard();
    for parameter in model.parameters().iter() {
        if parameter.tensor.dim() == 1 {
            let noise = normal(&parameter.tensor.size(), &mut rng) * 0.2;
            let _ = parameter.tensor.shallow_clone().g_add_(&noise);
        }
    }
    model
}

pub(crate) fn normal(shape: &[i64], rng: &mut ChaCha20Rng) -> Tensor {
    forerun_tensors::init::normal(shape, 1.0, rng, CPU).unwrap()
}

pub(crate) fn tokens(batch: i64, seq: i64, vocab_size: i64, rng: &mut ChaCha20Rng) -> Tensor {
    let ids: Vec<i64> = (0..batch * seq).map(|_| rng.random_range(0..vocab_size)).collect();
    Tensor::from_slice(&ids).view([batch, seq])
}

pub(crate) fn max_diff(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let diff = a.to_kind(Kind::Double) - b.to_kind(Kind::Double);
    let worst = f64::try_from(diff.abs().max()).unwrap();
    if worst.is_nan() { f64::INFINITY } else { worst }
}

/// Every kind of positions, with parameters that matter within a few tokens.
pub(crate) fn all_positions() -> Vec<Positions> {
    vec![
        Positions::None,
        Positions::Learned { max_seq_len: 40, offset: 2 },
        Positions::Sinusoidal,
        Positions::Rope { base: 100.0 },
        Positions::Alibi,
        Positions::Xpos { base: 10_000.0, gamma: 0.4, scale_base: 8.0 },
    ]
}

pub(crate) fn all_masks() -> Vec<Mask> {
    vec![
        Mask::Causal,
        Mask::BlockwiseCausal { block_size: 3 },
        Mask::SlidingWindow { window: 4 },
        Mask::SlidingWindow { window: 1 },
    ]
}

/// The score of a query and a key (slices of one head) at two positions.
pub(crate) type Score<'a> = &'a dyn Fn(usize, &[f64], i64, &[f64], i64) -> f64;

/// Attention as a double loop in f64: `[batch, heads, seq, head_dim]`, positions from 0.
pub(crate) fn oracle(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sees: &dyn Fn(i64, i64) -> bool,
    score: Score,
) -> Tensor {
    let (batch, heads, queries, d) = q.size4().unwrap();
    let (_, kv_heads, keys, _) = k.size4().unwrap();
    let rows = |x: &Tensor, b: i64, h: i64| -> Vec<Vec<f64>> {
        Vec::try_from(x.get(b).get(h).to_kind(Kind::Double)).unwrap()
    };
    let mut out = Vec::new();
    for b in 0..batch {
        for h in 0..heads {
            let kv = h / (heads / kv_heads);
            let (q, k, v) = (rows(q, b, h), rows(k, b, kv), rows(v, b, kv));
            for i in 0..queries {
                let visible: Vec<i64> = (0..keys).filter(|&j| sees(i, j)).collect();
                let one = |j: i64| score(h as usize, &q[i as usize], i, &k[j as usize], j);
                let weights: Vec<f64> = visible.iter().map(|&j| one(j).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut mixed = vec![0.0; d as usize];
                for (&j, weight) in visible.iter().zip(&weights) {
                    for (sum, value) in mixed.iter_mut().zip(&v[j as usize]) {
                        *sum += weight * value / total;
                    }
                }
                out.extend(mixed);
            }
        }
    }
    Tensor::from_slice(&out).view([batch, heads, queries, d])
}

pub(crate) fn dot(q: &[f64], k: &[f64]) -> f64 {
    q.iter().zip(k).map(|(a, b)| a * b).sum()
}

/// LeX eq. 10 in closed form: Σᵢ Re(qᵢ·conj(kᵢ)·e^(i(m−n)θᵢ))·ζᵢ^((m−n)/scale_base) over complex pairs;
/// pair i is channels `pair(i)`.
pub(crate) fn rotated_dot(
    q: (&[f64], i64),
    k: (&[f64], i64),
    base: f64,
    decay: Option<(f64, f64)>,
    pair: impl Fn(usize) -> (usize, usize),
) -> f64 {
    let ((q, m), (k, n)) = (q, k);
    let distance = (m - n) as f64;
    (0..q.len() / 2)
        .map(|i| {
            let (a, b) = pair(i);
            let share = 2.0 * i as f64 / q.len() as f64;
            let angle = distance * base.powf(-share);
            let zeta = |(gamma, scale): (f64, f64)| {
                ((share + gamma) / (1.0 + gamma)).powf(distance / scale)
            };
            let real = q[a] * k[a] + q[b] * k[b];
            let imaginary = q[b] * k[a] - q[a] * k[b];
            (real * angle.cos() - imaginary * angle.sin()) * decay.map_or(1.0, zeta)
        })
        .sum()
}

/// Two layers of a Llama with grouped heads.
pub(crate) fn lm_config() -> LmConfig {
    LmConfig {
        family: LmFamily::Llama,
        vocab_size: 37,
        d_model: 32,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        d_ff: 48,
        norm_eps: 1e-5,
        rope: LmRope { theta: 100.0, rotary_dim: 8, scaling: RopeScaling::None },
        sliding_window: None,
        max_seq_len: 64,
        tie_embeddings: false,
        attention_bias: false,
        mlp_bias: false,
        bos_token: Some(1),
        eos_tokens: vec![2],
        pad_token: None,
    }
}

/// Every kind of pretrained model, with options that matter within a few tokens.
pub(crate) fn all_lm_configs() -> Vec<LmConfig> {
    let llama = lm_config();
    let long = RopeScaling::LongRope {
        short_factors: vec![1.0, 1.1, 1.2, 1.3],
        long_factors: vec![2.0, 3.0, 4.0, 5.0],
        original_max_seq_len: 12,
        scales: [1.2, 1.2],
    };
    let phi3 = LmConfig { family: LmFamily::Phi3, n_kv_heads: 4, ..llama.clone() };
    let small = Phi3Small {
        mup_embedding_multiplier: 10.0,
        mup_width_multiplier: 8.0,
        mup_attn_multiplier: 1.0,
        gegelu_limit: Some(20.0),
        block_sparse: BlockSparse { block_size: 2, n_local_blocks: 2, vertical_stride: 3 },
        dense_attention_every_n_layers: 2,
        dummy_tokens: vec![3, 30],
    };
    vec![
        LmConfig { attention_bias: true, mlp_bias: true, tie_embeddings: true, ..llama.clone() },
        LmConfig { sliding_window: Some(5), ..phi3.clone() },
        LmConfig { rope: LmRope { rotary_dim: 8, scaling: long, ..llama.rope.clone() }, ..phi3 },
        LmConfig { rope: LmRope { rotary_dim: 4, ..llama.rope.clone() }, ..llama.clone() },
        LmConfig {
            family: LmFamily::Phi3Small(small),
            tie_embeddings: true,
            attention_bias: true,
            mlp_bias: true,
            ..llama
        },
    ]
}

/// A model whose weights are all large enough to be felt.
pub(crate) fn lm(config: &LmConfig, seed: u64) -> CausalLm {
    let mut rng = rng(seed);
    let model = CausalLm::new(config.clone(), &mut rng, Kind::Float, CPU).unwrap();
    let _guard = tch::no_grad_guard();
    for (_, tensor) in model.tensors() {
        let _ = tensor.shallow_clone().g_add_(&(normal(&tensor.size(), &mut rng) * 0.2));
    }
    model
}

/// Writes a checkpoint of a Phi-3-small with two layers, four query heads and two key heads under its published names; returns its tensors.
pub(crate) fn phi3_small_checkpoint(
    folder: &Path,
    d_model: i64,
    d_ff: i64,
) -> BTreeMap<String, Tensor> {
    let mut rng = rng(11);
    let mut tensors = BTreeMap::new();
    let mut draw = |name: &str, shape: &[i64]| {
        let size = if shape.len() == 1 { 0.3 } else { 0.8 / (shape[1] as f64).sqrt() };
        tensors.insert(name.to_owned(), normal(shape, &mut rng) * size);
    };
    draw("model.embed_tokens.weight", &[40, d_model]);
    for layer in 0..2 {
        for (part, d_out, d_in) in [
            ("self_attn.query_key_value", 2 * d_model, d_model),
            ("self_attn.dense", d_model, d_model),
            ("mlp.up_proj", 2 * d_ff, d_model),
            ("mlp.down_proj", d_model, d_ff),
        ] {
            draw(&format!("model.layers.{layer}.{part}.weight"), &[d_out, d_in]);
            draw(&format!("model.layers.{layer}.{part}.bias"), &[d_out]);
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            draw(&format!("model.layers.{layer}.{norm}.weight"), &[d_model]);
            draw(&format!("model.layers.{layer}.{norm}.bias"), &[d_model]);
        }
    }
    draw("model.final_layernorm.weight", &[d_model]);
    draw("model.final_layernorm.bias", &[d_model]);
    let list: Vec<(String, Tensor)> =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    save(&folder.join("model.safetensors"), &list, &BTreeMap::new()).unwrap();
    let config = json!({
        "model_type": "phi3small", "architectures": ["Phi3SmallForCausalLM"], "hidden_act": "gegelu",
        "vocab_size": 40, "hidden_size": d_model, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "ff_intermediate_size": d_ff, "layer_norm_epsilon": 1e-5, "rope_embedding_base": 1000, "max_position_embeddings": 64,
        "mup_width_multiplier": 4.0, "mup_embedding_multiplier": 3.0, "mup_attn_multiplier": 2.0, "mup_use_scaling": true,
        "gegelu_limit": 1.5, "blocksparse_block_size": 2, "blocksparse_num_local_blocks": 2, "blocksparse_vert_stride": 3,
        "blocksparse_homo_head_pattern": false, "dense_attention_every_n_layers": 2, "dummy_token_indices": [5, 39],
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    tensors
}
