//! Heat maps: a colour and, where there is room, a number for each cell.

use super::axis::Domain;
use super::labels::{FONT, SMALL, shorten, width, wrap};
use super::svg::{Area, Svg, number};
use super::{Axis, HeatCell, HeatMap, Size, palette};
use crate::number::{significant, typographic};

/// From one line of a word to the next.
const LINE: f64 = 14.0;

/// Measures of one drawing.
struct Layout {
    area: Area,
    cell: (f64, f64),
    n_columns: usize,
    n_rows: usize,
    domain: Domain,
}

/// Draws from the top and returns the height taken.
pub(super) fn draw(svg: &mut Svg, plot: &HeatMap, size: Size) -> f64 {
    let domain = domain(plot);
    let top = draw_scale(svg, &domain, &plot.value.heading(), size);
    let layout = Layout::new(plot, size, top, domain);
    for (i, line) in wrap(&plot.y_label, FONT, size.width(), 2).iter().enumerate() {
        svg.text("label", 0.0, top + 13.0 + 17.0 * i as f64, line);
    }
    for row in 0..layout.n_rows {
        let name = plot.rows.get(row).map_or("", String::as_str);
        let middle = layout.cell_area(row, 0).top + layout.cell.1 / 2.0 + 4.0;
        let room = layout.area.left - 8.0;
        svg.text("tick end", layout.area.left - 8.0, middle, &shorten(name, SMALL, room));
        for column in 0..layout.n_columns {
            let cell = plot.cells.get(row).and_then(|row| row.get(column));
            let area = layout.cell_area(row, column);
            layout.draw_cell(
                svg,
                area,
                cell.unwrap_or(&HeatCell::Missing),
                &place(plot, row, column),
            );
        }
    }
    if let Some((row, column)) = plot.mark.filter(|m| m.0 < layout.n_rows && m.1 < layout.n_columns)
    {
        svg.rect("halo", layout.cell_area(row, column));
        svg.rect("best", layout.cell_area(row, column));
    }
    layout.draw_columns(svg, plot)
}

impl Layout {
    fn new(plot: &HeatMap, size: Size, top: f64, domain: Domain) -> Self {
        let n_columns = plot.cells.iter().map(Vec::len).max().unwrap_or(0).max(plot.columns.len());
        let n_rows = plot.cells.len().max(plot.rows.len());
        let widest = plot.rows.iter().map(|row| width(row, SMALL)).fold(0.0, f64::max);
        let left = widest.min(size.width() * 0.3) + 10.0;
        let most = if size == Size::Wide { 92.0 } else { 70.0 };
        let cell_width = ((size.width() - left - 6.0) / n_columns.max(1) as f64).min(most);
        let cell_height = if n_rows > 16 { 20.0 } else { 34.0 };
        let label = wrap(&plot.y_label, FONT, size.width(), 2).len() as f64 * 17.0 + 6.0;
        let (width, height) = (cell_width * n_columns as f64, cell_height * n_rows as f64);
        let area = Area { left, top: top + label, width, height };
        Self { area, cell: (cell_width, cell_height), n_columns, n_rows, domain }
    }

    fn cell_area(&self, row: usize, column: usize) -> Area {
        let (width, height) = self.cell;
        let left = self.area.left + column as f64 * width;
        Area { left, top: self.area.top + row as f64 * height, width, height }
    }

    fn draw_cell(&self, svg: &mut Svg, area: Area, cell: &HeatCell, place: &str) {
        let word = match cell {
            HeatCell::Missing => {
                svg.titled_rect("cell missing", None, area, &format!("{place}: not measured"));
                return;
            }
            HeatCell::Value(value) if value.is_finite() => {
                let texts = [4, 3, 2].map(|digits| typographic(&significant(*value, digits)));
                return self.draw_number(svg, area, *value, &texts, place);
            }
            HeatCell::Count(count) => {
                return self.draw_number(svg, area, *count as f64, &[count.to_string()], place);
            }
            HeatCell::Value(_) => "diverged",
            HeatCell::Text(word) => word,
        };
        svg.titled_rect("cell word", None, area, &format!("{place}: {word}"));
        let Some(lines) = fitting(word, (area.width, area.height)) else {
            return svg.path("hatch", &hatch(area), "");
        };
        let first = center(area).1 + 4.0 - LINE * (lines.len() - 1) as f64 / 2.0;
        for (i, line) in lines.iter().enumerate() {
            svg.text("tick middle", center(area).0, first + LINE * i as f64, line);
        }
    }

    /// In the colour of `value`, with the first of `texts` that has room.
    fn draw_number(&self, svg: &mut Svg, area: Area, value: f64, texts: &[String], place: &str) {
        let (colour, is_dark) = palette::heat(self.domain.clamped(value).unwrap_or(0.0));
        let full = texts.first().map_or("", String::as_str);
        svg.titled_rect("cell", Some(&colour), area, &format!("{place}: {full}"));
        let class = if is_dark { "on-dark middle" } else { "on-light middle" };
        if let Some(text) = texts.iter().find(|t| width(t, SMALL) <= area.width - 6.0) {
            svg.text(class, center(area).0, center(area).1 + 4.0, text);
        }
    }

