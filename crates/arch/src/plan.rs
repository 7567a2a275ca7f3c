//! How attention is evaluated: one [`Plan`] a forward pass, shared by all layers.
//!
//! The fast paths are libtorch's fused attention with its causal flag where every earlier key is visible, and
//! blocks where a mask with a window makes most scores invisible: blockwise causal attention (LeX,
//! section 3.3) and sliding windows see at most two blocks of keys from one block of queries, so that a
//! sequence costs O(seq · 2 · block) instead of O(seq²). There the rotation is measured from the start of the
//! two blocks, which changes no score and is exact at any length.

use std::cell::OnceCell;
use std::ops::Range;

use forerun_tensors::{Autocast, Error, Mask, Result};
use tch::{Device, Kind, Tensor};

use crate::alibi;
use crate::causal::{Causal, Relations};
use crate::rotary::{Rotary, Rotation};

/// What a score knows about relative positions.
#[derive(Debug)]
pub(crate) enum Relative {
    None,
    Rotary(Rotary),
    /// Slopes, f64 `[heads]`.
    Alibi(Tensor),
}

/// How one forward pass evaluates attention.
#[derive(Debug)]
pub(crate) struct Plan {
    rotation: Option<Rotation>,
    /// Bool `[queries, keys]`, true where visible, or f32 `[1, heads, queries, keys]` to be added.
    bias: Option<Tensor>,
    shape: Shape,
    /// Where each query sees exactly the keys up to its own, from position 0 on.
    causal: Option<Causal>,
    /// The bias of ALiBi under that mask, not there before it is used.
    penalty: OnceCell<Tensor>,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// All queries with all keys, under `bias`.
    Whole,
    /// Query i sees keys 0 ..= i.
    Triangle,
    /// Blocks of this many queries, each with its own and the previous block of keys, under `bias`.
    Blocks(i64),
}

/// Attention over `q`, `k` and `v`, each `[batch, heads, seq, head_dim]` from position 0 on, where `k` and
/// `v` may have fewer heads, a divisor of `q`'s. Scores are `scale`·q·k after `rotary`, if any.
///
/// # Errors
/// [`Error::Shape`] if the three do not fit together.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    rotary: Option<Rotary>,
    mask: Mask,
    scale: f64,
) -> Result<Tensor> {
    let (batch, n_heads, seq, head_dim) = q.size4()?;
    let n_kv_heads = k.size4()?.1;
    let fits = k.size() == [batch, n_kv_heads, seq, head_dim] && n_heads % n_kv_heads.max(1) == 0;
    if !fits || v.size4()? != k.size4()? {
        let want = format!("k and v alike, [{batch}, a divisor of {n_heads}, {seq}, {head_dim}]");
        return Err(Error::Shape { arg: "k", want, got: k.size() });
    }
    let relative = rotary.map_or(Relative::None, Relative::Rotary);
    Plan::new(&relative, Some(mask), 0..seq, 0..seq, q.device())?.attend(q, k, v, scale, 0.0)
}

impl Plan {
    /// For queries and keys at these absolute positions; without a mask every query sees every key.
    pub(crate) fn new(
        relative: &Relative,
        mask: Option<Mask>,
        queries: Range<i64>,
        keys: Range<i64>,
        device: Device,
    ) -> Result<Self> {
        let Some(mask) = mask else {
            return Self::whole(relative, Shape::Whole, None, queries, keys, device);
        };
        let last_sees_all = mask.first_key(queries.end - 1) <= keys.start;
        if last_sees_all && queries == keys && queries.start == 0 {
            return Self::causal_of(relative, queries.end, device);
        }
        if last_sees_all && keys.end <= queries.start + 1 {
            return Self::whole(relative, Shape::Whole, None, queries, keys, device);
        }
        if last_sees_all && queries == keys && !matches!(relative, Relative::Alibi(_)) {
            return Self::whole(relative, Shape::Triangle, None, queries, keys, device);
        }
        if let Some(block) = block_size(mask)
            && queries == keys
            && !last_sees_all
            && queries.start % block == 0
        {
            return Self::blocks(relative, mask, block, device);
        }
        let allowed = mask.allowed(queries.clone(), keys.clone(), device)?;
        Self::whole(relative, Shape::Whole, Some(allowed), queries, keys, device)
    }

