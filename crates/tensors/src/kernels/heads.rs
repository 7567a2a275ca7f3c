//! Between the rows of a projection and the heads of attention, with bias and rotation on the way.

use std::mem::take;

use tch::{Device, Tensor};

use super::element::{Element, by_kind};
use super::lanes::accumulate;
use super::loans::Loans;
use super::machine::{Job, Machine, run};
use super::math::fma;
use super::rows::{GRAIN, Heads, HeadsMut, Parameter, Part, Rows, RowsMut, Sums, parts};
use crate::error::{Error, Result};

/// Which channels of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// 2i and 2i + 1.
    Interleaved,
    /// i and i + `head_dim`/2.
    HalfSplit,
}

/// A rotation of the channel pairs (a, b) of each head: `(a cos - b sin, b cos + a sin)`; the tables may hold a
/// factor, as those of xPos do.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// Which channels are a pair.
    pub pairs: Pairs,
    /// f32 `[seq, head_dim / 2]`, of any strides.
    pub cos: &'a Tensor,
    /// As `cos`.
    pub sin: &'a Tensor,
}

/// From the product of a projection, `x`, `[batch * seq, heads * head_dim]` without its bias, to the heads,
/// `[batch, heads, seq, head_dim]` of the kind of `x`, rotated. `bias` is f32 `[width]` or `[groups, width]`.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn split_heads(
    x: &Tensor,
    bias: Option<&Tensor>,
    turn: Option<&Turn<'_>>,
    batch: i64,
    heads: i64,
) -> Result<Tensor> {
    let (rows, width) = x.size2()?;
    let size = [batch, heads, rows / batch.max(1), width / heads.max(1)];
    let out = Tensor::f_empty(size, (x.f_kind()?, Device::Cpu))?;
    split_heads_into(x, bias, turn, &out)?;
    Ok(out)
}

/// As [`split_heads`], into `heads`, `[batch, heads, seq, head_dim]` of any strides but the last, which is 1: it
/// may be a view of `[batch, seq, heads, head_dim]`, and then also `x` itself seen that way.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn split_heads_into(
    x: &Tensor,
    bias: Option<&Tensor>,
    turn: Option<&Turn<'_>>,
    heads: &Tensor,
) -> Result<()> {
    by_kind!("x", x, E => split::<E>(x, bias, turn, heads))
}

/// Gradient of [`split_heads`] from that of the heads, `[batch, heads, seq, head_dim]` of any strides but the
/// last, which is 1: into `dx`, `[batch * seq, heads * head_dim]`, which may be a slice of columns of a wider tensor;
/// the sums over its rows are added to `d_bias`, f32 `[width]` or `[groups, width]`, if given.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn split_heads_backward_into(
    d_heads: &Tensor,
    turn: Option<&Turn<'_>>,
    dx: &Tensor,
    d_bias: Option<&Tensor>,
) -> Result<()> {
    by_kind!("d_heads", d_heads, E => join::<E>(d_heads, turn, dx, d_bias))
}

/// From heads, `[batch, heads, seq, head_dim]` of any strides but the last, to rows, `[batch * seq, heads * head_dim]`.
///
/// # Errors
/// As for every kernel, see the [module](self::super).
pub fn merge_heads(heads: &Tensor) -> Result<Tensor> {
    let (batch, n_heads, seq, head_dim) = heads.size4()?;
    let rows = Tensor::f_empty([batch * seq, n_heads * head_dim], (heads.f_kind()?, Device::Cpu))?;
    split_heads_backward_into(heads, None, &rows, None)?;
    Ok(rows)
}

/// The tables as rows.
#[derive(Clone, Copy, Debug)]
struct Tables<'a> {
    pairs: Pairs,
    cos: Rows<'a, f32>,
    sin: Rows<'a, f32>,
    /// -1 for the transposed rotation.
    sign: f32,
}

/// Dense copies, if they are not dense.
fn dense(turn: Option<&Turn<'_>>) -> Result<Option<(Pairs, Tensor, Tensor)>> {
    let Some(turn) = turn else { return Ok(None) };
    Ok(Some((turn.pairs, turn.cos.f_contiguous()?, turn.sin.f_contiguous()?)))
}

