use proptest::prelude::*;

use super::*;

fn lines(points: Vec<Point>, y: Axis) -> Figure {
    let series = vec![Series::new("arm", Style::LinePoints, points)];
    Figure::new("Loss", Plot::Xy(Xy { x: Axis::new("step", ""), y, series, lines: vec![] }))
}

fn count(svg: &str, what: &str) -> usize {
    svg.matches(what).count()
}

/// Numbers of all attributes `name` of elements with `class`.
fn attributes<'a>(svg: &'a str, class: &str, name: &str) -> Vec<&'a str> {
    let start = format!("class=\"{class}");
    svg.split('<')
        .filter(|element| element.contains(&start))
        .filter_map(|element| element.split_once(&format!(" {name}=\""))?.1.split('"').next())
        .collect()
}

/// Corners of a path that consists of `M` and `L`.
fn corners(d: &str) -> Vec<(f64, f64)> {
    d.trim_end_matches('z')
        .split(['M', 'L'])
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once(' ').unwrap())
        .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
        .collect()
}

/// The rectangle between the outermost grid lines: the axes.
fn axes(svg: &str) -> (f64, f64, f64, f64) {
    let grid: Vec<(f64, f64)> =
        attributes(svg, "grid", "d").into_iter().flat_map(corners).collect();
    let fold = |f: fn(f64, f64) -> f64, values: Vec<f64>| values.into_iter().reduce(f).unwrap();
    let xs = || grid.iter().map(|c| c.0).collect();
    let ys = || grid.iter().map(|c| c.1).collect();
    (fold(f64::min, xs()), fold(f64::max, xs()), fold(f64::min, ys()), fold(f64::max, ys()))
}

#[test]
fn a_file_names_itself_and_brings_its_style() {
    let mut figure =
        lines(vec![Point::new(0.0, 1.0), Point::new(1.0, 2.0)], Axis::new("loss", "nats"));
    figure.title = "A < \"B\"".to_owned();
    figure.caption = "Lower & better.".to_owned();
    let svg = figure.to_svg(Size::Wide);
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
    assert!(svg.contains("<title>A &lt; &quot;B&quot;</title>"));
    assert!(svg.contains("aria-label=\"A &lt; &quot;B&quot;. Lower &amp; better.\""));
    assert!(svg.contains("prefers-color-scheme:dark"));
    assert!(svg.contains(">loss (nats)</text>"));
    assert!(!svg.contains("<script") && !svg.contains("href"));
}

#[test]
fn a_point_that_diverged_breaks_the_line_and_leaves_a_cross() {
    let values = [3.0, 2.0, f64::NAN, 2.5, f64::INFINITY, f64::NEG_INFINITY];
    let points = values.iter().enumerate().map(|(i, &y)| Point::new(i as f64, y)).collect();
    let svg = lines(points, Axis::new("loss", "nats")).to_fragment(Size::Wide);
    let line = attributes(&svg, "line s0", "d").pop().unwrap();
    assert_eq!(count(line, "M"), 2, "{line}");
    // One above for NaN, one above for infinity, one below.
    assert_eq!(count(&svg, "class=\"cross s0\""), 3);
    assert!(svg.contains("diverged (not finite)"));
    assert!(svg.contains("<title>arm: NaN at 2.000</title>"));
}

#[test]
fn a_point_beyond_the_axis_gets_an_arrow_and_its_line_runs_to_the_edge() {
    let points = vec![Point::new(0.0, 1.0), Point::new(1.0, 9.0)];
    let y = Axis { min: Some(0.0), max: Some(5.0), ..Axis::new("loss", "nats") };
    let svg = lines(points, y).to_fragment(Size::Wide);
    let line = attributes(&svg, "line s0", "d").pop().unwrap().to_owned();
    let (left, right, top, _) = axes(&svg);
    let end = corners(&line)[1];
    assert!((end.0 - (left + right) / 2.0).abs() < 1.0, "halfway: {end:?}");
    assert!((end.1 - top).abs() < 1.0, "at the upper edge: {end:?}");
    assert!(svg.contains("beyond the axis"));
}

