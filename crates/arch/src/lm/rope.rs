//! Cosines and sines of every position, in f32.

use std::cell::RefCell;
use std::ops::Range;

use forerun_tensors::Result;
use tch::{Device, Kind, Tensor};

use super::config::{LmRope, RopeRange};

/// The tables of a model, one for each range of LongRoPE, as far as they have been needed.
#[derive(Debug)]
pub(crate) struct RopeTables {
    rope: LmRope,
    device: Device,
    tables: RefCell<[Option<RopeTable>; 2]>,
}

/// Cosines and sines of some positions, each f32 `[positions, rotary_dim / 2]`, or `[batch, positions, rotary_dim / 2]`.
#[derive(Debug)]
pub(crate) struct RopeTable {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

impl RopeTables {
    pub(crate) fn new(rope: LmRope, device: Device) -> Self {
        Self { rope, device, tables: RefCell::default() }
    }

    /// Which table a text of `len` tokens is read with.
    pub(crate) fn range(&self, len: i64) -> RopeRange {
        self.rope.range(len)
    }

    /// Whether that ever changes.
    pub(crate) fn has_ranges(&self) -> bool {
        self.rope.range(0) != self.rope.range(i64::MAX)
    }

    pub(crate) fn rows(&self, range: RopeRange, positions: Range<i64>) -> Result<RopeTable> {
        let mut tables = self.tables.borrow_mut();
        let table = &mut tables[usize::from(range == RopeRange::Long)];
        let held = table.as_ref().map_or(0, |table| table.cos.size()[0]);
        if held < positions.end {
            let capacity = (positions.end.max(64) as u64).next_power_of_two() as i64;
            *table = Some(self.table(range, capacity)?);
        }
        let Some(table) = table else { return self.table(range, positions.end) };
        let narrow =
            |table: &Tensor| table.f_narrow(0, positions.start, positions.end - positions.start);
        Ok(RopeTable { cos: narrow(&table.cos)?, sin: narrow(&table.sin)? })
    }

    fn table(&self, range: RopeRange, capacity: i64) -> Result<RopeTable> {
        let (frequencies, scale) = self.rope.frequencies(range)?;
        let frequencies = Tensor::f_from_slice(&frequencies)?;
        let position = Tensor::f_arange(capacity, (Kind::Float, Device::Cpu))?;
        let angle = position.f_outer(&frequencies)?;
        let finish = |table: Tensor| table.f_mul_scalar(scale)?.f_to_device(self.device);
        Ok(RopeTable { cos: finish(angle.f_cos()?)?, sin: finish(angle.f_sin()?)? })
    }
}

impl RopeTable {
    /// Turns `x`, `[.., seq, heads, head_dim]`, whose position i is row i here; computed in f32, the result has the kind of `x`.
    pub(crate) fn turn(&self, x: &Tensor) -> Result<Tensor> {
        let (cos, sin) = (self.cos.f_unsqueeze(-2)?, self.sin.f_unsqueeze(-2)?); // [.., seq, 1, pairs]
        let pairs = cos.size().last().copied().unwrap_or_default();
        let channels = x.size().last().copied().unwrap_or_default();
        let wide = x.f_to_kind(Kind::Float)?;
        let (a, b) = (wide.f_narrow(-1, 0, pairs)?, wide.f_narrow(-1, pairs, pairs)?);
        let turned_a = a.f_mul(&cos)?.f_sub(&b.f_mul(&sin)?)?;
        let turned_b = b.f_mul(&cos)?.f_add(&a.f_mul(&sin)?)?;
        let rest = wide.f_narrow(-1, 2 * pairs, channels - 2 * pairs)?;
        Ok(Tensor::f_cat(&[turned_a, turned_b, rest], -1)?.f_to_kind(x.kind())?)
    }
}
