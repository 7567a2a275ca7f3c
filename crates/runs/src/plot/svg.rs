//! A writer of SVG elements: escaped, with coordinates of one decimal.

use std::fmt::Write as _;

use crate::text;

/// SVG text under construction.
#[derive(Debug, Default)]
pub(super) struct Svg {
    out: String,
}

/// A rectangle in user units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Area {
    pub(super) fn right(self) -> f64 {
        self.left + self.width
    }

    pub(super) fn bottom(self) -> f64 {
        self.top + self.height
    }
}

impl Svg {
    /// Everything written so far.
    pub(super) fn finish(self) -> String {
        self.out
    }

    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, content: &str) {
        if content.is_empty() {
            return;
        }
        let (x, y, content) = (number(x), number(y), text::html(&text::one_line(content)));
        self.push(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{content}</text>\n"));
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64), dash: &str) {
        self.path(
            class,
            &format!("M{} {}L{} {}", number(from.0), number(from.1), number(to.0), number(to.1)),
            dash,
        );
    }

    pub(super) fn path(&mut self, class: &str, d: &str, dash: &str) {
        let dash = dash_attribute(dash);
        self.push(format_args!("<path class=\"{class}\" d=\"{d}\"{dash}/>\n"));
    }

    /// A path that says `title` when pointed at.
    pub(super) fn titled_path(&mut self, class: &str, d: &str, title: &str) {
        let title = text::html(&text::one_line(title));
        self.push(format_args!(
            "<path class=\"{class}\" d=\"{d}\"><title>{title}</title></path>\n"
        ));
    }

    pub(super) fn rect(&mut self, class: &str, area: Area) {
        let rect = rect_attributes(area);
        self.push(format_args!("<rect class=\"{class}\"{rect}/>\n"));
    }

    /// A rectangle of any colour.
    pub(super) fn plain_rect(&mut self, fill: &str, area: Area) {
        let rect = rect_attributes(area);
        self.push(format_args!("<rect{rect} fill=\"{fill}\"/>\n"));
    }

    /// A rectangle of any colour that says `title` when pointed at.
    pub(super) fn titled_rect(&mut self, class: &str, fill: Option<&str>, area: Area, title: &str) {
        let rect = rect_attributes(area);
        let fill = fill.map_or(String::new(), |fill| format!(" fill=\"{fill}\""));
        let title = text::html(&text::one_line(title));
        self.push(format_args!(
            "<rect class=\"{class}\"{rect}{fill}><title>{title}</title></rect>\n"
        ));
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(arguments);
    }
}

/// `value` with one decimal, without trailing zero; what is not finite becomes 0.
pub(super) fn number(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded == 0.0 || !rounded.is_finite() { "0".to_owned() } else { rounded.to_string() }
}

/// `M` to the first point and `L` to the others.
pub(super) fn polyline(points: &[(f64, f64)]) -> String {
    let mut d = String::new();
    for (i, &(x, y)) in points.iter().enumerate() {
        d.push_str(if i == 0 { "M" } else { "L" });
        d.push_str(&format!("{} {}", number(x), number(y)));
    }
    d
}

fn dash_attribute(dash: &str) -> String {
    if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") }
}

fn rect_attributes(area: Area) -> String {
    let Area { left, top, width, height } = area;
    let (x, y, w, h) = (number(left), number(top), number(width.max(0.0)), number(height.max(0.0)));
    format!(" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"")
}
