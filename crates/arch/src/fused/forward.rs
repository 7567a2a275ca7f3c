//! The forward pass, which keeps what the backward pass needs.

use std::ops::Range;

use forerun_tensors::Result;
use forerun_tensors::kernels::{activation_into, add_norm_into, bias_residual, norm_into};
use tch::{Kind, Tensor};

use super::parts::{Matrices, Parts, product};
use super::spec::Spec;
use super::{empty, rows};

/// What is kept, a row a token; products in the format of the pass, the rest in f32.
#[derive(Debug)]
pub(super) struct Kept {
    /// The block's input.
    pub(super) x: Tensor,
    /// Queries, keys and values before bias and rotation.
    pub(super) qkv: Tensor,
    /// Of attention, without any norm.
    pub(super) mixed: Tensor,
    /// Of attention: the logarithms of the softmax's sums, `[batch * heads, seq]`.
    pub(super) lse: Tensor,
    /// Residual stream plus attention, before any norm.
    pub(super) middle: Tensor,
    /// Residual stream plus MLP, if a norm follows.
    pub(super) last: Option<Tensor>,
    /// What the MLP's first matrices gave, before their biases.
    pub(super) u: Tensor,
    pub(super) gate: Option<Tensor>,
    pub(super) attention_stats: Tensor,
    pub(super) inner_stats: Option<Tensor>,
    pub(super) mlp_stats: Tensor,
    pub(super) middle_stats: Option<Tensor>,
}

impl Kept {
    fn new(spec: &Spec, parts: &Parts<Tensor>, x: &Tensor) -> Result<Self> {
        let (n, d_model, kind) = (spec.rows(), spec.d_model(), spec.kind);
        let stats = || empty(n, 2, Kind::Float);
        let last = (!spec.norms_first()).then(|| empty(n, d_model, Kind::Float));
        Ok(Self {
            x: x.f_contiguous()?.f_view([n, d_model])?,
            qkv: empty(n, spec.qkv_width(), kind)?,
            mixed: empty(n, d_model, kind)?,
            lse: empty(spec.batch * spec.n_heads, spec.seq, Kind::Float)?,
            middle: empty(n, d_model, Kind::Float)?,
            last: last.transpose()?,
            u: empty(n, spec.d_ff, kind)?,
            gate: parts.gate.as_ref().map(|_| empty(n, spec.d_ff, kind)).transpose()?,
            attention_stats: stats()?,
            inner_stats: parts.inner_norm.as_ref().map(|_| stats()).transpose()?,
            mlp_stats: stats()?,
            middle_stats: parts.middle_norm.as_ref().map(|_| stats()).transpose()?,
        })
    }

    /// Views of some rows.
    pub(super) fn at(&self, spec: &Spec, at: &Range<i64>) -> Result<Self> {
        let own = |x: &Tensor| rows(x, at);
        let own_if = |x: &Option<Tensor>| x.as_ref().map(own).transpose();
        Ok(Self {
            x: own(&self.x)?,
            qkv: own(&self.qkv)?,
            mixed: own(&self.mixed)?,
            lse: rows(&self.lse, &spec.sums(at))?,
            middle: own(&self.middle)?,
            last: own_if(&self.last)?,
            u: own(&self.u)?,
            gate: own_if(&self.gate)?,
            attention_stats: own(&self.attention_stats)?,
            inner_stats: own_if(&self.inner_stats)?,
            mlp_stats: own(&self.mlp_stats)?,
            middle_stats: own_if(&self.middle_stats)?,
        })
    }
}

/// The block's output, of the shape of `x`, and what is kept of the pass; `parts` are by member.
pub(super) fn run(spec: &Spec, parts: &Parts<Tensor>, x: &Tensor) -> Result<(Tensor, Kept)> {
    let kept = Kept::new(spec, parts, x)?;
    let result = empty(spec.rows(), spec.d_model(), Kind::Float)?;
    for member in 0..spec.n_members() {
        let parts = parts.member(member)?;
        let matrices = Matrices::new(&parts, spec.kind)?;
        for at in spec.chunks(member) {
            let chunk = Chunk { spec, parts: &parts, matrices: &matrices, n: at.end - at.start };
            chunk.run(&kept.at(spec, &at)?, &rows(&result, &at)?)?;
        }
    }
    Ok((result.f_view([spec.batch, spec.seq, spec.d_model()])?, kept))
}

