//! Activations rounded to 8 bits, a group of columns at a time.

use crate::error::Result;
use crate::kernels::element::Element;
use crate::kernels::machine::{Job, Machine, run};
use crate::kernels::rows::Rows;

/// Rows of whole numbers from -127 to 127; each group of a row has its scale.
#[derive(Debug)]
pub(super) struct Activations {
    /// Columns, with zeros that fill the last group.
    pub(super) width: usize,
    pub(super) group: usize,
    /// `[rows, width]`.
    codes: Vec<i8>,
    /// `[rows, groups]`.
    scale: Vec<f32>,
    /// The sum of a group's codes, times its scale.
    sum: Vec<f32>,
    /// The sum of a group's codes, times -128.
    shift: Vec<i32>,
}

/// Some rows of [`Activations`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SomeRows<'a> {
    pub(super) width: usize,
    pub(super) groups: usize,
    pub(super) codes: &'a [i8],
    pub(super) scale: &'a [f32],
    pub(super) sum: &'a [f32],
    pub(super) shift: &'a [i32],
}

impl Activations {
    pub(super) fn new<X: Element>(x: &Rows<'_, X>, group: usize) -> Result<Self> {
        let [rows, columns] = x.shape();
        let groups = columns.div_ceil(group);
        let width = groups * group;
        let mut own = Self {
            width,
            group,
            codes: vec![0; rows * width],
            scale: vec![0.0; rows * groups],
            sum: vec![0.0; rows * groups],
            shift: vec![0; rows * groups],
        };
        let at_once = ROWS_AT_ONCE.max(NUMBERS_AT_ONCE / width.max(1));
        let codes = own.codes.chunks_mut(at_once * width);
        let scales =
            own.scale.chunks_mut(at_once * groups).zip(own.sum.chunks_mut(at_once * groups));
        let shifts = own.shift.chunks_mut(at_once * groups);
        let jobs = codes.zip(scales).zip(shifts).enumerate();
        let job = |(i, ((codes, (scale, sum)), shift))| Round {
            x,
            first: i * at_once,
            group,
            groups,
            codes,
            scale,
            sum,
            shift,
        };
        run(jobs.map(job), 1)?;
        Ok(own)
    }

    /// `N` rows from `first` on.
    #[inline(always)]
    pub(super) fn rows<const N: usize>(&self, first: usize) -> SomeRows<'_> {
        let groups = self.width / self.group;
        let range = first * groups..(first + N) * groups;
        SomeRows {
            width: self.width,
            groups,
            codes: &self.codes[first * self.width..(first + N) * self.width],
            scale: &self.scale[range.clone()],
            sum: &self.sum[range.clone()],
            shift: &self.shift[range],
        }
    }
}

impl<'a> SomeRows<'a> {
    /// `N` of these rows, from `first` on.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn part<const N: usize>(self, first: usize) -> Self {
        let range = first * self.groups..(first + N) * self.groups;
        SomeRows {
            codes: &self.codes[first * self.width..(first + N) * self.width],
            scale: &self.scale[range.clone()],
            sum: &self.sum[range.clone()],
            shift: &self.shift[range],
            ..self
        }
    }
}

/// Of one job, at least.
const ROWS_AT_ONCE: usize = 4;
const NUMBERS_AT_ONCE: usize = 16_384;

struct Round<'a, X> {
    x: &'a Rows<'a, X>,
    first: usize,
    group: usize,
    groups: usize,
    codes: &'a mut [i8],
    scale: &'a mut [f32],
    sum: &'a mut [f32],
    shift: &'a mut [i32],
}

impl<X: Element> Job for Round<'_, X> {
    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { group, groups, .. } = self;
        for (i, codes) in self.codes.chunks_exact_mut(group * groups).enumerate() {
            let x = self.x.row(self.first + i).chunks(group);
            for (j, (x, codes)) in x.zip(codes.chunks_exact_mut(group)).enumerate() {
                let (scale, sum) = round(x, codes);
                let at = i * groups + j;
                (self.scale[at], self.sum[at]) = (scale, scale * sum as f32);
                self.shift[at] = -128 * sum;
            }
        }
    }
}

const LANES: usize = 16;

/// Scale and sum of the codes of one group. If a number is not finite, the scale is NaN.
#[inline(always)]
fn round<X: Element>(x: &[X], codes: &mut [i8]) -> (f32, i32) {
    // 1.5 * 2^23: a number of ordinary size added to it is rounded to an integer.
    const ROUND: f32 = 12_582_912.0;
    let largest = largest(x);
    if !largest.is_finite() {
        return (f32::NAN, 0);
    }
    let inverse = 127.0 / largest;
    // All zeros, or as good as.
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let codes = &mut codes[..x.len()];
    let mut sum = 0;
    for (code, x) in codes.iter_mut().zip(x) {
        let rounded = fitted::<X>(*x, inverse, ROUND);
        sum += rounded;
        *code = rounded as i8;
    }
    (largest / 127.0, sum)
}

#[inline(always)]
fn fitted<X: Element>(x: X, inverse: f32, round: f32) -> i32 {
    let bits = (x.get() * inverse + round).to_bits();
    bits.cast_signed().wrapping_sub(round.to_bits().cast_signed())
}

/// The largest absolute value; not finite if one number is not.
#[inline(always)]
fn largest<X: Element>(x: &[X]) -> f32 {
    const SIGN: u32 = 1 << 31;
    // As bits: a larger number without its sign has larger bits, and the largest are infinity and NaN.
    let mut lanes = [0u32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = lanes[i].max(chunk[i].get().to_bits() & !SIGN);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = (*lane).max(x.get().to_bits() & !SIGN);
    }
    f32::from_bits(lanes.into_iter().max().unwrap_or(0))
}
