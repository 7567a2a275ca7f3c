//! The parameters of a block, and what goes with each: its gradient, its copy for a product.

use forerun_tensors::kernels::{NormParams, NormSums, NormType};
use forerun_tensors::{Error, Result};
use tch::{Kind, Tensor};

use crate::block::Block;
use crate::config::NormKind;
use crate::linear::Linear;
use crate::norm::Norm;

/// Something for each parameter of a block.
#[derive(Debug)]
pub(super) struct Parts<T> {
    pub(super) q: Pair<T>,
    pub(super) k: Pair<T>,
    pub(super) v: Pair<T>,
    pub(super) out: Pair<T>,
    pub(super) inner_norm: Option<Pair<T>>,
    pub(super) attention_norm: Pair<T>,
    pub(super) fc1: Pair<T>,
    pub(super) gate: Option<Pair<T>>,
    pub(super) fc2: Pair<T>,
    pub(super) middle_norm: Option<Pair<T>>,
    pub(super) mlp_norm: Pair<T>,
}

/// A weight and its bias.
#[derive(Debug)]
pub(super) struct Pair<T> {
    pub(super) weight: T,
    pub(super) bias: Option<T>,
}

impl<'a> Parts<&'a Tensor> {
    pub(super) fn of(block: &'a Block) -> Self {
        let linear = |linear: &'a Linear| Pair::new(&linear.weight, linear.bias.as_ref());
        let norm = |norm: &'a Norm| Pair::new(&norm.weight, norm.bias.as_ref());
        let (attention, mlp) = (&block.attention, &block.mlp);
        Self {
            q: linear(&attention.q_proj),
            k: linear(&attention.k_proj),
            v: linear(&attention.v_proj),
            out: linear(&attention.out_proj),
            inner_norm: attention.inner_norm.as_ref().map(norm),
            attention_norm: norm(&block.attention_norm),
            fc1: linear(&mlp.fc1),
            gate: mlp.gate.as_ref().map(linear),
            fc2: linear(&mlp.fc2),
            middle_norm: mlp.norm.as_ref().map(norm),
            mlp_norm: norm(&block.mlp_norm),
        }
    }
}

impl<'a> Parts<&'a Tensor> {
    /// In one order, always the same.
    pub(super) fn list(&self) -> Vec<&'a Tensor> {
        self.pairs().into_iter().flat_map(|pair| pair.both()).copied().collect()
    }
}

impl Parts<Tensor> {
    /// As that of the parameters.
    pub(super) fn list(&self) -> Vec<&Tensor> {
        self.pairs().into_iter().flat_map(Pair::both).collect()
    }

    /// Those of one member of a stack.
    pub(super) fn member(&self, index: i64) -> Result<Self> {
        self.map(|part| Ok(part.f_get(index)?))
    }

    /// Gradients to be: zeros where sums over rows are added, nothing in particular where products write.
    pub(super) fn gradients(&self) -> Result<Self> {
        self.map(|part| match part.dim() {
            3 => Ok(part.f_empty_like()?),
            _ => Ok(part.f_zeros_like()?),
        })
    }
}

impl<T> Parts<T> {
    pub(super) fn map<U>(&self, mut f: impl FnMut(&T) -> Result<U>) -> Result<Parts<U>> {
        let mut pair = |pair: &Pair<T>| pair.map(&mut f);
        Ok(Parts {
            q: pair(&self.q)?,
            k: pair(&self.k)?,
            v: pair(&self.v)?,
            out: pair(&self.out)?,
            inner_norm: self.inner_norm.as_ref().map(&mut pair).transpose()?,
            attention_norm: pair(&self.attention_norm)?,
            fc1: pair(&self.fc1)?,
            gate: self.gate.as_ref().map(&mut pair).transpose()?,
            fc2: pair(&self.fc2)?,
            middle_norm: self.middle_norm.as_ref().map(&mut pair).transpose()?,
            mlp_norm: pair(&self.mlp_norm)?,
        })
    }

