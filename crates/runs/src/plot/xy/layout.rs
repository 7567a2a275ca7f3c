//! Where axes, labels and panels go.

use super::{Content, DASHES, Grid, heights, horizontals, verticals};
use crate::plot::axis::{Domain, Place};
use crate::plot::labels::{FONT, SMALL, shorten, width, wrap};
use crate::plot::svg::{Area, Svg};
use crate::plot::{Axis, Size};

/// Height of the strip for points without a place.
const STRIP: f64 = 20.0;
/// Height of a row of labels above a panel.
const ROW: f64 = 18.0;
const GAP: f64 = 40.0;
/// Room at the right, for half a tick label.
const EDGE: f64 = 18.0;

/// All measures of one drawing.
pub(super) struct Layout {
    size: Size,
    pub(super) x: Domain,
    pub(super) y: Domain,
    labels: [String; 2],
    n_columns: usize,
    left: f64,
    margin_right: f64,
    panel_width: f64,
    panel_height: f64,
    title_rows: f64,
    reference_rows: usize,
    marks: Marks,
    n_unplaced: usize,
}

/// Which marks for points without a place are needed.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    above: bool,
    below: bool,
    diverged: bool,
    beyond: bool,
}

/// Where one panel goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// Rectangle of the axes; points without a place are drawn outside of it.
    pub(super) area: Area,
    title: f64,
    references: f64,
    /// Lowest line that the panel takes.
    pub(super) bottom: f64,
}