#[test]
fn a_point_beside_the_axis_is_counted() {
    let mut figure = lines(vec![Point::new(0.0, 1.0), Point::new(f64::NAN, 9.0)], Axis::default());
    assert!(figure.to_fragment(Size::Wide).contains("1 point has no place on the horizontal axis"));
    if let Plot::Xy(plot) = &mut figure.plot {
        plot.x.max = Some(-1.0);
    }
    assert!(figure.to_fragment(Size::Wide).contains("2 points have no place"));
}

#[test]
fn long_series_are_thinned_and_keep_their_extremes() {
    let mut points: Vec<Point> =
        (0..100_000).map(|i| Point::new(f64::from(i), f64::from(i % 7))).collect();
    points[55_555].y = 40.0;
    let series = vec![Series::new("", Style::Line, points)];
    let plot = Xy { series, ..Xy::default() };
    let svg = Figure::new("", Plot::Xy(plot)).to_fragment(Size::Wide);
    assert!(svg.len() < 100_000, "{} bytes", svg.len());
    let line = corners(attributes(&svg, "thin line s0", "d").pop().unwrap());
    let (_, _, top, bottom) = axes(&svg);
    assert!(line.iter().any(|c| (c.1 - top).abs() < 1.0), "the highest point is drawn");
    assert!(line.iter().any(|c| (c.1 - bottom).abs() < 1.0), "the lowest point is drawn");
}

#[test]
fn an_empty_figure_is_still_a_figure() {
    for plot in [
        Plot::Xy(Xy::default()),
        Plot::Panels(Panels::default()),
        Plot::Bars(Bars::default()),
        Plot::Heat(HeatMap::default()),
    ] {
        let figure = Figure::new("nothing", plot);
        for size in [Size::Wide, Size::Narrow] {
            assert!(figure.to_svg(size).trim_end().ends_with("</svg>"));
        }
        assert!(figure.to_table().caption.contains("nothing"));
    }
}

#[test]
fn the_table_of_a_figure_holds_its_numbers() {
    let values = [Point::with_interval(128.0, 3.21, 3.18, 3.24), Point::new(256.0, f64::NAN)];
    let table = lines(values.to_vec(), Axis::new("loss", "nats")).to_table();
    let markdown = table.to_markdown();
    assert!(markdown.contains("| arm | 128 | 3.210 \\[3.180, 3.240\\] |"), "{markdown}");
    assert!(markdown.contains("| arm | 256 | diverged |"), "{markdown}");
}

#[test]
fn a_heat_map_says_which_cells_diverged_or_are_missing() {
    let map = HeatMap {
        columns: vec!["1e-3".into(), "1e-2".into()],
        rows: vec!["64".into()],
        cells: vec![vec![HeatCell::Value(2.5), HeatCell::Value(f64::NAN)], vec![HeatCell::Missing]],
        mark: Some((0, 0)),
        ..HeatMap::default()
    };
    let svg = Figure::new("map", Plot::Heat(map)).to_fragment(Size::Wide);
    assert!(svg.contains(">diverged</text>"));
    assert_eq!(count(&svg, ": not measured"), 2, "the missing cell and the one never given");
    assert_eq!(count(&svg, "class=\"best\""), 1);
}

#[test]
fn a_word_that_is_wider_than_its_cell_stands_on_two_lines() {
    let drawn = |n_columns: usize| {
        let cells = vec![vec![HeatCell::Text("3 of 4 diverged".to_owned()); n_columns]];
        let columns = vec!["0.001".to_owned(); n_columns];
        let map = HeatMap { columns, rows: vec!["Sub-LN".to_owned()], cells, ..HeatMap::default() };
        Figure::new("map", Plot::Heat(map)).to_fragment(Size::Wide)
    };
    let svg = drawn(10);
    assert!(svg.contains(">3 of 4</text>") && svg.contains(">diverged</text>"), "{svg}");
    assert!(!svg.contains("hatch"), "{svg}");
    assert!(drawn(60).contains("hatch"), "no room");
}

