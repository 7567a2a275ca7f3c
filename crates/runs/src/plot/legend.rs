//! The legend: above the drawing, where it never covers data, broken into rows.

use super::Style;
use super::labels::{FONT, shorten, width};
use super::svg::{Area, Svg};
use super::{marks, palette};

/// What an entry shows before its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Glyph {
    /// A series in its style, with or without intervals.
    Series { slot: usize, style: Style, interval: bool, dense: bool },
    /// A bar of a palette slot.
    Bar(usize),
    /// A reference line with its dash.
    Reference(&'static str),
    /// A point that is not finite.
    Diverged,
    /// A point beyond the end of the axis.
    Beyond,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) glyph: Glyph,
    pub(super) label: String,
}

/// Entries for the marks that say why a point has no place.
pub(super) fn off_scale(diverged: bool, beyond: bool) -> impl Iterator<Item = Entry> {
    let entry = |glyph, label: &str| Entry { glyph, label: label.to_owned() };
    let diverged = diverged.then(|| entry(Glyph::Diverged, "diverged (not finite)"));
    diverged.into_iter().chain(beyond.then(|| entry(Glyph::Beyond, "beyond the axis")))
}

const ROW: f64 = 21.0;
const GLYPH: f64 = 28.0;
const GAP: f64 = 18.0;

/// Draws `entries` from `top` on and returns the height that they took.
pub(super) fn draw(svg: &mut Svg, entries: &[Entry], room: f64, top: f64) -> f64 {
    let (mut x, mut y) = (0.0, top);
    let entries: Vec<&Entry> = entries.iter().filter(|entry| !entry.label.is_empty()).collect();
    for entry in &entries {
        let label = shorten(&entry.label, FONT, room - GLYPH - 7.0);
        let needed = GLYPH + 7.0 + width(&label, FONT);
        if x > 0.0 && x + needed > room {
            (x, y) = (0.0, y + ROW);
        }
        glyph(svg, entry.glyph, x, y + 10.0);
        svg.text("label", x + GLYPH + 7.0, y + 14.5, &label);
        x += needed + GAP;
    }
    if entries.is_empty() { 0.0 } else { y - top + ROW + 6.0 }
}

fn glyph(svg: &mut Svg, glyph: Glyph, x: f64, y: f64) {
    let (end, middle) = (x + GLYPH, x + GLYPH / 2.0);
    match glyph {
        Glyph::Series { slot, style, interval, dense } => {
            let class = palette::class(slot);
            if interval && style != Style::Points {
                let band = Area { left: x, top: y - 6.0, width: GLYPH, height: 12.0 };
                svg.rect(&format!("band {class}"), band);
            }
            if interval && style == Style::Points {
                svg.line(&format!("error {class}"), (middle, y - 8.0), (middle, y + 8.0), "");
            }
            if style != Style::Points {
                let dash = if dense { "" } else { palette::dash(slot) };
                svg.line(&format!("line {class}"), (x, y), (end, y), dash);
            }
            if style != Style::Line || dense {
                svg.path(&format!("mark {class}"), &marks::marker(slot, middle, y), "");
            }
        }
        Glyph::Bar(slot) => {
            let swatch = Area { left: x + 6.0, top: y - 6.0, width: 16.0, height: 12.0 };
            svg.rect(&format!("bar {}", palette::class(slot)), swatch);
        }
        Glyph::Reference(dash) => svg.line("reference", (x, y), (end, y), dash),
        Glyph::Diverged => svg.path("cross ink", &marks::cross(middle, y), ""),
        Glyph::Beyond => svg.path("mark ink", &marks::arrow(middle, y, 0.0, -1.0), ""),
    }
}
