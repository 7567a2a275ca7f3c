//! A whole decoder-only model: embedding, blocks, final norm, output projection.

use forerun_tensors::{Error as TensorError, Mask, Parameter, Parameters};
use rand::Rng;
use tch::{Device, Kind, Tensor};

use crate::absolute::Absolute;
use crate::alibi::alibi_slopes;
use crate::attention::Attention;
use crate::block::Block;
use crate::cache::KvCache;
use crate::config::{Activation, DecoderConfig, Init, NormPlacement, Positions};
use crate::embedding::Embedding;
use crate::error::Result;
use crate::gains::Gains;
use crate::init;
use crate::layout::{self, Spec};
use crate::linear::{Linear, product};
use crate::mlp::Mlp;
use crate::mup;
use crate::norm::Norm;
use crate::plan::{Plan, Relative};
use crate::rotary::Rotary;

/// A decoder-only transformer with its parameters, or a stack of several ([`Decoder::stack`]).
#[derive(Debug)]
pub struct Decoder {
    config: DecoderConfig,
    parameters: Parameters,
    device: Device,
    embedding: Embedding,
    relative: Relative,
    pub(crate) blocks: Vec<Block>,
    final_norm: Option<Norm>,
    head: Tensor,
    /// How each member of a stack was initialised; none for a single model.
    pub(crate) inits: Option<Vec<Init>>,
}

/// How a forward pass is run; [`Default`] is causal evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Which keys a query sees.
    pub mask: Mask,
    /// Whether dropout acts; it draws from libtorch's generator.
    pub train: bool,
    /// Whether blocks forget their activations and compute them again in the backward pass.
    pub activation_checkpointing: bool,
    /// Whether blocks go op by op also where they could run as one node of the graph: slower, and what that is
    /// compared with.
    pub op_by_op: bool,
}

impl Decoder {
    /// A new model whose weights are drawn from `rng`: the same generator gives the same weights.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] names the first field of `config` that is out of range.
    pub fn new(config: &DecoderConfig, rng: &mut impl Rng, device: Device) -> Result<Self> {
        config.validate()?;
        Self::build(config, None, device, |spec| init::draw(config, spec, rng, device))
    }

    /// A model whose parameters are about to be overwritten; with `inits` a stack of as many.
    pub(crate) fn uninitialised(
        config: &DecoderConfig,
        inits: Option<Vec<Init>>,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        let members: Vec<i64> = inits.iter().map(|inits| inits.len() as i64).collect();
        Self::build(config, inits, device, |spec| {
            let shape = [members.as_slice(), spec.shape.as_slice()].concat();
            Ok(Tensor::f_zeros(shape, (Kind::Float, device))?)
        })
    }

    /// Joins the parameters that `make` gives, of one model or of a stack, into layers.
    pub(crate) fn build(
        config: &DecoderConfig,
        inits: Option<Vec<Init>>,
        device: Device,
        mut make: impl FnMut(&Spec) -> forerun_tensors::Result<Tensor>,
    ) -> Result<Self> {
        let mut parameters = Parameters::new();
        for spec in layout::specs(config) {
            let tensor = make(&spec)?.f_set_requires_grad(true)?;
            let role = spec.role();
            let lr_multiplier = mup::lr_multiplier(config, &spec);
            parameters.push(Parameter { name: spec.name, tensor, role, lr_multiplier })?;
        }
        let parts = Parts { config, parameters: &parameters };
        let embedding = parts.embedding(device)?;
        let blocks = (0..config.n_layers).map(|layer| parts.block(layer)).collect::<Result<_>>()?;
        let has_final_norm = layout::has_final_norm(config.norm);
        let final_norm = has_final_norm.then(|| parts.norm("layer_norm")).transpose()?;
        let tied = config.tie_embeddings;
        let head =
            parts.get(if tied { "embed_tokens.weight" } else { "output_projection.weight" })?;
        let relative = relative(config, device)?;
        let config = config.clone();
        Ok(Self {
            config,
            parameters,
            device,
            embedding,
            relative,
            blocks,
            final_norm,
            head,
            inits,
        })
    }

    /// What the model is made of. Of a stack: what each member is made of, but for `init`, which is the first one's.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Where the model lives.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// All trainable tensors under TorchScale's names. In a stack each has the members before its own shape.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The output projection, `[vocab, d_model]`, or of a stack `[members, vocab, d_model]`; the embedding table if
    /// the two are tied.
    pub fn head(&self) -> &Tensor {
        &self.head
    }

    /// What the logits are multiplied by: 1, or the inverse width ratio under muP.
    #[must_use]
    pub fn logit_scale(&self) -> f64 {
        mup::logit_scale(&self.config)
    }