    fn causal_of(relative: &Relative, len: i64, device: Device) -> Result<Self> {
        let (relative, slopes) = match relative {
            Relative::Alibi(slopes) => (&Relative::None, Some(slopes)),
            other => (other, None),
        };
        let plan = Self::whole(relative, Shape::Triangle, None, 0..len, 0..len, device)?;
        Ok(Self { causal: Some(Causal::new(len, slopes)), ..plan })
    }

    fn whole(
        relative: &Relative,
        shape: Shape,
        allowed: Option<Tensor>,
        queries: Range<i64>,
        keys: Range<i64>,
        device: Device,
    ) -> Result<Self> {
        let first = keys.start;
        let relative_queries = queries.start - first..queries.end - first;
        let rotation = match relative {
            Relative::Rotary(rotary) => {
                let len = (queries.end - first).max(keys.end - first);
                Some(rotary.rotation(len)?.narrow(relative_queries, 0..keys.end - first)?)
            }
            _ => None,
        };
        let bias = bias(relative, allowed, queries, keys, device)?;
        Ok(Self { rotation, bias, shape, causal: None, penalty: OnceCell::new() })
    }

    fn blocks(relative: &Relative, mask: Mask, block: i64, device: Device) -> Result<Self> {
        // The second of two blocks of queries, with the keys of both: every later one looks alike.
        let (queries, keys) = (block..2 * block, 0..2 * block);
        let allowed = mask.allowed(queries.clone(), keys.clone(), device)?;
        Self::whole(relative, Shape::Blocks(block), Some(allowed), queries, keys, device)
    }

    /// `q` is `[batch, heads, queries, head_dim]`; `k` and `v` are `[batch, kv_heads, keys, head_dim]`;
    /// none is rotated yet. The result has the shape of `q`.
    pub(crate) fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        scale: f64,
        dropout: f64,
    ) -> Result<Tensor> {
        match self.shape {
            Shape::Blocks(block) => self.attend_blocks(q, k, v, block, scale, dropout),
            Shape::Whole | Shape::Triangle => {
                let bias = self.bias()?;
                let is_causal = matches!(self.shape, Shape::Triangle) && bias.is_none();
                let (q, k) = self.rotate(q, k)?;
                fused(&q, &k, v, bias, is_causal, scale, dropout)
            }
        }
    }

    /// Scores before the softmax, f32 `[batch, heads, queries, keys]`, written out.
    pub(crate) fn scores(&self, q: &Tensor, k: &Tensor, scale: f64) -> Result<Tensor> {
        let (q, k) = self.rotate(q, k)?;
        let (q, k) = (q.f_to_kind(Kind::Float)?, repeat_heads(&k.f_to_kind(Kind::Float)?, &q)?);
        let scores = q.f_matmul(&k.f_transpose(-1, -2)?)?.f_mul_scalar(scale)?;
        match self.bias()? {
            Some(bias) => Ok(scores.f_add(bias)?),
            None => Ok(scores),
        }
    }

    /// Where each query sees exactly the keys up to its own, from position 0 on: what the scores know of positions.
    pub(crate) fn causal(&self) -> Result<Option<Relations>> {
        let rotation = self.rotation.as_ref();
        self.causal.as_ref().map(|causal| causal.relations(rotation)).transpose()
    }

    fn bias(&self) -> Result<Option<&Tensor>> {
        let Some(causal) = &self.causal else { return Ok(self.bias.as_ref()) };
        if let Some(penalty) = self.penalty.get() {
            return Ok(Some(penalty));
        }
        let Some(penalty) = causal.bias()? else { return Ok(None) };
        Ok(Some(self.penalty.get_or_init(|| penalty)))
    }

    fn rotate(&self, q: &Tensor, k: &Tensor) -> Result<(Tensor, Tensor)> {
        match &self.rotation {
            Some(rotation) => rotation.apply(q, k),
            None => Ok((q.shallow_clone(), k.shallow_clone())),
        }
    }

    fn attend_blocks(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        block: i64,
        scale: f64,
        dropout: f64,
    ) -> Result<Tensor> {
        let (batch, _, seq, _) = q.size4()?;
        let n_blocks = (seq + block - 1) / block;
        let padding = n_blocks * block - seq;
        let pad = |x: &Tensor| {
            if padding == 0 {
                return Ok(x.shallow_clone());
            }
            x.f_constant_pad_nd([0, 0, 0, padding])
        };
        let (q, k, v) = (pad(q)?, pad(k)?, pad(v)?);

        let rest = q.f_narrow(2, block, (n_blocks - 1) * block)?;
        let (rest, keys) =
            self.rotate(&windows(&rest, block, block)?, &windows(&k, 2 * block, block)?)?;
        let values = windows(&v, 2 * block, block)?;
        let bias = self.bias.as_ref();
        let rest = fused(&rest, &keys, &values, bias, false, scale, dropout)?;
        let rest = rest.f_transpose(1, 2)?; // [batch * (blocks - 1), block, heads, head_dim]
        let rest = rest.f_unflatten(0, [batch, n_blocks - 1])?.f_flatten(1, 2)?;

        let first =
            self.attend_first_block(&q, &k, &v, block, scale, dropout)?.f_transpose(1, 2)?;
        let all = Tensor::f_cat(&[first, rest], 1)?; // [batch, blocks * block, heads, head_dim]
        Ok(all.f_narrow(1, 0, seq)?.f_transpose(1, 2)?)
    }

    /// The first block has no previous one: its queries sit where the second block's own keys do.
    fn attend_first_block(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        block: i64,
        scale: f64,
        dropout: f64,
    ) -> Result<Tensor> {
        let head = |x: &Tensor| x.f_narrow(2, 0, block);
        let (q, k, v) = (head(q)?, head(k)?, head(v)?);
        let own = block..2 * block;
        let rotation = self.rotation.as_ref();
        let rotation = rotation.map(|both| both.narrow(0..block, own)).transpose()?;
        let (q, k) = match &rotation {
            Some(rotation) => rotation.apply(&q, &k)?,
            None => (q, k),
        };
        let bias = self.bias.as_ref().map(|bias| bias.f_narrow(-1, block, block)).transpose()?;
        fused(&q, &k, &v, bias.as_ref(), false, scale, dropout)
    }

    /// The same plan, for a closure that must own what it captures.
    pub(crate) fn share(&self) -> Self {
        Self {
            rotation: self.rotation.as_ref().map(Rotation::share),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
            shape: self.shape,
            causal: self.causal.as_ref().map(Causal::share),
            penalty: self
                .penalty
                .get()
                .map(Tensor::shallow_clone)
                .map_or_else(OnceCell::new, OnceCell::from),
        }
    }
}

