//! Low-rank adapters: a linear map is tuned by adding a product of two small matrices to it.
//!
//! Hu et al. 2021, *LoRA: low-rank adaptation of large language models*, arXiv:2106.09685, eq. 3:
//! `W x + (alpha / rank) B A x`, with A drawn and B zero, so that a fresh adapter changes nothing. As in PEFT
//! (<https://github.com/huggingface/peft>), whose file layout [`save_adapters`] writes and [`load_adapters`] reads, A is drawn from Kaiming's
//! uniform distribution with slope √5, which is U(-1/√in, 1/√in); the paper says a Gaussian.

mod files;

use forerun_tensors::{Result, ensure, init};
use rand::Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub use files::{SavedAdapters, load_adapters, parameter_name, save_adapters};

/// Hyperparameters of adapters; [`Default`] has PEFT's numbers, on all linear maps of the blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rows of A and columns of B.
    pub rank: i64,
    /// What the product is multiplied by, times the rank (or its root).
    pub alpha: f64,
    /// Share of the inputs of A that is dropped in training.
    pub dropout: f64,
    /// Which linear maps are adapted.
    pub targets: Targets,
    /// Whether alpha is divided by the root of the rank instead of the rank (Kalajdzievski 2023, arXiv:2312.03732).
    pub rank_stabilised: bool,
}

/// Which linear maps are adapted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Targets {
    /// All of the blocks; not the head.
    AllLinear,
    /// Those whose name ends in one of these: `q_proj`, or `layers.0.self_attn.q_proj`.
    Named(Vec<String>),
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 8.0,
            dropout: 0.0,
            targets: Targets::AllLinear,
            rank_stabilised: false,
        }
    }
}

impl LoraConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] names the first that is out of range.
    pub fn validate(&self) -> Result<()> {
        ensure(self.rank > 0, "rank", "positive", self.rank)?;
        ensure(
            self.alpha > 0.0 && self.alpha.is_finite(),
            "alpha",
            "positive and finite",
            self.alpha,
        )?;
        ensure((0.0..1.0).contains(&self.dropout), "dropout", "at least 0, below 1", self.dropout)?;
        if let Targets::Named(names) = &self.targets {
            ensure(!names.is_empty(), "targets", "at least one name", "none")?;
            ensure(!names.iter().any(String::is_empty), "targets", "names", "an empty one")?;
        }
        Ok(())
    }

    /// What the product of the matrices is multiplied by.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }

    /// Which of `modules` are adapted.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] if a name in `targets` is that of none.
    pub fn choose<'a>(&self, modules: &[&'a str]) -> Result<Vec<&'a str>> {
        let Targets::Named(names) = &self.targets else { return Ok(modules.to_vec()) };
        let is = |module: &str, name: &str| {
            module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        for name in names {
            let found = modules.iter().any(|module| is(module, name));
            ensure(found, "targets", "names of linear maps of the model", format!("`{name}`"))?;
        }
        let chosen = |module: &&&str| names.iter().any(|name| is(module, name));
        Ok(modules.iter().filter(chosen).copied().collect())
    }
}

/// What is added to one linear map.
#[derive(Debug)]
pub struct Adapter {
    /// f32 `[rank, in]`, trainable.
    a: Tensor,
    /// f32 `[out, rank]`, trainable.
    b: Tensor,
    scale: f64,
    dropout: f64,
    /// Whether dropout acts.
    training: bool,
    /// The weights of the map before this was added to them.
    before: Option<Tensor>,
}

impl Adapter {
    /// A fresh adapter for a map of `size` = `[out, in]`, which changes nothing yet.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] as [`LoraConfig::validate`].
    pub fn new(
        config: &LoraConfig,
        size: [i64; 2],
        rng: &mut impl Rng,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        let [out, columns] = size;
        let bound = 1.0 / (columns as f64).sqrt();
        let a = init::uniform(&[config.rank, columns], bound, rng, device)?;
        let b = Tensor::f_zeros([out, config.rank], (Kind::Float, device))?;
        Self::from_tensors(config, a, b)
    }

    /// An adapter of the given matrices, `[rank, in]` and `[out, rank]`.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] if they are not of the rank, as [`LoraConfig::validate`] otherwise.
    pub fn from_tensors(config: &LoraConfig, a: Tensor, b: Tensor) -> Result<Self> {
        config.validate()?;
        let rank = config.rank;
        ensure(a.dim() == 2 && a.size()[0] == rank, "a", &format!("[{rank}, in]"), size(&a))?;
        ensure(b.dim() == 2 && b.size()[1] == rank, "b", &format!("[out, {rank}]"), size(&b))?;
        let leaf = |x: Tensor| -> Result<Tensor> {
            Ok(x.f_detach_copy()?.f_to_kind(Kind::Float)?.f_set_requires_grad(true)?)
        };
        let (scale, dropout) = (config.scale(), config.dropout);
        let training = false;
        Ok(Self { a: leaf(a)?, b: leaf(b)?, scale, dropout, training, before: None })
    }

    /// A, `[rank, in]`.
    pub fn a(&self) -> &Tensor {
        &self.a
    }

    /// B, `[out, rank]`.
    pub fn b(&self) -> &Tensor {
        &self.b
    }

    /// `[out, in]` of the map that it is for.
    pub fn size(&self) -> [i64; 2] {
        let size = |x: &Tensor, i: usize| x.size().get(i).copied().unwrap_or(0);
        [size(&self.b, 0), size(&self.a, 1)]
    }

    /// Whether dropout acts, which draws from libtorch's generator; it does not until this is called.
    pub fn set_training(&mut self, on: bool) {
        self.training = on;
    }

    /// `base` plus what this adds for the inputs `x`, `[.., in]`; `base` itself while it is merged.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Tch`] if the shapes do not fit.
    pub fn add(&self, base: Tensor, x: &Tensor) -> Result<Tensor> {
        if self.before.is_some() {
            return Ok(base);
        }
        let mut x = x.f_to_kind(Kind::Float)?;
        if self.training && self.dropout > 0.0 {
            x = x.f_dropout(self.dropout, true)?;
        }
        let low = x.f_linear(&self.a, None::<&Tensor>)?; // [.., rank]
        let change = low.f_linear(&self.b, None::<&Tensor>)?.f_mul_scalar(self.scale)?;
        let kind = base.f_kind()?;
        Ok(base.f_add(&change.f_to_kind(kind)?)?)
    }

    /// Whether it is part of the weights.
    pub fn is_merged(&self) -> bool {
        self.before.is_some()
    }

    /// Adds it to `weight`, `[out, in]`, unless it is part of it; the sum is rounded once.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Tch`] if the shapes do not fit, or memory is short.
    pub fn merge(&mut self, weight: &mut Tensor) -> Result<()> {
        if self.is_merged() {
            return Ok(());
        }
        let _no_grad = tch::no_grad_guard();
        let change = self.b.f_matmul(&self.a)?.f_mul_scalar(self.scale)?;
        let sum = weight.f_to_kind(Kind::Float)?.f_add(&change)?.f_to_kind(weight.f_kind()?)?;
        self.before = Some(std::mem::replace(weight, sum));
        Ok(())
    }

    /// Puts back what `weight` was before [`Self::merge`], bit for bit.
    pub fn unmerge(&mut self, weight: &mut Tensor) {
        if let Some(before) = self.before.take() {
            *weight = before;
        }
    }
}

fn size(x: &Tensor) -> String {
    format!("{:?}", x.size())
}

#[cfg(test)]
mod tests;
