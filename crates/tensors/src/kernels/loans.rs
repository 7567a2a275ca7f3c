//! The edge between tensors and slices: what a kernel reads and writes, checked once and lent out as rows.

#![expect(unsafe_code, reason = "slices over libtorch's memory; each says why it is sound")]

use std::ops::Range;
use std::slice::{from_raw_parts, from_raw_parts_mut};

use tch::{Kind, Tensor};

use super::element::Element;
use super::rows::{Parameter, Rows, RowsMut};
use crate::error::{Error, Result};
use crate::shim::Layout;

/// What one call of a kernel has borrowed: it refuses to lend memory for writing that is lent already, and to lend
/// memory that is lent for writing. One a call, and what it lends does not outlive the call.
#[derive(Debug, Default)]
pub(super) struct Loans {
    /// Address ranges.
    read: Vec<Range<usize>>,
    written: Vec<Range<usize>>,
    /// Of the parameters that were lent for reading and have more than one.
    groups: Option<usize>,
}

impl Loans {
    /// `x` as rows, `[rows, channels]`.
    pub(super) fn rows<'a, E: Element>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
    ) -> Result<Rows<'a, E>> {
        let layout = Layout::of(arg, x)?;
        let (n, width, stride) = rows_of(arg, &layout)?;
        Ok(Rows::new(self.lend(arg, &layout)?, n, width, stride))
    }

    /// `x` as rows of the stated shape.
    pub(super) fn rows_of<'a, E: Element>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
        shape: [usize; 2],
    ) -> Result<Rows<'a, E>> {
        let rows = self.rows(arg, x)?;
        expect_shape(arg, rows.shape(), shape)?;
        Ok(rows)
    }

    /// As [`Self::rows_of`], but nothing if `x` is the very memory of `out`, which is to be overwritten.
    pub(super) fn rows_unless<'a, E: Element>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
        out: &Tensor,
        shape: [usize; 2],
    ) -> Result<Option<Rows<'a, E>>> {
        if Layout::of(arg, x)? == Layout::of("out", out)? {
            return Ok(None);
        }
        self.rows_of(arg, x, shape).map(Some)
    }

    /// As [`Self::rows_of`], to be written.
    pub(super) fn rows_mut<'a, E: Element>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
        shape: [usize; 2],
    ) -> Result<RowsMut<'a, E>> {
        let layout = Layout::of(arg, x)?;
        let (n, width, stride) = rows_of(arg, &layout)?;
        expect_shape(arg, [n, width], shape)?;
        if n > 1 && stride < width {
            return Err(overlap(arg));
        }
        Ok(RowsMut::new(self.lend_mut(arg, &layout)?, n, width, stride))
    }

    /// A parameter for `shape` = `[rows, channels]`: f32 `[channels]` or `[groups, channels]`, all of one call with the same
    /// groups.
    pub(super) fn parameter<'a>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
        shape: [usize; 2],
    ) -> Result<Parameter<&'a [f32]>> {
        let layout = Layout::of(arg, x)?;
        let groups = groups_of(arg, &layout, shape)?;
        if groups > 1 && groups != *self.groups.get_or_insert(groups) {
            return Err(other_groups(arg, self.groups, &layout, shape));
        }
        Ok(Parameter { data: self.lend(arg, &layout)?, groups, width: shape[1] })
    }

    /// Sums over rows, like the parameters that were lent before, or one for all groups.
    pub(super) fn parameter_mut<'a>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
        shape: [usize; 2],
    ) -> Result<Parameter<&'a mut [f32]>> {
        let layout = Layout::of(arg, x)?;
        let groups = groups_of(arg, &layout, shape)?;
        if groups > 1 && Some(groups) != self.groups {
            return Err(other_groups(arg, self.groups, &layout, shape));
        }
        self.sums(arg, x, shape)
    }

    /// Sums over rows, f32 `[channels]` or `[groups, channels]`.
    pub(super) fn sums<'a>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
        shape: [usize; 2],
    ) -> Result<Parameter<&'a mut [f32]>> {
        let layout = Layout::of(arg, x)?;
        let groups = groups_of(arg, &layout, shape)?;
        Ok(Parameter { data: self.lend_mut(arg, &layout)?, groups, width: shape[1] })
    }

    /// i64 `[rows]`.
    pub(super) fn indices<'a>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
        rows: usize,
    ) -> Result<&'a [i64]> {
        let layout = Layout::of(arg, x)?;
        if layout.size() != [rows] || (rows > 1 && layout.stride() != [1]) {
            return Err(Error::Shape { arg, want: format!("[{rows}], contiguous"), got: x.size() });
        }
        expect_kind(arg, layout.kind, Kind::Int64)?;
        self.lend_as(arg, &layout)
    }

    /// u8 rows of the stated shape, one after the other.
    pub(super) fn bytes<'a>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
        shape: [usize; 2],
    ) -> Result<&'a [u8]> {
        self.lend_as(arg, &dense(arg, x, shape, Kind::Uint8)?)
    }

    /// As [`Self::bytes`], i8.
    pub(super) fn signed_bytes<'a>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
        shape: [usize; 2],
    ) -> Result<&'a [i8]> {
        self.lend_as(arg, &dense(arg, x, shape, Kind::Int8)?)
    }

    /// As [`Self::bytes`], to be written.
    pub(super) fn bytes_mut<'a>(
        &mut self,
        arg: &'static str,
        x: &'a Tensor,
        shape: [usize; 2],
    ) -> Result<&'a mut [u8]> {
        self.lend_mut_as(arg, &dense(arg, x, shape, Kind::Uint8)?)
    }

    fn lend<'a, E: Element>(&mut self, arg: &'static str, layout: &Layout) -> Result<&'a [E]> {
        expect_kind(arg, layout.kind, E::KIND)?;
        self.lend_as(arg, layout)
    }

    /// `T` is what the layout's kind holds.
    fn lend_as<'a, T>(&mut self, arg: &'static str, layout: &Layout) -> Result<&'a [T]> {
        let Some(range) = range_of::<T>(arg, layout)? else { return Ok(&[]) };
        if self.written.iter().any(|other| meet(other, &range)) {
            return Err(overlap(arg));
        }
        self.read.push(range);
        // SAFETY: libtorch allocated the elements from the first to the last, and every pattern of bits is a number of this
        // type, also in memory that nothing has written yet (an output of `empty`); the caller ties 'a to a borrow of
        // the tensor, which keeps them alive, and nothing that this call writes overlaps.
        Ok(unsafe { from_raw_parts(layout.data.cast::<T>(), layout.extent()) })
    }

    fn lend_mut<'a, E: Element>(
        &mut self,
        arg: &'static str,
        layout: &Layout,
    ) -> Result<&'a mut [E]> {
        expect_kind(arg, layout.kind, E::KIND)?;
        self.lend_mut_as(arg, layout)
    }

    /// `T` is what the layout's kind holds.
    fn lend_mut_as<'a, T>(&mut self, arg: &'static str, layout: &Layout) -> Result<&'a mut [T]> {
        let Some(range) = range_of::<T>(arg, layout)? else { return Ok(&mut []) };
        if self.read.iter().chain(&self.written).any(|other| meet(other, &range)) {
            return Err(overlap(arg));
        }
        self.written.push(range);
        // SAFETY: as in `lend_as`; nothing else that this call reads or writes overlaps. Rows that lie apart have gaps, which
        // may belong to another tensor: no kernel touches them, and tensors of one thread are not written by others.
        Ok(unsafe { from_raw_parts_mut(layout.data.cast::<T>(), layout.extent()) })
    }
}

