//! Attention of one new token of each of several sequences: what generating text does after the prompt.
//!
//! A sequence's earlier keys, rotated, and values lie in two buffers of its own, `[kv_heads * capacity, head_dim]`. The new key
//! is rotated and put where it belongs, the new value likewise, and the query sees the rows up to its own, in one go: each key and each
//! value is read once for all query heads that share it.

use tch::{Device, Kind, Tensor};

use super::element::{Element, by_kind};
use super::few_rows::dots;
use super::lanes::{LANES, Lanes, add_product, load, plus};
use super::loans::Loans;
use super::machine::{Job, Machine, run};
use super::math::{exp, fma};
use super::rows::{Part, RowsMut};
use crate::error::{Error, Result, ensure};

/// Shape and scores of the attention.
#[derive(Clone, Copy, Debug)]
pub struct Decode<'a> {
    /// Heads of the queries.
    pub n_heads: i64,
    /// Heads of keys and values, a divisor of `n_heads`.
    pub n_kv_heads: i64,
    /// Channels of a head.
    pub head_dim: i64,
    /// What q·k is multiplied by.
    pub scale: f64,
    /// Cosines at the position of each sequence's new token: f32 `[sequences, pairs]`. Channel i of a head turns together with
    /// i + `pairs`; those from 2 · `pairs` on stay as they are.
    pub cos: &'a Tensor,
    /// As `cos`.
    pub sin: &'a Tensor,
}

/// What a sequence remembers in one layer.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// Rotated keys, f32 or bf16 `[n_kv_heads * capacity, head_dim]`.
    pub keys: &'a Tensor,
    /// Values, like `keys`.
    pub values: &'a Tensor,
    /// Row of a head, below `capacity`, of the first key that the new token sees.
    pub first: i64,
    /// Row where the new token's own key and value go.
    pub row: i64,
}

