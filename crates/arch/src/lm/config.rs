//! What a pretrained model is made of, whatever its checkpoint calls it.

use std::f64::consts::TAU;

use forerun_tensors::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// Sizes and options of a [`crate::CausalLm`].
#[derive(Clone, Debug, PartialEq)]
pub struct LmConfig {
    /// Whose names and layout of tensors.
    pub family: LmFamily,
    /// Number of token ids.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub d_model: i64,
    /// Number of blocks.
    pub n_layers: i64,
    /// Query heads.
    pub n_heads: i64,
    /// Key and value heads, a divisor of `n_heads`.
    pub n_kv_heads: i64,
    /// Channels per head.
    pub head_dim: i64,
    /// Width inside the MLP.
    pub d_ff: i64,
    /// Added to the mean of squares under the root.
    pub norm_eps: f64,
    /// How positions turn queries and keys.
    pub rope: LmRope,
    /// How many keys a query sees, its own included; all earlier ones if none.
    pub sliding_window: Option<i64>,
    /// Tokens that the model was made for.
    pub max_seq_len: i64,
    /// Whether the output projection is the embedding table.
    pub tie_embeddings: bool,
    /// Whether the projections of attention have biases.
    pub attention_bias: bool,
    /// Whether those of the MLP have.
    pub mlp_bias: bool,
    /// Token that begins a text.
    pub bos_token: Option<i64>,
    /// Tokens that end one.
    pub eos_tokens: Vec<i64>,
    /// Token that fills up.
    pub pad_token: Option<i64>,
}

/// Whose names and layout of tensors a checkpoint has.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LmFamily {
    /// Llama 2 and 3 and what is shaped like them (SmolLM2): queries, keys and values apart.
    Llama,
    /// Phi-3 mini and medium: `qkv_proj` and `gate_up_proj`.
    Phi3,
    /// Phi-3-small: LayerNorm, biases, its own attention and MLP.
    Phi3Small(Phi3Small),
}

/// Rotary positions.
#[derive(Clone, Debug, PartialEq)]
pub struct LmRope {
    /// Wavelength base θ.
    pub theta: f64,
    /// Channels of a head that turn; even, at most `head_dim`. Channel i is paired with i + half of them.
    pub rotary_dim: i64,
    /// What is done to the frequencies.
    pub scaling: RopeScaling,
}

/// What is done to the frequencies θ^(−2i/`rotary_dim`) so that longer texts can be read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Nothing.
    None,
    /// All are divided by `factor`.
    Linear {
        /// Positive.
        factor: f64,
    },
    /// Each is divided by a number of its own.
    Divided {
        /// One for each pair, positive.
        factors: Vec<f64>,
    },
    /// Llama 3: long wavelengths are stretched by `factor`, short ones left, a blend between.
    Llama3 {
        /// Positive.
        factor: f64,
        /// Wavelengths above `original_max_seq_len` divided by this are stretched.
        low_freq_factor: f64,
        /// Those below `original_max_seq_len` divided by this are left.
        high_freq_factor: f64,
        /// Tokens of the model's first training.
        original_max_seq_len: i64,
    },
    /// LongRoPE (Ding et al. 2024, arXiv:2402.13753): a divisor for each frequency, one list for texts up to `original_max_seq_len`, another
    /// beyond.
    LongRope {
        /// One for each pair.
        short_factors: Vec<f64>,
        /// One for each pair.
        long_factors: Vec<f64>,
        /// Tokens of the model's first training.
        original_max_seq_len: i64,
        /// What cosines and sines are multiplied by, with the short factors and with the long ones.
        scales: [f64; 2],
    },
}

/// What only Phi-3-small has. From its published configuration and two implementations of it; not compared with
/// Microsoft's own code.
#[derive(Clone, Debug, PartialEq)]
pub struct Phi3Small {
    /// Multiplies the embeddings.
    pub mup_embedding_multiplier: f64,
    /// Divides the logits.
    pub mup_width_multiplier: f64,
    /// Divided by `head_dim`, it multiplies the scores.
    pub mup_attn_multiplier: f64,
    /// Bound on what goes into GEGLU.
    pub gegelu_limit: Option<f64>,
    /// Which keys a sparse layer sees.
    pub block_sparse: crate::BlockSparse,
    /// Of so many layers the last one is dense.
    pub dense_attention_every_n_layers: i64,
    /// Token ids that are never chosen.
    pub dummy_tokens: Vec<i64>,
}

