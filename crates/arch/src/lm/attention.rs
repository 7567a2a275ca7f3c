//! Attention of a pretrained model: over whole sequences, over new tokens and a cache, and of one new token of several sequences.

use std::cell::OnceCell;
use std::ops::Range;

use forerun_tensors::kernels::{Decode, Held};
use forerun_tensors::{Error as TensorError, Mask, Result};
use tch::{Device, Kind, Tensor};

use super::cache::LmCache;
use super::pass::Pass;
use super::projection::{Joined, Projection};
use super::rope::RopeTable;
use crate::block_sparse::BlockSparse;

/// Up to so many scores attention is written out in f32: the exponentials of libtorch's fused kernel are good to some 1e-6 only.
const WRITTEN_OUT: i64 = 1 << 24;

/// The attention of a block.
#[derive(Debug)]
pub(crate) struct LmAttention {
    /// Queries, keys, values.
    pub(crate) qkv: Joined,
    pub(crate) out: Projection,
    pub(crate) n_heads: i64,
    pub(crate) n_kv_heads: i64,
    pub(crate) head_dim: i64,
    /// What q·k is multiplied by.
    pub(crate) scale: f64,
    pub(crate) pattern: Pattern,
}

/// Which earlier keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Dense(Mask),
    Sparse(BlockSparse),
}

/// What all layers of a pass share.
pub(crate) struct Context<'a, 'c> {
    pub(crate) pass: Pass,
    /// Of the positions of the new tokens.
    pub(crate) rotation: RopeTable,
    pub(crate) work: Work<'a, 'c>,
}

pub(crate) enum Work<'a, 'c> {
    /// Sequences of equal length from their beginning; `[batch * seq]` rows.
    Whole { batch: i64, sight: Sight },
    /// The next tokens of one sequence.
    Next { cache: &'a mut LmCache, sight: Sight },
    /// The next token of each of several, by the kernel for that.
    One { caches: &'a mut [&'c mut LmCache] },
}

impl LmAttention {
    /// `x` is `[rows, d_model]`, and so is the result.
    pub(crate) fn forward(
        &self,
        layer: usize,
        x: &Tensor,
        context: &mut Context<'_, '_>,
    ) -> Result<Tensor> {
        let pass = context.pass;
        let pieces = self.qkv.run(x, pass)?;
        let Ok([q, k, v]) = <[Tensor; 3]>::try_from(pieces) else {
            return Err(TensorError::Foreign("attention without its three parts".into()));
        };
        let rotation = &context.rotation;
        let mixed = match &mut context.work {
            Work::Whole { batch, sight } => {
                let [q, k, v] = self.turned([&q, &k, &v], *batch, rotation)?;
                self.attend([&q, &k, &v], sight)?
            }
            Work::Next { cache, sight } => {
                let [q, k, v] = self.turned([&q, &k, &v], 1, rotation)?;
                let (k, v) = cache.extend(layer, &k, &v)?;
                self.attend([&q, &k, &v], sight)?
            }
            Work::One { caches } => self.decode(layer, [&q, &k, &v], rotation, caches)?,
        };
        self.out.run(&mixed.f_to_kind(pass.kind)?, pass)
    }

    /// Rotated queries and keys, and values: `[batch, heads, seq, head_dim]`.
    fn turned(
        &self,
        [q, k, v]: [&Tensor; 3],
        batch: i64,
        rotation: &RopeTable,
    ) -> Result<[Tensor; 3]> {
        let heads =
            |x: &Tensor, n: i64| x.f_unflatten(-1, [n, self.head_dim])?.f_unflatten(0, [batch, -1]);
        let q = rotation.turn(&heads(q, self.n_heads)?)?;
        let k = rotation.turn(&heads(k, self.n_kv_heads)?)?;
        let v = heads(v, self.n_kv_heads)?;
        Ok([q.f_transpose(1, 2)?, k.f_transpose(1, 2)?, v.f_transpose(1, 2)?])
    }

    /// The mixture of values, `[batch * queries, heads * head_dim]`.
    fn attend(&self, [q, k, v]: [&Tensor; 3], sight: &Sight) -> Result<Tensor> {
        let group = self.n_heads / self.n_kv_heads;
        let kind = q.kind();
        let repeated = |x: &Tensor| -> Result<Tensor> {
            let x = x.f_to_kind(kind)?;
            Ok(if group == 1 { x } else { x.f_repeat_interleave_self_int(group, 1, None)? })
        };
        let (k, v) = (repeated(k)?, repeated(v)?);
        let seen = sight.of(&self.pattern, self.n_heads)?;
        let (batch, heads, queries, _) = q.size4()?;
        let n_scores = batch * heads * queries * k.size4()?.2;
        let mixed = if kind == Kind::Float && n_scores <= WRITTEN_OUT {
            self.written_out([q, &k, &v], seen.hidden(sight)?)?
        } else {
            self.fused([q, &k, &v], seen)?
        };
        Ok(mixed.f_transpose(1, 2)?.f_flatten(2, 3)?.f_flatten(0, 1)?)
    }

    fn written_out(&self, [q, k, v]: [&Tensor; 3], hidden: Option<Tensor>) -> Result<Tensor> {
        let mut scores = q.f_matmul(&k.f_transpose(-1, -2)?)?.f_mul_scalar(self.scale)?;
        if let Some(hidden) = hidden {
            scores = scores.f_masked_fill(&hidden, f64::NEG_INFINITY)?;
        }
        Ok(scores.f_softmax(-1, Kind::Float)?.f_matmul(v)?)
    }

