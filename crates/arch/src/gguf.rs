//! Checkpoints in one GGUF file, as llama.cpp keeps them: the architectures `llama` and `phi3`.
//!
//! The weights are made plain floats as they are read, or the whole numbers of 4 and 8 bits are kept. llama.cpp turns neighbouring channels of `llama` together where Hugging Face's
//! checkpoints pair the halves of a head, and its converter has reordered the rows of queries and keys for that: here they are put
//! back. Not so those of `phi3`.

mod packed;

use std::collections::BTreeSet;

use forerun_tensors::Error as TensorError;
use forerun_tensors::kernels::PackedMatrix;
use forerun_tokens::gguf::Gguf;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::lm::{CausalLm, LmConfig, LmFamily, LmRope, RopeScaling, Source};

const EMBEDDING: &str = "token_embd.weight";
const HEAD: &str = "output.weight";
/// Divisors of Llama 3's frequencies.
const FACTORS: &str = "rope_freqs.weight";
const LONG_FACTORS: &str = "rope_factors_long.weight";
const SHORT_FACTORS: &str = "rope_factors_short.weight";

impl CausalLm {
    /// Loads the model in `file`, its weights as f32, bf16 or f16.
    ///
    /// # Errors
    /// [`Error::Tokens`] and [`Error::Checkpoint`] name the file and what in it is unknown, missing or makes no sense;
    /// [`Error::Tensors`] names the tensor that is missing, unexpected or of another shape.
    pub fn from_gguf(file: &Gguf, kind: Kind, device: Device) -> Result<Self> {
        Self::of_gguf(file, kind, device, Packing::Undone)
    }

    /// As [`Self::from_gguf`] on the CPU, but matrices in Q4_0, Q4_1 and Q8_0 keep every bit, those in Q4_K all but that their scales are
    /// rounded to f16: the model needs that much less memory. Products round what comes in to 8 bits then, as llama.cpp's do.
    /// Other matrices become numbers of `kind`.
    ///
    /// # Errors
    /// As [`Self::from_gguf`].
    pub fn from_gguf_packed(file: &Gguf, kind: Kind) -> Result<Self> {
        Self::of_gguf(file, kind, Device::Cpu, Packing::Kept)
    }

    fn of_gguf(file: &Gguf, kind: Kind, device: Device, packing: Packing) -> Result<Self> {
        let config = Metadata::new(file)?.config()?;
        let mut source = Tensors { file, config: config.clone(), left: names(file), packing };
        let model = Self::build(config, &mut source, Some(kind), device)?;
        match source.left.first() {
            None => Ok(model),
            Some(extra) => {
                Err(tensor(file, extra, "is unexpected: the model has no tensor of that name"))
            }
        }
    }
}

impl LmConfig {
    /// What the model in `file` is made of.
    ///
    /// # Errors
    /// As [`CausalLm::from_gguf`].
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        Metadata::new(file)?.config()
    }
}

/// All tensors but those that are hyperparameters.
fn names(file: &Gguf) -> BTreeSet<String> {
    let names = file.tensors().iter().map(|tensor| tensor.name.clone());
    names.filter(|name| ![FACTORS, LONG_FACTORS, SHORT_FACTORS].contains(&name.as_str())).collect()
}

fn refused(file: &Gguf, reason: impl Into<String>) -> Error {
    Error::Checkpoint { path: file.name().into(), reason: reason.into() }
}

fn tensor(file: &Gguf, name: &str, reason: impl Into<String>) -> Error {
    let (path, name) = (file.name().into(), name.to_owned());
    TensorError::Tensor { path, name, reason: reason.into() }.into()
}

/// The hyperparameters, whose names begin with the architecture.
struct Metadata<'a> {
    file: &'a Gguf,
    architecture: &'a str,
    family: LmFamily,
}

impl<'a> Metadata<'a> {
    fn new(file: &'a Gguf) -> Result<Self> {
        const KEY: &str = "general.architecture";
        let architecture = file.string(KEY)?.ok_or_else(|| file.missing(KEY))?;
        let family = match architecture {
            "llama" => LmFamily::Llama,
            "phi3" => LmFamily::Phi3,
            other => {
                let reason = format!("`{KEY}`: `{other}` is not one of llama, phi3");
                return Err(refused(file, reason));
            }
        };
        Ok(Self { file, architecture, family })
    }

    fn config(&self) -> Result<LmConfig> {
        let config = self.described()?;
        match config.validate() {
            Err(TensorError::Config { field, want, got }) => {
                Err(refused(self.file, format!("`{field}` must be {want}, got {got}")))
            }
            other => Ok(other.map(|()| config)?),
        }
    }