    fn pairs(&self) -> Vec<&Pair<T>> {
        let Self { q, k, v, out, attention_norm, fc1, fc2, mlp_norm, .. } = self;
        let sure = [q, k, v, out, attention_norm, fc1, fc2, mlp_norm];
        sure.into_iter()
            .chain(&self.inner_norm)
            .chain(&self.gate)
            .chain(&self.middle_norm)
            .collect()
    }
}

impl<T> Pair<T> {
    fn new(weight: T, bias: Option<T>) -> Self {
        Self { weight, bias }
    }

    fn both(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    fn map<U>(&self, mut f: impl FnMut(&T) -> Result<U>) -> Result<Pair<U>> {
        let weight = f(&self.weight)?;
        Ok(Pair { weight, bias: self.bias.as_ref().map(f).transpose()? })
    }
}

impl Pair<Tensor> {
    /// As the parameters of a norm.
    pub(super) fn norm(&self, kind: NormKind, eps: f64) -> NormParams<'_> {
        let kind = match kind {
            NormKind::LayerNorm => NormType::Layer,
            NormKind::RmsNorm => NormType::Rms,
        };
        NormParams { kind, weight: &self.weight, bias: self.bias.as_ref(), eps }
    }

    /// As where the gradients of a norm's parameters are added.
    pub(super) fn sums(&self) -> NormSums<'_> {
        NormSums { d_weight: &self.weight, d_bias: self.bias.as_ref() }
    }
}

/// The matrices of one member, in the format of the products; those that `x` meets together are joined.
#[derive(Debug)]
pub(super) struct Matrices {
    /// `[(n_heads + 2 * n_kv_heads) * head_dim, d_model]`.
    pub(super) qkv: Tensor,
    /// f32.
    pub(super) qkv_bias: Option<Tensor>,
    pub(super) out: Tensor,
    pub(super) fc1: Tensor,
    pub(super) gate: Option<Tensor>,
    pub(super) fc2: Tensor,
}

impl Matrices {
    pub(super) fn new(parts: &Parts<Tensor>, kind: Kind) -> Result<Self> {
        let Parts { q, k, v, .. } = parts;
        let join = |parts: [&Tensor; 3]| Tensor::f_cat(&parts, 0);
        let biases = match (&q.bias, &k.bias, &v.bias) {
            (Some(q), Some(k), Some(v)) => Some(join([q, k, v])?),
            (None, None, None) => None,
            _ => return Err(Error::Foreign("biases of some projections only".to_owned())),
        };
        let cast = |pair: &Pair<Tensor>| pair.weight.f_to_kind(kind);
        Ok(Self {
            qkv: join([&q.weight, &k.weight, &v.weight])?.f_to_kind(kind)?,
            qkv_bias: biases,
            out: cast(&parts.out)?,
            fc1: cast(&parts.fc1)?,
            gate: parts.gate.as_ref().map(cast).transpose()?,
            fc2: cast(&parts.fc2)?,
        })
    }
}

/// `out = a · weightᵀ`.
pub(super) fn product(out: &Tensor, a: &Tensor, weight: &Tensor) -> Result<()> {
    let _ = a.f_mm_out(out, &weight.f_transpose(0, 1)?)?;
    Ok(())
}

/// `out = d · weight`: from the gradient of a product to that of its rows.
pub(super) fn product_back(out: &Tensor, d: &Tensor, weight: &Tensor) -> Result<()> {
    let _ = d.f_mm_out(out, weight)?;
    Ok(())
}

/// The same for the weight, f32: sets `sum` the `first` time, and adds to it from then on.
pub(super) fn product_sum(sum: &Tensor, d: &Tensor, a: &Tensor, first: bool) -> Result<()> {
    let d = d.f_transpose(0, 1)?;
    let mut sum = sum.shallow_clone();
    match (a.kind() == sum.kind(), first) {
        (true, true) => {
            let _ = d.f_mm_out(&sum, a)?;
        }
        (true, false) => {
            let _ = sum.f_addmm_(&d, a)?;
        }
        (false, true) => sum.f_copy_(&d.f_mm(a)?)?,
        (false, false) => {
            let _ = sum.f_add_(&d.f_mm(a)?)?;
        }
    }
    Ok(())
}
