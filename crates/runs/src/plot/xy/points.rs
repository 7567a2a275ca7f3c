//! Bands, lines, error bars and markers of one panel.

use super::layout::Layout;
use super::{Content, has_line, is_dense, slot};
use crate::number::{significant, typographic, with_range};
use crate::plot::axis::Place;
use crate::plot::svg::{Area, Svg, number, polyline};
use crate::plot::{Point, Series, Style, marks, palette};

/// Markers along a line that is dense.
const DENSE_MARKERS: usize = 6;

/// Where one point goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::plot) enum Spot {
    /// Inside of the axes, with the ends of its interval (equal to `y` where there is none).
    At { x: f64, y: f64, low: f64, high: f64 },
    /// Finite and beyond the upper (`true`) or lower end of the vertical axis.
    Beyond { x: f64, up: bool },
    /// Not finite; to be shown above (`true`) or below.
    Diverged { x: f64, up: bool },
    /// Not on the horizontal axis.
    Nowhere,
}

/// Draws all series, the first at the bottom.
pub(super) fn draw(svg: &mut Svg, panel: &Content<'_>, layout: &Layout, area: Area) {
    let spots: Vec<Vec<Spot>> = panel
        .series
        .iter()
        .map(|series| series.points.iter().map(|point| locate(point, layout, area)).collect())
        .collect();
    for (i, series) in panel.series.iter().enumerate() {
        if has_line(series) {
            draw_band(svg, &spots[i], &format!("band {}", palette::class(slot(series, i))));
        }
    }
    for (i, series) in panel.series.iter().enumerate() {
        if has_line(series) {
            let kept = thin(&spots[i], area);
            let d = line(series, &kept, layout, area);
            let slot = slot(series, i);
            let (kind, dash) =
                if is_dense(series) { ("thin line", "") } else { ("line", palette::dash(slot)) };
            if !d.is_empty() {
                svg.path(&format!("{kind} {}", palette::class(slot)), &d, dash);
            }
        }
    }
    for (i, series) in panel.series.iter().enumerate() {
        draw_markers(svg, series, &spots[i], slot(series, i));
    }
    draw_marks(svg, panel, &spots, layout, area);
}

/// Where `point` goes.
fn locate(point: &Point, layout: &Layout, area: Area) -> Spot {
    let Place::Inside(part) = layout.x.place(point.x) else { return Spot::Nowhere };
    let x = area.left + part * area.width;
    let at = |part: f64| area.bottom() - part * area.height;
    let end = |end: Option<f64>| end.and_then(|end| layout.y.clamped(end));
    match layout.y.place(point.y) {
        Place::Inside(part) => {
            let (low, high) = (end(point.low).unwrap_or(part), end(point.high).unwrap_or(part));
            Spot::At { x, y: at(part), low: at(low), high: at(high) }
        }
        Place::Above => Spot::Beyond { x, up: true },
        Place::Below => Spot::Beyond { x, up: false },
        Place::Diverged => Spot::Diverged { x, up: true },
        Place::DivergedDown => Spot::Diverged { x, up: false },
    }
}

/// Indices and spots worth drawing: of many points in one unit of width, the first, the last
/// and the outermost.
fn thin(spots: &[Spot], area: Area) -> Vec<(usize, Spot)> {
    let all = || spots.iter().copied().enumerate();
    if spots.len() as f64 <= 2.0 * area.width {
        return all().collect();
    }
    let column = |spot: &Spot| match *spot {
        Spot::At { x, .. } => Some(x.floor()),
        _ => None,
    };
    let mut kept: Vec<(usize, Spot)> = Vec::new();
    let mut start = 0;
    while start < spots.len() {
        let here = column(&spots[start]);
        let alike = spots[start..].iter().take_while(|spot| column(spot) == here).count();
        let group = start..start + alike;
        if here.is_none() || alike <= 4 {
            kept.extend(group.map(|i| (i, spots[i])));
        } else {
            kept.extend(outermost(spots, group).map(|i| (i, spots[i])));
        }
        start += alike;
    }
    kept
}

/// First, lowest, highest and last of a group, in order.
fn outermost(spots: &[Spot], group: std::ops::Range<usize>) -> impl Iterator<Item = usize> {
    let height = |i: &usize| match spots[*i] {
        Spot::At { y, .. } => y,
        _ => 0.0,
    };
    let lowest = group.clone().max_by(|a, b| height(a).total_cmp(&height(b)));
    let highest = group.clone().min_by(|a, b| height(a).total_cmp(&height(b)));
    let mut kept: Vec<usize> =
        [group.clone().next(), lowest, highest, group.last()].into_iter().flatten().collect();
    kept.sort_unstable();
    kept.dedup();
    kept.into_iter()
}

/// Path of a line that breaks where a point has no place, and runs to the edge towards a
/// finite point beyond it.
fn line(series: &Series, kept: &[(usize, Spot)], layout: &Layout, area: Area) -> String {
    let mut d = String::new();
    let mut go =
        |pen: char, x: f64, y: f64| d.push_str(&format!("{pen}{} {}", number(x), number(y)));
    let edge = |inside: usize, outside: usize| {
        let (a, b) = (series.points[inside], series.points[outside]);
        let (end, part) = layout.y.exit(a.y, b.y)?;
        let (from, to) = (layout.at_x(area, a.x), layout.at_x(area, b.x));
        Some((from + part * (to - from), area.bottom() - end * area.height))
    };
    let mut before: Option<(usize, Spot)> = None;
    for &(i, spot) in kept {
        match (before, spot) {
            (Some((_, Spot::At { .. })), Spot::At { x, y, .. }) => go('L', x, y),
            (Some((j, Spot::Beyond { .. })), Spot::At { x, y, .. }) => match edge(i, j) {
                Some((from_x, from_y)) => {
                    go('M', from_x, from_y);
                    go('L', x, y);
                }
                None => go('M', x, y),
            },
            (_, Spot::At { x, y, .. }) => go('M', x, y),
            (Some((j, Spot::At { .. })), Spot::Beyond { .. }) => {
                if let Some((to_x, to_y)) = edge(j, i) {
                    go('L', to_x, to_y);
                }
            }
            _ => {}
        }
        before = Some((i, spot));
    }
    d
}