/// The block of queries that sees no key before its previous block.
fn block_size(mask: Mask) -> Option<i64> {
    match mask {
        Mask::BlockwiseCausal { block_size } => Some(block_size),
        Mask::SlidingWindow { window } => Some(window),
        _ => None,
    }
}

fn bias(
    relative: &Relative,
    allowed: Option<Tensor>,
    queries: Range<i64>,
    keys: Range<i64>,
    device: Device,
) -> Result<Option<Tensor>> {
    let Relative::Alibi(slopes) = relative else { return Ok(allowed) };
    let penalty = alibi::bias(slopes, queries, keys, device)?;
    let Some(allowed) = allowed else { return Ok(Some(penalty)) };
    Ok(Some(penalty.f_masked_fill(&allowed.f_logical_not()?, f64::NEG_INFINITY)?))
}

/// Every window of `size` rows, `step` apart: `[batch, heads, seq, head_dim]` to
/// `[batch * windows, heads, size, head_dim]`.
fn windows(x: &Tensor, size: i64, step: i64) -> Result<Tensor> {
    let windows = x.f_transpose(1, 2)?.f_unfold(1, size, step)?; // [batch, windows, heads, head_dim, size]
    Ok(windows.f_transpose(-1, -2)?.f_flatten(0, 1)?)
}

/// Key or value heads repeated, so that there are as many as query heads.
fn repeat_heads(x: &Tensor, q: &Tensor) -> Result<Tensor> {
    let group = q.size4()?.1 / x.size4()?.1;
    if group == 1 {
        return Ok(x.shallow_clone());
    }
    Ok(x.f_repeat_interleave_self_int(group, 1, None)?)
}

/// libtorch's fused attention.
fn fused(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    is_causal: bool,
    scale: f64,
    dropout: f64,
) -> Result<Tensor> {
    let (k, v) =
        (repeat_heads(k, q)?.f_to_kind(q.kind())?, repeat_heads(v, q)?.f_to_kind(q.kind())?);
    // Autocast would round an f32 bias to bf16, in which far positions run together.
    let adds = bias.is_some_and(|bias| bias.kind() == Kind::Float);
    let _exact = adds.then(|| Autocast::disable(q.device())).transpose()?;
    Ok(Tensor::f_scaled_dot_product_attention(q, &k, &v, bias, dropout, is_causal, scale, false)?)
}

#[cfg(test)]
mod tests;
