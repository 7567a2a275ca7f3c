//! Rows and parameters as slices, and their division among threads.

use std::mem::take;
use std::ops::Range;

/// `n` rows of `width` numbers, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a, E> {
    data: &'a [E],
    n: usize,
    width: usize,
    stride: usize,
}

/// As [`Rows`], to be written.
#[derive(Debug)]
pub(super) struct RowsMut<'a, E> {
    data: &'a mut [E],
    n: usize,
    width: usize,
    stride: usize,
}

/// One row of numbers for each group of rows, or one for all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter<D> {
    pub(super) data: D,
    pub(super) groups: usize,
    pub(super) width: usize,
}

impl<'a, E> Rows<'a, E> {
    pub(super) fn new(data: &'a [E], n: usize, width: usize, stride: usize) -> Self {
        Self { data, n, width, stride }
    }

    pub(super) fn shape(&self) -> [usize; 2] {
        [self.n, self.width]
    }

    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> &'a [E] {
        &self.data[i * self.stride..][..self.width]
    }
}

impl<'a, E> RowsMut<'a, E> {
    pub(super) fn new(data: &'a mut [E], n: usize, width: usize, stride: usize) -> Self {
        Self { data, n, width, stride }
    }

    #[inline(always)]
    pub(super) fn row(&mut self, i: usize) -> &mut [E] {
        &mut self.data[i * self.stride..][..self.width]
    }

    /// All rows, one after the other where nothing lies between them.
    #[inline(always)]
    pub(super) fn all(&self) -> &[E] {
        self.data
    }

    /// Each row on its own.
    pub(super) fn into_rows(self) -> Vec<&'a mut [E]> {
        let Self { data, n, width, stride } = self;
        // Of a single row the stride means nothing.
        let apart = if n == 1 { data.len() } else { stride };
        data.chunks_mut(apart.max(1)).take(n).map(|row| &mut row[..width]).collect()
    }

    /// The rows of each part.
    pub(super) fn split(mut self, parts: &[Part]) -> Vec<Self> {
        let Self { n, width, stride, .. } = self;
        let mut rest = take(&mut self.data);
        let cut = |part: &Part| {
            // The last row is not followed by a gap.
            let end = part.rows.len() * stride;
            let end = if part.rows.end == n { rest.len() } else { end };
            let end = end.min(rest.len());
            let (own, others) = take(&mut rest).split_at_mut(end);
            rest = others;
            Self { data: own, n: part.rows.len(), width, stride }
        };
        parts.iter().map(cut).collect()
    }
}

impl<'a> Parameter<&'a [f32]> {
    #[inline(always)]
    pub(super) fn of(&self, group: usize) -> &'a [f32] {
        let group = if self.groups == 1 { 0 } else { group };
        &self.data[group * self.width..][..self.width]
    }
}

/// Rows that one thread does in one go: all of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) group: usize,
    pub(super) rows: Range<usize>,
}

/// Numbers that are worth a job, and more jobs a group than this are not made.
const JOB: usize = 8192;
const JOBS: usize = 16;

/// Jobs that are worth starting another thread.
pub(super) const GRAIN: usize = 4;

/// Divides rows into jobs by the shape alone, so that sums over rows do not depend on the number of threads.
pub(super) fn parts(rows: usize, groups: usize, width: usize) -> Vec<Part> {
    let per_group = rows / groups.max(1);
    let per_job = per_group.div_ceil(JOBS).max(JOB.div_ceil(width.max(1)));
    let of_group = |group: usize| {
        let (first, end) = (group * per_group, (group + 1) * per_group);
        let cut = move |start| Part { group, rows: start..end.min(start + per_job) };
        (first..end).step_by(per_job).map(cut)
    };
    (0..groups).flat_map(of_group).collect()
}

/// Sums over rows, f32: each job has a slot of its own, and the slots are added up in order at the end.
#[derive(Debug)]
pub(super) struct Sums<'a> {
    /// None if nobody asked.
    total: Option<Parameter<&'a mut [f32]>>,
    slots: Vec<f32>,
}

impl<'a> Sums<'a> {
    pub(super) fn new(total: Option<Parameter<&'a mut [f32]>>, n_parts: usize) -> Self {
        let width = total.as_ref().map_or(0, |total| total.width);
        Self { total, slots: vec![0.0; n_parts * width] }
    }

    /// One for each part; all empty if nobody asked.
    pub(super) fn slots(&mut self, n_parts: usize) -> Vec<&mut [f32]> {
        match &self.total {
            Some(total) if total.width > 0 => self.slots.chunks_mut(total.width).collect(),
            _ => std::iter::repeat_with(|| [].as_mut_slice()).take(n_parts).collect(),
        }
    }

    pub(super) fn finish(self, parts: &[Part]) {
        let Some(Parameter { data, groups, width }) = self.total else { return };
        for (part, slot) in parts.iter().zip(self.slots.chunks(width.max(1))) {
            let group = if groups == 1 { 0 } else { part.group };
            for (sum, &x) in data[group * width..][..width].iter_mut().zip(slot) {
                *sum += x;
            }
        }
    }
}

#[cfg(test)]
mod tests;
