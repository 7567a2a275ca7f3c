//! How far from its lowest point a valley is one curve with one slant.
//!
//! Points within a reach of each cell's parabola optimum, the same reach for all cells, are fitted by one slant and a
//! parabola a cell. From wide to narrow, a reach is good if narrower ones agree with it: what it adds to their points is
//! scattered as they are (Chow 1960, the F-test of further observations), and its slant is theirs (Hausman 1978: the
//! variance of the difference is the difference of the variances). Both at 5 %.
//!
//! Two things make up for what the tests cannot see, both found by simulation
//! (`docs/decisions/0005-scaling-intervals.md`). Where wider windows were refused, one two steps narrower than the first
//! good one is used, as what is wrong with the latter may be just below that. And the variance of the slant is raised by
//! what the square of its difference to the next narrower one exceeds the variance of that difference by: an estimate of
//! the square of its bias.
//!
//! A narrow window may leave a cell no optimum. Of those that the two steps lead over, the narrowest that loses fewest
//! cells is used.

use super::slant::{Joint, MIN_FREEDOM, Slant, Valley, joint};
use crate::distribution::f_tail;
use crate::parabola::{self, ParabolaConfig};

/// One window is this many times as wide as the one before.
const STEP: f64 = 0.88;

/// A window is compared with those so many steps narrower: with two thirds and half of its reach.
const COMPARED: [usize; 2] = [3, 5];

/// Steps to go on from the first good window, where wider ones were refused.
const FURTHER: usize = 2;

/// Level of the tests.
const LEVEL: f64 = 0.05;

/// Degrees of freedom that a narrower window needs to be compared with.
const MIN_INNER: f64 = 2.;

/// Learning rates that a valley keeps.
const MIN_POINTS: usize = 3;

/// Windows are narrowed so often at most: to a hundredth of the widest.
const MAX_WINDOWS: usize = 36;

/// Points within a reach, and what they say.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    /// In `ln lr`, either side.
    pub(super) reach: f64,
    pub(super) valleys: Vec<Valley>,
    pub(super) joint: Joint,
}

impl Reach {
    /// Cells that show no optimum with these points.
    fn n_lost(&self, config: &ParabolaConfig) -> usize {
        let slant = self.joint.slant.coefficient;
        let read = |valley: &&Valley| {
            parabola::read(&valley.points, valley.n_diverged, slant, config).vertex().is_none()
        };
        self.valleys.iter().filter(read).count()
    }
}

/// What the points say about the shape of valleys.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Within this reach they have one slant.
    OneSlant {
        within: Reach,
        /// The slant there, its error widened by how far a narrower window's differs.
        slant: Slant,
        /// Whether wider windows were refused.
        is_narrowed: bool,
        /// Degrees of freedom of the narrower window that says most about it.
        tested_with: f64,
    },
    /// No window agrees with narrower ones; this is the narrowest.
    Rough(Reach),
    /// There are too few points to compare windows.
    Untested,
}

/// Looks for the widest window that narrower ones agree with.
pub(super) fn shape(valleys: &[Valley], config: &ParabolaConfig) -> Shape {
    let mut windows = windows(valleys);
    let n_fitted = windows.iter().take_while(|w| w.joint.slant.freedom >= MIN_FREEDOM).count();
    let mut is_refused = false;
    for good in 0..n_fitted {
        match agrees(&windows, good) {
            Some(Verdict { is_one: true, tested_with }) => {
                let used =
                    if is_refused { narrower(&windows[..n_fitted], good, config) } else { 0 };
                let slant = with_bias(&windows, used);
                let within = windows.swap_remove(used);
                return Shape::OneSlant { within, slant, is_narrowed: is_refused, tested_with };
            }
            Some(_) => is_refused = true,
            // It has the points of those that are narrower, as have all that are wider.
            None => {}
        }
    }
    match is_refused {
        true => Shape::Rough(windows.swap_remove(n_fitted - 1)),
        false => Shape::Untested,
    }
}

/// From the first good window on, the narrowest one within [`FURTHER`] steps that loses fewest cells.
fn narrower(windows: &[Reach], good: usize, config: &ParabolaConfig) -> usize {
    let last = (good + FURTHER).min(windows.len() - 1);
    (good..=last).rev().min_by_key(|&k| windows[k].n_lost(config)).unwrap_or(good)
}