/// Which of two tables LongRoPE uses; the only one elsewhere is the short one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RopeRange {
    Short,
    Long,
}

impl LmConfig {
    /// Checks every field and the rules between fields; errors use the names of this struct.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("d_ff", self.d_ff),
            ("max_seq_len", self.max_seq_len),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
        ] {
            // So that no product of two overflows.
            let sound = 0 < value && value < 1 << 31;
            ensure(sound, field, "positive and below 2^31", value)?;
        }
        let divides = self.n_heads % self.n_kv_heads == 0;
        let want = format!("a divisor of n_heads = {}", self.n_heads);
        ensure(divides, "n_kv_heads", &want, self.n_kv_heads)?;
        ensure(self.norm_eps > 0.0 && self.norm_eps < 1.0, "norm_eps", "in (0, 1)", self.norm_eps)?;
        if let Some(small) = self.phi3_small() {
            small.validate(self.vocab_size)?;
        }
        self.rope.validate(self.head_dim)
    }

    /// What only Phi-3-small has, if it is one.
    #[must_use]
    pub fn phi3_small(&self) -> Option<&Phi3Small> {
        match &self.family {
            LmFamily::Phi3Small(small) => Some(small),
            LmFamily::Llama | LmFamily::Phi3 => None,
        }
    }

    /// What q·k is multiplied by.
    #[must_use]
    pub fn attention_scale(&self) -> f64 {
        let head_dim = self.head_dim as f64;
        match self.phi3_small() {
            Some(small) => small.mup_attn_multiplier / head_dim,
            None => head_dim.powf(-0.5),
        }
    }
}

impl Phi3Small {
    fn validate(&self, vocab_size: i64) -> Result<()> {
        for (field, value) in [
            ("mup_embedding_multiplier", self.mup_embedding_multiplier),
            ("mup_width_multiplier", self.mup_width_multiplier),
            ("mup_attn_multiplier", self.mup_attn_multiplier),
            ("gegelu_limit", self.gegelu_limit.unwrap_or(1.0)),
        ] {
            ensure(value > 0.0 && value.is_finite(), field, "positive and finite", value)?;
        }
        self.block_sparse.validate()?;
        let every = self.dense_attention_every_n_layers;
        ensure(every > 0, "dense_attention_every_n_layers", "positive", every)?;
        for token in &self.dummy_tokens {
            let want = format!("token ids, from 0 to {}", vocab_size - 1);
            ensure((0..vocab_size).contains(token), "dummy_tokens", &want, token)?;
        }
        Ok(())
    }
}

impl LmRope {
    fn validate(&self, head_dim: i64) -> Result<()> {
        let Self { theta, rotary_dim, .. } = *self;
        ensure(theta > 1.0 && theta.is_finite(), "rope.theta", "finite and above 1", theta)?;
        let sound = rotary_dim > 0 && rotary_dim % 2 == 0 && rotary_dim <= head_dim;
        let want = format!("positive, even and at most head_dim = {head_dim}");
        ensure(sound, "rope.rotary_dim", &want, rotary_dim)?;
        self.scaling.validate((rotary_dim / 2) as usize)
    }

