//! Where each weight lies in the bytes of a packed matrix.
//!
//! A block holds sixteen rows. With 4 bits it is, for each group of columns: sixteen scales and sixteen offsets, f16, then for
//! each eight columns 64 bytes, four a row: the byte i of a row has column i in its lower half and column 4 + i in its
//! upper half. With 8 bits it is sixteen f32 scales, then for each four columns 64 bytes, four a row; with 8 bits and groups, for
//! each group sixteen scales, f16, before its codes. Rows beyond the last, and columns beyond the last 32 where there are no
//! groups, are zeros. Numbers are little-endian.

use super::WeightFormat;
use super::tile::LANES;
use crate::error::{Result, ensure};
use crate::kernels::element::{Element, F16};
use crate::kernels::machine::{Job, Machine, run};
use crate::kernels::rows::{Part, Rows, RowsMut};

/// Bytes that belong to a few columns of all rows of a block: one register's.
pub(super) const STEP: usize = 64;
/// Bytes of one f16 for each row of a block.
pub(super) const SCALES: usize = 2 * LANES;
/// Columns that have a scale of the activations in common with 8 bits, and one of their own if they have groups.
const GROUP_INT8: usize = 32;

/// How the codes of a block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    Nibbles,
    Bytes,
    GroupedBytes,
}

/// Sizes of a packed matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) codes: Codes,
    /// Columns of a group.
    pub(super) group: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Shape {
    pub(super) fn new(format: WeightFormat, rows: i64, columns: i64) -> Result<Self> {
        for (field, size) in [("rows", rows), ("columns", columns)] {
            // So that no product of two overflows.
            let sound = 0 < size && size < 1 << 31;
            ensure(sound, &format!("{field} of a packed matrix"), "positive and below 2^31", size)?;
        }
        let (codes, group) = match format {
            WeightFormat::Int8 => (Codes::Bytes, GROUP_INT8),
            WeightFormat::Int8Grouped => (Codes::GroupedBytes, GROUP_INT8),
            WeightFormat::Int4 { group } => {
                ensure([32, 64, 128].contains(&group), "group", "32, 64 or 128", group)?;
                (Codes::Nibbles, group as usize)
            }
        };
        if codes != Codes::Bytes {
            let want = format!("a divisor of the {columns} columns");
            ensure((columns as usize).is_multiple_of(group), "group", &want, group)?;
        }
        Ok(Self { codes, group, rows: rows as usize, columns: columns as usize })
    }

    pub(super) fn blocks(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    pub(super) fn groups(&self) -> usize {
        self.columns.div_ceil(self.group)
    }

    /// Columns with those that fill the last group.
    pub(super) fn width(&self) -> usize {
        self.groups() * self.group
    }

    /// Bytes of a block before its first codes.
    pub(super) fn head(&self) -> usize {
        match self.codes {
            Codes::Nibbles | Codes::GroupedBytes => 0,
            Codes::Bytes => STEP,
        }
    }

    /// Bytes of a group, with its scales and offsets.
    pub(super) fn group_bytes(&self) -> usize {
        match self.codes {
            Codes::Nibbles => STEP + self.group / 8 * STEP,
            Codes::Bytes => self.group / 4 * STEP,
            Codes::GroupedBytes => SCALES + self.group / 4 * STEP,
        }
    }

    pub(super) fn block_bytes(&self) -> usize {
        self.head() + self.groups() * self.group_bytes()
    }

    /// Which byte of a block has this column of the row `lane`, and by how many bits it is shifted.
    #[inline(always)]
    fn place(&self, lane: usize, column: usize) -> (usize, u32) {
        let (group, rest) = (column / self.group, column % self.group);
        let start = self.head() + group * self.group_bytes() + 4 * lane;
        match self.codes {
            Codes::Nibbles => {
                let (step, half) = (rest / 8, rest / 4 % 2);
                (start + STEP + step * STEP + rest % 4, 4 * half as u32)
            }
            Codes::Bytes => (start + rest / 4 * STEP + rest % 4, 0),
            Codes::GroupedBytes => (start + SCALES + rest / 4 * STEP + rest % 4, 0),
        }
    }

    /// Which bytes of a block have the scale of a group for the row `lane`; the offset is [`SCALES`] further.
    fn scale_of(&self, lane: usize, group: usize) -> usize {
        group * self.group_bytes() + 2 * lane
    }
}

/// Into `data`, which is all zeros.
pub(super) fn pack_int4(
    shape: &Shape,
    codes: &[u8],
    scale: &Rows<'_, f32>,
    offset: &Rows<'_, f32>,
    data: &mut [u8],
) {
    for (row, codes) in codes.chunks_exact(shape.columns).enumerate() {
        let (block, lane) = block_mut(shape, data, row);
        for (column, &code) in codes.iter().enumerate() {
            let (at, shift) = shape.place(lane, column);
            block[at] |= code << shift;
        }
        for (group, (&scale, &offset)) in scale.row(row).iter().zip(offset.row(row)).enumerate() {
            let at = shape.scale_of(lane, group);
            put_half(block, at, scale);
            put_half(block, at + SCALES, offset);
        }
    }
}

/// Into `data`, which is all zeros.
pub(super) fn pack_int8(shape: &Shape, codes: &[i8], scale: &[f32], data: &mut [u8]) {
    for (row, codes) in codes.chunks_exact(shape.columns).enumerate() {
        let (block, lane) = block_mut(shape, data, row);
        for (column, &code) in codes.iter().enumerate() {
            block[shape.place(lane, column).0] = code.cast_unsigned();
        }
        block[4 * lane..][..4].copy_from_slice(&scale[row].to_le_bytes());
    }
}

/// Into `data`, which is all zeros.
pub(super) fn pack_int8_grouped(
    shape: &Shape,
    codes: &[i8],
    scale: &Rows<'_, f32>,
    data: &mut [u8],
) {
    for (row, codes) in codes.chunks_exact(shape.columns).enumerate() {
        let (block, lane) = block_mut(shape, data, row);
        for (column, &code) in codes.iter().enumerate() {
            block[shape.place(lane, column).0] = code.cast_unsigned();
        }
        for (group, &scale) in scale.row(row).iter().enumerate() {
            put_half(block, shape.scale_of(lane, group), scale);
        }
    }
}

fn put_half(block: &mut [u8], at: usize, x: f32) {
    block[at..at + 2].copy_from_slice(&F16::put(x).0.to_le_bytes());
}

fn block_mut<'a>(shape: &Shape, data: &'a mut [u8], row: usize) -> (&'a mut [u8], usize) {
    let bytes = shape.block_bytes();
    (&mut data[row / LANES * bytes..][..bytes], row % LANES)
}

