//! Rotary positions: RoPE, and xPos, which is RoPE with a decay over distance.
//!
//! A channel pair of the token at position p is turned by the angle p·θᵢ, θᵢ = base^(−2i/`head_dim`), so
//! that scores see only relative distance (Su et al. 2021, arXiv:2104.09864, eq. 34). xPos also
//! multiplies the pair of a query by ζᵢ^(p/scale_base) and of a key by its inverse, with
//! ζᵢ = (2i/`head_dim` + γ)/(1 + γ), so that the score of pair i decays as ζᵢ^(distance/scale_base)
//! (Sun et al. 2022, arXiv:2212.10554, eq. 9 and 10).
//!
//! We differ from the papers: RoPE pairs channel i with i + `head_dim`/2, as GPT-NeoX and Llama
//! checkpoints do; xPos pairs neighbours, as TorchScale does, divides the exponent by `scale_base`, which only
//! TorchScale's code has, and measures it from the middle of the sequence, which cancels in the score and
//! keeps the factors in range.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use forerun_tensors::{Error, Result, ensure};
use tch::{Device, Kind, Tensor};

/// Which channels of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// 2i and 2i + 1.
    Interleaved,
    /// i and i + `head_dim`/2.
    HalfSplit,
}

/// Whether a query or a key is rotated: xPos treats them inversely, RoPE alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Scaled by ζ^p.
    Query,
    /// Scaled by ζ^−p.
    Key,
}

/// A rotation of queries and keys; keeps the tables that it has computed.
#[derive(Debug)]
pub struct Rotary {
    /// θᵢ, radians a token, f64 `[head_dim / 2]`.
    frequency: Tensor,
    /// None for RoPE.
    decay: Option<Decay>,
    pairing: Pairing,
    /// By capacity, a power of two: what is computed for a length never depends on earlier calls.
    tables: RefCell<BTreeMap<i64, Rotation>>,
}

/// What xPos adds.
#[derive(Debug)]
struct Decay {
    /// ln ζᵢ / scale_base, f64 `[head_dim / 2]`.
    per_token: Tensor,
    /// The largest |ln ζᵢ|.
    steepest: f64,
    scale_base: f64,
}

/// Tables for a range of positions, one for each side.
#[derive(Debug)]
pub(crate) struct Rotation {
    query: Table,
    key: Table,
}

#[derive(Debug)]
enum Table {
    /// Complex f32 `[positions, head_dim / 2]`.
    Interleaved(Tensor),
    /// Two f32 `[positions, head_dim]`; the first half of the sines is negated.
    HalfSplit { cos: Tensor, sin: Tensor },
}

/// The xPos constants ζᵢ, i = 0 .. `head_dim`/2.
#[must_use]
pub fn xpos_zeta(head_dim: i64, gamma: f64) -> Vec<f64> {
    (0..head_dim / 2).map(|i| (2.0 * i as f64 / head_dim as f64 + gamma) / (1.0 + gamma)).collect()
}

/// Checks that [`Rotary::rotation`] of `seq_len` tokens can be held in f32, without building it.
pub(crate) fn ensure_xpos_fits(
    seq_len: i64,
    head_dim: i64,
    gamma: f64,
    scale_base: f64,
) -> Result<()> {
    let steepest = steepest(&xpos_zeta(head_dim, gamma));
    ensure_in_range(seq_len, (capacity(seq_len) / 2) as f64, steepest, scale_base)
}

/// Rows of the table for `seq_len` positions.
fn capacity(seq_len: i64) -> u64 {
    (seq_len.max(16) as u64).next_power_of_two()
}

/// The largest |ln ζᵢ|.
fn steepest(zeta: &[f64]) -> f64 {
    zeta.iter().fold(0.0, |most, zeta| most.max(zeta.ln().abs()))
}

/// `furthest` is the largest distance from the reference position, in tokens.
fn ensure_in_range(seq_len: i64, furthest: f64, steepest: f64, scale_base: f64) -> Result<()> {
    // Beyond exp(±80) a factor is subnormal or infinite in f32.
    let needed = furthest * steepest / 80.0;
    let shown = (needed * 10.0).ceil() / 10.0;
    let want = format!("at least {shown} for {seq_len} tokens");
    ensure(needed <= scale_base, "positions.scale_base", &want, scale_base)
}

