//! Figures as SVG: lines and points with intervals, panels, bars and heat maps.
//!
//! A figure holds data and words, never pixels or colours. It is drawn for a width of 820
//! ([`Size::Wide`]) or 368 ([`Size::Narrow`]) units with the same type size, so that a page can show
//! the one that suits the reader's screen. The same figure gives the same bytes every time.
//! What cannot be placed (NaN, infinities, values outside the axes) gets a mark at the edge.

mod axis;
mod bars;
mod data;
mod forest;
mod frame;
mod heat;
mod labels;
mod legend;
mod marks;
mod palette;
mod svg;
mod xy;

pub(crate) use forest::{Forest, draw as draw_forest};
pub(crate) use palette::style_sheet;

use crate::table::Table;

/// One figure: a title, a sentence or two below it, and what to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What the figure shows.
    pub title: String,
    /// How to read it; also what a screen reader says. May be empty.
    pub caption: String,
    /// The drawing.
    pub plot: Plot,
}

/// The kinds of drawings.
#[derive(Clone, Debug, PartialEq)]
pub enum Plot {
    /// Series over a numeric axis.
    Xy(Xy),
    /// Several small drawings with common axes and legend.
    Panels(Panels),
    /// One value for each category.
    Bars(Bars),
    /// A colour for each cell of a grid.
    Heat(HeatMap),
}

/// Width for which a figure is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 820 units: a page on a desk.
    Wide,
    /// 368 units: a page on a phone.
    Narrow,
}

/// Series over a numeric axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Xy {
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// What to draw, the first at the bottom.
    pub series: Vec<Series>,
    /// Labelled lines across the drawing.
    pub lines: Vec<ReferenceLine>,
}

/// Several small drawings that share both axes and one legend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panels {
    /// Horizontal axis of all panels.
    pub x: Axis,
    /// Vertical axis of all panels.
    pub y: Axis,
    /// The panels in reading order.
    pub panels: Vec<Panel>,
}

/// One of the small drawings of [`Panels`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// What distinguishes this panel.
    pub title: String,
    /// Series; the same index means the same thing in every panel.
    pub series: Vec<Series>,
    /// Labelled lines.
    pub lines: Vec<ReferenceLine>,
}

/// A numeric axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// What is measured.
    pub label: String,
    /// In which unit; empty where there is none.
    pub unit: String,
    /// Spacing.
    pub scale: Scale,
    /// Lower end; `None` takes it from the data.
    pub min: Option<f64>,
    /// Upper end; `None` takes it from the data.
    pub max: Option<f64>,
}

/// Spacing of an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps are equally long.
    #[default]
    Linear,
    /// Equal factors are equally long; ticks at powers of ten.
    Log10,
    /// Equal factors are equally long; ticks at powers of two.
    Log2,
}

/// A named sequence of points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Name in the legend; empty for none.
    pub name: String,
    /// The points, in the order in which a line visits them.
    pub points: Vec<Point>,
    /// How to draw them.
    pub style: Style,
    /// Place in the palette, so that an arm looks the same in every figure; `None` takes the
    /// index of the series.
    pub slot: Option<usize>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A line; intervals are a band.
    #[default]
    Line,
    /// A line with a marker at each point; intervals are a band.
    LinePoints,
    /// Markers; intervals are error bars.
    Points,
}

/// One point; a coordinate that is not finite says "diverged".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Horizontal coordinate.
    pub x: f64,
    /// Vertical coordinate.
    pub y: f64,
    /// Lower end of the interval of `y`.
    pub low: Option<f64>,
    /// Upper end of the interval of `y`.
    pub high: Option<f64>,
}

/// A labelled line across the drawing.
#[derive(Clone, Debug, PartialEq)]
pub enum ReferenceLine {
    /// At one `x`, such as the training length.
    Vertical {
        /// Where.
        at: f64,
        /// What.
        label: String,
    },
    /// At one `y`, such as the loss of a baseline.
    Horizontal {
        /// Where.
        at: f64,
        /// What.
        label: String,
    },
}