    /// Names of the columns, as many as have room, and what they are.
    fn draw_columns(&self, svg: &mut Svg, plot: &HeatMap) -> f64 {
        let bottom = self.area.bottom();
        let widest = plot.columns.iter().map(|c| width(c, SMALL)).fold(0.0, f64::max) + 8.0;
        let every = (widest / self.cell.0.max(1.0)).ceil().max(1.0) as usize;
        for (i, name) in plot.columns.iter().enumerate().step_by(every) {
            let middle = self.area.left + (i as f64 + 0.5) * self.cell.0;
            let room = self.cell.0 * every as f64;
            svg.text("tick middle", middle, bottom + 17.0, &shorten(name, SMALL, room));
        }
        let middle = self.area.left + self.area.width / 2.0;
        let mut y = bottom + 38.0;
        for line in wrap(&plot.x_label, FONT, self.area.width.max(120.0), 2) {
            svg.text("label middle", middle, y, &line);
            y += 17.0;
        }
        self.draw_key(svg, plot, y) - 8.0
    }

    /// What hatched and empty cells mean, from `y` on; returns where it ends.
    fn draw_key(&self, svg: &mut Svg, plot: &HeatMap, mut y: f64) -> f64 {
        let missing = (0..self.n_rows).any(|row| {
            let cell = |column| plot.cells.get(row).and_then(|row: &Vec<HeatCell>| row.get(column));
            (0..self.n_columns).any(|column| matches!(cell(column), None | Some(HeatCell::Missing)))
        });
        let left = self.area.left;
        let sample = |y: f64| Area { left, top: y - 11.0, width: 22.0, height: 14.0 };
        let words = hatch_words(plot, self.cell);
        if !words.is_empty() {
            y += 6.0;
            svg.rect("word", sample(y));
            svg.path("hatch", &hatch(sample(y)), "");
            for line in wrap(&words, SMALL, self.area.width.max(120.0) - 30.0, 4) {
                svg.text("note", left + 30.0, y, &line);
                y += 15.0;
            }
        }
        if missing {
            y += 6.0;
            svg.rect("missing", sample(y));
            svg.text("note", left + 30.0, y, "not measured");
            y += 15.0;
        }
        y
    }
}

/// The colour scale with its ticks; returns where the rest starts.
fn draw_scale(svg: &mut Svg, domain: &Domain, label: &str, size: Size) -> f64 {
    let mut top = 0.0;
    for line in wrap(label, FONT, size.width(), 2) {
        svg.text("label", 0.0, top + 13.0, &line);
        top += 17.0;
    }
    let (left, length, n) = (12.0, if size == Size::Wide { 320.0 } else { 260.0 }, 64);
    top += 4.0;
    for i in 0..n {
        let colour = palette::heat((f64::from(i) + 0.5) / f64::from(n)).0;
        let from = left + length * f64::from(i) / f64::from(n);
        // A sliver of overlap hides the seams.
        let width = length / f64::from(n) + if i + 1 < n { 0.6 } else { 0.0 };
        svg.plain_rect(&colour, Area { left: from, top, width, height: 11.0 });
    }
    for (value, label) in &domain.ticks.major {
        let x = left + domain.clamped(*value).unwrap_or(0.0) * length;
        svg.line("axis", (x, top + 11.0), (x, top + 15.0), "");
        svg.text("tick middle", x, top + 27.0, label);
    }
    top + 42.0
}

/// The range of the values themselves: colours are not spent on what does not occur.
fn domain(plot: &HeatMap) -> Domain {
    let values = plot.cells.iter().flatten().filter_map(|cell| match cell {
        HeatCell::Value(value) => Some(*value),
        HeatCell::Count(count) => Some(*count as f64),
        _ => None,
    });
    let values: Vec<f64> =
        values.filter(|v| super::axis::is_drawable(plot.value.scale, *v)).collect();
    let low = values.iter().copied().reduce(f64::min);
    let high = values.iter().copied().reduce(f64::max);
    let axis =
        Axis { min: plot.value.min.or(low), max: plot.value.max.or(high), ..plot.value.clone() };
    Domain::new(&axis, values, 4)
}

fn place(plot: &HeatMap, row: usize, column: usize) -> String {
    let name = |names: &[String], i: usize| names.get(i).cloned().unwrap_or_default();
    let (row, column) = (name(&plot.rows, row), name(&plot.columns, column));
    format!("{} {row}, {} {column}", plot.y_label, plot.x_label)
}

fn word(cell: &HeatCell) -> Option<&str> {
    match cell {
        HeatCell::Text(word) => Some(word),
        HeatCell::Value(value) if !value.is_finite() => Some("diverged"),
        _ => None,
    }
}

/// The lines on which `word` has room in a cell of this width and height; none if it has not.
fn fitting(word: &str, (width, height): (f64, f64)) -> Option<Vec<String>> {
    let lines = wrap(word, SMALL, width - 4.0, (height / LINE) as usize);
    (lines.join(" ") == word).then_some(lines) // what is too long was cut
}

/// The different words that have no room in their cells, for the key of the hatching.
fn hatch_words(plot: &HeatMap, cell: (f64, f64)) -> String {
    let words: std::collections::BTreeSet<&str> =
        plot.cells.iter().flatten().filter_map(word).collect();
    let hatched: Vec<&str> =
        words.into_iter().filter(|word| fitting(word, cell).is_none()).collect();
    hatched.join(" or ")
}

fn center(area: Area) -> (f64, f64) {
    (area.left + area.width / 2.0, area.top + area.height / 2.0)
}

/// Diagonals across `area`.
fn hatch(area: Area) -> String {
    let (step, mut d) = (7.0, String::new());
    let mut offset = step;
    while offset < area.width + area.height {
        let (x0, y0) = (offset.min(area.width), (offset - area.width).max(0.0));
        let (x1, y1) = ((offset - area.height).max(0.0), offset.min(area.height));
        let n = |x: f64, y: f64| format!("{} {}", number(area.left + x), number(area.top + y));
        d.push_str(&format!("M{}L{}", n(x0, y0), n(x1, y1)));
        offset += step;
    }
    d
}