impl Layout {
    pub(super) fn new(grid: &Grid<'_>, size: Size) -> Self {
        let n_panels = grid.panels.len();
        let n_columns = match (size, n_panels) {
            (Size::Narrow, _) | (_, 0 | 1) => 1,
            (Size::Wide, 2 | 4) => 2,
            (Size::Wide, _) => 3,
        };
        let panel_height = match (size, n_panels) {
            (Size::Wide, 0 | 1) => 300.0,
            (Size::Narrow, 0 | 1) => 250.0,
            _ => 180.0,
        };
        let y = y_domain(grid, panel_height);
        let left = y.ticks.major.iter().map(|t| width(&t.1, SMALL)).fold(0.0, f64::max) + 9.0;
        let margin_right = if size == Size::Wide && n_panels <= 1 {
            named_horizontals(&grid.panels).unwrap_or(0.0)
        } else {
            0.0
        };
        let room = size.width() - left - margin_right.max(EDGE);
        let panel_width = (room - GAP * (n_columns - 1) as f64) / n_columns as f64;
        let x = x_domain(grid, panel_width);
        let marks = marks(grid, &x, &y);
        let n_unplaced = points(grid).filter(|p| !is_inside(&x, p.x)).count();
        let has_titles = grid.panels.iter().any(|panel| !panel.title.is_empty());
        let labels = [grid.x.heading(), grid.y.heading()];
        let mut layout = Self {
            size,
            x,
            y,
            labels,
            n_columns,

            left,
            margin_right,
            panel_width,
            panel_height,
            title_rows: if has_titles { 1.0 } else { 0.0 },
            reference_rows: 0,
            marks,
            n_unplaced,
        };
        let rows = |panel: &Content<'_>| {
            let placed = layout.reference_labels(left, panel);
            placed.iter().map(|label| label.row + 1).max().unwrap_or(0)
        };
        layout.reference_rows = grid.panels.iter().map(rows).max().unwrap_or(0);
        layout
    }

    /// Whether horizontal lines have their names beside them.
    pub(super) fn names_horizontals(&self) -> bool {
        self.margin_right > 0.0
    }

    /// Whether a point diverged, and whether one lies beyond the axis.
    pub(super) fn has_marks(&self) -> (bool, bool) {
        (self.marks.diverged, self.marks.beyond)
    }

    /// Middle of the strip above and below `area`.
    pub(super) fn strips(&self, area: Area) -> (f64, f64) {
        (area.top - STRIP / 2.0, area.bottom() + STRIP / 2.0)
    }

    /// Place of panel `index` in a grid that starts at `top`.
    pub(super) fn panel(&self, index: usize, top: f64) -> Spot {
        let (row, column) = (index / self.n_columns, index % self.n_columns);
        let above = if self.marks.above { STRIP } else { 0.0 };
        let below = if self.marks.below { STRIP } else { 0.0 };
        let references = self.reference_rows as f64 * ROW;
        let head = self.title_rows * (ROW + 4.0) + references;
        let height = head + above + self.panel_height + below + 24.0 + 12.0;
        let start = top + self.y_label_height() + row as f64 * height;
        let left = self.left + column as f64 * (self.panel_width + GAP);
        let area = Area {
            left,
            top: start + head + above,
            width: self.panel_width,
            height: self.panel_height,
        };
        Spot {
            area,
            title: start + 13.0,
            references: start + head - references,
            bottom: area.bottom() + below + 24.0,
        }
    }

    fn y_lines(&self) -> Vec<String> {
        wrap(&self.labels[1], FONT, self.size.width(), 2)
    }

    fn y_label_height(&self) -> f64 {
        self.y_lines().len() as f64 * 17.0 + 7.0
    }

    pub(super) fn draw_y_label(&self, svg: &mut Svg, top: f64) -> f64 {
        for (i, line) in self.y_lines().iter().enumerate() {
            svg.text("label", 0.0, top + 13.0 + i as f64 * 17.0, line);
        }
        top + self.y_label_height()
    }

    /// Draws the label of the horizontal axis below `bottom`; returns the end of the drawing.
    pub(super) fn draw_x_label(&self, svg: &mut Svg, bottom: f64) -> f64 {
        let room = self.size.width() - self.left - self.margin_right;
        let middle = self.left + room / 2.0;
        let mut y = bottom + 14.0;
        for line in wrap(&self.labels[0], FONT, room, 2) {
            svg.text("label middle", middle, y, &line);
            y += 17.0;
        }
        if self.n_unplaced > 0 {
            let note = match self.n_unplaced {
                1 => "1 point has no place on the horizontal axis; see the data".to_owned(),
                n => format!("{n} points have no place on the horizontal axis; see the data"),
            };
            svg.text("note", 0.0, y, &shorten(&note, SMALL, self.size.width()));
            y += 17.0;
        }
        y - 8.0
    }

    pub(super) fn draw_title(&self, svg: &mut Svg, spot: &Spot, title: &str) {
        svg.text("panel", spot.area.left, spot.title, &shorten(title, FONT, spot.area.width));
    }

    pub(super) fn draw_axes(&self, svg: &mut Svg, spot: &Spot, index: usize) {
        let area = spot.area;
        let floor = spot.bottom - 24.0;
        if self.marks.above {
            svg.rect("strip", Area { top: area.top - STRIP, height: STRIP, ..area });
        }
        if self.marks.below {
            svg.rect("strip", Area { top: area.bottom(), height: STRIP, ..area });
        }
        for (value, label) in &self.y.ticks.major {
            let y = crisp(self.at_y(area, *value));
            svg.line("grid", (area.left, y), (area.right(), y), "");
            if index.is_multiple_of(self.n_columns) {
                svg.text("tick end", area.left - 8.0, y + 4.0, label);
            }
        }
        for (value, label) in &self.x.ticks.major {
            let x = crisp(self.at_x(area, *value));
            svg.line("grid", (x, area.top), (x, area.bottom()), "");
            svg.line("axis", (x, floor), (x, floor + 5.0), "");
            let half = width(label, SMALL) / 2.0;
            let middle = x.clamp(half, (self.size.width() - half).max(half));
            svg.text("tick middle", middle, floor + 18.0, label);
        }
        self.draw_minor(svg, area, floor);
        svg.line("axis", (area.left, crisp(floor)), (area.right(), crisp(floor)), "");
    }

    fn draw_minor(&self, svg: &mut Svg, area: Area, floor: f64) {
        for &value in &self.x.ticks.minor {
            let x = crisp(self.at_x(area, value));
            svg.line("minor", (x, floor), (x, floor + 3.0), "");
        }
        for &value in &self.y.ticks.minor {
            let y = crisp(self.at_y(area, value));
            svg.line("minor", (area.left - 3.0, y), (area.left, y), "");
        }
    }

    pub(super) fn draw_references(
        &self,
        svg: &mut Svg,
        spot: &Spot,
        lines: &[super::ReferenceLine],
    ) {
        let area = spot.area;
        let content = Content { title: "", series: &[], lines };
        for label in self.reference_labels(area.left, &content) {
            let y = spot.references + label.row as f64 * ROW;
            svg.line("reference", (label.x, y + 16.0), (label.x, area.bottom()), DASHES[0]);
            svg.text("note middle", label.middle, y + 12.0, &label.text);
        }
        let mut taken = f64::NEG_INFINITY;
        let mut named: Vec<(f64, &str, &str)> = Vec::new();
        for (n, (at, name)) in horizontals(lines).enumerate() {
            if let Place::Inside(part) = self.y.place(at) {
                let dash =
                    if self.names_horizontals() { DASHES[0] } else { DASHES[n % DASHES.len()] };
                named.push((area.bottom() - part * area.height, name, dash));
            }
        }
        named.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (y, name, dash) in named {
            svg.line("reference", (area.left, y), (area.right(), y), dash);
            if self.names_horizontals() {
                taken = (y + 4.0).max(taken + 15.0);
                svg.text("note", area.right() + 6.0, taken, name);
            }
        }
    }

    /// Labels of the vertical lines of a panel, side by side where they would overlap.
    fn reference_labels(&self, left: f64, panel: &Content<'_>) -> Vec<ReferenceLabel> {
        let area = Area { left, top: 0.0, width: self.panel_width, height: 0.0 };
        let mut labels: Vec<ReferenceLabel> = Vec::new();
        let inside = verticals(panel.lines).filter(|(at, _)| is_inside(&self.x, *at));
        let mut sorted: Vec<(f64, &str)> = inside.collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (at, name) in sorted {
            let text = shorten(name, SMALL, area.width);
            let half = width(&text, SMALL) / 2.0;
            let x = self.at_x(area, at);
            let middle = x.clamp(area.left + half, (area.right() - half).max(area.left + half));
            let is_free = |row: &usize| {
                labels.iter().all(|l| l.row != *row || l.middle + l.half + 8.0 < middle - half)
            };
            let row = (0..).find(is_free).unwrap_or(0);
            labels.push(ReferenceLabel { x: crisp(x), middle, half, row, text });
        }
        labels
    }

    /// Horizontal position of a drawable value.
    pub(super) fn at_x(&self, area: Area, value: f64) -> f64 {
        area.left + self.x.clamped(value).unwrap_or(0.0) * area.width
    }

    fn at_y(&self, area: Area, value: f64) -> f64 {
        area.bottom() - self.y.clamped(value).unwrap_or(0.0) * area.height
    }
}

