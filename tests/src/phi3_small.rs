//! `phi3small*`: GEGLU, the pattern of blocks, attention.

use anyhow::{Context, Result, bail};
use forerun_arch::{BlockSparse, Linear, Phi3SmallAttention, gegelu};
use forerun_tensors::testing::{Golden, GoldenRole};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::report::Tally;

/// The references' constants, where the file does not state another.
const ROPE_THETA: f64 = 1e6;

/// The JSON's `config`, in the file's own short names.
#[derive(Deserialize)]
struct Config {
    limit: f64,
    #[serde(rename = "H")]
    n_heads: i64,
    #[serde(rename = "KV")]
    n_kv_heads: i64,
    #[serde(rename = "bs")]
    block_size: i64,
    #[serde(rename = "loc")]
    n_local_blocks: i64,
    #[serde(rename = "vs")]
    vertical_stride: i64,
}

pub(crate) fn check(golden: &Golden) -> Result<Tally> {
    let config = Config::deserialize(golden.config()).context("`config`")?;
    let mut tally = Tally::default();
    for name in golden.names(GoldenRole::Output) {
        let actual = output(golden, &config, name).with_context(|| name.to_owned())?;
        tally.check(golden, name, &actual)?;
    }
    Ok(tally)
}

fn output(golden: &Golden, config: &Config, name: &str) -> Result<Tensor> {
    let &Config { limit, n_heads, n_kv_heads, .. } = config;
    let (group, output) = name.split_once('.').context("an output without a group")?;
    let sparse = BlockSparse {
        block_size: config.block_size,
        n_local_blocks: config.n_local_blocks,
        vertical_stride: config.vertical_stride,
    };
    let seq = || Ok::<i64, anyhow::Error>(golden.input(&format!("{group}.x"))?.size3()?.1);
    let attention = |block_sparse| Phi3SmallAttention {
        n_heads,
        n_kv_heads,
        rope_theta: ROPE_THETA,
        mup_attn_multiplier: 1.0,
        block_sparse,
    };
    match output {
        "y" => Ok(gegelu(&golden.input(&format!("{group}.x"))?, Some(limit))?),
        "y_nolimit" => Ok(gegelu(&golden.input(&format!("{group}.x"))?, None)?),
        "block_mask" => {
            let n_blocks = seq()?.div_euclid(config.block_size)
                + i64::from(seq()?.rem_euclid(config.block_size) > 0);
            Ok(sparse.blocks(n_heads, n_blocks, Device::Cpu)?.f_to_kind(Kind::Uint8)?)
        }
        "mask" => {
            let seq = seq()?;
            let allowed = sparse.allowed(n_heads, 0..seq, 0..seq, Device::Cpu)?;
            Ok(allowed.f_to_kind(Kind::Uint8)?)
        }
        "attn_sparse" => run(golden, group, &attention(Some(sparse))),
        "attn_dense" => run(golden, group, &attention(None)),
        _ => bail!("an output that nothing here computes"),
    }
}

fn run(golden: &Golden, group: &str, attention: &Phi3SmallAttention) -> Result<Tensor> {
    let linear = |name: &str| -> Result<Linear> {
        let part = |rest: &str| golden.input(&format!("{group}.{name}.{rest}"));
        Ok(Linear::new(part("weight")?, Some(part("bias")?))?)
    };
    let x = golden.input(&format!("{group}.x"))?;
    Ok(attention.forward(&x, &linear("query_key_value")?, &linear("dense")?)?)
}
