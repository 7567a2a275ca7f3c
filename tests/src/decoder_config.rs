//! From a reference decoder's options to a [`DecoderConfig`].

use anyhow::{Context, Result};
use forerun_arch::{Activation, DecoderConfig, NormKind, NormPlacement, Positions};
use forerun_tensors::testing::Golden;
use serde_json::Value;

use crate::attention::after;

/// The config, or the option that does not exist here.
pub(crate) fn read(golden: &Golden) -> Result<Result<DecoderConfig, String>> {
    let options = Options(golden.config());
    if let Some(missing) = options.unsupported() {
        return Ok(Err(missing));
    }
    let activation = match options.get("activation_fn").as_str().unwrap_or("gelu") {
        "gelu" => Activation::Gelu,
        "relu" => Activation::Relu,
        "swish" => Activation::Swish,
        other => return Ok(Err(format!("activation_fn {other}"))),
    };
    let config = DecoderConfig {
        vocab_size: options.size("vocab_size")?,
        d_model: options.size("decoder_embed_dim")?,
        n_layers: options.size("decoder_layers")?,
        n_heads: options.size("decoder_attention_heads")?,
        d_ff: options.size("decoder_ffn_embed_dim")?,
        norm: options.placement(),
        norm_kind: NormKind::LayerNorm,
        norm_eps: options.get("layernorm_eps").as_f64().unwrap_or(1e-5),
        activation,
        positions: options.positions(golden)?,
        tie_embeddings: options.flag("share_decoder_input_output_embed"),
        scale_embedding: options.get("no_scale_embedding").as_bool() == Some(false),
        norm_embedding: options.flag("layernorm_embedding"),
        ..DecoderConfig::default()
    };
    Ok(Ok(config))
}

/// The options in effect, or where those are not given, the ones that were set.
struct Options<'a>(&'a Value);

impl Options<'_> {
    fn get(&self, name: &str) -> &Value {
        let effective = &self.0["effective"][name];
        if effective.is_null() { &self.0[name] } else { effective }
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).as_bool().unwrap_or(false)
    }

    fn size(&self, name: &str) -> Result<i64> {
        self.get(name).as_i64().with_context(|| format!("`config.{name}` is not a whole number"))
    }

    fn unsupported(&self) -> Option<String> {
        let above_zero = |name| self.get(name).as_f64().is_some_and(|value| value > 0.0);
        for name in ["rel_pos_buckets", "moe_freq", "drop_path_rate"] {
            if above_zero(name) {
                return Some(name.to_owned());
            }
        }
        for name in ["multiway", "use_xmoe"] {
            if self.flag(name) {
                return Some(name.to_owned());
            }
        }
        if !self.get("segment_length").is_null() {
            return Some("segment_length".to_owned());
        }
        let pre = self.get("decoder_normalize_before").as_bool() != Some(false);
        (self.flag("deepnorm") && pre).then(|| "deepnorm with decoder_normalize_before".to_owned())
    }

    fn placement(&self) -> NormPlacement {
        let pre = self.get("decoder_normalize_before").as_bool() != Some(false);
        // TorchScale's own defaults and precedence.
        let sub = self.get("subln").as_bool() != Some(false);
        match (self.flag("deepnorm"), sub, pre) {
            (true, ..) => NormPlacement::Deep,
            (false, true, _) => NormPlacement::Sub,
            (false, false, true) => NormPlacement::Pre,
            (false, false, false) => NormPlacement::Post,
        }
    }

    fn positions(&self, golden: &Golden) -> Result<Positions> {
        if self.flag("xpos_rel_pos") {
            let scale_base = self.get("xpos_scale_base").as_f64().unwrap_or(512.0);
            return Ok(Positions::Xpos { base: 10_000.0, gamma: 0.4, scale_base });
        }
        let table = "w.embed_positions.weight";
        if !golden.contains(table) {
            return Ok(Positions::None);
        }
        let text = self.0["positions"].as_str().unwrap_or_default();
        // fairseq's first two rows belong to no position.
        let offset = after(text, "starts at").map_or(2, |offset| offset as i64);
        Ok(Positions::Learned { max_seq_len: golden.weight(table)?.size()[0] - offset, offset })
    }
}