fn any_series() -> impl Strategy<Value = Series> {
    let y = prop_oneof![4 => -50.0..50.0, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => any::<f64>()];
    let point = (-1e3..1e3, y, 0.0..5.0, any::<bool>()).prop_map(|(x, y, by, with)| {
        if with { Point::with_interval(x, y, y - by, y + by) } else { Point::new(x, y) }
    });
    let style = prop_oneof![Just(Style::Line), Just(Style::LinePoints), Just(Style::Points)];
    ("[ -~]{0,30}", style, proptest::collection::vec(point, 0..30))
        .prop_map(|(name, style, points)| Series::new(name, style, points))
}

fn any_axis() -> impl Strategy<Value = Axis> {
    let scale = prop_oneof![Just(Scale::Linear), Just(Scale::Log10), Just(Scale::Log2)];
    ("[ -~]{0,60}", scale, proptest::option::of(-100.0..100.0), proptest::option::of(-100.0..100.0))
        .prop_map(|(label, scale, min, max)| Axis { label, unit: String::new(), scale, min, max })
}

fn any_figure() -> impl Strategy<Value = Figure> {
    let series = proptest::collection::vec(any_series(), 0..5);
    let lines = proptest::collection::vec(("[ -~]{0,30}", -60.0..60.0, any::<bool>()), 0..4);
    (series, any_axis(), any_axis(), lines).prop_map(|(series, x, y, lines)| {
        let line = |(label, at, vertical)| match vertical {
            true => ReferenceLine::Vertical { at, label },
            false => ReferenceLine::Horizontal { at, label },
        };
        let lines = lines.into_iter().map(line).collect();
        Figure::new("figure", Plot::Xy(Xy { x, y, series, lines }))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_finite_point_lies_inside_the_axes(series in proptest::collection::vec(any_series(), 1..4), narrow in any::<bool>()) {
        let n_finite: usize = series
            .iter()
            .filter(|series| series.style != Style::Line)
            .flat_map(|series| &series.points)
            .filter(|point| point.y.is_finite() && point.y.abs() <= 1e300)
            .count();
        let size = if narrow { Size::Narrow } else { Size::Wide };
        let named = series.iter().filter(|s| s.style != Style::Line && !s.name.trim().is_empty()).count();
        let plot = Xy { series, ..Xy::default() };
        let svg = Figure::new("", Plot::Xy(plot)).to_fragment(size);
        let (left, right, top, bottom) = axes(&svg);
        // Coordinates are rounded to a tenth and grid lines moved by half a unit at most.
        let inside = |(x, y): &(f64, f64)| {
            left - 0.6 <= *x && *x <= right + 0.6 && top - 0.6 <= *y && *y <= bottom + 0.6
        };
        for d in attributes(&svg, "line", "d").into_iter().chain(attributes(&svg, "band", "d")) {
            let corners = corners(d);
            // The legend's samples are 28 units of a straight line above the axes.
            let is_sample = corners.len() == 2 && corners[1].1 < top && (corners[1].0 - corners[0].0 - 28.0).abs() < 0.2;
            prop_assert!(is_sample || corners.iter().all(inside), "{d}");
        }
        let markers = count(&svg, "class=\"mark s");
        let lonely_or_arrows = n_finite + named;
        prop_assert!(markers >= n_finite, "{markers} markers for {lonely_or_arrows}");
    }

    #[test]
    fn a_figure_is_drawn_the_same_each_time_and_is_well_formed(figure in any_figure()) {
        for size in [Size::Wide, Size::Narrow] {
            let svg = figure.to_svg(size);
            prop_assert_eq!(&svg, &figure.clone().to_svg(size));
            for d in svg.split(" d=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                prop_assert!(d.chars().all(|c| "MLaz -.0123456789".contains(c)), "{}", d);
            }
            for tag in ["svg", "g", "text", "title"] {
                let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
                let opened = svg.match_indices(&open)
                    .filter(|(at, _)| svg[at + open.len()..].starts_with([' ', '>'])).count();
                prop_assert_eq!(opened, count(&svg, &close), "{}", tag);
            }
        }
        prop_assert!(!figure.to_table().to_markdown().is_empty());
    }
}