/// Horizontal bars, one for each category and series. On a logarithmic axis, where a bar has
/// no honest foot, dots take their place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bars {
    /// The axis of the values.
    pub axis: Axis,
    /// Categories from top to bottom.
    pub categories: Vec<String>,
    /// One or more values for each category.
    pub series: Vec<BarSeries>,
    /// Values to compare with.
    pub lines: Vec<ReferenceLine>,
}

/// One value for each category of [`Bars`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarSeries {
    /// Name in the legend; empty for none.
    pub name: String,
    /// Values in the order of the categories; a value that is not finite says "diverged".
    pub values: Vec<Bar>,
    /// Place in the palette; `None` takes the index of the series.
    pub slot: Option<usize>,
}

/// One bar.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bar {
    /// Length.
    pub value: f64,
    /// Lower end of its interval.
    pub low: Option<f64>,
    /// Upper end of its interval.
    pub high: Option<f64>,
}

/// A grid of coloured cells, such as the loss for each learning rate and width.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatMap {
    /// What the columns are, with unit.
    pub x_label: String,
    /// What the rows are, with unit.
    pub y_label: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Names of the rows, from top to bottom.
    pub rows: Vec<String>,
    /// `cells[row][column]`.
    pub cells: Vec<Vec<HeatCell>>,
    /// What the colours mean; its ends, where given, cut the colour scale.
    pub value: Axis,
    /// A cell to point out (row, column), such as the best.
    pub mark: Option<(usize, usize)>,
}

/// One cell of a [`HeatMap`].
#[derive(Clone, Debug, Default, PartialEq)]
pub enum HeatCell {
    /// Not measured.
    #[default]
    Missing,
    /// A number; NaN and infinities are drawn as the text "diverged".
    Value(f64),
    /// A number of things.
    Count(u64),
    /// A word instead of a number, such as "diverged".
    Text(String),
}

impl Figure {
    /// A figure without a caption.
    pub fn new(title: impl Into<String>, plot: Plot) -> Self {
        Self { title: title.into(), caption: String::new(), plot }
    }

    /// A whole SVG file with its own style, light and dark, and its title drawn on top.
    pub fn to_svg(&self, size: Size) -> String {
        frame::document(self, size)
    }

    /// The numbers of the figure. Series above 200 points are thinned evenly, and the caption
    /// says so.
    pub fn to_table(&self) -> Table {
        data::table(self)
    }

    /// The drawing for a page that brings [`style_sheet`] and writes the title itself.
    pub(crate) fn to_fragment(&self, size: Size) -> String {
        frame::fragment(self, size)
    }
}

impl Axis {
    /// A linear axis that takes its ends from the data.
    pub fn new(label: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { label: label.into(), unit: unit.into(), ..Self::default() }
    }

    /// A logarithmic axis with ticks at powers of ten.
    pub fn log10(label: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { scale: Scale::Log10, ..Self::new(label, unit) }
    }

    /// A logarithmic axis with ticks at powers of two.
    pub fn log2(label: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { scale: Scale::Log2, ..Self::new(label, unit) }
    }

    fn heading(&self) -> String {
        match (self.label.is_empty(), self.unit.is_empty()) {
            (_, true) => self.label.clone(),
            (true, false) => self.unit.clone(),
            (false, false) => format!("{} ({})", self.label, self.unit),
        }
    }
}

impl Series {
    /// A series drawn in `style`.
    pub fn new(name: impl Into<String>, style: Style, points: Vec<Point>) -> Self {
        Self { name: name.into(), points, style, slot: None }
    }
}

impl Point {
    /// A point without an interval.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, low: None, high: None }
    }

    /// A point with an interval of `y`.
    pub fn with_interval(x: f64, y: f64, low: f64, high: f64) -> Self {
        Self { x, y, low: Some(low), high: Some(high) }
    }
}

impl Bar {
    /// A bar without an interval.
    pub fn new(value: f64) -> Self {
        Self { value, low: None, high: None }
    }

    /// A bar with an interval.
    pub fn with_interval(value: f64, low: f64, high: f64) -> Self {
        Self { value, low: Some(low), high: Some(high) }
    }
}

#[cfg(test)]
mod tests;