struct Read<'a, Y> {
    shape: &'a Shape,
    data: &'a [u8],
    rows: &'a [usize],
    out: RowsMut<'a, Y>,
}

impl<Y: Element> Job for Read<'_, Y> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        let bytes = self.shape.block_bytes();
        for (i, row) in self.rows.iter().enumerate() {
            let block = &self.data[row / LANES * bytes..][..bytes];
            read_row(self.shape, block, row % LANES, self.out.row(i));
        }
    }
}

/// Rows that one job reads.
const READ_AT_ONCE: usize = 64;

/// The numbers of `rows`, one after the other.
pub(super) fn read_rows<Y: Element>(
    shape: &Shape,
    data: &[u8],
    rows: &[usize],
    out: RowsMut<'_, Y>,
) -> Result<()> {
    let starts = (0..rows.len()).step_by(READ_AT_ONCE);
    let part = |start| Part { group: 0, rows: start..rows.len().min(start + READ_AT_ONCE) };
    let parts: Vec<Part> = starts.map(part).collect();
    let jobs = rows.chunks(READ_AT_ONCE).zip(out.split(&parts));
    run(jobs.map(|(rows, out)| Read { shape, data, rows, out }), 1)
}

#[inline(always)]
fn read_row<Y: Element>(shape: &Shape, block: &[u8], lane: usize, out: &mut [Y]) {
    let half = |at: usize| F16(u16::from_le_bytes([block[at], block[at + 1]])).get();
    for (group, out) in out.chunks_mut(shape.group).enumerate() {
        match shape.codes {
            Codes::Nibbles => {
                let at = shape.scale_of(lane, group);
                let (scale, offset) = (half(at), half(at + SCALES));
                for (i, out) in out.iter_mut().enumerate() {
                    let (at, shift) = shape.place(lane, group * shape.group + i);
                    *out = Y::put(scale * f32::from(block[at] >> shift & 15) + offset);
                }
            }
            Codes::Bytes | Codes::GroupedBytes => {
                let scale = match shape.codes {
                    Codes::GroupedBytes => half(shape.scale_of(lane, group)),
                    _ => float(block, lane),
                };
                for (i, out) in out.iter_mut().enumerate() {
                    let (at, _) = shape.place(lane, group * shape.group + i);
                    *out = Y::put(scale * f32::from(block[at].cast_signed()));
                }
            }
        }
    }
}

/// The f32 at `4 * lane`.
#[inline(always)]
pub(super) fn float(block: &[u8], lane: usize) -> f32 {
    let at = 4 * lane;
    f32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}