impl Rotary {
    /// RoPE over heads of `head_dim` channels with wavelength base `base`, half-split pairs.
    ///
    /// # Errors
    /// [`Error::Config`] names an argument that is out of range.
    pub fn rope(head_dim: i64, base: f64, device: Device) -> Result<Self> {
        Self::new(head_dim, base, Pairing::HalfSplit, device)
    }

    /// xPos with interleaved pairs; TorchScale has `gamma` 0.4 and `scale_base` 512.
    ///
    /// # Errors
    /// [`Error::Config`] names an argument that is out of range.
    pub fn xpos(
        head_dim: i64,
        base: f64,
        gamma: f64,
        scale_base: f64,
        device: Device,
    ) -> Result<Self> {
        ensure(gamma > 0.0 && gamma.is_finite(), "gamma", "positive and finite", gamma)?;
        ensure(scale_base > 0.0, "scale_base", "positive", scale_base)?;
        let rotary = Self::new(head_dim, base, Pairing::Interleaved, device)?;
        let zeta = xpos_zeta(head_dim, gamma);
        let per_token: Vec<f64> = zeta.iter().map(|zeta| zeta.ln() / scale_base).collect();
        let per_token = Tensor::f_from_slice(&per_token)?.f_to_device(device)?;
        let decay = Decay { per_token, steepest: steepest(&zeta), scale_base };
        Ok(Self { decay: Some(decay), ..rotary })
    }

    fn new(head_dim: i64, base: f64, pairing: Pairing, device: Device) -> Result<Self> {
        ensure(head_dim > 0 && head_dim % 2 == 0, "head_dim", "positive and even", head_dim)?;
        ensure(base > 1.0 && base.is_finite(), "base", "finite and above 1", base)?;
        let theta = |i| (-2.0 * i as f64 / head_dim as f64 * base.ln()).exp();
        let frequency: Vec<f64> = (0..head_dim / 2).map(theta).collect();
        let frequency = Tensor::f_from_slice(&frequency)?.f_to_device(device)?;
        Ok(Self { frequency, decay: None, pairing, tables: RefCell::default() })
    }

    /// Which channels turn together.
    #[must_use]
    pub fn pairing(&self) -> Pairing {
        self.pairing
    }

    /// Rotates `x`, `[.., seq, head_dim]`, whose first token sits at position `offset`; xPos measures
    /// its exponent from the middle of the `offset + seq` positions, as TorchScale does. The result has
    /// the shape and kind of `x`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has another `head_dim`; [`Error::Config`] if the sequence is too long for
    /// the decay to be held in f32.
    pub fn apply(&self, x: &Tensor, offset: i64, side: Side) -> Result<Tensor> {
        let size = x.size();
        let head_dim = 2 * self.frequency.size1()?;
        let [.., seq, channels] = size.as_slice() else {
            return Err(Error::Shape { arg: "x", want: "[.., seq, head_dim]".into(), got: size });
        };
        if *channels != head_dim || offset < 0 {
            let want = format!("[.., seq, {head_dim}] at an offset >= 0");
            return Err(Error::Shape { arg: "x", want, got: size });
        }
        let total = offset + seq;
        let reference = (total + 1) / 2;
        self.ensure_in_range(total, (total - reference).max(reference - offset))?;
        self.table(offset..total, reference, side)?.rotate(x)
    }

    /// Tables for positions 0 .. `len`.
    pub(crate) fn rotation(&self, len: i64) -> Result<Rotation> {
        let capacity = capacity(len) as i64;
        let mut tables = self.tables.borrow_mut();
        if let Some(rotation) = tables.get(&capacity) {
            return rotation.narrow(0..len, 0..len);
        }
        self.ensure_in_range(len, capacity / 2)?;
        let side = |side| self.table(0..capacity, capacity / 2, side);
        let rotation = Rotation { query: side(Side::Query)?, key: side(Side::Key)? };
        let result = rotation.narrow(0..len, 0..len);
        tables.insert(capacity, rotation);
        result
    }

    fn ensure_in_range(&self, len: i64, furthest: i64) -> Result<()> {
        match &self.decay {
            Some(Decay { steepest, scale_base, .. }) => {
                ensure_in_range(len, furthest as f64, *steepest, *scale_base)
            }
            None => Ok(()),
        }
    }