struct ReferenceLabel {
    x: f64,
    middle: f64,
    half: f64,
    row: usize,
    text: String,
}

fn points<'a>(grid: &'a Grid<'_>) -> impl Iterator<Item = &'a crate::plot::Point> {
    grid.panels.iter().flat_map(|panel| panel.series).flat_map(|series| &series.points)
}

fn y_domain(grid: &Grid<'_>, height: f64) -> Domain {
    let lines = grid.panels.iter().flat_map(|panel| horizontals(panel.lines)).map(|line| line.0);
    Domain::new(grid.y, points(grid).flat_map(heights).chain(lines), (height / 55.0) as usize)
}

/// The horizontal domain with as many ticks as have room for their labels.
fn x_domain(grid: &Grid<'_>, room: f64) -> Domain {
    let lines = grid.panels.iter().flat_map(|panel| verticals(panel.lines)).map(|line| line.0);
    let values: Vec<f64> = points(grid).map(|point| point.x).chain(lines).collect();
    fit(grid.x, &values, room)
}

/// A domain whose tick labels do not overlap on an axis of `room` units.
pub(in crate::plot) fn fit(axis: &Axis, values: &[f64], room: f64) -> Domain {
    let most = (room / 55.0).clamp(2.0, 12.0) as usize;
    let mut domain = Domain::new(axis, values.iter().copied(), most);
    for want in (2..most).rev() {
        if n_overlapping(&domain, room) == 0 {
            return domain;
        }
        domain = Domain::new(axis, values.iter().copied(), want);
    }
    while n_overlapping(&domain, room) > 0 {
        // Every other label goes, its tick stays.
        let labelled = domain.ticks.major.iter_mut().filter(|tick| !tick.1.is_empty());
        labelled.skip(1).step_by(2).for_each(|tick| tick.1.clear());
    }
    domain
}

/// Pairs of neighbouring tick labels that are closer than a space to each other.
fn n_overlapping(domain: &Domain, room: f64) -> usize {
    let span = |(value, label): &(f64, String)| {
        let middle = domain.clamped(*value).unwrap_or(0.0) * room;
        let half = width(label, SMALL) / 2.0;
        (middle - half, middle + half)
    };
    let labels = domain.ticks.major.iter().filter(|tick| !tick.1.is_empty());
    let spans: Vec<(f64, f64)> = labels.map(span).collect();
    spans.windows(2).filter(|pair| pair[0].1 + 7.0 > pair[1].0).count()
}

/// Room at the right for the names of the horizontal lines, if they are few and short.
fn named_horizontals(panels: &[Content<'_>]) -> Option<f64> {
    let names = panels.iter().flat_map(|panel| horizontals(panel.lines)).map(|line| line.1);
    let widest = names.map(|name| width(name, SMALL)).fold(0.0, f64::max);
    (widest > 0.0 && widest <= 130.0).then_some(widest + 10.0)
}

fn marks(grid: &Grid<'_>, x: &Domain, y: &Domain) -> Marks {
    let mut marks = Marks::default();
    for point in points(grid).filter(|point| is_inside(x, point.x)) {
        match y.place(point.y) {
            Place::Inside(_) => {}
            Place::Above => (marks.above, marks.beyond) = (true, true),
            Place::Below => (marks.below, marks.beyond) = (true, true),
            Place::Diverged => (marks.above, marks.diverged) = (true, true),
            Place::DivergedDown => (marks.below, marks.diverged) = (true, true),
        }
    }
    marks
}

fn is_inside(domain: &Domain, value: f64) -> bool {
    matches!(domain.place(value), Place::Inside(_))
}

/// The middle of a device pixel, where thin lines are sharp.
fn crisp(coordinate: f64) -> f64 {
    coordinate.floor() + 0.5
}