    fn fused(&self, [q, k, v]: [&Tensor; 3], seen: &Seen) -> Result<Tensor> {
        let (mask, triangle) = match seen {
            Seen::All => (None, false),
            Seen::Triangle => (None, true),
            Seen::Some(mask) => (Some(mask), false),
        };
        Ok(Tensor::f_scaled_dot_product_attention(q, k, v, mask, 0.0, triangle, self.scale, false)?)
    }

    fn decode(
        &self,
        layer: usize,
        [q, k, v]: [&Tensor; 3],
        rotation: &RopeTable,
        caches: &[&mut LmCache],
    ) -> Result<Tensor> {
        let wide = |x: &Tensor| x.f_to_kind(Kind::Float);
        let (q, k, v) = (wide(q)?, wide(k)?, wide(v)?);
        let held =
            caches.iter().map(|cache| cache.held(layer)).collect::<Result<Vec<Held<'_>>>>()?;
        let decode = Decode {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            scale: self.scale,
            cos: &rotation.cos,
            sin: &rotation.sin,
        };
        decode.forward([&q, &k, &v], &held)
    }
}

/// Which keys the queries of a pass see, worked out once for each pattern.
#[derive(Debug)]
pub(crate) struct Sight {
    queries: Range<i64>,
    keys: Range<i64>,
    device: Device,
    /// Tokens that fill up each sequence from the left, `[batch]`.
    padding: Option<Tensor>,
    dense: OnceCell<Seen>,
    sparse: OnceCell<Seen>,
    /// What a triangle hides.
    above: OnceCell<Tensor>,
}

/// What of the keys is seen.
#[derive(Debug)]
pub(crate) enum Seen {
    All,
    /// Query i sees keys 0 ..= i.
    Triangle,
    /// Bool, true where visible, `[queries, keys]`, `[heads, queries, keys]` or `[batch, 1, queries, keys]`.
    Some(Tensor),
}

impl Seen {
    /// Bool, true where hidden; none if nothing is.
    fn hidden(&self, sight: &Sight) -> Result<Option<Tensor>> {
        match self {
            Self::All => Ok(None),
            Self::Some(mask) => Ok(Some(mask.f_logical_not()?)),
            Self::Triangle => {
                if sight.above.get().is_none() {
                    let Sight { queries, keys, device, .. } = sight;
                    let seen = Mask::Causal.allowed(queries.clone(), keys.clone(), *device)?;
                    let _ = sight.above.set(seen.f_logical_not()?);
                }
                Ok(sight.above.get().map(Tensor::shallow_clone))
            }
        }
    }
}

impl Sight {
    /// For queries and keys at these positions.
    pub(crate) fn new(queries: Range<i64>, keys: Range<i64>, device: Device) -> Self {
        let (dense, sparse, above) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { queries, keys, device, padding: None, dense, sparse, above }
    }

    /// For whole sequences of `seq` tokens, of which the first `padding`, i64 `[batch]`, are seen by nobody but themselves.
    pub(crate) fn padded(seq: i64, padding: Tensor) -> Self {
        let device = padding.device();
        Self { padding: Some(padding), ..Self::new(0..seq, 0..seq, device) }
    }

    fn of(&self, pattern: &Pattern, n_heads: i64) -> Result<&Seen> {
        let (cell, seen) = match pattern {
            Pattern::Dense(mask) if self.dense.get().is_none() => (&self.dense, self.dense(*mask)?),
            Pattern::Sparse(sparse) if self.sparse.get().is_none() => {
                let (queries, keys) = (self.queries.clone(), self.keys.clone());
                let allowed = sparse.allowed(n_heads, queries, keys, self.device)?;
                (&self.sparse, Seen::Some(allowed))
            }
            Pattern::Dense(_) => (&self.dense, Seen::All),
            Pattern::Sparse(_) => (&self.sparse, Seen::All),
        };
        Ok(cell.get_or_init(|| seen))
    }

    fn dense(&self, mask: Mask) -> Result<Seen> {
        let Self { queries, keys, .. } = self;
        if let Some(padding) = &self.padding {
            return self.beside_padding(mask, padding);
        }
        let nothing_hidden = mask.first_key(queries.end - 1) <= keys.start;
        if nothing_hidden && queries.end - queries.start == 1 {
            return Ok(Seen::All);
        }
        if nothing_hidden && queries == keys {
            return Ok(Seen::Triangle);
        }
        Ok(Seen::Some(mask.allowed(queries.clone(), keys.clone(), self.device)?))
    }

    fn beside_padding(&self, mask: Mask, padding: &Tensor) -> Result<Seen> {
        let allowed = mask.allowed(self.queries.clone(), self.keys.clone(), self.device)?;
        let i64s = (Kind::Int64, self.device);
        let key = Tensor::f_arange_start(self.keys.start, self.keys.end, i64s)?;
        let real = key.f_ge_tensor(&padding.f_view([-1, 1, 1, 1])?)?; // [batch, 1, 1, keys]
        // A row that sees nothing would not be a number.
        let own = Tensor::f_eye(key.size1()?, (Kind::Bool, self.device))?;
        Ok(Seen::Some(allowed.f_logical_and(&real)?.f_logical_or(&own)?))
    }
}

/// The format in which a cache holds what a model of kind `weights` computes.
pub(crate) fn cache_kind(weights: Kind, device: Device) -> Kind {
    match weights {
        Kind::Half if device == Device::Cpu => Kind::Float,
        other => other,
    }
}
