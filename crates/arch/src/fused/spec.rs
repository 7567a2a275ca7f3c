//! What the loops need to know of a block and a pass, and whether they can do it.

use std::ops::Range;

use forerun_tensors::kernels::{self, Attention, Middle};
use forerun_tensors::{Autocast, Result};
use tch::{Device, Kind, Tensor};

use super::parts::{Matrices, Pair, Parts};
use crate::block::Block;
use crate::causal::Relations;
use crate::config::{Activation, NormKind, NormPlacement};
use crate::plan::Plan;

/// Bytes of a chunk's rows, counted as one activation of each matrix: a few times that is in use at once.
const CHUNK_BYTES: i64 = 8 << 20;

#[cfg(test)]
thread_local! {
    /// The limit of passes that this thread starts, if not [`CHUNK_BYTES`].
    pub(super) static FORCED_CHUNK_BYTES: std::cell::Cell<Option<i64>> = const { std::cell::Cell::new(None) };
}

#[cfg(not(test))]
fn chunk_bytes() -> i64 {
    CHUNK_BYTES
}

#[cfg(test)]
fn chunk_bytes() -> i64 {
    FORCED_CHUNK_BYTES.get().unwrap_or(CHUNK_BYTES)
}

/// A pass through one block.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) placement: NormPlacement,
    pub(super) alpha: f64,
    pub(super) activation: Activation,
    pub(super) norm_kind: NormKind,
    pub(super) eps: f64,
    pub(super) n_heads: i64,
    pub(super) n_kv_heads: i64,
    pub(super) head_dim: i64,
    pub(super) scale: f64,
    pub(super) d_ff: i64,
    /// None for a single model.
    pub(super) members: Option<i64>,
    /// Of all members.
    pub(super) batch: i64,
    pub(super) seq: i64,
    /// Of the products and of what is kept of them.
    pub(super) kind: Kind,
    chunk_bytes: i64,
    relations: Relations,
}

impl Spec {
    /// None if the pass has to go op by op.
    pub(super) fn of(block: &Block, x: &Tensor, plan: &Plan, train: bool) -> Result<Option<Self>> {
        let &Block { placement, alpha, ref attention, ref mlp, .. } = block;
        let dropout =
            attention.attention_dropout + attention.dropout + mlp.activation_dropout + mlp.dropout;
        let plain = x.device() == Device::Cpu && x.kind() == Kind::Float;
        if !plain || (train && dropout > 0.0) || attention.q_proj.weight.kind() != Kind::Float {
            return Ok(None);
        }
        let kind = match Autocast::active(Device::Cpu)? {
            None => Kind::Float,
            Some(Kind::BFloat16) => Kind::BFloat16,
            Some(_) => return Ok(None),
        };
        let Some(relations) = plan.causal()? else { return Ok(None) };
        let (batch, seq, d_model) = x.size3()?;
        let fc1 = mlp.fc1.weight.size();
        let members = (fc1.len() == 3).then(|| fc1[0]);
        if batch / members.unwrap_or(1).max(1) < i64::from(tch::get_num_threads()) {
            // libtorch's attention gives each thread a head; ours, a sequence.
            return Ok(None);
        }
        Ok(Some(Self {
            placement,
            alpha,
            activation: mlp.activation,
            norm_kind: block.mlp_norm.kind,
            eps: block.mlp_norm.eps,
            n_heads: attention.n_heads,
            n_kv_heads: attention.n_kv_heads,
            head_dim: d_model / attention.n_heads,
            scale: attention.scale,
            d_ff: fc1[fc1.len() - 2],
            members,
            batch,
            seq,
            kind,
            chunk_bytes: chunk_bytes(),
            relations,
        }))
    }

    pub(super) fn d_model(&self) -> i64 {
        self.n_heads * self.head_dim
    }

    pub(super) fn rows(&self) -> i64 {
        self.batch * self.seq
    }

    /// Whether norms stand before the branches and not after them.
    pub(super) fn norms_first(&self) -> bool {
        matches!(self.placement, NormPlacement::Pre | NormPlacement::Sub)
    }

    /// Columns of queries, keys and values.
    pub(super) fn qkv_width(&self) -> i64 {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }

    /// Columns of each.
    pub(super) fn widths(&self) -> [i64; 3] {
        [self.n_heads, self.n_kv_heads, self.n_kv_heads].map(|heads| heads * self.head_dim)
    }

    pub(super) fn n_members(&self) -> i64 {
        self.members.unwrap_or(1)
    }

    /// Whole sequences of `member`, as rows, a few at a time.
    pub(super) fn chunks(&self, member: i64) -> impl Iterator<Item = Range<i64>> + use<> {
        let own = self.batch / self.n_members();
        let row_bytes = 4 * (self.qkv_width() + 2 * self.d_ff + 4 * self.d_model());
        let threads = i64::from(tch::get_num_threads());
        let sequences = self.chunk_bytes * threads / (row_bytes * self.seq);
        // Attention gives each thread whole sequences.
        let step = (sequences / threads).max(1) * threads;
        let (first, seq) = (member * own, self.seq);
        (0..own)
            .step_by(step as usize)
            .map(move |start| (first + start) * seq..(first + own.min(start + step)) * seq)
    }

    pub(super) fn attention<'a>(&'a self, matrices: &'a Matrices) -> Attention<'a> {
        Attention {
            seq: self.seq,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            scale: self.scale,
            bias: matrices.qkv_bias.as_ref(),
            query_turn: self.relations.query_turn(),
            key_turn: self.relations.key_turn(),
            slopes: self.relations.slopes(),
        }
    }

    /// Rows of the softmax's sums for these rows of the residual stream.
    pub(super) fn sums(&self, at: &Range<i64>) -> Range<i64> {
        at.start / self.seq * self.n_heads..at.end / self.seq * self.n_heads
    }

    pub(super) fn norm<'a>(&self, pair: &'a Pair<Tensor>) -> kernels::NormParams<'a> {
        pair.norm(self.norm_kind, self.eps)
    }

    /// The MLP between its matrices; `u` and `gate` are what the first ones gave.
    pub(super) fn middle<'a>(
        &self,
        parts: &'a Parts<Tensor>,
        u: &'a Tensor,
        gate: Option<&'a Tensor>,
    ) -> Middle<'a> {
        let kind = match self.activation {
            Activation::Gelu => kernels::Activation::Gelu,
            Activation::Relu => kernels::Activation::Relu,
            Activation::Swish | Activation::SwiGlu => kernels::Activation::Swish,
        };
        let gate = gate.map(|u| kernels::Gate {
            u,
            bias: parts.gate.as_ref().and_then(|gate| gate.bias.as_ref()),
        });
        let norm = parts.middle_norm.as_ref().map(|norm| self.norm(norm));
        Middle { kind, u, bias: parts.fc1.bias.as_ref(), gate, norm }
    }
}