/// The addresses, if there are any.
fn range_of<T>(arg: &'static str, layout: &Layout) -> Result<Option<Range<usize>>> {
    let extent = layout.extent();
    if extent == 0 {
        return Ok(None);
    }
    if layout.data.is_null() || !layout.data.cast::<T>().is_aligned() {
        return Err(Error::Foreign(format!("{arg} has no memory, or it is not aligned")));
    }
    let start = layout.data.addr();
    Ok(Some(start..start + extent * size_of::<T>()))
}

fn meet(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

fn overlap(arg: &'static str) -> Error {
    Error::Foreign(format!("{arg} overlaps with another argument or with itself"))
}

fn expect_kind(arg: &'static str, got: Kind, want: Kind) -> Result<()> {
    if got == want {
        return Ok(());
    }
    Err(Error::Config {
        field: format!("kind of {arg}"),
        want: format!("{want:?}"),
        got: format!("{got:?}"),
    })
}

fn expect_shape(arg: &'static str, got: [usize; 2], want: [usize; 2]) -> Result<()> {
    if got == want {
        return Ok(());
    }
    let [rows, channels] = want;
    Err(refused(arg, format!("[{rows}, {channels}]"), &got))
}

/// The layout of rows of the stated shape and kind without gaps between them.
fn dense(arg: &'static str, x: &Tensor, shape: [usize; 2], kind: Kind) -> Result<Layout> {
    let layout = Layout::of(arg, x)?;
    let (n, width, stride) = rows_of(arg, &layout)?;
    expect_shape(arg, [n, width], shape)?;
    expect_kind(arg, layout.kind, kind)?;
    if n > 1 && stride != width {
        return Err(refused(arg, format!("[{n}, {width}], contiguous"), layout.size()));
    }
    Ok(layout)
}

fn refused(arg: &'static str, want: String, got: &[usize]) -> Error {
    Error::Shape { arg, want, got: got.iter().map(|&n| n as i64).collect() }
}

/// Rows, channels, and elements from one row to the next.
fn rows_of(arg: &'static str, layout: &Layout) -> Result<(usize, usize, usize)> {
    match (layout.size(), layout.stride()) {
        (&[n, width], &[stride, last]) if last == 1 || width <= 1 => Ok((n, width, stride)),
        (size, _) => Err(refused(arg, "[rows, channels], each row contiguous".to_owned(), size)),
    }
}

fn other_groups(
    arg: &'static str,
    groups: Option<usize>,
    layout: &Layout,
    [_, channels]: [usize; 2],
) -> Error {
    let like = groups.map_or(String::new(), |groups| format!(" or [{groups}, {channels}]"));
    refused(arg, format!("[{channels}]{like}, as the other parameters"), layout.size())
}

fn groups_of(arg: &'static str, layout: &Layout, [rows, channels]: [usize; 2]) -> Result<usize> {
    let (size, stride) = (layout.size(), layout.stride());
    let contiguous = stride.last().is_none_or(|&last| last == 1 || channels <= 1);
    match *size {
        [width] if width == channels && contiguous => Ok(1),
        [groups, width]
            if width == channels
                && contiguous
                && groups > 0
                && rows.is_multiple_of(groups)
                && (groups == 1 || stride[0] == channels) =>
        {
            Ok(groups)
        }
        _ => {
            let want = format!("[{channels}] or [groups, {channels}], groups dividing {rows}");
            Err(refused(arg, want, size))
        }
    }
}

#[cfg(test)]
mod tests;
