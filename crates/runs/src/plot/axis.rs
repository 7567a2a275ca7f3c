//! Scales: from data to a fraction of the axis, with ticks that people can read.

mod ticks;

use super::{Axis, Scale};

pub(super) use ticks::Ticks;

/// Largest magnitude that is drawn; differences of such numbers do not overflow.
const LARGEST: f64 = 1e300;

/// Largest magnitude that counts as zero on a linear axis; steps stay above the subnormal numbers.
const SMALLEST: f64 = 1e-290;

/// An axis whose ends are known.
#[derive(Clone, Debug)]
pub(super) struct Domain {
    scale: Scale,
    low: f64,
    high: f64,
    pub(super) ticks: Ticks,
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// On the axis, at this fraction from its lower end.
    Inside(f64),
    /// Finite and beyond the upper end.
    Above,
    /// Finite and before the lower end, also zero and below on a logarithmic axis.
    Below,
    /// NaN or positive infinity.
    Diverged,
    /// Negative infinity.
    DivergedDown,
}

impl Domain {
    /// The domain of `axis` for `values`, with about `want` ticks. Ends that the axis does not
    /// give lie on a tick at or beyond the outermost value.
    pub(super) fn new(axis: &Axis, values: impl IntoIterator<Item = f64>, want: usize) -> Self {
        let scale = axis.scale;
        let usable = |value: &f64| is_drawable(scale, *value);
        let mut range: Option<(f64, f64)> = None;
        let fixed = [axis.min, axis.max];
        for value in values.into_iter().chain(fixed.into_iter().flatten()).filter(usable) {
            let (low, high) = range.unwrap_or((value, value));
            range = Some((low.min(value), high.max(value)));
        }
        let (low, high) = range.unwrap_or(match scale {
            Scale::Linear => (0.0, 1.0),
            Scale::Log10 | Scale::Log2 => (1.0, 10.0),
        });
        let low = axis.min.filter(usable).unwrap_or(low);
        let high = axis.max.filter(usable).unwrap_or(high).max(low);
        let (low, high) = widen(scale, low, high);
        let ticks = Ticks::new(scale, low, high, want);
        let mut domain = Self { scale, low, high, ticks };
        domain.settle(axis);
        domain
    }

    /// Moves free ends out to the outermost ticks and drops the ticks beyond fixed ends.
    fn settle(&mut self, axis: &Axis) {
        let usable = |value: &f64| is_drawable(self.scale, *value);
        if axis.min.filter(usable).is_none() {
            self.low = self.ticks.first().map_or(self.low, |tick| tick.min(self.low));
        }
        if axis.max.filter(usable).is_none() {
            self.high = self.ticks.last().map_or(self.high, |tick| tick.max(self.high));
        }
        let (low, high) = (self.low, self.high);
        self.ticks.keep(|tick| (low..=high).contains(&tick));
    }

    /// Where `value` lies.
    pub(super) fn place(&self, value: f64) -> Place {
        if value == f64::NEG_INFINITY {
            return Place::DivergedDown;
        }
        if !value.is_finite() {
            return Place::Diverged;
        }
        if value < self.low {
            Place::Below
        } else if value > self.high {
            Place::Above
        } else {
            Place::Inside(self.fraction(value).clamp(0.0, 1.0))
        }
    }

    /// Fraction of the axis at which a drawable `value` lies; outside 0 to 1 beyond the ends.
    pub(super) fn fraction(&self, value: f64) -> f64 {
        let warp = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log10 => value.log10(),
            Scale::Log2 => value.log2(),
        };
        let (low, high) = (warp(self.low), warp(self.high));
        (warp(value) - low) / (high - low)
    }

    /// Fraction of `value`, moved to the nearest end where it lies outside; `None` for NaN.
    pub(super) fn clamped(&self, value: f64) -> Option<f64> {
        match self.place(value) {
            Place::Inside(fraction) => Some(fraction),
            Place::Above => Some(1.0),
            Place::Below | Place::DivergedDown => Some(0.0),
            Place::Diverged => (!value.is_nan()).then_some(1.0),
        }
    }

    /// Fraction at which the line from `inside` (a value) towards `outside` leaves the axis,
    /// and how much of the way that is; `None` where the way has no direction.
    pub(super) fn exit(&self, inside: f64, outside: f64) -> Option<(f64, f64)> {
        let (from, to) = (self.fraction(inside), self.fraction(outside));
        let edge = if to > 1.0 { 1.0 } else { 0.0 };
        let part = (edge - from) / (to - from);
        (to.is_finite() && (0.0..=1.0).contains(&part)).then_some((edge, part))
    }

    /// Whether bars have a foot at zero.
    pub(super) fn is_linear(&self) -> bool {
        self.scale == Scale::Linear
    }
}

/// Whether a scale can show `value` at all.
pub(super) fn is_drawable(scale: Scale, value: f64) -> bool {
    match scale {
        Scale::Linear => value.abs() <= LARGEST,
        Scale::Log10 | Scale::Log2 => (1.0 / LARGEST..=LARGEST).contains(&value),
    }
}

/// Gives a range without extent some: a value alone sits in the middle.
fn widen(scale: Scale, low: f64, high: f64) -> (f64, f64) {
    let largest = low.abs().max(high.abs());
    if scale == Scale::Linear && largest < SMALLEST {
        return (if low < 0.0 { -1.0 } else { 0.0 }, 1.0);
    }
    if high - low > largest * 1e-9 {
        return (low, high);
    }
    match scale {
        Scale::Linear => (low - largest * 0.1, high + largest * 0.1),
        Scale::Log10 | Scale::Log2 => (low / 1.5, high * 1.5),
    }
}

#[cfg(test)]
mod tests;