    fn described(&self) -> Result<LmConfig> {
        let (d_model, n_heads) =
            (self.need("embedding_length")?, self.need("attention.head_count")?);
        let head_dim = self.head_dim(d_model, n_heads)?;
        let token = |name: &str| -> Result<Option<i64>> {
            let id = self.file.unsigned(&format!("tokenizer.ggml.{name}_token_id"))?;
            Ok(id.and_then(|id| i64::try_from(id).ok()))
        };
        let max_seq_len = self.need("context_length")?;
        let eos: Vec<i64> = [token("eos")?, token("eot")?]
            .into_iter()
            .flatten()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        // Older files of Phi-3 do not state a window.
        let window = self.count("attention.sliding_window")?.filter(|&window| window > 0);
        Ok(LmConfig {
            family: self.family.clone(),
            vocab_size: self.rows(EMBEDDING)?,
            d_model,
            n_layers: self.need("block_count")?,
            n_heads,
            n_kv_heads: self.count("attention.head_count_kv")?.unwrap_or(n_heads),
            head_dim,
            d_ff: self.need("feed_forward_length")?,
            norm_eps: self.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
            rope: self.rope(head_dim, max_seq_len)?,
            sliding_window: window.filter(|_| self.family == LmFamily::Phi3),
            max_seq_len,
            tie_embeddings: self.file.tensor(HEAD).is_none(),
            attention_bias: self.file.tensor("blk.0.attn_q.bias").is_some(),
            mlp_bias: self.file.tensor("blk.0.ffn_down.bias").is_some(),
            bos_token: token("bos")?,
            eos_tokens: eos,
            pad_token: token("padding")?,
        })
    }

    /// What is given, or else the width of the stream divided among the heads.
    fn head_dim(&self, d_model: i64, n_heads: i64) -> Result<i64> {
        if let Some(given) = self.count("attention.key_length")? {
            if let Some(got) = self.count("attention.value_length")?.filter(|&got| got != given) {
                let field = self.key("attention.value_length");
                return Err(refused(self.file, format!("`{field}` must be {given}, got {got}")));
            }
            return Ok(given);
        }
        if d_model <= 0 || n_heads <= 0 || d_model % n_heads != 0 {
            let (width, heads) = (self.key("embedding_length"), self.key("attention.head_count"));
            let want = format!("a positive multiple of `{heads}` = {n_heads}");
            return Err(refused(self.file, format!("`{width}` must be {want}, got {d_model}")));
        }
        Ok(d_model / n_heads)
    }

    fn rope(&self, head_dim: i64, max_seq_len: i64) -> Result<LmRope> {
        let theta = self.number("rope.freq_base")?.unwrap_or(10_000.0);
        let rotary_dim = self.count("rope.dimension_count")?.unwrap_or(head_dim);
        let scaling = if self.file.tensor(LONG_FACTORS).is_some() {
            self.long_rope(max_seq_len)?
        } else if self.file.tensor(FACTORS).is_some() {
            RopeScaling::Divided { factors: self.factors(FACTORS)? }
        } else {
            self.plain_scaling()?
        };
        Ok(LmRope { theta, rotary_dim, scaling })
    }

    fn plain_scaling(&self) -> Result<RopeScaling> {
        let key = self.key("rope.scaling.type");
        match self.file.string(&key)? {
            None | Some("none") => Ok(RopeScaling::None),
            Some("linear") => {
                let factor = self.number("rope.scaling.factor")?;
                let missing = || self.file.missing(&self.key("rope.scaling.factor"));
                Ok(RopeScaling::Linear { factor: factor.ok_or_else(missing)? })
            }
            Some(other) => {
                Err(refused(self.file, format!("`{key}`: `{other}` is not one of none, linear")))
            }
        }
    }

    fn long_rope(&self, max_seq_len: i64) -> Result<RopeScaling> {
        let original = self.count("rope.scaling.original_context_length")?.unwrap_or(max_seq_len);
        let computed = RopeScaling::long_rope_scale(max_seq_len as f64 / original as f64, original);
        let scale = self.number("rope.scaling.attn_factor")?.unwrap_or(computed);
        Ok(RopeScaling::LongRope {
            short_factors: self.factors(SHORT_FACTORS)?,
            long_factors: self.factors(LONG_FACTORS)?,
            original_max_seq_len: original,
            scales: [scale, scale],
        })
    }

