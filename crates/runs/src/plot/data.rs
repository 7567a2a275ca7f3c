//! The numbers of a figure as a table.

use super::{Bar, Bars, Figure, HeatCell, HeatMap, Plot, Series, Style};
use crate::table::{Align, Cell, Column, Table};

/// Most points of a series that a table shows.
const MOST: usize = 200;

/// The table for `figure`; its caption says what was left out.
pub(super) fn table(figure: &Figure) -> Table {
    let mut table = match &figure.plot {
        Plot::Xy(xy) => xy_table(&xy.x, &xy.y, &[("", &xy.series)]),
        Plot::Panels(panels) => {
            let content: Vec<(&str, &[Series])> =
                panels.panels.iter().map(|p| (p.title.as_str(), p.series.as_slice())).collect();
            xy_table(&panels.x, &panels.y, &content)
        }
        Plot::Bars(bars) => bars_table(bars),
        Plot::Heat(map) => heat_table(map),
    };
    let note = std::mem::take(&mut table.caption);
    table.caption = match note.is_empty() {
        true => format!("Data of “{}”", figure.title),
        false => format!("Data of “{}”; {note}", figure.title),
    };
    table
}

fn xy_table(x: &super::Axis, y: &super::Axis, panels: &[(&str, &[Series])]) -> Table {
    let all = || panels.iter().flat_map(|(title, series)| series.iter().map(move |s| (*title, s)));
    let longest = all().map(|(_, series)| series.points.len()).max().unwrap_or(0);
    let every = longest.div_ceil(MOST).max(1);
    let caption = match every {
        1 => String::new(),
        n => format!("every {n}th point of up to {longest}"),
    };
    let mut table = match all().next() {
        Some((_, first)) if all().count() > 1 && all().all(|(_, s)| same_x(s, first)) => {
            side_by_side(x, y, &all().collect::<Vec<_>>(), every)
        }
        _ => one_below_the_other(x, y, &all().collect::<Vec<_>>(), every),
    };
    table.caption = caption;
    table
}

fn same_x(a: &Series, b: &Series) -> bool {
    let xs = |series: &Series| series.points.iter().map(|p| p.x.to_bits()).collect::<Vec<_>>();
    xs(a) == xs(b)
}

/// One row for each `x`, one column for each series.
fn side_by_side(x: &super::Axis, y: &super::Axis, all: &[(&str, &Series)], every: usize) -> Table {
    let name = |(title, series): &(&str, &Series)| match (title.is_empty(), series.name.is_empty())
    {
        (true, _) => series.name.clone(),
        (false, true) => (*title).to_owned(),
        (false, false) => format!("{title}: {}", series.name),
    };
    let mut columns = vec![column(x)];
    columns.extend(all.iter().map(|entry| Column::number(name(entry), y.unit.clone())));
    let n = all.first().map_or(0, |(_, series)| series.points.len());
    let row = |i: usize| {
        let points = all.iter().filter_map(|(_, series)| series.points.get(i));
        let x = Cell::setting(all[0].1.points[i].x);
        std::iter::once(x).chain(points.map(|p| value(p.y, p.low, p.high))).collect()
    };
    Table { caption: String::new(), columns, rows: kept(n, every).map(row).collect() }
}

/// One row for each point, with the names of its panel and series.
fn one_below_the_other(
    x: &super::Axis,
    y: &super::Axis,
    all: &[(&str, &Series)],
    every: usize,
) -> Table {
    let has_titles = all.iter().any(|(title, _)| !title.is_empty());
    let has_names = all.iter().any(|(_, series)| !series.name.is_empty());
    let mut columns = Vec::new();
    columns.extend(has_titles.then(|| Column::text("panel")));
    columns.extend(has_names.then(|| Column::text("series")));
    columns.extend([column(x), column(y)]);
    let mut rows = Vec::new();
    for (title, series) in all {
        for i in kept(series.points.len(), every) {
            let point = series.points[i];
            let mut row = Vec::new();
            row.extend(has_titles.then(|| Cell::from(*title)));
            row.extend(has_names.then(|| Cell::from(named(series, all))));
            row.extend([Cell::setting(point.x), value(point.y, point.low, point.high)]);
            rows.push(row);
        }
    }
    Table { caption: String::new(), columns, rows }
}

/// A series' name; one without is called after the series of the same place in the palette that it belongs to.
fn named(series: &Series, all: &[(&str, &Series)]) -> String {
    if !series.name.is_empty() || series.slot.is_none() {
        return series.name.clone();
    }
    let same = all.iter().find(|(_, other)| other.slot == series.slot && !other.name.is_empty());
    let what = if series.style == Style::Line { "line" } else { "points" };
    same.map_or_else(String::new, |(_, other)| format!("{}, {what}", other.name))
}

/// Every `every`-th index, and the last.
fn kept(n: usize, every: usize) -> impl Iterator<Item = usize> {
    (0..n).filter(move |i| i % every == 0 || i + 1 == n)
}

fn bars_table(bars: &Bars) -> Table {
    let mut columns = vec![Column::text("")];
    let name = |series: &super::BarSeries| match series.name.is_empty() {
        true => bars.axis.label.clone(),
        false => series.name.clone(),
    };
    columns.extend(bars.series.iter().map(|s| Column::number(name(s), bars.axis.unit.clone())));
    let n =
        bars.series.iter().map(|s| s.values.len()).max().unwrap_or(0).max(bars.categories.len());
    let row = |i: usize| {
        let cell = |bar: Option<&Bar>| bar.map_or(Cell::Empty, |b| value(b.value, b.low, b.high));
        let name = Cell::from(bars.categories.get(i).cloned().unwrap_or_default());
        std::iter::once(name).chain(bars.series.iter().map(|s| cell(s.values.get(i)))).collect()
    };
    Table { caption: String::new(), columns, rows: (0..n).map(row).collect() }
}

fn heat_table(map: &HeatMap) -> Table {
    let mut columns = vec![Column::text(map.y_label.clone())];
    let n = map.cells.iter().map(Vec::len).max().unwrap_or(0).max(map.columns.len());
    let name = |i: usize| map.columns.get(i).cloned().unwrap_or_default();
    columns.extend((0..n).map(|i| Column::number(name(i), "")));
    let row = |i: usize| {
        let name = Cell::from(map.rows.get(i).cloned().unwrap_or_default());
        let cells = map.cells.get(i).map_or(&[][..], Vec::as_slice).iter().map(|cell| match cell {
            HeatCell::Missing => Cell::Empty,
            HeatCell::Value(v) => value(*v, None, None),
            HeatCell::Count(n) => Cell::from(*n),
            HeatCell::Text(word) => Cell::from(word.clone()),
        });
        std::iter::once(name).chain(cells).collect()
    };
    let n_rows = map.cells.len().max(map.rows.len());
    let caption = format!("{}; columns: {}", map.value.heading(), map.x_label);
    Table { caption, columns, rows: (0..n_rows).map(row).collect() }
}

fn column(axis: &super::Axis) -> Column {
    Column { name: axis.label.clone(), unit: axis.unit.clone(), align: Align::Right }
}

/// A number with its interval; what is not finite is called by name.
fn value(value: f64, low: Option<f64>, high: Option<f64>) -> Cell {
    match (low, high) {
        _ if !value.is_finite() => Cell::from("diverged"),
        (Some(low), Some(high)) => Cell::range(value, low, high),
        _ => Cell::from(value),
    }
}