impl Decode<'_> {
    /// `q` is f32 `[sequences, n_heads * head_dim]`; `k` and `v` are f32 `[sequences, n_kv_heads * head_dim]`; none is
    /// rotated yet. `held` has one entry a sequence. The result has the shape of `q`.
    ///
    /// # Errors
    /// As for every kernel, see the [module](self::super).
    pub fn forward(&self, [q, k, v]: [&Tensor; 3], held: &[Held<'_>]) -> Result<Tensor> {
        let out = Tensor::f_empty(q.size(), (Kind::Float, Device::Cpu))?;
        let Some(one) = held.first() else { return Ok(out) };
        by_kind!("keys", one.keys, T => self.run::<T>([q, k, v], held, &out))?;
        Ok(out)
    }

    fn run<T: Element>(
        &self,
        [q, k, v]: [&Tensor; 3],
        held: &[Held<'_>],
        out: &Tensor,
    ) -> Result<()> {
        let &Self { n_heads, n_kv_heads, head_dim, .. } = self;
        let divides = n_kv_heads > 0 && n_heads > 0 && n_heads % n_kv_heads == 0;
        ensure(divides, "n_kv_heads", &format!("a divisor of {n_heads}"), n_kv_heads)?;
        ensure(head_dim > 0, "head_dim", "positive", head_dim)?;
        let [n_heads, n_kv, dim, n] =
            [n_heads as usize, n_kv_heads as usize, head_dim as usize, held.len()];
        let mut loans = Loans::default();
        let pairs = self.cos.size2()?.1 as usize;
        ensure(2 * pairs <= dim, "pairs", &format!("at most half of {dim}"), pairs)?;
        let cos = loans.rows_of::<f32>("cos", self.cos, [n, pairs])?;
        let sin = loans.rows_of::<f32>("sin", self.sin, [n, pairs])?;
        let q = loans.rows_of::<f32>("q", q, [n, n_heads * dim])?;
        let k = loans.rows_of::<f32>("k", k, [n, n_kv * dim])?;
        let v = loans.rows_of::<f32>("v", v, [n, n_kv * dim])?;
        let out = loans.rows_mut::<f32>("out", out, [n, n_heads * dim])?.into_rows();
        let mut jobs = Vec::with_capacity(n * n_kv);
        let group = n_heads / n_kv * dim;
        for (i, (held, out)) in held.iter().zip(out).enumerate() {
            let heads = buffers::<T>(held, n_kv, dim, &mut loans)?;
            for (head, ((keys, values), out)) in heads.zip(out.chunks_mut(group)).enumerate() {
                jobs.push(Head {
                    q: &q.row(i)[head * group..][..group],
                    k: &k.row(i)[head * dim..][..dim],
                    v: &v.row(i)[head * dim..][..dim],
                    cos: cos.row(i),
                    sin: sin.row(i),
                    scale: self.scale as f32,
                    first: held.first as usize,
                    row: held.row as usize,
                    keys,
                    values,
                    out,
                });
            }
        }
        run(jobs, 1)
    }
}

/// Keys and values of each head.
fn buffers<'a, T: Element>(
    held: &Held<'a>,
    n_kv: usize,
    dim: usize,
    loans: &mut Loans,
) -> Result<impl Iterator<Item = (RowsMut<'a, T>, RowsMut<'a, T>)>> {
    let rows = held.keys.size2()?.0 as usize;
    let capacity = rows / n_kv;
    if rows != capacity * n_kv {
        let want = format!("[{n_kv} * capacity, {dim}]");
        return Err(Error::Shape { arg: "keys", want, got: held.keys.size() });
    }
    let fits = 0 <= held.first && held.first <= held.row && (held.row as usize) < capacity;
    let want = format!("from first = {} and below {capacity}", held.first);
    ensure(fits, "row", &want, held.row)?;
    for (arg, buffer) in [("keys", held.keys), ("values", held.values)] {
        ensure(buffer.is_contiguous(), arg, "contiguous", "gaps between rows")?;
    }
    let part = |head| Part { group: 0, rows: head * capacity..(head + 1) * capacity };
    let parts: Vec<Part> = (0..n_kv).map(part).collect();
    let keys = loans.rows_mut::<T>("keys", held.keys, [rows, dim])?.split(&parts);
    let values = loans.rows_mut::<T>("values", held.values, [rows, dim])?.split(&parts);
    Ok(keys.into_iter().zip(values))
}

/// A head of keys and values of one sequence, with the query heads that share it.
struct Head<'a, T> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    scale: f32,
    first: usize,
    row: usize,
    keys: RowsMut<'a, T>,
    values: RowsMut<'a, T>,
    out: &'a mut [f32],
}

impl<T: Element> Job for Head<'_, T> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        let (dim, n) = (self.k.len(), self.row + 1 - self.first);
        let mut turned = vec![0.0; dim];
        turn::<M>(self.k, self.cos, self.sin, 1.0, &mut turned);
        store(self.keys.row(self.row), &turned);
        store(self.values.row(self.row), self.v);
        let mut scores = vec![0.0; n];
        for (q, out) in self.q.chunks_exact(dim).zip(self.out.chunks_exact_mut(dim)) {
            turn::<M>(q, self.cos, self.sin, self.scale, &mut turned);
            score::<M, T>(&mut self.keys, self.first, &turned, &mut scores);
            let sum = softmax::<M>(&mut scores);
            mix::<M, T>(&mut self.values, self.first, &scores, 1.0 / sum, out);
        }
    }
}

#[inline(always)]
fn store<T: Element>(row: &mut [T], x: &[f32]) {
    for (to, &x) in row.iter_mut().zip(x) {
        *to = T::put(x);
    }
}

/// The rotation of a row, times `scale`.
#[inline(always)]
fn turn<M: Machine>(x: &[f32], cos: &[f32], sin: &[f32], scale: f32, out: &mut [f32]) {
    let pairs = cos.len();
    let (sin, (a, rest)) = (&sin[..pairs], x.split_at(pairs));
    let (out_a, out_rest) = out.split_at_mut(pairs);
    let (out_a, out_b) = (&mut out_a[..pairs], &mut out_rest[..pairs]);
    let b = &rest[..pairs];
    for i in 0..pairs {
        out_a[i] = fma::<M>(a[i], cos[i], -(b[i] * sin[i])) * scale;
        out_b[i] = fma::<M>(b[i], cos[i], a[i] * sin[i]) * scale;
    }
    for (out, x) in out_rest[pairs..].iter_mut().zip(&rest[pairs..]) {
        *out = x * scale;
    }
}

