//! Causal self-attention in one pass over a sequence's heads, with rotation and bias applied as they are read.
//!
//! Queries, keys and values are columns of one matrix, `[batch * seq, (heads + 2 * kv_heads) * head_dim]`, as the
//! product with the three joined projections leaves them, so that nothing is transposed or copied in memory. A head's rows are
//! unpacked into f32, and sixteen queries at a time meet all keys that they may see: scores, softmax and mixture of values
//! stay in the nearest cache. The backward pass computes the probabilities again from the logarithm of their sum.
//!
//! What FlashAttention (Dao et al. 2022, arXiv:2205.14135) does for long sequences on a GPU is here arranged for short ones on a CPU: a block
//! of queries sees its keys at once, so that no running maximum is needed.
//!
//! A token that is not a number, or infinite, reaches no query before it. Backwards it may reach any token of its sequence.

mod backward;
mod forward;
mod heads;
#[cfg(target_arch = "x86_64")]
mod narrow;
mod tile;

use tch::{Device, Kind, Tensor};

use super::Turn;
use super::element::{Element, by_kind};
use super::loans::Loans;
use super::machine::{Machine, run};
use super::math::fma;
use super::rows::{Part, RowsMut};
use crate::error::{Error, Result, ensure};
use backward::Backward;
use forward::Forward;
use heads::{Geometry, Table};
use tile::{LANES, Lanes};

/// Shape and scores of a causal self-attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Tokens of a sequence.
    pub seq: i64,
    /// Heads of the queries.
    pub n_heads: i64,
    /// Heads of keys and values, a divisor of `n_heads`.
    pub n_kv_heads: i64,
    /// What q·k is multiplied by.
    pub scale: f64,
    /// Added to the rows first: f32, `(n_heads + 2 * n_kv_heads) * head_dim`.
    pub bias: Option<&'a Tensor>,
    /// Rotation of the queries.
    pub query_turn: Option<Turn<'a>>,
    /// Rotation of the keys.
    pub key_turn: Option<Turn<'a>>,
    /// Slope of each head: the score falls by it with each token of distance.
    pub slopes: Option<&'a [f32]>,
}

/// What the kernels read of an [`Attention`].
#[derive(Clone, Copy, Debug)]
struct Call<'a> {
    geometry: Geometry,
    scale: f32,
    bias: Option<&'a [f32]>,
    query_table: Option<Table<'a>>,
    key_table: Option<Table<'a>>,
    slopes: Option<&'a [f32]>,
}

impl Attention<'_> {
    /// From `qkv`, `[batch * seq, (n_heads + 2 * n_kv_heads) * head_dim]`: the mixture of values, `[batch * seq, n_heads * head_dim]` of
    /// the kind of `qkv`, and the logarithm of each query's sum, f32 `[batch * n_heads, seq]`.
    ///
    /// # Errors
    /// As for every kernel, see the [module](self::super).
    pub fn forward(&self, qkv: &Tensor) -> Result<(Tensor, Tensor)> {
        let geometry = self.geometry(qkv)?;
        let rows = qkv.size2()?.0;
        let out = Tensor::f_empty([rows, geometry.d_model() as i64], (qkv.f_kind()?, Device::Cpu))?;
        let sums = [rows / self.seq * self.n_heads, self.seq];
        let lse = Tensor::f_empty(sums, (Kind::Float, Device::Cpu))?;
        self.forward_into(qkv, &out, &lse)?;
        Ok((out, lse))
    }

    /// As [`Self::forward`], into `out` and `lse`.
    ///
    /// # Errors
    /// As for every kernel, see the [module](self::super).
    pub fn forward_into(&self, qkv: &Tensor, out: &Tensor, lse: &Tensor) -> Result<()> {
        by_kind!("qkv", qkv, T => self.forward_of::<T>(qkv, out, lse))
    }

    /// Gradient of [`Self::forward`] with respect to `qkv`, from what it returned and `d_out`, the gradient of `out`: into `d_qkv`, of
    /// the shape and kind of `qkv`. The gradient of `bias` is the sum of its rows.
    ///
    /// # Errors
    /// As for every kernel, see the [module](self::super).
    pub fn backward_into(
        &self,
        qkv: &Tensor,
        out: &Tensor,
        lse: &Tensor,
        d_out: &Tensor,
        d_qkv: &Tensor,
    ) -> Result<()> {
        by_kind!("qkv", qkv, T => self.backward_of::<T>(qkv, [out, d_out], lse, d_qkv))
    }

    fn forward_of<T: Element>(&self, qkv: &Tensor, out: &Tensor, lse: &Tensor) -> Result<()> {
        let geometry = self.geometry(qkv)?;
        let mut loans = Loans::default();
        let qkv = loans.rows::<T>("qkv", qkv)?;
        let call = self.call(geometry, &mut loans)?;
        let [rows, _] = qkv.shape();
        let batch = rows / geometry.seq;
        let out = loans.rows_mut::<T>("out", out, [rows, geometry.d_model()])?;
        let sums = [batch * geometry.n_heads, geometry.seq];
        let lse = loans.rows_mut::<f32>("lse", lse, sums)?;
        let parts = by_sequence(out, batch, geometry.seq).into_iter();
        let lse = by_sequence(lse, batch, geometry.n_heads);
        let jobs = parts.zip(lse).enumerate();
        let job = |(sequence, (out, lse))| Forward { call, qkv, sequence, out, lse };
        run(jobs.map(job), 1)
    }

    fn backward_of<T: Element>(
        &self,
        qkv: &Tensor,
        [out, d_out]: [&Tensor; 2],
        lse: &Tensor,
        d_qkv: &Tensor,
    ) -> Result<()> {
        let geometry = self.geometry(qkv)?;
        let mut loans = Loans::default();
        let qkv = loans.rows::<T>("qkv", qkv)?;
        let call = self.call(geometry, &mut loans)?;
        let [rows, width] = qkv.shape();
        let batch = rows / geometry.seq;
        let shape = [rows, geometry.d_model()];
        let out = loans.rows_of::<T>("out", out, shape)?;
        let d_out = loans.rows_of::<T>("d_out", d_out, shape)?;
        let lse = loans.rows_of::<f32>("lse", lse, [batch * geometry.n_heads, geometry.seq])?;
        let d_qkv = loans.rows_mut::<T>("d_qkv", d_qkv, [rows, width])?;
        let jobs = by_sequence(d_qkv, batch, geometry.seq).into_iter().enumerate();
        let job = |(sequence, d_qkv)| Backward { call, qkv, out, lse, d_out, sequence, d_qkv };
        run(jobs.map(job), 1)
    }

    fn geometry(&self, qkv: &Tensor) -> Result<Geometry> {
        let &Self { seq, n_heads, n_kv_heads, .. } = self;
        let (rows, width) = qkv.size2()?;
        ensure(seq > 0, "seq", "positive", seq)?;
        let divides = n_kv_heads > 0 && n_heads > 0 && n_heads % n_kv_heads == 0;
        ensure(divides, "n_kv_heads", &format!("a divisor of {n_heads}"), n_kv_heads)?;
        let all_heads = n_heads + 2 * n_kv_heads;
        if rows % seq != 0 || width == 0 || width % all_heads != 0 {
            let want = format!("[batch * {seq}, {all_heads} * head_dim]");
            return Err(Error::Shape { arg: "qkv", want, got: qkv.size() });
        }
        let [seq, n_heads, n_kv_heads] = [seq, n_heads, n_kv_heads].map(|n| n as usize);
        Ok(Geometry { seq, n_heads, n_kv_heads, head_dim: (width / all_heads) as usize })
    }
}

