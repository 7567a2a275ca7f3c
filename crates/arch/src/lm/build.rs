//! From named tensors to a model.

use forerun_tensors::kernels::PackedMatrix;
use forerun_tensors::{Mask, init};
use rand::Rng;
use tch::{Device, Kind, Tensor};

use super::CausalLm;
use super::attention::{LmAttention, Pattern};
use super::block::LmBlock;
use super::config::{LmConfig, LmFamily, Phi3Small};
use super::mlp::{Gating, LmMlp};
use super::norm::LmNorm;
use super::projection::{Joined, Map, Projection};
use super::rope::RopeTables;
use super::table::Table;
use crate::error::{Error, Result};
use crate::linear::Linear;
use crate::phi3_small::in_model_order;
use crate::quantize::PackedLinear;

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head";
/// Of new weights; that of Llama's and Phi-3's configurations.
const STD: f64 = 0.02;

/// Where the tensors of a model come from, under the names of its checkpoint.
pub(crate) trait Source {
    /// The tensor of that name, which must have the shape; any floating-point kind, on the CPU.
    fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor>;

    /// The packed matrix of that name and shape, if it is one that is packed.
    fn take_packed(&mut self, _name: &str, _shape: [i64; 2]) -> Result<Option<PackedMatrix>> {
        Ok(None)
    }

    /// Whether there is one.
    fn holds(&self, name: &str) -> bool;

    /// An error about a tensor.
    fn refuse(&self, name: &str, reason: &str) -> Error;
}

impl CausalLm {
    /// A new model whose matrices are drawn from `rng`, N(0, 0.02), norms at 1 and biases at 0: to be trained, or to be measured.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] names the first field of `config` that is out of range.
    pub fn new(config: LmConfig, rng: &mut impl Rng, kind: Kind, device: Device) -> Result<Self> {
        Self::build(config, &mut Drawn { rng, kind }, Some(kind), device)
    }

    /// Of the tensors of `source`, converted to `kind` if one is given. What has that kind already is not copied. What is packed stays
    /// so, and without other matrices the kind is bf16.
    pub(crate) fn build(
        config: LmConfig,
        source: &mut dyn Source,
        kind: Option<Kind>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        let (embedding, kind) = table(&config, source, kind, device)?;
        let mut parts = Parts { config: &config, source, kind, device };
        let blocks = (0..config.n_layers).map(|layer| parts.block(layer)).collect::<Result<_>>()?;
        let small = config.phi3_small();
        let final_norm =
            parts.norm(if small.is_some() { "model.final_layernorm" } else { "model.norm" })?;
        let head = parts.head(&embedding)?;
        let barred = match small.map(|small| small.dummy_tokens.as_slice()) {
            None | Some([]) => None,
            Some(ids) => Some(Tensor::f_from_slice(ids)?.f_to_device(device)?),
        };
        let rope = RopeTables::new(config.rope.clone(), device);
        Ok(Self { config, kind, device, embedding, blocks, final_norm, head, rope, barred })
    }

    /// All tensors under their names in the checkpoint, those of the norms as they are computed with, in f32.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] names a projection that is not held as a matrix, or a model whose matrices are held in another order
    /// than the checkpoint's.
    pub fn named_tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let held = |ok: bool, field: &str, want: &str| {
            forerun_tensors::ensure(ok, field, want, "another form")
        };
        let in_order = self.config.phi3_small().is_none();
        held(in_order, "family", "one whose matrices are held in the checkpoint's order")?;
        for projection in self.projections().chain([&self.head]) {
            held(projection.linear().is_some(), projection.name(), "held as a matrix")?;
        }
        Ok(self.tensors())
    }

    /// All tensors that are held as they are.
    pub(crate) fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut all = Vec::new();
        if let Table::Plain(table) = &self.embedding {
            all.push((EMBEDDING.to_owned(), table.shallow_clone()));
        }
        for block in &self.blocks {
            push_norm(&mut all, &block.attention_norm);
            push_norm(&mut all, &block.mlp_norm);
        }
        push_norm(&mut all, &self.final_norm);
        let head = Some(&self.head).filter(|_| !self.config.tie_embeddings);
        for projection in self.projections().chain(head) {
            push_projection(&mut all, projection);
        }
        all
    }
}

