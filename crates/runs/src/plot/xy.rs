//! Lines and points over numeric axes, one drawing or several panels.

mod layout;
mod points;

use super::legend::{self, Entry, Glyph};
use super::svg::Svg;
use super::{Axis, Panels, Point, ReferenceLine, Series, Size, Style, Xy};
use layout::Layout;

pub(super) use layout::fit;

/// Dashes of horizontal reference lines that only the legend names.
const DASHES: [&str; 4] = ["5 4", "2 3", "10 3 2 3", "1 4"];

/// One drawing with its panels, borrowed from [`Xy`] or [`Panels`].
struct Grid<'a> {
    x: &'a Axis,
    y: &'a Axis,
    panels: Vec<Content<'a>>,
}

/// What one panel shows.
#[derive(Clone, Copy)]
struct Content<'a> {
    title: &'a str,
    series: &'a [Series],
    lines: &'a [ReferenceLine],
}

/// Draws from the top and returns the height taken.
pub(super) fn draw(svg: &mut Svg, plot: &Xy, size: Size) -> f64 {
    let content = Content { title: "", series: &plot.series, lines: &plot.lines };
    draw_grid(svg, &Grid { x: &plot.x, y: &plot.y, panels: vec![content] }, size)
}

/// Draws from the top and returns the height taken.
pub(super) fn draw_panels(svg: &mut Svg, plot: &Panels, size: Size) -> f64 {
    let panels = plot.panels.iter().map(content).collect();
    draw_grid(svg, &Grid { x: &plot.x, y: &plot.y, panels }, size)
}

fn content(panel: &super::Panel) -> Content<'_> {
    Content { title: &panel.title, series: &panel.series, lines: &panel.lines }
}

fn draw_grid(svg: &mut Svg, grid: &Grid<'_>, size: Size) -> f64 {
    let layout = Layout::new(grid, size);
    let top = legend::draw(svg, &entries(grid, &layout), size.width(), 0.0);
    let mut bottom = layout.draw_y_label(svg, top);
    for (i, panel) in grid.panels.iter().enumerate() {
        let spot = layout.panel(i, top);
        layout.draw_axes(svg, &spot, i);
        layout.draw_title(svg, &spot, panel.title);
        points::draw(svg, panel, &layout, spot.area);
        layout.draw_references(svg, &spot, panel.lines);
        bottom = bottom.max(spot.bottom);
    }
    layout.draw_x_label(svg, bottom)
}

/// Legend entries: each series once, then what stands for the reference lines and marks.
fn entries(grid: &Grid<'_>, layout: &Layout) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for panel in &grid.panels {
        for (i, series) in panel.series.iter().enumerate() {
            let entry = Entry { glyph: series_glyph(series, i), label: series.name.clone() };
            if !entries.iter().any(|known| is_same_arm(known, &entry)) {
                entries.push(entry);
            }
        }
    }
    if !layout.names_horizontals() {
        for panel in &grid.panels {
            for (n, (_, label)) in horizontals(panel.lines).enumerate() {
                let glyph = Glyph::Reference(DASHES[n % DASHES.len()]);
                let entry = Entry { glyph, label: label.to_owned() };
                if !entries.contains(&entry) {
                    entries.push(entry);
                }
            }
        }
    }
    let (diverged, beyond) = layout.has_marks();
    entries.extend(legend::off_scale(diverged, beyond));
    entries
}

fn is_same_arm(a: &Entry, b: &Entry) -> bool {
    let slot = |entry: &Entry| match entry.glyph {
        Glyph::Series { slot, style, .. } => Some((slot, style)),
        _ => None,
    };
    a.label == b.label && slot(a) == slot(b)
}

fn series_glyph(series: &Series, index: usize) -> Glyph {
    let interval = series.points.iter().any(|p| p.low.is_some() || p.high.is_some());
    let dense = is_dense(series);
    Glyph::Series { slot: slot(series, index), style: series.style, interval, dense }
}

/// Place of a series in the palette.
fn slot(series: &Series, index: usize) -> usize {
    series.slot.unwrap_or(index)
}

fn horizontals(lines: &[ReferenceLine]) -> impl Iterator<Item = (f64, &str)> {
    lines.iter().filter_map(|line| match line {
        ReferenceLine::Horizontal { at, label } => Some((*at, label.as_str())),
        ReferenceLine::Vertical { .. } => None,
    })
}

fn verticals(lines: &[ReferenceLine]) -> impl Iterator<Item = (f64, &str)> {
    lines.iter().filter_map(|line| match line {
        ReferenceLine::Vertical { at, label } => Some((*at, label.as_str())),
        ReferenceLine::Horizontal { .. } => None,
    })
}

/// Every vertical coordinate of a point that the axis should cover.
fn heights(point: &Point) -> impl Iterator<Item = f64> {
    [Some(point.y), point.low, point.high].into_iter().flatten()
}

/// Whether a line has so many points that dashes would not show and noise would be a blot: it is
/// drawn thin, with a few of its points marked.
fn is_dense(series: &Series) -> bool {
    series.style == Style::Line && series.points.len() > 300
}

/// Whether a series has a line.
fn has_line(series: &Series) -> bool {
    series.style != Style::Points
}