    /// The last hidden states of `tokens`, i64 `[batch, seq]`: `[batch, seq, d_model]`, after the
    /// final norm if there is one. A stack reads `[members * batch, seq]`, the rows of the first member first.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Shape`] if `tokens` is not a non-empty matrix, or its rows cannot be shared out evenly
    /// among the members of a stack;
    /// [`forerun_tensors::Error::Config`] if it is longer than the learned positions;
    /// [`forerun_tensors::Error::Tch`] if a token id is not below `vocab_size`.
    pub fn hidden(&self, tokens: &Tensor, options: &Forward) -> Result<Tensor> {
        let mut x = self.enter(tokens, 0, options.train)?;
        let plan = self.plan(Some(options.mask), x.size3()?.1)?;
        for block in &self.blocks {
            x = self.through(block, &x, &plan, options)?;
        }
        self.finish(x)
    }

    /// Next-token logits of `tokens`, i64 `[batch, seq]`: f32 `[batch, seq, vocab]`.
    ///
    /// # Errors
    /// As [`Self::hidden`].
    pub fn logits(&self, tokens: &Tensor, options: &Forward) -> Result<Tensor> {
        self.project(&self.hidden(tokens, options)?)
    }

    /// Runs the tokens that follow those in `cache`, i64 `[batch, new]`, without a graph; returns their
    /// logits, f32 `[batch, new, vocab]`, the same as a forward pass over the whole text gives.
    ///
    /// # Errors
    /// [`crate::Error::Cache`] if `mask` sees keys that an earlier, narrower mask let the cache drop;
    /// [`forerun_tensors::Error::Config`] for a stack; else as [`Self::hidden`]. After an error the cache stands at the same position as before;
    /// keys that `mask` can no longer show may be gone.
    pub fn step(&self, tokens: &Tensor, cache: &mut KvCache, mask: Mask) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        self.project(&self.step_hidden(tokens, cache, mask)?)
    }

    /// As [`Self::step`], but returns the hidden states.
    pub(crate) fn step_hidden(
        &self,
        tokens: &Tensor,
        cache: &mut KvCache,
        mask: Mask,
    ) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        self.ensure_single()?;
        mask.validate()?;
        let position = cache.position();
        let mut x = self.enter(tokens, position, false)?;
        let (batch, n_new, _) = x.size3()?;
        if batch != cache.batch_size() || self.blocks.len() != cache.n_layers() {
            let want = format!("[{}, new] for this cache", cache.batch_size());
            return Err(TensorError::Shape { arg: "tokens", want, got: tokens.size() }.into());
        }
        cache.prepare(mask, n_new)?;
        let queries = position..position + n_new;
        let keys = cache.first_position()..position + n_new;
        let plan = Plan::new(&self.relative, Some(mask), queries, keys, self.device)?;
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &plan, false, cache.slot(index))?;
        }
        cache.advance(n_new);
        self.finish(x)
    }

    /// The residual stream of `tokens`, i64 `[batch, seq]`, without dropout: the embeddings, then the
    /// output of each block, `n_layers + 1` tensors of `[batch, seq, d_model]`, before any final norm.
    ///
    /// # Errors
    /// As [`Self::hidden`].
    pub fn residual_stream(&self, tokens: &Tensor, mask: Mask) -> Result<Vec<Tensor>> {
        let mut stream = vec![self.enter(tokens, 0, false)?];
        let plan = self.plan(Some(mask), tokens.size2()?.1)?;
        for block in &self.blocks {
            let x = &stream[stream.len() - 1];
            stream.push(self.through(block, x, &plan, &Forward { mask, ..Forward::default() })?);
        }
        Ok(stream)
    }

    /// Logits of hidden states, `[.., d_model]` to f32 `[.., vocab]`.
    pub(crate) fn project(&self, hidden: &Tensor) -> Result<Tensor> {
        let logits = product(hidden, &self.head, None)?.f_to_kind(Kind::Float)?;
        let scale = self.logit_scale();
        if scale == 1.0 { Ok(logits) } else { Ok(logits.f_mul_scalar(scale)?) }
    }

    /// The plan of a pass over `seq` tokens; without a mask every token sees every other.
    pub(crate) fn plan(&self, mask: Option<Mask>, seq: i64) -> Result<Plan> {
        mask.map_or(Ok(()), Mask::validate)?;
        Ok(Plan::new(&self.relative, mask, 0..seq, 0..seq, self.device)?)
    }

    fn enter(&self, tokens: &Tensor, position: i64, train: bool) -> Result<Tensor> {
        let size = tokens.size();
        let members = self.n_members() as i64;
        let fits = size.len() == 2 && !size.contains(&0) && size[0] % members == 0;
        if !fits || tokens.kind() != Kind::Int64 {
            let batch =
                if self.is_stack() { format!("{members} * batch") } else { "batch".to_owned() };
            let want = format!("[{batch}, seq], i64, not empty");
            return Err(TensorError::Shape { arg: "tokens", want, got: size }.into());
        }
        Ok(self.embedding.forward(tokens, position, train)?)
    }

    fn through(&self, block: &Block, x: &Tensor, plan: &Plan, options: &Forward) -> Result<Tensor> {
        let &Forward { train, activation_checkpointing, op_by_op, .. } = options;
        if !activation_checkpointing {
            return Ok(block.run(x, plan, train, op_by_op)?);
        }
        let (block, plan) = (block.share(), plan.share());
        Ok(forerun_tensors::checkpoint(&[x], move |inputs| {
            block.run(&inputs[0], &plan, train, op_by_op)
        })?)
    }

    fn finish(&self, x: Tensor) -> Result<Tensor> {
        match &self.final_norm {
            Some(norm) => Ok(norm.forward(&x)?),
            None => Ok(x),
        }
    }
}