/// The embedding table, and the kind of the model's matrices.
fn table(
    config: &LmConfig,
    source: &mut dyn Source,
    kind: Option<Kind>,
    device: Device,
) -> Result<(Table, Kind)> {
    let shape = [config.vocab_size, config.d_model];
    if let Some(table) = source.take_packed(EMBEDDING, shape)? {
        on_cpu(source, EMBEDDING, device)?;
        return Ok((Table::Packed(table), kind.unwrap_or(Kind::BFloat16)));
    }
    let table = source.take(EMBEDDING, &shape)?;
    let kind = match kind.unwrap_or_else(|| table.kind()) {
        kind @ (Kind::Float | Kind::BFloat16 | Kind::Half) => kind,
        _ => Kind::Float,
    };
    Ok((Table::Plain(table.f_to_kind(kind)?.f_to_device(device)?), kind))
}

fn on_cpu(source: &dyn Source, name: &str, device: Device) -> Result<()> {
    match device {
        Device::Cpu => Ok(()),
        _ => Err(source.refuse(name, "is packed, which only the CPU computes with")),
    }
}

fn push_norm(all: &mut Vec<(String, Tensor)>, norm: &LmNorm) {
    all.push((format!("{}.weight", norm.name), norm.weight.shallow_clone()));
    all.extend(norm.bias.iter().map(|bias| (format!("{}.bias", norm.name), bias.shallow_clone())));
}

fn push_projection(all: &mut Vec<(String, Tensor)>, projection: &Projection) {
    let name = projection.name();
    let Some(Linear { weight, bias }) = projection.linear() else { return };
    all.push((format!("{name}.weight"), weight.shallow_clone()));
    all.extend(bias.iter().map(|bias| (format!("{name}.bias"), bias.shallow_clone())));
}

/// Takes the tensors of the layout and joins them into layers.
struct Parts<'a> {
    config: &'a LmConfig,
    source: &'a mut dyn Source,
    kind: Kind,
    device: Device,
}