/// One band for each stretch of points with intervals.
fn draw_band(svg: &mut Svg, spots: &[Spot], class: &str) {
    for run in spots.split(|spot| !matches!(spot, Spot::At { low, high, .. } if low != high)) {
        let ends = |spot: &Spot| match *spot {
            Spot::At { x, low, high, .. } => Some((x, low, high)),
            _ => None,
        };
        let ends: Vec<(f64, f64, f64)> = run.iter().filter_map(ends).collect();
        if let [(x, low, high)] = ends[..] {
            svg.rect(class, Area { left: x - 2.0, top: high, width: 4.0, height: low - high });
        } else if !ends.is_empty() {
            let upper = ends.iter().map(|&(x, _, high)| (x, high));
            let lower = ends.iter().rev().map(|&(x, low, _)| (x, low));
            svg.path(class, &(polyline(&upper.chain(lower).collect::<Vec<_>>()) + "z"), "");
        }
    }
}

fn draw_markers(svg: &mut Svg, series: &Series, spots: &[Spot], slot: usize) {
    let class = palette::class(slot);
    let every = (spots.len() / DENSE_MARKERS).max(1);
    for (i, spot) in spots.iter().enumerate() {
        let Spot::At { x, y, low, high } = *spot else { continue };
        if series.style == Style::Points && low != high {
            let d = format!(
                "M{x0} {h}L{x1} {h}M{x} {h}L{x} {l}M{x0} {l}L{x1} {l}",
                x0 = number(x - 4.0),
                x1 = number(x + 4.0),
                x = number(x),
                h = number(high),
                l = number(low),
            );
            svg.path(&format!("error {class}"), &d, "");
        }
        let neighbour = |at: Option<usize>| at.and_then(|at| spots.get(at));
        let lonely =
            !matches!(neighbour(i.checked_sub(1)), Some(Spot::At { .. } | Spot::Beyond { .. }))
                && !matches!(neighbour(Some(i + 1)), Some(Spot::At { .. } | Spot::Beyond { .. }));
        let chosen = is_dense(series) && (i + every / 2).is_multiple_of(every);
        if series.style != Style::Line || lonely || chosen {
            let d = marks::marker(slot, x, y);
            svg.titled_path(&format!("mark {class}"), &d, &title(series, &series.points[i]));
        }
    }
}

/// Crosses and arrows in the strips; series that share a strip stand apart.
fn draw_marks(
    svg: &mut Svg,
    panel: &Content<'_>,
    spots: &[Vec<Spot>],
    layout: &Layout,
    area: Area,
) {
    let concerned: Vec<usize> =
        (0..spots.len()).filter(|&i| spots[i].iter().any(|spot| off(spot).is_some())).collect();
    for (rank, &i) in concerned.iter().enumerate() {
        let (series, aside) = (&panel.series[i], rank as f64 - (concerned.len() - 1) as f64 / 2.0);
        let class = palette::class(slot(series, i));
        for run in runs(&spots[i]) {
            let place = |x: f64| (x + aside * 5.0).clamp(area.left + 5.0, area.right() - 5.0);
            let (from, to) = (place(run.from), place(run.to));
            let (above, below) = layout.strips(area);
            let y = (if run.up { above } else { below }) + (aside * 5.0).clamp(-5.0, 5.0);
            let (name, d) = match run.diverged {
                true => ("cross", marks::cross(from, y)),
                false => ("mark", marks::arrow(from, y, 0.0, if run.up { -1.0 } else { 1.0 })),
            };
            if to - from > 7.0 {
                svg.line(&format!("error {class}"), (from + 5.0, y), (to, y), "");
            }
            let point = &series.points[run.first];
            svg.titled_path(&format!("{name} {class}"), &d, &title(series, point));
        }
    }
}

/// Neighbouring points without a place: one mark, and a line as far as they reach.
struct Run {
    first: usize,
    from: f64,
    to: f64,
    diverged: bool,
    up: bool,
}

/// Points of one kind in a row that are too close for a mark each.
fn runs(spots: &[Spot]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut before = None;
    for (first, spot) in spots.iter().enumerate() {
        let kind = off(spot);
        if let (Some((diverged, up)), Spot::Beyond { x, .. } | Spot::Diverged { x, .. }) =
            (kind, *spot)
        {
            match runs.last_mut() {
                Some(run) if before == kind && (0.0..9.0).contains(&(x - run.to)) => run.to = x,
                _ => runs.push(Run { first, from: x, to: x, diverged, up }),
            }
        }
        before = kind;
    }
    runs
}

/// What kind of mark a spot needs, and on which side.
fn off(spot: &Spot) -> Option<(bool, bool)> {
    match *spot {
        Spot::Beyond { up, .. } => Some((false, up)),
        Spot::Diverged { up, .. } => Some((true, up)),
        _ => None,
    }
}

/// What a marker says when pointed at.
fn title(series: &Series, point: &Point) -> String {
    let value = match (point.low, point.high) {
        (Some(low), Some(high)) => with_range(point.y, low, high),
        _ => significant(point.y, 4),
    };
    let name = if series.name.is_empty() { String::new() } else { format!("{}: ", series.name) };
    format!("{name}{} at {}", typographic(&value), typographic(&significant(point.x, 4)))
}