    fn table(&self, positions: Range<i64>, reference: i64, side: Side) -> Result<Table> {
        // f64 until the last step: near position 100 000 an f32 angle is off by 4e-3 rad.
        let f64s = (Kind::Double, self.frequency.device());
        let position = Tensor::f_arange_start(positions.start, positions.end, f64s)?;
        let angle = position.f_outer(&self.frequency)?; // [positions, head_dim / 2]
        let sign = if side == Side::Query { 1.0 } else { -1.0 };
        let factor = match &self.decay {
            Some(Decay { per_token, .. }) => {
                let exponent = position.f_add_scalar(-(reference as f64))?.f_mul_scalar(sign)?;
                exponent.f_outer(per_token)?.f_exp()?
            }
            None => angle.f_ones_like()?,
        };
        match self.pairing {
            Pairing::Interleaved => {
                let table = Tensor::f_polar(&factor, &angle)?;
                Ok(Table::Interleaved(table.f_to_kind(Kind::ComplexFloat)?))
            }
            Pairing::HalfSplit => {
                let cos = factor.f_mul(&angle.f_cos()?)?;
                let sin = factor.f_mul(&angle.f_sin()?)?;
                let cos = Tensor::f_cat(&[&cos, &cos], -1)?.f_to_kind(Kind::Float)?;
                let sin = Tensor::f_cat(&[&sin.f_neg()?, &sin], -1)?.f_to_kind(Kind::Float)?;
                Ok(Table::HalfSplit { cos, sin })
            }
        }
    }
}

impl Rotation {
    /// The same tables for queries at `queries` and keys at `keys`.
    pub(crate) fn narrow(&self, queries: Range<i64>, keys: Range<i64>) -> Result<Self> {
        Ok(Self { query: self.query.narrow(queries)?, key: self.key.narrow(keys)? })
    }

    /// `q` is `[.., queries, head_dim]`, `k` is `[.., keys, head_dim]`.
    pub(crate) fn apply(&self, q: &Tensor, k: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.query.rotate(q)?, self.key.rotate(k)?))
    }

    /// Cosines and sines of queries, and of keys, f32 `[positions, head_dim / 2]`, contiguous.
    pub(crate) fn cos_and_sin(&self) -> Result<[[Tensor; 2]; 2]> {
        Ok([self.query.cos_and_sin()?, self.key.cos_and_sin()?])
    }

    /// Which channels turn together.
    pub(crate) fn pairing(&self) -> Pairing {
        match self.query {
            Table::Interleaved(_) => Pairing::Interleaved,
            Table::HalfSplit { .. } => Pairing::HalfSplit,
        }
    }

    pub(crate) fn share(&self) -> Self {
        Self { query: self.query.share(), key: self.key.share() }
    }
}

impl Table {
    fn narrow(&self, rows: Range<i64>) -> Result<Self> {
        let narrow = |table: &Tensor| table.f_narrow(0, rows.start, rows.end - rows.start);
        Ok(match self {
            Self::Interleaved(table) => Self::Interleaved(narrow(table)?),
            Self::HalfSplit { cos, sin } => {
                Self::HalfSplit { cos: narrow(cos)?, sin: narrow(sin)? }
            }
        })
    }

    /// One complex product, or two real ones and a swap of the halves.
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let wide = x.f_to_kind(Kind::Float)?;
        let turned = match self {
            Self::Interleaved(table) => {
                let pairs = wide.f_unflatten(-1, [-1, 2])?.f_view_as_complex()?;
                pairs.f_mul(table)?.f_view_as_real()?.f_flatten(-2, -1)?
            }
            Self::HalfSplit { cos, sin } => {
                let half = cos.size2()?.1 / 2;
                wide.f_mul(cos)?.f_addcmul(&wide.f_roll([half], [-1])?, sin)?
            }
        };
        Ok(turned.f_to_kind(x.kind())?)
    }

    fn cos_and_sin(&self) -> Result<[Tensor; 2]> {
        let parts = match self {
            Self::Interleaved(table) => {
                let parts = table.f_view_as_real()?; // [positions, head_dim / 2, 2]
                [parts.f_select(2, 0)?, parts.f_select(2, 1)?]
            }
            Self::HalfSplit { cos, sin } => {
                let half = cos.size2()?.1 / 2;
                [cos.f_narrow(1, half, half)?, sin.f_narrow(1, half, half)?]
            }
        };
        let [cos, sin] = parts;
        Ok([cos.f_contiguous()?, sin.f_contiguous()?])
    }

    fn share(&self) -> Self {
        match self {
            Self::Interleaved(table) => Self::Interleaved(table.shallow_clone()),
            Self::HalfSplit { cos, sin } => {
                Self::HalfSplit { cos: cos.shallow_clone(), sin: sin.shallow_clone() }
            }
        }
    }
}

#[cfg(test)]
mod tests;
