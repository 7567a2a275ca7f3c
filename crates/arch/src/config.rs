//! What a decoder is made of: sizes, placements and options, checked once by [`DecoderConfig::validate`].

use serde::{Deserialize, Serialize};

use forerun_tensors::{Result, ensure};

use crate::absolute::ensure_fits;
use crate::rotary::ensure_xpos_fits;

/// Everything that decides the shape and the arithmetic of a [`crate::Decoder`].
///
/// [`Default`] is the Magneto paper's causal language model (arXiv:2210.06423, Table 6: 24 layers,
/// width 1024, 16 heads, MLP 3072) with the positions of the length-extrapolatable transformer
/// (arXiv:2212.10554) and GPT-2's vocabulary size, which is ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Number of token ids.
    pub vocab_size: i64,
    /// Width of the residual stream; a multiple of `n_heads`.
    pub d_model: i64,
    /// Number of blocks.
    pub n_layers: i64,
    /// Query heads.
    pub n_heads: i64,
    /// Key and value heads, a divisor of `n_heads`; 0 means as many as `n_heads`.
    #[serde(default)]
    pub n_kv_heads: i64,
    /// Width inside the MLP.
    pub d_ff: i64,
    /// Where the norms of a block sit.
    #[serde(default)]
    pub norm: NormPlacement,
    /// Which norm.
    #[serde(default)]
    pub norm_kind: NormKind,
    /// Added to the variance under the square root.
    #[serde(default = "norm_eps")]
    pub norm_eps: f64,
    /// The MLP's nonlinearity.
    #[serde(default)]
    pub activation: Activation,
    /// How a token learns where it is.
    #[serde(default)]
    pub positions: Positions,
    /// How the weights are drawn.
    #[serde(default)]
    pub init: Init,
    /// How initialisation, learning rates and multipliers depend on width.
    #[serde(default)]
    pub parametrisation: Parametrisation,
    /// Whether the output projection is the embedding table.
    #[serde(default)]
    pub tie_embeddings: bool,
    /// Whether the linear layers of a block have biases. The output projection never has one, a
    /// LayerNorm always.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether token embeddings (not positions) are multiplied by √`d_model`.
    #[serde(default)]
    pub scale_embedding: bool,
    /// Whether a norm follows the sum of embeddings and positions.
    #[serde(default)]
    pub norm_embedding: bool,
    /// Dropout on the embeddings and at the end of both sub-layers.
    #[serde(default)]
    pub dropout: f64,
    /// Dropout on attention probabilities.
    #[serde(default)]
    pub attention_dropout: f64,
    /// Dropout after the MLP's nonlinearity.
    #[serde(default)]
    pub activation_dropout: f64,
}

/// Where the norms of a block sit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    /// `norm(x + f(x))`; no norm after the last block (Vaswani et al. 2017).
    Post,
    /// `x + f(norm(x))`, and a norm after the last block (GPT-2).
    Pre,
    /// Pre, and a second norm before the output projection of attention and MLP
    /// (Magneto, arXiv:2210.06423, eq. 1–5).
    #[default]
    Sub,
    /// `norm(αx + f(x))` with α = (2 · `n_layers`)^¼ (DeepNorm, arXiv:2203.00555).
    Deep,
}

/// Which norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Mean and variance, with weight and bias.
    #[default]
    LayerNorm,
    /// Root mean square only, with weight (arXiv:1910.07467).
    RmsNorm,
}

/// The MLP's nonlinearity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · Φ(x), exact.
    #[default]
    Gelu,
    /// max(x, 0).
    Relu,
    /// x · sigmoid(x), also called SiLU.
    Swish,
    /// swish(W₁x) ⊙ Vx: a third matrix, `ffn.gate` (arXiv:2002.05202).
    #[serde(rename = "swiglu")]
    SwiGlu,
}

/// How a token learns where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Positions {
    /// Not at all, but for what a causal mask betrays.
    None,
    /// A learned table, added to the embeddings.
    Learned {
        /// Positions in the table, in tokens; no sequence may be longer.
        max_seq_len: i64,
        /// Rows before the one of position 0: 2 in fairseq and TorchScale, which keep them for padding.
        #[serde(default)]
        offset: i64,
    },
    /// Sines and cosines added to the embeddings (Vaswani et al. 2017, section 3.5).
    Sinusoidal,
    /// Rotation of queries and keys, half-split pairs (RoFormer; see [`crate::Rotary`]).
    Rope {
        /// Wavelength base θ, dimensionless.
        #[serde(default = "base")]
        base: f64,
    },
    /// A penalty on the score that grows with distance, steeper in some heads (arXiv:2108.12409).
    Alibi,
    /// Rotation with a decay over distance, interleaved pairs (LeX; see [`crate::Rotary`]).
    Xpos {
        /// Wavelength base θ, dimensionless.
        #[serde(default = "base")]
        base: f64,
        /// γ, which bounds the decay from below; 0.4 in the paper.
        #[serde(default = "gamma")]
        gamma: f64,
        /// Tokens over which ζ applies once; 512 in TorchScale, absent from the paper.
        #[serde(default = "scale_base")]
        scale_base: f64,
    },
}

/// How the weights are drawn; see `init.rs` for the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Init {
    /// Xavier normal, biases zero; with gain γ (Magneto, Fig. 2) under [`NormPlacement::Sub`] or
    /// 1/div (DeepNorm) under [`NormPlacement::Deep`] for values, output projections and the MLP.
    #[default]
    Paper,
    /// What TorchScale's constructors do: U(±1/√fan_in) for weights and biases, both then times γ
    /// or divided by div, in the same places.
    Torchscale,
    /// GPT-2: N(0, `std`), biases zero, output projections divided by √(2 · `n_layers`).
    Normal {
        /// Standard deviation; 0.02 in GPT-2.
        std: f64,
    },
}

