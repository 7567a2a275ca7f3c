//! Horizontal bars with intervals, their names at the left and their values at the right.

use super::axis::{Domain, Place, is_drawable};
use super::labels::{FONT, SMALL, shorten, width, wrap};
use super::legend::{self, Entry, Glyph};
use super::svg::{Area, Svg, number};
use super::xy::fit;
use super::{Axis, Bar, Bars, ReferenceLine, Scale, Size, marks, palette};
use crate::number::{fixed, significant, typographic, with_range};

/// Measures of one drawing.
struct Layout {
    domain: Domain,
    area: Area,
    thickness: f64,
    group: f64,
    /// Room above each group for its name, where names do not fit at the left.
    name_above: f64,
    /// Decimals of all values; `None` gives each its own digits.
    decimals: Option<usize>,
    /// Right end of the values.
    right: f64,
}

/// Draws from the top and returns the height taken.
pub(super) fn draw(svg: &mut Svg, plot: &Bars, size: Size) -> f64 {
    let top = legend::draw(svg, &entries(plot), size.width(), 0.0);
    let layout = Layout::new(plot, size, top);
    layout.draw_axis(svg, plot);
    for (i, category) in names(plot).iter().enumerate() {
        layout.draw_name(svg, i, category);
        for (n, series) in plot.series.iter().enumerate() {
            if let Some(bar) = series.values.get(i) {
                let title = [series.name.as_str(), category.as_str()].join(" ");
                layout.draw_bar(svg, (i, n), bar, series.slot.unwrap_or(n), title.trim());
            }
        }
    }
    layout.draw_references(svg, &plot.lines);
    layout.draw_label(svg, &plot.axis.heading())
}

impl Layout {
    fn new(plot: &Bars, size: Size, top: f64) -> Self {
        let names = names(plot);
        let widest = names.iter().map(|name| width(name, FONT)).fold(0.0, f64::max);
        let room = size.width();
        let is_beside = widest <= room * 0.32;
        let left = if is_beside { widest + 12.0 } else { 2.0 };
        let decimals = decimals(plot);
        let texts = bars(plot).map(|bar| value_text(bar, decimals));
        let right = texts.map(|text| width(&text, SMALL)).fold(0.0, f64::max) + 12.0;
        let n_series = plot.series.len().max(1) as f64;
        let thickness = if n_series > 1.0 { 15.0 } else { 20.0 };
        let name_above = if is_beside { 0.0 } else { 20.0 };
        let group = name_above + n_series * (thickness + 3.0) + 12.0;
        let length = room - left - right.max(14.0);
        let domain = domain(plot, length);
        let top = top + reference_room(&plot.lines);
        let height = group * names.len() as f64 + 4.0;
        let area = Area { left, top, width: length, height };
        Self { domain, area, thickness, group, name_above, decimals, right: room }
    }

    fn x(&self, value: f64) -> f64 {
        self.area.left + self.domain.clamped(value).unwrap_or(0.0) * self.area.width
    }

    /// Upper edge of bar `n` of group `i`.
    fn y(&self, (i, n): (usize, usize)) -> f64 {
        let start = self.area.top + 8.0 + i as f64 * self.group + self.name_above;
        start + n as f64 * (self.thickness + 3.0)
    }

    fn draw_axis(&self, svg: &mut Svg, plot: &Bars) {
        let Area { top, .. } = self.area;
        let bottom = self.area.bottom();
        for (value, label) in &self.domain.ticks.major {
            let x = self.x(*value).floor() + 0.5;
            svg.line("grid", (x, top), (x, bottom), "");
            let middle = x.max(width(label, SMALL) / 2.0);
            svg.text("tick middle", middle, bottom + 16.0, label);
        }
        if plot.axis.scale == Scale::Linear {
            let x = self.x(0.0).floor() + 0.5;
            svg.line("axis", (x, top), (x, bottom), "");
        }
    }

    fn draw_name(&self, svg: &mut Svg, i: usize, name: &str) {
        let start = self.y((i, 0));
        if self.name_above > 0.0 {
            let room = self.area.right();
            svg.text("label over", self.area.left, start - 7.0, &shorten(name, FONT, room));
        } else {
            let middle = start + (self.group - 12.0 - 3.0) / 2.0;
            svg.text("label end", self.area.left - 10.0, middle + 4.5, name);
        }
    }

    fn draw_bar(&self, svg: &mut Svg, place: (usize, usize), bar: &Bar, slot: usize, name: &str) {
        let (y, class) = (self.y(place), palette::class(slot));
        let middle = y + self.thickness / 2.0;
        let title = format!("{name}: {}", full_text(bar, self.decimals));
        let end = self.area.right();
        match self.domain.place(bar.value) {
            Place::Inside(_) => self.draw_value(svg, bar, y, &class, &title),
            Place::Diverged | Place::DivergedDown => {
                let d = marks::cross(self.area.left + 8.0, middle);
                svg.titled_path(&format!("cross {class}"), &d, &title);
            }
            Place::Above => {
                self.draw_value(svg, bar, y, &class, &title);
                svg.path(&format!("mark {class}"), &marks::arrow(end - 4.0, middle, 1.0, 0.0), "");
            }
            Place::Below => {
                let d = marks::arrow(self.area.left + 6.0, middle, -1.0, 0.0);
                svg.titled_path(&format!("mark {class}"), &d, &title);
            }
        }
        svg.text("tick end", self.right, middle + 4.0, &value_text(bar, self.decimals));
    }

