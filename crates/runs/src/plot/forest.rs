//! The small drawing of an effect: where it lies, and where a claim puts it.

use super::axis::Domain;
use super::labels::{SMALL, width};
use super::svg::{Area, Svg, number};
use super::xy::fit;
use super::{Axis, marks};
use crate::text;

/// An effect and what it is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forest {
    /// The effect.
    pub(crate) effect: f64,
    /// Its interval.
    pub(crate) interval: Option<(f64, f64)>,
    /// No effect: 0 for a difference, 1 for a ratio.
    pub(crate) neutral: f64,
    /// Where the claim puts the effect; infinite ends are open.
    pub(crate) claimed: (f64, f64),
}

const WIDTH: f64 = 340.0;
const EDGE: f64 = 20.0;

/// Draws `forest` as an `svg` element named `name`.
pub(crate) fn draw(forest: &Forest, name: &str) -> String {
    let Forest { effect, interval, neutral, claimed } = *forest;
    let ends = interval.map_or([effect, effect], |(low, high)| [low, high]);
    let values = [effect, neutral, claimed.0, claimed.1, ends[0], ends[1]];
    let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    let domain = fit(&Axis::default(), &finite, WIDTH - 2.0 * EDGE);
    let x = |value: f64| x(&domain, value);
    let mut svg = Svg::default();
    let (top, bottom, middle) = (17.0, 45.0, 31.0);
    let (from, to) = (x(claimed.0), x(claimed.1));
    svg.rect("claimed", Area { left: from, top, width: to - from, height: bottom - top });
    let half = width("claimed", SMALL) / 2.0;
    let label = ((from + to) / 2.0).clamp(half, WIDTH - half);
    svg.text("tick middle", label, 11.0, "claimed");
    svg.line("axis", (EDGE, bottom), (WIDTH - EDGE, bottom), "");
    for (value, label) in &domain.ticks.major {
        svg.line("axis", (x(*value), bottom), (x(*value), bottom + 4.0), "");
        let half = width(label, SMALL) / 2.0 + 1.0;
        svg.text("tick middle", x(*value).clamp(half, WIDTH - half), bottom + 17.0, label);
    }
    svg.line("reference", (x(neutral), top), (x(neutral), bottom), "2 3");
    if let Some((low, high)) = interval {
        let (low, high) = (number(x(low)), number(x(high)));
        let d = format!("M{low} 26L{low} 36M{low} 31L{high} 31M{high} 26L{high} 36");
        svg.path("whisker", &d, "");
    }
    svg.path("mark ink", &marks::circle(x(effect), middle, 5.0), "");
    format!(
        "<svg class=\"plot forest\" viewBox=\"0 0 {WIDTH} 66\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
        text::html(&text::one_line(name)),
        svg.finish()
    )
}

fn x(domain: &Domain, value: f64) -> f64 {
    EDGE + domain.clamped(value).unwrap_or(0.0) * (WIDTH - 2.0 * EDGE)
}