/// Some sequences of one member.
struct Chunk<'a> {
    spec: &'a Spec,
    parts: &'a Parts<Tensor>,
    matrices: &'a Matrices,
    /// Rows.
    n: i64,
}

impl Chunk<'_> {
    fn run(&self, kept: &Kept, result: &Tensor) -> Result<()> {
        let mixed = self.attend(kept)?;
        if self.spec.norms_first() {
            self.finish_pre(kept, &mixed, result)
        } else {
            self.finish_post(kept, &mixed, result)
        }
    }

    /// Attention up to its output matrix, without that one's bias.
    fn attend(&self, kept: &Kept) -> Result<Tensor> {
        let &Self { spec, parts, matrices, .. } = self;
        let x = if spec.norms_first() {
            let normed = self.empty(spec.d_model())?;
            let norm = spec.norm(&parts.attention_norm);
            norm_into(&kept.x, &norm, &normed, &kept.attention_stats)?;
            normed
        } else {
            kept.x.f_to_kind(spec.kind)?
        };
        product(&kept.qkv, &x, &matrices.qkv)?;
        spec.attention(matrices).forward_into(&kept.qkv, &kept.mixed, &kept.lse)?;
        let change = self.empty(spec.d_model())?;
        match (&parts.inner_norm, &kept.inner_stats) {
            (Some(norm), Some(stats)) => {
                // `x` is not needed any more.
                norm_into(&kept.mixed, &spec.norm(norm), &x, stats)?;
                product(&change, &x, &matrices.out)?;
            }
            _ => product(&change, &kept.mixed, &matrices.out)?,
        }
        Ok(change)
    }

    fn finish_pre(&self, kept: &Kept, mixed: &Tensor, result: &Tensor) -> Result<()> {
        let &Self { spec, parts, .. } = self;
        let (bias, norm) = (parts.out.bias.as_ref(), spec.norm(&parts.mlp_norm));
        let normed = self.empty(spec.d_model())?;
        let Kept { x, middle, mlp_stats, .. } = kept;
        add_norm_into(x, mixed, bias, 1.0, &norm, middle, &normed, mlp_stats)?;
        if spec.kind == Kind::Float {
            self.feed(kept, &normed, result)?;
        } else {
            self.feed(kept, &normed, mixed)?;
            result.shallow_clone().f_copy_(mixed)?;
        }
        bias_residual(result, parts.fc2.bias.as_ref(), Some((middle, 1.0)))
    }

    fn finish_post(&self, kept: &Kept, mixed: &Tensor, result: &Tensor) -> Result<()> {
        let &Self { spec, parts, n, .. } = self;
        let Kept { x, middle, last, .. } = kept;
        let (bias, norm) = (parts.out.bias.as_ref(), spec.norm(&parts.attention_norm));
        let stream = empty(n, spec.d_model(), Kind::Float)?;
        add_norm_into(x, mixed, bias, spec.alpha, &norm, middle, &stream, &kept.attention_stats)?;
        self.feed(kept, &stream.f_to_kind(spec.kind)?, mixed)?;
        let Some(last) = last else { return Ok(()) };
        let (bias, norm) = (parts.fc2.bias.as_ref(), spec.norm(&parts.mlp_norm));
        add_norm_into(&stream, mixed, bias, spec.alpha, &norm, last, result, &kept.mlp_stats)
    }

    /// The MLP without its last bias, of `x`, into `out`.
    fn feed(&self, kept: &Kept, x: &Tensor, out: &Tensor) -> Result<()> {
        let &Self { spec, parts, matrices, .. } = self;
        product(&kept.u, x, &matrices.fc1)?;
        if let (Some(gate), Some(matrix)) = (&kept.gate, &matrices.gate) {
            product(gate, x, matrix)?;
        }
        let active = self.empty(spec.d_ff)?;
        let middle = spec.middle(parts, &kept.u, kept.gate.as_ref());
        activation_into(&middle, &active, kept.middle_stats.as_ref())?;
        product(out, &active, &matrices.fc2)
    }

    fn empty(&self, columns: i64) -> Result<Tensor> {
        empty(self.n, columns, self.spec.kind)
    }
}
