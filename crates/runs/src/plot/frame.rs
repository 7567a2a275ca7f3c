//! The outside of a figure: the `svg` element, its name for screen readers, title and style.

use super::labels::{TITLE, wrap};
use super::svg::{Area, Svg, number};
use super::{Figure, Plot, Size, bars, heat, palette, xy};
use crate::text;

impl Size {
    /// Width of the drawing in units.
    pub(super) fn width(self) -> f64 {
        match self {
            Self::Wide => 820.0,
            Self::Narrow => 368.0,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Wide => "plot wide",
            Self::Narrow => "plot narrow",
        }
    }
}

/// The drawing alone.
pub(super) fn fragment(figure: &Figure, size: Size) -> String {
    let (body, height) = draw(figure, size);
    let view = format!("0 0 {} {}", number(size.width()), number(height));
    format!(
        "<svg class=\"{}\" viewBox=\"{view}\" role=\"img\" aria-label=\"{}\">\n{body}</svg>\n",
        size.class(),
        text::html(&name(figure)),
    )
}

/// A file of its own.
pub(super) fn document(figure: &Figure, size: Size) -> String {
    let margin = 14.0;
    let mut head = Svg::default();
    let mut top = margin;
    for line in wrap(&figure.title, TITLE, size.width(), 3) {
        head.text("title", margin, top + TITLE, &line);
        top += TITLE * 1.3;
    }
    let (body, body_height) = draw(figure, size);
    top += 8.0;
    let (width, height) = (size.width() + 2.0 * margin, top + body_height + margin);
    let mut ground = Svg::default();
    ground.rect("ground", Area { left: 0.0, top: 0.0, width, height });
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{}\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" \
         height=\"{h}\" role=\"img\" aria-label=\"{name}\">\n<title>{title}</title>\n<style>\n{style}</style>\n\
         {ground}{head}<g transform=\"translate({margin},{top})\">\n{body}</g>\n</svg>\n",
        size.class(),
        w = number(width),
        h = number(height),
        name = text::html(&name(figure)),
        title = text::html(&text::one_line(&figure.title)),
        style = palette::style_sheet(),
        ground = ground.finish(),
        head = head.finish(),
        top = number(top),
    )
}

fn draw(figure: &Figure, size: Size) -> (String, f64) {
    let mut svg = Svg::default();
    let height = match &figure.plot {
        Plot::Xy(plot) => xy::draw(&mut svg, plot, size),
        Plot::Panels(plot) => xy::draw_panels(&mut svg, plot, size),
        Plot::Bars(plot) => bars::draw(&mut svg, plot, size),
        Plot::Heat(plot) => heat::draw(&mut svg, plot, size),
    };
    (svg.finish(), height.ceil())
}

fn name(figure: &Figure) -> String {
    match figure.caption.is_empty() {
        true => text::one_line(&figure.title),
        false => text::one_line(&format!("{}. {}", figure.title, figure.caption)),
    }
}