    /// The bar, or on a logarithmic axis the dot, and the interval.
    fn draw_value(&self, svg: &mut Svg, bar: &Bar, y: f64, class: &str, title: &str) {
        let (x, middle) = (self.x(bar.value), y + self.thickness / 2.0);
        if self.domain.is_linear() {
            let foot = self.x(0.0);
            let (left, width) = (foot.min(x), (foot - x).abs());
            let area = Area { left, top: y, width, height: self.thickness };
            svg.titled_rect(&format!("bar {class}"), None, area, title);
        }
        if let (Some(low), Some(high)) = (bar.low, bar.high) {
            let (low, high) = (self.x(low), self.x(high));
            let d = format!(
                "M{l} {a}L{l} {b}M{l} {m}L{h} {m}M{h} {a}L{h} {b}",
                l = number(low),
                h = number(high),
                m = number(middle),
                a = number(middle - 4.0),
                b = number(middle + 4.0),
            );
            svg.path("whisker", &d, "");
        }
        if !self.domain.is_linear() {
            svg.titled_path(&format!("mark {class}"), &marks::circle(x, middle, 5.0), title);
        }
    }

    fn draw_references(&self, svg: &mut Svg, lines: &[ReferenceLine]) {
        for (row, line) in lines.iter().enumerate() {
            let (value, name) = at(line);
            let Place::Inside(_) = self.domain.place(value) else { continue };
            let x = self.x(value).floor() + 0.5;
            let y = self.area.top - reference_room(lines) + row as f64 * 17.0;
            let name = shorten(name, SMALL, self.area.width);
            let half = width(&name, SMALL) / 2.0;
            let from = self.area.left + half;
            let middle = x.clamp(from, (self.area.right() - half).max(from));
            svg.text("note middle", middle, y + 12.0, &name);
            svg.line("reference", (x, y + 16.0), (x, self.area.bottom()), "5 4");
        }
    }

    fn draw_label(&self, svg: &mut Svg, label: &str) -> f64 {
        let middle = self.area.left + self.area.width / 2.0;
        let mut y = self.area.bottom() + 37.0;
        for line in wrap(label, FONT, self.area.width.max(200.0), 2) {
            svg.text("label middle", middle, y, &line);
            y += 17.0;
        }
        y - 8.0
    }
}

/// The categories, with unnamed ones added where a series is longer.
fn names(plot: &Bars) -> Vec<String> {
    let n = plot.series.iter().map(|series| series.values.len()).max().unwrap_or(0);
    let mut names = plot.categories.clone();
    names.resize(n.max(names.len()), String::new());
    names
}

fn entries(plot: &Bars) -> Vec<Entry> {
    let named = plot.series.iter().enumerate().map(|(n, series)| Entry {
        glyph: Glyph::Bar(series.slot.unwrap_or(n)),
        label: series.name.clone(),
    });
    let values = || plot.series.iter().flat_map(|series| &series.values);
    let diverged = values().any(|bar| !bar.value.is_finite());
    named.chain(legend::off_scale(diverged, false)).collect()
}

fn at(line: &ReferenceLine) -> (f64, &str) {
    match line {
        ReferenceLine::Vertical { at, label } | ReferenceLine::Horizontal { at, label } => {
            (*at, label)
        }
    }
}

fn reference_room(lines: &[ReferenceLine]) -> f64 {
    lines.len() as f64 * 17.0 + if lines.is_empty() { 0.0 } else { 2.0 }
}

fn bars(plot: &Bars) -> impl Iterator<Item = &Bar> {
    plot.series.iter().flat_map(|series| &series.values)
}

/// The axis from the data: a little room at both ends, and zero on a linear axis.
fn domain(plot: &Bars, room: f64) -> Domain {
    let is_linear = plot.axis.scale == Scale::Linear;
    let lines = plot.lines.iter().map(|line| at(line).0);
    let values = bars(plot).flat_map(|bar| [Some(bar.value), bar.low, bar.high]).flatten();
    let values = values.chain(lines).chain(is_linear.then_some(0.0));
    let values: Vec<f64> = values.filter(|v| is_drawable(plot.axis.scale, *v)).collect();
    let low = values.iter().copied().reduce(f64::min);
    let high = values.iter().copied().reduce(f64::max);
    let (low, high) = match (low, high) {
        (Some(low), Some(high)) if is_linear => {
            let more = (high - low) * 0.04;
            let outside = |end: f64, more: f64| if end == 0.0 { end } else { end + more };
            (Some(outside(low, -more)), Some(outside(high, more)))
        }
        (Some(low), Some(high)) => {
            let more = (high / low).powf(0.06).max(1.05);
            (Some(low / more), Some(high * more))
        }
        _ => (None, None),
    };
    let (min, max) = (plot.axis.min.or(low), plot.axis.max.or(high));
    fit(&Axis { min, max, ..plot.axis.clone() }, &values, room)
}

/// Decimals that give the largest value three digits; bars on one linear axis share them.
fn decimals(plot: &Bars) -> Option<usize> {
    let sizes = bars(plot).map(|bar| bar.value.abs()).filter(|value| value.is_finite());
    let largest = sizes.fold(0.0, f64::max);
    let suits = plot.axis.scale == Scale::Linear && (1e-3..1e6).contains(&largest);
    let fraction = |text: String| text.split_once('.').map_or(0, |(_, digits)| digits.len());
    suits.then(|| fraction(significant(largest, 3)))
}

fn value_text(bar: &Bar, decimals: Option<usize>) -> String {
    match decimals {
        _ if !bar.value.is_finite() => "diverged".to_owned(),
        Some(decimals) => typographic(&fixed(bar.value, decimals)),
        None => typographic(&significant(bar.value, 3)),
    }
}

fn full_text(bar: &Bar, decimals: Option<usize>) -> String {
    match (bar.low, bar.high) {
        (Some(low), Some(high)) => typographic(&with_range(bar.value, low, high)),
        _ => value_text(bar, decimals),
    }
}