    fn factors(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self.file.dequantize(name)?.into_iter().map(f64::from).collect())
    }

    /// The first size of a tensor.
    fn rows(&self, name: &str) -> Result<i64> {
        let info = self.file.tensor(name);
        let info = info.ok_or_else(|| tensor(self.file, name, "is missing"))?;
        Ok(info.shape.first().map_or(0, |&rows| rows as i64))
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn count(&self, name: &str) -> Result<Option<i64>> {
        let found = self.file.unsigned(&self.key(name))?;
        Ok(found.map(|count| i64::try_from(count).unwrap_or(i64::MAX)))
    }

    fn need(&self, name: &str) -> Result<i64> {
        let missing = || self.file.missing(&self.key(name));
        Ok(self.count(name)?.ok_or_else(missing)?)
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        Ok(self.file.float(&self.key(name))?)
    }
}

/// What becomes of matrices of whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Undone,
    Kept,
}

/// The tensors under the names of a Hugging Face checkpoint.
struct Tensors<'a> {
    file: &'a Gguf,
    config: LmConfig,
    left: BTreeSet<String>,
    packing: Packing,
}

impl Tensors<'_> {
    /// The shape of what llama.cpp calls `own`; none of it is there.
    fn shape(&self, own: &str) -> Vec<i64> {
        let sizes = self.file.tensor(own).map(|info| info.shape.as_slice());
        sizes.unwrap_or_default().iter().map(|&size| size as i64).collect()
    }

    /// Rows as Hugging Face's checkpoints have them.
    fn in_order(&self, own: &str, rows: &Tensor) -> Result<Tensor> {
        Ok(match own.rsplit('.').nth(1) {
            Some("attn_q") => halves_apart(rows, self.config.n_heads)?,
            Some("attn_k") => halves_apart(rows, self.config.n_kv_heads)?,
            _ => rows.shallow_clone(),
        })
    }
}

impl Source for Tensors<'_> {
    fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let own = own_name(name);
        if !self.left.remove(&own) {
            return Err(tensor(self.file, &own, "is missing"));
        }
        let got = self.shape(&own);
        if got != shape {
            let reason = format!("has shape {got:?}, the metadata's is {shape:?}");
            return Err(tensor(self.file, &own, reason));
        }
        let values = Tensor::f_from_slice(&self.file.dequantize(&own)?)?.f_view(shape)?;
        self.in_order(&own, &values)
    }

    fn take_packed(&mut self, name: &str, shape: [i64; 2]) -> Result<Option<PackedMatrix>> {
        let own = own_name(name);
        let kept = self.packing == Packing::Kept;
        if !kept || !self.left.contains(&own) || self.shape(&own) != shape {
            return Ok(None);
        }
        let found = packed::packed(self.file, &own, shape, &|rows| self.in_order(&own, rows));
        let found = found.map_err(|error| tensor(self.file, &own, error.to_string()))?;
        if found.is_some() {
            self.left.remove(&own);
        }
        Ok(found)
    }

    fn holds(&self, name: &str) -> bool {
        self.left.contains(&own_name(name))
    }

    fn refuse(&self, name: &str, reason: &str) -> Error {
        tensor(self.file, &own_name(name), reason)
    }
}

/// Rows of heads, in which neighbours are a pair, so ordered that row i is paired with i + half a head.
fn halves_apart(rows: &Tensor, n_heads: i64) -> forerun_tensors::Result<Tensor> {
    let pairs = rows.f_unflatten(0, [n_heads, -1, 2])?; // [heads, head_dim / 2, 2, ..]
    Ok(pairs.f_transpose(1, 2)?.f_flatten(0, 2)?.f_contiguous()?)
}

/// What llama.cpp calls a tensor.
fn own_name(name: &str) -> String {
    const NAMES: [(&str, &str); 15] = [
        ("model.embed_tokens.", "token_embd."),
        ("model.norm.", "output_norm."),
        ("lm_head.", "output."),
        ("model.layers.", "blk."),
        (".input_layernorm.", ".attn_norm."),
        (".post_attention_layernorm.", ".ffn_norm."),
        (".self_attn.q_proj.", ".attn_q."),
        (".self_attn.k_proj.", ".attn_k."),
        (".self_attn.v_proj.", ".attn_v."),
        (".self_attn.qkv_proj.", ".attn_qkv."),
        (".self_attn.o_proj.", ".attn_output."),
        (".mlp.gate_up_proj.", ".ffn_up."),
        (".mlp.gate_proj.", ".ffn_gate."),
        (".mlp.up_proj.", ".ffn_up."),
        (".mlp.down_proj.", ".ffn_down."),
    ];
    NAMES.iter().fold(name.to_owned(), |name, (from, to)| name.replacen(from, to, 1))
}

#[cfg(test)]
mod tests;