/// From all points to the fewest that can be fitted.
fn windows(valleys: &[Valley]) -> Vec<Reach> {
    let distance = |valley: &Valley| {
        valley.points.iter().map(|point| (point.0 - valley.centre).abs()).fold(0., f64::max)
    };
    let widest = valleys.iter().map(distance).fold(0., f64::max);
    let mut found = vec![];
    for k in 0..MAX_WINDOWS {
        let reach = widest * STEP.powi(k as i32);
        let valleys: Vec<Valley> = valleys.iter().map(|valley| within(valley, reach)).collect();
        match joint(&valleys) {
            Some(joint) if joint.slant.freedom >= MIN_INNER => {
                found.push(Reach { reach, valleys, joint });
            }
            _ => break,
        }
    }
    found
}

/// The points within a reach of the centre, or those at the [`MIN_POINTS`] nearest learning rates, which say nothing about
/// a slant but show an optimum.
fn within(valley: &Valley, reach: f64) -> Valley {
    let distance = |point: &(f64, f64)| (point.0 - valley.centre).abs();
    let mut rates: Vec<f64> = valley.points.iter().map(|point| point.0).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup_by(|a, b| (*a - *b).abs() < 1e-12);
    let mut nearest: Vec<f64> = rates.iter().map(|rate| (rate - valley.centre).abs()).collect();
    nearest.sort_by(f64::total_cmp);
    let least = nearest.get(MIN_POINTS - 1).copied().unwrap_or(f64::INFINITY);
    // The outermost point is on the edge of the widest window.
    let limit = reach.max(least) * (1. + 1e-9);
    let points = valley.points.iter().filter(|point| distance(point) <= limit).copied().collect();
    Valley { points, ..valley.clone() }
}

/// What narrower windows say about one.
struct Verdict {
    /// Whether they agree with it.
    is_one: bool,
    /// Degrees of freedom of the widest of them.
    tested_with: f64,
}

/// Whether narrower windows agree with this one; `None` if there is none with fewer points.
fn agrees(windows: &[Reach], outer: usize) -> Option<Verdict> {
    let verdict = |inner: &Joint| Verdict {
        is_one: is_one(&windows[outer].joint, inner),
        tested_with: inner.slant.freedom,
    };
    within_it(windows, outer).map(verdict).reduce(|a, b| Verdict {
        is_one: a.is_one && b.is_one,
        tested_with: a.tested_with.max(b.tested_with),
    })
}

/// The narrower windows that one is compared with, as far as they have fewer points.
fn within_it(windows: &[Reach], outer: usize) -> impl Iterator<Item = &Joint> {
    let last = windows.len() - 1;
    let n_points = windows[outer].joint.n_points;
    let inner = COMPARED.into_iter().map(move |steps| &windows[(outer + steps).min(last)].joint);
    inner.filter(move |inner| inner.n_points < n_points)
}

/// The variance of the difference of two slants, for errors of a variance of 1.
fn variance_of_difference(outer: &Joint, inner: &Joint) -> f64 {
    (1. / inner.size - 1. / outer.size).max(f64::MIN_POSITIVE)
}

/// A window's slant, its variance raised by what the next one that it is compared with differs beyond chance.
fn with_bias(windows: &[Reach], used: usize) -> Slant {
    let outer = &windows[used].joint;
    let variance = outer.residual / outer.slant.freedom;
    let excess = |inner: &Joint| {
        let difference = outer.slant.coefficient - inner.slant.coefficient;
        difference.powi(2) - variance * variance_of_difference(outer, inner)
    };
    let bias = within_it(windows, used).next().map_or(0., excess).max(0.);
    Slant { se: (outer.slant.se.powi(2) + bias).sqrt(), ..outer.slant }
}

/// Both tests, of a window and one within it.
fn is_one(outer: &Joint, inner: &Joint) -> bool {
    let freedom = inner.slant.freedom;
    // Exact data leave rounding, whose scatter means nothing.
    let rounding = (1e-13 * inner.largest).powi(2);
    let variance = (inner.residual / freedom).max(rounding);
    let further = outer.slant.freedom - freedom;
    let scatter = (outer.residual - inner.residual) / further / variance;
    let difference = outer.slant.coefficient - inner.slant.coefficient;
    let slants = difference.powi(2) / (variance * variance_of_difference(outer, inner));
    f_tail(scatter, further, freedom) >= LEVEL && f_tail(slants, 1., freedom) >= LEVEL
}

#[cfg(test)]
mod tests;
