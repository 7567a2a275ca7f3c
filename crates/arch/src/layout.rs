//! Which parameters a decoder has: names, shapes and the part each plays, in the order in which they
//! are drawn. Building, initialising and muP all read this one list.

use forerun_tensors::Role;

use crate::config::{Activation, DecoderConfig, NormKind, NormPlacement, Positions};

/// The part that a parameter plays; a bias plays the part of its matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Embedding,
    Positions,
    Head,
    QueryKey,
    Value,
    AttentionOut,
    MlpIn,
    MlpOut,
    NormWeight,
    NormBias,
}

/// One parameter, before it exists.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// TorchScale's name.
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) part: Part,
    /// Width of the input of the layer that it belongs to.
    pub(crate) fan_in: i64,
    pub(crate) is_bias: bool,
}

impl Spec {
    pub(crate) fn role(&self) -> Role {
        match self.part {
            _ if self.is_bias => Role::Bias,
            Part::Embedding | Part::Positions => Role::Embedding,
            Part::NormWeight | Part::NormBias => Role::Norm,
            _ => Role::Matrix,
        }
    }
}

/// Every parameter of a decoder of this (valid) config.
pub(crate) fn specs(config: &DecoderConfig) -> Vec<Spec> {
    let mut list = List { config, specs: Vec::new() };
    let d_model = config.d_model;
    list.table("embed_tokens", config.vocab_size, Part::Embedding);
    if let Positions::Learned { max_seq_len, offset } = config.positions {
        list.table("embed_positions", max_seq_len.saturating_add(offset), Part::Positions);
    }
    if config.norm_embedding {
        list.norm("layernorm_embedding", d_model);
    }
    for layer in 0..config.n_layers {
        list.block(layer);
    }
    if has_final_norm(config.norm) {
        list.norm("layer_norm", d_model);
    }
    if !config.tie_embeddings {
        list.table("output_projection", config.vocab_size, Part::Head);
    }
    list.specs
}

/// Whether a norm follows the last block.
pub(crate) fn has_final_norm(norm: NormPlacement) -> bool {
    matches!(norm, NormPlacement::Pre | NormPlacement::Sub)
}

struct List<'a> {
    config: &'a DecoderConfig,
    specs: Vec<Spec>,
}

impl List<'_> {
    fn block(&mut self, layer: i64) {
        let &DecoderConfig { d_model, d_ff, norm, activation, .. } = self.config;
        let d_kv = self.config.d_kv();
        let name = |rest: &str| format!("layers.{layer}.{rest}");
        self.linear(&name("self_attn.k_proj"), d_kv, d_model, Part::QueryKey);
        self.linear(&name("self_attn.v_proj"), d_kv, d_model, Part::Value);
        self.linear(&name("self_attn.q_proj"), d_model, d_model, Part::QueryKey);
        self.linear(&name("self_attn.out_proj"), d_model, d_model, Part::AttentionOut);
        if norm == NormPlacement::Sub {
            self.norm(&name("self_attn.inner_attn_ln"), d_model);
        }
        self.norm(&name("self_attn_layer_norm"), d_model);
        self.linear(&name("ffn.fc1"), d_ff, d_model, Part::MlpIn);
        if activation == Activation::SwiGlu {
            self.linear(&name("ffn.gate"), d_ff, d_model, Part::MlpIn);
        }
        self.linear(&name("ffn.fc2"), d_model, d_ff, Part::MlpOut);
        if norm == NormPlacement::Sub {
            self.norm(&name("ffn.ffn_layernorm"), d_ff);
        }
        self.norm(&name("final_layer_norm"), d_model);
    }

    fn linear(&mut self, name: &str, out: i64, fan_in: i64, part: Part) {
        self.push(format!("{name}.weight"), vec![out, fan_in], part, fan_in, false);
        if self.config.bias {
            self.push(format!("{name}.bias"), vec![out], part, fan_in, true);
        }
    }

    fn norm(&mut self, name: &str, channels: i64) {
        self.push(format!("{name}.weight"), vec![channels], Part::NormWeight, channels, false);
        if self.config.norm_kind == NormKind::LayerNorm {
            self.push(format!("{name}.bias"), vec![channels], Part::NormBias, channels, false);
        }
    }

    fn table(&mut self, name: &str, rows: i64, part: Part) {
        let d_model = self.config.d_model;
        self.push(format!("{name}.weight"), vec![rows, d_model], part, d_model, false);
    }

    fn push(&mut self, name: String, shape: Vec<i64>, part: Part, fan_in: i64, is_bias: bool) {
        self.specs.push(Spec { name, shape, part, fan_in, is_bias });
    }
}