/// q · k of each key from `first` on.
#[inline(always)]
fn score<M: Machine, T: Element>(
    keys: &mut RowsMut<'_, T>,
    first: usize,
    q: &[f32],
    scores: &mut [f32],
) {
    let dim = q.len();
    let keys = &keys.all()[first * dim..][..scores.len() * dim];
    let (fours, rest) = scores.as_chunks_mut::<4>();
    let mut at = keys;
    for scores in fours {
        let (four, others) = at.split_at(4 * dim);
        let side = [&four[..dim], &four[dim..2 * dim], &four[2 * dim..3 * dim], &four[3 * dim..]];
        *scores = dots::<M, T>(side, q);
        at = others;
    }
    for (score, key) in rest.iter_mut().zip(at.chunks_exact(dim)) {
        let [sum, ..] = dots::<M, T>([key; 4], q);
        *score = sum;
    }
}

/// exp(score - largest) in place of each score, and their sum.
#[inline(always)]
fn softmax<M: Machine>(scores: &mut [f32]) -> f32 {
    let most = super::lanes::largest(scores, 1.0);
    for score in scores.iter_mut() {
        *score = exp::<M>(*score - most);
    }
    super::lanes::sum(scores)
}

/// `share · Σⱼ p[j] v[j]`, of the values from `first` on.
#[inline(always)]
fn mix<M: Machine, T: Element>(
    values: &mut RowsMut<'_, T>,
    first: usize,
    p: &[f32],
    share: f32,
    out: &mut [f32],
) {
    let dim = out.len();
    let values = &values.all()[first * dim..][..p.len() * dim];
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    for (chunk, out) in chunks.iter_mut().enumerate() {
        *out = column::<M, T>(values, dim, chunk * LANES, p, share);
    }
    let from = dim - rest.len();
    for (i, out) in rest.iter_mut().enumerate() {
        let mut sum = 0.0;
        for (p, value) in p.iter().zip(values.chunks_exact(dim)) {
            sum = fma::<M>(*p, value[from + i].get(), sum);
        }
        *out = sum * share;
    }
}

/// `LANES` channels of the mixture, four values at a time.
#[inline(always)]
fn column<M: Machine, T: Element>(
    values: &[T],
    dim: usize,
    from: usize,
    p: &[f32],
    share: f32,
) -> Lanes {
    let (mut s0, mut s1) = ([0.0; LANES], [0.0; LANES]);
    let (mut s2, mut s3) = ([0.0; LANES], [0.0; LANES]);
    let (fours, rest) = p.as_chunks::<4>();
    let mut at = 0;
    for &[p0, p1, p2, p3] in fours {
        s0 = add_product::<M>(s0, [p0; LANES], lanes_at(values, at + from));
        s1 = add_product::<M>(s1, [p1; LANES], lanes_at(values, at + dim + from));
        s2 = add_product::<M>(s2, [p2; LANES], lanes_at(values, at + 2 * dim + from));
        s3 = add_product::<M>(s3, [p3; LANES], lanes_at(values, at + 3 * dim + from));
        at += 4 * dim;
    }
    for &p in rest {
        s0 = add_product::<M>(s0, [p; LANES], lanes_at(values, at + from));
        at += dim;
    }
    let mut sum = plus(plus(s0, s1), plus(s2, s3));
    for sum in &mut sum {
        *sum *= share;
    }
    sum
}

#[inline(always)]
fn lanes_at<T: Element>(values: &[T], at: usize) -> Lanes {
    match values[at..].first_chunk::<LANES>() {
        Some(chunk) => load(chunk),
        None => [0.0; LANES],
    }
}

#[cfg(test)]
mod tests;