impl Parts<'_> {
    fn vector(&mut self, name: &str, width: i64) -> Result<Tensor> {
        let vector = self.source.take(name, &[width])?;
        Ok(vector.f_to_kind(Kind::Float)?.f_to_device(self.device)?)
    }

    fn projection(&mut self, name: &str, d_out: i64, d_in: i64, bias: bool) -> Result<Projection> {
        let weight = format!("{name}.weight");
        let Some(matrix) = self.source.take_packed(&weight, [d_out, d_in])? else {
            let weight = self.source.take(&weight, &[d_out, d_in])?;
            let weight = in_model_order(self.config, name, &weight)?;
            let weight = weight.f_to_kind(self.kind)?.f_to_device(self.device)?;
            let bias = self.bias(name, d_out, bias)?;
            return Ok(Projection::new(name, Linear { weight, bias })?);
        };
        on_cpu(self.source, &weight, self.device)?;
        let bias = self.bias(name, d_out, bias)?;
        Ok(Projection::new(name, PackedLinear { matrix, bias })?)
    }

    fn bias(&mut self, name: &str, d_out: i64, there: bool) -> Result<Option<Tensor>> {
        if !there {
            return Ok(None);
        }
        let bias = self.vector(&format!("{name}.bias"), d_out)?;
        Ok(Some(in_model_order(self.config, name, &bias)?))
    }

    fn norm(&mut self, name: &str) -> Result<LmNorm> {
        let width = self.config.d_model;
        let weight = self.vector(&format!("{name}.weight"), width)?;
        let bias = match self.config.family {
            LmFamily::Phi3Small(_) => Some(self.vector(&format!("{name}.bias"), width)?),
            LmFamily::Llama | LmFamily::Phi3 => None,
        };
        Ok(LmNorm { name: name.to_owned(), weight, bias, eps: self.config.norm_eps })
    }

    fn head(&mut self, embedding: &Table) -> Result<Projection> {
        let (vocab, d_model, name) = (self.config.vocab_size, self.config.d_model, HEAD);
        if !self.config.tie_embeddings {
            return self.projection(name, vocab, d_model, false);
        }
        if self.source.holds(&format!("{name}.weight")) {
            let stored = self.projection(name, vocab, d_model, false)?;
            let same = match (stored.map(), embedding) {
                (Map::Plain(stored), Table::Plain(table)) => stored.weight.f_equal(table)?,
                (Map::Packed(stored), Table::Packed(table)) => {
                    stored.matrix.data().f_equal(table.data())?
                }
                _ => false,
            };
            if !same {
                let reason = "differs from the embedding table, to which the config ties it";
                return Err(self.source.refuse(&format!("{name}.weight"), reason));
            }
        }
        Ok(match embedding {
            Table::Plain(table) => {
                Projection::new(name, Linear { weight: table.shallow_clone(), bias: None })?
            }
            Table::Packed(table) => {
                Projection::new(name, PackedLinear { matrix: table.share(), bias: None })?
            }
        })
    }

    fn block(&mut self, layer: i64) -> Result<LmBlock> {
        let name = |rest: &str| format!("model.layers.{layer}.{rest}");
        Ok(LmBlock {
            attention_norm: self.norm(&name("input_layernorm"))?,
            attention: self.attention(layer, &name("self_attn"))?,
            mlp_norm: self.norm(&name("post_attention_layernorm"))?,
            mlp: self.mlp(&name("mlp"))?,
        })
    }

    fn attention(&mut self, layer: i64, name: &str) -> Result<LmAttention> {
        let &LmConfig { d_model, n_heads, n_kv_heads, head_dim, attention_bias: bias, .. } =
            self.config;
        let part = |rest: &str| format!("{name}.{rest}");
        let (d_q, d_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let d_qkv = d_q + 2 * d_kv;
        let in_one = |this: &mut Self, rest: &str| -> Result<Joined> {
            let map = this.projection(&part(rest), d_qkv, d_model, bias)?;
            Ok(Joined { maps: vec![map], widths: vec![d_q, d_kv, d_kv] })
        };
        let qkv = match self.config.family {
            LmFamily::Llama => Joined {
                maps: vec![
                    self.projection(&part("q_proj"), d_q, d_model, bias)?,
                    self.projection(&part("k_proj"), d_kv, d_model, bias)?,
                    self.projection(&part("v_proj"), d_kv, d_model, bias)?,
                ],
                widths: vec![d_q, d_kv, d_kv],
            },
            LmFamily::Phi3 => in_one(self, "qkv_proj")?,
            LmFamily::Phi3Small(_) => in_one(self, "query_key_value")?,
        };
        let small = self.config.phi3_small().is_some();
        let out = part(if small { "dense" } else { "o_proj" });
        Ok(LmAttention {
            qkv,
            out: self.projection(&out, d_model, d_q, bias)?,
            n_heads,
            n_kv_heads,
            head_dim,
            scale: self.config.attention_scale(),
            pattern: self.pattern(layer),
        })
    }

    fn pattern(&self, layer: i64) -> Pattern {
        if let Some(Phi3Small { block_sparse, dense_attention_every_n_layers: n, .. }) =
            self.config.phi3_small()
            && (layer + 1) % n != 0
        {
            return Pattern::Sparse(*block_sparse);
        }
        let window = self.config.sliding_window;
        Pattern::Dense(window.map_or(Mask::Causal, |window| Mask::SlidingWindow { window }))
    }

    fn mlp(&mut self, name: &str) -> Result<LmMlp> {
        let &LmConfig { d_model, d_ff, mlp_bias: bias, .. } = self.config;
        let part = |rest: &str| format!("{name}.{rest}");
        let widths = vec![d_ff, d_ff];
        let in_one =
            |this: &mut Self, rest: &str| this.projection(&part(rest), 2 * d_ff, d_model, bias);
        let (maps, kind) = match &self.config.family {
            LmFamily::Llama => {
                let gate = self.projection(&part("gate_proj"), d_ff, d_model, bias)?;
                let up = self.projection(&part("up_proj"), d_ff, d_model, bias)?;
                (vec![gate, up], Gating::SwiGlu)
            }
            LmFamily::Phi3 => (vec![in_one(self, "gate_up_proj")?], Gating::SwiGlu),
            LmFamily::Phi3Small(Phi3Small { gegelu_limit, .. }) => {
                (vec![in_one(self, "up_proj")?], Gating::GeGelu(*gegelu_limit))
            }
        };
        let gate_up = Joined { maps, widths };
        let down = self.projection(&part("down_proj"), d_model, d_ff, bias)?;
        Ok(LmMlp { gate_up, down, kind })
    }
}

/// Tensors drawn from a generator as they are asked for.
struct Drawn<'a, R> {
    rng: &'a mut R,
    kind: Kind,
}

impl<R: Rng> Source for Drawn<'_, R> {
    fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = match shape {
            [_] if name.ends_with(".bias") => Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?,
            [_] => Tensor::f_ones(shape, (Kind::Float, Device::Cpu))?,
            _ => init::normal(shape, STD, self.rng, Device::Cpu)?,
        };
        Ok(tensor.f_to_kind(self.kind)?)
    }

    fn holds(&self, _: &str) -> bool {
        false
    }

    fn refuse(&self, name: &str, reason: &str) -> Error {
        let (field, got) = (name.to_owned(), reason.to_owned());
        forerun_tensors::Error::Config { field, want: "drawn".to_owned(), got }.into()
    }
}