impl<'a> Tables<'a> {
    fn new(
        loans: &mut Loans,
        turn: &'a (Pairs, Tensor, Tensor),
        [_, _, seq, head_dim]: [usize; 4],
        sign: f32,
    ) -> Result<Self> {
        let (pairs, cos, sin) = turn;
        let cos = loans.rows_of("cos", cos, [seq, head_dim / 2])?;
        let sin = loans.rows_of("sin", sin, [seq, head_dim / 2])?;
        if head_dim % 2 == 1 {
            let (want, got) = ("an even head_dim".to_owned(), vec![head_dim as i64]);
            return Err(Error::Shape { arg: "heads", want, got });
        }
        Ok(Self { pairs: *pairs, cos, sin, sign })
    }

    /// One head: `y` is `x + bias`, turned as position `at`.
    #[inline(always)]
    fn turn<M: Machine, E: Element>(&self, at: usize, x: &[E], bias: &[f32], y: &mut [E]) {
        let (cos, sin, sign) = (self.cos.row(at), self.sin.row(at), self.sign);
        let n = cos.len();
        let sin = &sin[..n];
        match self.pairs {
            Pairs::HalfSplit => {
                let (a, b) = (&x[..n], &x[n..][..n]);
                let (bias_a, bias_b) = (&bias[..n], &bias[n..][..n]);
                let (y_a, y_b) = y.split_at_mut(n);
                let (y_a, y_b) = (&mut y_a[..n], &mut y_b[..n]);
                for i in 0..n {
                    let (a, b) = (a[i].get() + bias_a[i], b[i].get() + bias_b[i]);
                    let sin = sign * sin[i];
                    y_a[i] = E::put(fma::<M>(a, cos[i], -(b * sin)));
                    y_b[i] = E::put(fma::<M>(b, cos[i], a * sin));
                }
            }
            Pairs::Interleaved => {
                let (x, bias, y) = (&x[..2 * n], &bias[..2 * n], &mut y[..2 * n]);
                for i in 0..n {
                    let (a, b) =
                        (x[2 * i].get() + bias[2 * i], x[2 * i + 1].get() + bias[2 * i + 1]);
                    let sin = sign * sin[i];
                    y[2 * i] = E::put(fma::<M>(a, cos[i], -(b * sin)));
                    y[2 * i + 1] = E::put(fma::<M>(b, cos[i], a * sin));
                }
            }
        }
    }
}

/// One head that is turned, or is not.
#[inline(always)]
fn pass<M: Machine, E: Element>(
    tables: Option<&Tables<'_>>,
    at: usize,
    x: &[E],
    bias: &[f32],
    y: &mut [E],
) {
    if let Some(tables) = tables {
        return tables.turn::<M, E>(at, x, bias, y);
    }
    let n = y.len();
    let (x, bias) = (&x[..n], &bias[..n]);
    for i in 0..n {
        y[i] = E::put(x[i].get() + bias[i]);
    }
}

impl<'a, E> HeadsMut<'a, E> {
    /// The batch entries of each part.
    fn split(mut self, parts: &[Part]) -> Vec<Self> {
        let Self { size, stride, .. } = self;
        let mut rest = take(&mut self.data);
        let cut = |part: &Part| {
            let n = part.rows.len();
            let end = if part.rows.end == size[0] { rest.len() } else { n * stride[0] };
            let end = end.min(rest.len());
            let (own, others) = take(&mut rest).split_at_mut(end);
            rest = others;
            Self { data: own, size: [n, size[1], size[2], size[3]], stride }
        };
        parts.iter().map(cut).collect()
    }
}

struct Split<'a, E> {
    /// None: it lies in `heads`.
    x: Option<Rows<'a, E>>,
    bias: Option<Parameter<&'a [f32]>>,
    tables: Option<Tables<'a>>,
    /// In place of a bias that is not there.
    zeros: &'a [f32],
    /// Batch entries.
    part: Part,
    heads: HeadsMut<'a, E>,
}

impl<E: Element> Job for Split<'_, E> {
    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { x, bias, tables, zeros, part, heads: HeadsMut { data, size, stride } } = self;
        let [_, n_heads, seq, head_dim] = size;
        let bias = bias.map_or(zeros, |bias| bias.of(part.group));
        let mut held = vec![E::put(0.0); head_dim];
        for (i, entry) in part.rows.enumerate() {
            for at in 0..seq {
                for head in 0..n_heads {
                    let start = i * stride[0] + head * stride[1] + at * stride[2];
                    let y = &mut data[start..][..head_dim];
                    let columns = head * head_dim..(head + 1) * head_dim;
                    let x = match &x {
                        Some(x) => &x.row(entry * seq + at)[columns.clone()],
                        None => {
                            held.copy_from_slice(y);
                            &held
                        }
                    };
                    pass::<M, E>(tables.as_ref(), at, x, &bias[columns], y);
                }
            }
        }
    }
}