/// How initialisation, learning rates and multipliers depend on width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Parametrisation {
    /// As the initialisation says, one learning rate for all.
    #[default]
    Standard,
    /// Maximal update parametrisation for Adam (Tensor Programs V, arXiv:2203.03466, Table 8).
    Mup {
        /// The width at which learning rate and initialisation were or will be tuned.
        base_d_model: i64,
    },
}

impl Default for Positions {
    fn default() -> Self {
        Self::Xpos { base: base(), gamma: gamma(), scale_base: scale_base() }
    }
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self {
            vocab_size: 50_257,
            d_model: 1024,
            n_layers: 24,
            n_heads: 16,
            n_kv_heads: 0,
            d_ff: 3072,
            norm: NormPlacement::default(),
            norm_kind: NormKind::default(),
            norm_eps: norm_eps(),
            activation: Activation::default(),
            positions: Positions::default(),
            init: Init::default(),
            parametrisation: Parametrisation::default(),
            tie_embeddings: false,
            bias: true,
            scale_embedding: false,
            norm_embedding: false,
            dropout: 0.0,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
        }
    }
}

impl DecoderConfig {
    /// Checks every field and the rules between fields.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        self.validate_sizes()?;
        ensure(self.norm_eps > 0.0 && self.norm_eps < 1.0, "norm_eps", "in (0, 1)", self.norm_eps)?;
        for (field, value) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
        ] {
            ensure((0.0..1.0).contains(&value), field, "in [0, 1)", value)?;
        }
        if let Init::Normal { std } = self.init {
            ensure(std > 0.0 && std.is_finite(), "init.std", "positive and finite", std)?;
        }
        if let Parametrisation::Mup { base_d_model } = self.parametrisation {
            ensure(base_d_model > 0, "parametrisation.base_d_model", "positive", base_d_model)?;
        }
        self.validate_positions()
    }

    /// Checks that a decoder of this (valid) config can run over `seq_len` tokens at once under a causal mask: that
    /// learned positions reach that far, and that the decay of xPos stays in the range of f32. (Under a mask with a
    /// window xPos measures from within it, and fits whenever two windows do.)
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] names the field that is too small, and the value it needs.
    pub fn check_length(&self, seq_len: i64) -> Result<()> {
        ensure(seq_len > 0, "seq_len", "positive", seq_len)?;
        match self.positions {
            Positions::Learned { max_seq_len, .. } => ensure_fits(seq_len, max_seq_len),
            Positions::Xpos { gamma, scale_base, .. } => {
                ensure_xpos_fits(seq_len, self.head_dim(), gamma, scale_base)
            }
            Positions::None | Positions::Sinusoidal | Positions::Rope { .. } | Positions::Alibi => {
                Ok(())
            }
        }
    }

    fn validate_sizes(&self) -> Result<()> {
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("d_ff", self.d_ff),
        ] {
            ensure(value > 0, field, "positive", value)?;
        }
        let heads = format!("a multiple of n_heads = {}", self.n_heads);
        ensure(self.d_model % self.n_heads == 0, "d_model", &heads, self.d_model)?;
        let divides = self.n_kv_heads >= 0 && self.n_heads % self.kv_heads().max(1) == 0;
        let want = format!("0 or a divisor of n_heads = {}", self.n_heads);
        ensure(divides, "n_kv_heads", &want, self.n_kv_heads)
    }

    fn validate_positions(&self) -> Result<()> {
        match self.positions {
            Positions::None | Positions::Alibi => Ok(()),
            Positions::Learned { max_seq_len, offset } => {
                ensure(max_seq_len > 0, "positions.max_seq_len", "positive", max_seq_len)?;
                ensure(offset >= 0, "positions.offset", "not negative", offset)
            }
            Positions::Sinusoidal => {
                ensure(self.d_model % 2 == 0, "d_model", "even for sinusoidal", self.d_model)
            }
            Positions::Rope { base } => self.validate_rotation(base),
            Positions::Xpos { base, gamma, scale_base } => {
                self.validate_rotation(base)?;
                let finite = gamma > 0.0 && gamma.is_finite();
                ensure(finite, "positions.gamma", "positive and finite", gamma)?;
                let finite = scale_base > 0.0 && scale_base.is_finite();
                ensure(finite, "positions.scale_base", "positive and finite", scale_base)
            }
        }
    }

    fn validate_rotation(&self, base: f64) -> Result<()> {
        let head_dim = self.head_dim();
        ensure(head_dim % 2 == 0, "head_dim", "even for a rotation", head_dim)?;
        ensure(base > 1.0 && base.is_finite(), "positions.base", "finite and above 1", base)
    }

    /// Channels per head.
    #[must_use]
    pub fn head_dim(&self) -> i64 {
        self.d_model / self.n_heads.max(1)
    }

    /// Key and value heads, with the 0 of `n_kv_heads` resolved.
    #[must_use]
    pub fn kv_heads(&self) -> i64 {
        if self.n_kv_heads == 0 { self.n_heads } else { self.n_kv_heads }
    }

    /// Width of all key heads together, also of all value heads.
    pub(crate) fn d_kv(&self) -> i64 {
        self.kv_heads().saturating_mul(self.head_dim())
    }
}

fn norm_eps() -> f64 {
    1e-5
}

fn base() -> f64 {
    10_000.0
}

fn gamma() -> f64 {
    0.4
}

fn scale_base() -> f64 {
    512.0
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests;