    /// Frequencies, radians a token, and what cosines and sines are multiplied by. In f32 and in the order of transformers' operations: a
    /// model has been trained with their roundings, which at position 100 000 are some 4e-3 radians.
    pub(crate) fn frequencies(&self, range: RopeRange) -> Result<(Vec<f32>, f64)> {
        let powers = self.powers()?; // θ^(2i / rotary_dim)
        let plain = || powers.iter().map(|power| 1.0 / power);
        let divided = |factors: &[f64]| {
            let pairs = powers.iter().zip(factors);
            pairs.map(|(power, &factor)| 1.0 / (factor as f32 * power)).collect()
        };
        Ok(match &self.scaling {
            RopeScaling::None => (plain().collect(), 1.0),
            RopeScaling::Linear { factor } => (plain().map(|f| f / *factor as f32).collect(), 1.0),
            RopeScaling::Divided { factors } => (divided(factors), 1.0),
            &RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_seq_len,
            } => {
                let band = [low_freq_factor, high_freq_factor];
                (plain().map(|f| llama3(f, factor, band, original_max_seq_len)).collect(), 1.0)
            }
            RopeScaling::LongRope { short_factors, long_factors, scales, .. } => match range {
                RopeRange::Short => (divided(short_factors), scales[0]),
                RopeRange::Long => (divided(long_factors), scales[1]),
            },
        })
    }

    fn powers(&self) -> Result<Vec<f32>> {
        let f32s = (Kind::Float, Device::Cpu);
        let exponents = Tensor::f_arange_start_step(0, self.rotary_dim, 2, f32s)?;
        let exponents = exponents.f_div_scalar(self.rotary_dim)?;
        Ok(Vec::try_from(Tensor::f_pow_scalar(self.theta, &exponents)?)?)
    }

    /// Which table a text of `len` tokens is read with.
    pub(crate) fn range(&self, len: i64) -> RopeRange {
        match self.scaling {
            RopeScaling::LongRope { original_max_seq_len, .. } if len > original_max_seq_len => {
                RopeRange::Long
            }
            _ => RopeRange::Short,
        }
    }
}

/// The rule of Llama 3.1: wavelengths in the band between the two bounds get a mixture of both frequencies.
fn llama3(frequency: f32, factor: f64, [low, high]: [f64; 2], original: i64) -> f32 {
    let wavelength = TAU as f32 / frequency;
    let original = original as f64;
    let (factor, shortest, longest) =
        (factor as f32, (original / high) as f32, (original / low) as f32);
    if wavelength > longest {
        return frequency / factor;
    }
    if wavelength < shortest {
        return frequency;
    }
    let share = (original as f32 / wavelength - low as f32) / (high - low) as f32;
    (1.0 - share) * frequency / factor + share * frequency
}

impl RopeScaling {
    /// What LongRoPE multiplies cosines and sines by where a model does not say: `√(1 + ln factor / ln original)`, for texts up to
    /// `factor` times as long as those of the first training (LongRoPE's published code).
    pub(crate) fn long_rope_scale(factor: f64, original_max_seq_len: i64) -> f64 {
        match factor <= 1.0 {
            true => 1.0,
            false => (1.0 + factor.ln() / (original_max_seq_len as f64).ln()).sqrt(),
        }
    }

    fn validate(&self, pairs: usize) -> Result<()> {
        let positive = |field: &str, value: f64| {
            ensure(value > 0.0 && value.is_finite(), field, "positive and finite", value)
        };
        let list = |field: &str, factors: &[f64]| {
            let want = format!("{pairs} numbers, one for each pair");
            ensure(factors.len() == pairs, field, &want, factors.len())?;
            factors.iter().try_for_each(|&factor| positive(field, factor))
        };
        match self {
            Self::None => Ok(()),
            Self::Linear { factor } => positive("rope.factor", *factor),
            Self::Divided { factors } => list("rope.factors", factors),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_seq_len } => {
                positive("rope.factor", *factor)?;
                positive("rope.low_freq_factor", *low_freq_factor)?;
                positive("rope.high_freq_factor", *high_freq_factor)?;
                let want = format!("above low_freq_factor = {low_freq_factor}");
                let above = high_freq_factor > low_freq_factor;
                ensure(above, "rope.high_freq_factor", &want, high_freq_factor)?;
                let original = *original_max_seq_len;
                ensure(original > 0, "rope.original_max_seq_len", "positive", original)
            }
            Self::LongRope { short_factors, long_factors, original_max_seq_len, scales } => {
                list("rope.short_factors", short_factors)?;
                list("rope.long_factors", long_factors)?;
                scales.iter().try_for_each(|&scale| positive("rope.scales", scale))?;
                let original = *original_max_seq_len;
                ensure(original > 0, "rope.original_max_seq_len", "positive", original)
            }
        }
    }
}

#[cfg(test)]
mod tests;