fn relative(config: &DecoderConfig, device: Device) -> Result<Relative> {
    let head_dim = config.head_dim();
    Ok(match config.positions {
        Positions::Rope { base } => Relative::Rotary(Rotary::rope(head_dim, base, device)?),
        Positions::Xpos { base, gamma, scale_base } => {
            Relative::Rotary(Rotary::xpos(head_dim, base, gamma, scale_base, device)?)
        }
        Positions::Alibi => {
            let slopes = alibi_slopes(config.n_heads);
            Relative::Alibi(Tensor::f_from_slice(&slopes)?.f_to_device(device)?)
        }
        Positions::None | Positions::Learned { .. } | Positions::Sinusoidal => Relative::None,
    })
}

/// Takes the parameters of the layout by name and joins them into layers.
struct Parts<'a> {
    config: &'a DecoderConfig,
    parameters: &'a Parameters,
}

impl Parts<'_> {
    fn get(&self, name: &str) -> Result<Tensor> {
        let missing = || TensorError::Config {
            field: name.to_owned(),
            want: "a parameter of the layout".to_owned(),
            got: "nothing".to_owned(),
        };
        Ok(self.optional(name).ok_or_else(missing)?)
    }

    fn optional(&self, name: &str) -> Option<Tensor> {
        self.parameters.get(name).map(|parameter| parameter.tensor.shallow_clone())
    }

    fn linear(&self, name: &str) -> Result<Linear> {
        let bias = self.optional(&format!("{name}.bias"));
        Ok(Linear { weight: self.get(&format!("{name}.weight"))?, bias })
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        let weight = self.get(&format!("{name}.weight"))?;
        let bias = self.optional(&format!("{name}.bias"));
        Ok(Norm::new(self.config.norm_kind, weight, bias, self.config.norm_eps))
    }

    fn embedding(&self, device: Device) -> Result<Embedding> {
        let &DecoderConfig { d_model, norm_embedding, dropout, .. } = self.config;
        let positions = match self.config.positions {
            Positions::Learned { offset, .. } => {
                Some(Absolute::Learned { table: self.get("embed_positions.weight")?, offset })
            }
            Positions::Sinusoidal => Some(Absolute::Sinusoidal { d_model, device }),
            _ => None,
        };
        Ok(Embedding {
            tokens: self.get("embed_tokens.weight")?,
            scale: self.config.scale_embedding.then(|| (d_model as f64).sqrt()),
            positions,
            norm: norm_embedding.then(|| self.norm("layernorm_embedding")).transpose()?,
            dropout,
        })
    }

    fn block(&self, layer: i64) -> Result<Block> {
        let name = |rest: &str| format!("layers.{layer}.{rest}");
        let placement = self.config.norm;
        let deep = placement == NormPlacement::Deep;
        Ok(Block {
            placement,
            alpha: if deep { Gains::single(self.config.n_layers).alpha } else { 1.0 },
            attention: self.attention(&name("self_attn"))?,
            attention_norm: self.norm(&name("self_attn_layer_norm"))?,
            mlp: self.mlp(&name("ffn"))?,
            mlp_norm: self.norm(&name("final_layer_norm"))?,
        })
    }

    fn attention(&self, name: &str) -> Result<Attention> {
        let part = |rest: &str| format!("{name}.{rest}");
        let sub = self.config.norm == NormPlacement::Sub;
        Ok(Attention {
            q_proj: self.linear(&part("q_proj"))?,
            k_proj: self.linear(&part("k_proj"))?,
            v_proj: self.linear(&part("v_proj"))?,
            out_proj: self.linear(&part("out_proj"))?,
            inner_norm: sub.then(|| self.norm(&part("inner_attn_ln"))).transpose()?,
            n_heads: self.config.n_heads,
            n_kv_heads: self.config.kv_heads(),
            scale: mup::attention_scale(self.config),
            attention_dropout: self.config.attention_dropout,
            dropout: self.config.dropout,
        })
    }

    fn mlp(&self, name: &str) -> Result<Mlp> {
        let part = |rest: &str| format!("{name}.{rest}");
        let gated = self.config.activation == Activation::SwiGlu;
        let sub = self.config.norm == NormPlacement::Sub;
        Ok(Mlp {
            activation: self.config.activation,
            fc1: self.linear(&part("fc1"))?,
            gate: gated.then(|| self.linear(&part("gate"))).transpose()?,
            fc2: self.linear(&part("fc2"))?,
            norm: sub.then(|| self.norm(&part("ffn_layernorm"))).transpose()?,
            activation_dropout: self.config.activation_dropout,
            dropout: self.config.dropout,
        })
    }
}

#[cfg(test)]
mod tests;