fn split<E: Element>(
    x: &Tensor,
    bias: Option<&Tensor>,
    turn: Option<&Turn<'_>>,
    heads: &Tensor,
) -> Result<()> {
    let turn = dense(turn)?;
    let mut loans = Loans::default();
    let size = loans.size_of_heads("heads", heads)?;
    let [batch, n_heads, seq, head_dim] = size;
    let shape @ [_, width] = [batch * seq, n_heads * head_dim];
    let zeros = vec![0.0; width];
    let x = loans.rows_unless_heads::<E>("x", x, heads, shape)?;
    let bias = bias.map(|bias| loans.parameter("bias", bias, shape)).transpose()?;
    let groups = bias.map_or(1, |bias| bias.groups);
    ensure_divides(groups, batch)?;
    let tables = turn.as_ref().map(|turn| Tables::new(&mut loans, turn, size, 1.0)).transpose()?;
    let parts = parts(batch, groups, seq * width);
    let heads = loans.heads_mut::<E>("heads", heads)?.split(&parts);
    let zeros = zeros.as_slice();
    let jobs = parts.into_iter().zip(heads);
    run(jobs.map(|(part, heads)| Split { x, bias, tables, zeros, part, heads }), GRAIN)
}

struct Join<'a, E> {
    d_heads: Heads<'a, E>,
    tables: Option<Tables<'a>>,
    zeros: &'a [f32],
    /// Batch entries.
    part: Part,
    dx: RowsMut<'a, E>,
    d_bias: &'a mut [f32],
}

impl<E: Element> Job for Join<'_, E> {
    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { d_heads: Heads { data, size, stride }, tables, zeros, part, .. } = self;
        let [_, n_heads, seq, head_dim] = size;
        let (mut dx, d_bias) = (self.dx, self.d_bias);
        for (i, entry) in part.rows.enumerate() {
            for at in 0..seq {
                let dx = dx.row(i * seq + at);
                for head in 0..n_heads {
                    let start = entry * stride[0] + head * stride[1] + at * stride[2];
                    let y = &mut dx[head * head_dim..][..head_dim];
                    pass::<M, E>(tables.as_ref(), at, &data[start..][..head_dim], zeros, y);
                }
                accumulate(d_bias, dx);
            }
        }
    }
}

fn join<E: Element>(
    d_heads: &Tensor,
    turn: Option<&Turn<'_>>,
    dx: &Tensor,
    d_bias: Option<&Tensor>,
) -> Result<()> {
    let turn = dense(turn)?;
    let mut loans = Loans::default();
    let d_heads: Heads<'_, E> = loans.heads("d_heads", d_heads)?;
    let size @ [batch, n_heads, seq, head_dim] = d_heads.size;
    let shape @ [_, width] = [batch * seq, n_heads * head_dim];
    let zeros = vec![0.0; head_dim];
    let tables = turn.as_ref().map(|turn| Tables::new(&mut loans, turn, size, -1.0)).transpose()?;
    let total = d_bias.map(|total| loans.parameter_mut("d_bias", total, shape)).transpose()?;
    let groups = total.as_ref().map_or(1, |total| total.groups);
    ensure_divides(groups, batch)?;
    let parts = parts(batch, groups, seq * width);
    let of_rows =
        |part: &Part| Part { group: part.group, rows: part.rows.start * seq..part.rows.end * seq };
    let row_parts: Vec<Part> = parts.iter().map(of_rows).collect();
    let dx = loans.rows_mut::<E>("dx", dx, shape)?.split(&row_parts);
    let mut sums = Sums::new(total, parts.len());
    let (zeros, slots) = (zeros.as_slice(), sums.slots(parts.len()));
    let jobs = parts.iter().cloned().zip(dx).zip(slots);
    let job = |((part, dx), d_bias)| Join { d_heads, tables, zeros, part, dx, d_bias };
    run(jobs.map(job), GRAIN)?;
    sums.finish(&parts);
    Ok(())
}

/// Groups are made of whole batch entries.
fn ensure_divides(groups: usize, batch: usize) -> Result<()> {
    crate::error::ensure(
        batch.is_multiple_of(groups),
        "batch",
        &format!("a multiple of the {groups} groups"),
        batch,
    )
}

#[cfg(test)]
mod tests;