impl<'a> Attention<'a> {
    fn call(&self, geometry: Geometry, loans: &mut Loans) -> Result<Call<'a>> {
        let shape = [1, geometry.width()];
        let bias = self.bias.map(|bias| loans.parameter("bias", bias, shape)).transpose()?;
        let mut table = |turn: &Turn<'a>| table(turn, geometry, loans);
        let query_table = self.query_turn.as_ref().map(&mut table).transpose()?;
        let key_table = self.key_turn.as_ref().map(&mut table).transpose()?;
        if let Some(slopes) = self.slopes {
            let want = format!("one of each of {} heads", geometry.n_heads);
            ensure(slopes.len() == geometry.n_heads, "slopes", &want, slopes.len())?;
        }
        Ok(Call {
            geometry,
            scale: self.scale as f32,
            bias: bias.map(|bias| bias.data),
            query_table,
            key_table,
            slopes: self.slopes,
        })
    }
}

/// The tables of a rotation, whose rows are contiguous here.
fn table<'a>(turn: &Turn<'a>, geometry: Geometry, loans: &mut Loans) -> Result<Table<'a>> {
    let half = geometry.head_dim / 2;
    ensure(geometry.head_dim == 2 * half, "head_dim", "even for a rotation", geometry.head_dim)?;
    let mut rows = |arg, table: &'a Tensor| loans.rows_of::<f32>(arg, table, [geometry.seq, half]);
    Ok(Table { pairs: turn.pairs, cos: rows("cos", turn.cos)?, sin: rows("sin", turn.sin)? })
}

/// Cut into equal parts of `rows`, one of each sequence.
fn by_sequence<T>(rows: RowsMut<'_, T>, batch: usize, each: usize) -> Vec<RowsMut<'_, T>> {
    let part = |i| Part { group: 0, rows: i * each..(i + 1) * each };
    rows.split(&(0..batch).map(part).collect::<Vec<_>>())
}

/// ALiBi: takes `slope` times the distance from each score; `p` is `[key][query]` for the queries from `first` on.
#[inline(always)]
fn position_penalty<M: Machine>(p: &mut [Lanes], slope: f32, first: usize) {
    let mut ahead = [0.0; LANES];
    for (lane, ahead) in ahead.iter_mut().enumerate() {
        *ahead = (first + lane) as f32;
    }
    for (key, p) in p.iter_mut().enumerate() {
        for lane in 0..LANES {
            p[lane] = fma::<M>(-slope, ahead[lane] - key as f32, p[lane]);
        }
    }
}

#[cfg(test)]
mod tests;
