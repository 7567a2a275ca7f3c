//! Phi-3-small, of which there is no golden checkpoint.

use super::*;
use crate::testing::phi3_small_checkpoint;

/// A Phi-3-small under its published names, against the same computed from its parts.
#[test]
fn phi_3_small_is_its_parts() {
    use crate::phi3_small::{Phi3SmallAttention, gegelu};
    use crate::{BlockSparse, Linear};
    let folder = tempfile::tempdir().unwrap();
    let tensors = phi3_small_checkpoint(folder.path(), 16, 24);
    let text = tokens(2, 17, 40, &mut rng(3));
    let got = tch::no_grad(|| load(folder.path()).unwrap().logits(&text).unwrap());

    let linear = |name: &str| {
        let bias = tensors[&format!("{name}.bias")].shallow_clone();
        Linear::new(tensors[&format!("{name}.weight")].shallow_clone(), Some(bias)).unwrap()
    };
    let through = |x: &Tensor, name: &str| {
        let Linear { weight, bias } = linear(name);
        x.linear(&weight, bias.as_ref())
    };
    let norm = |x: &Tensor, name: &str| {
        let Linear { weight, bias } = linear(name);
        x.layer_norm([16], Some(&weight), bias.as_ref(), 1e-5, true)
    };
    let table = &tensors["model.embed_tokens.weight"];
    let mut x = Tensor::embedding(table, &text, -1, false, false) * 3.0;
    for layer in 0..2 {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let sparse = BlockSparse { block_size: 2, n_local_blocks: 2, vertical_stride: 3 };
        let attention = Phi3SmallAttention {
            n_heads: 4,
            n_kv_heads: 2,
            rope_theta: 1000.0,
            mup_attn_multiplier: 2.0,
            block_sparse: Some(sparse).filter(|_| layer == 0),
        };
        let normed = norm(&x, &name("input_layernorm"));
        let (qkv, dense) =
            (linear(&name("self_attn.query_key_value")), linear(&name("self_attn.dense")));
        x += attention.forward(&normed, &qkv, &dense).unwrap();
        let wide = through(&norm(&x, &name("post_attention_layernorm")), &name("mlp.up_proj"));
        x += through(&gegelu(&wide, Some(1.5)).unwrap(), &name("mlp.down_proj"));
    }
    let want = norm(&x, "model.final_layernorm").matmul(&table.tr()) / 4.0;
    let barred = Tensor::from_slice(&[5_i64, 39]);
    assert!(got.index_select(-1, &barred).eq(f64::NEG_INFINITY).all().int64_value(&[]) == 1);
    let kept = |x: &Tensor| x.index_fill(-1, &barred, 0.0);
    // The same sums, some in another order.
    assert!(max_diff(&kept(&got), &kept(&want)) < 1e-4);
}
