//! Pictures of a fit: data and law, residuals, frontier with bands, a sweep's valleys.

use forerun_runs::plot::{
    Axis, Bar, BarSeries, Bars, Figure, Panel, Panels, Plot, Point, ReferenceLine, Series, Style,
    Xy,
};
use forerun_scaling::Quantity;
use forerun_scaling::allocation::budgets;
use forerun_scaling::law::{Design, predict, predict_all};
use forerun_scaling::parabola::Vertex;
use forerun_scaling::sweep::{SweepCell, Valleys};
use forerun_scaling::units::Flops;

use crate::derived::lowest_loss;
use crate::number::counted;
use crate::output::{FitOutput, Named};
use crate::problem::{LawName, Problem};
use crate::solved::Solved;

/// Groups of one size that get a curve of their own; more would be a thicket.
const MAX_CURVES: usize = 6;

/// All pictures of a fit.
pub(crate) fn all(problem: &Problem, solved: &[Solved], output: &FitOutput) -> Vec<Figure> {
    let mut figures = vec![];
    match problem.law {
        LawName::Chinchilla | LawName::ChinchillaTied => {
            figures.push(curves(&solved[0]));
            figures.extend(frontier(&solved[0]));
        }
        LawName::DataConstrained => figures.push(curves(&solved[0])),
        LawName::LrHorizon => {
            figures.push(horizon(&solved[0]));
            figures.extend(valleys(problem));
        }
        LawName::Multilingual | LawName::Mixing => {}
    }
    figures.push(predicted(solved));
    figures.push(residuals(solved));
    figures.extend(
        output
            .mixtures
            .iter()
            .map(|mixture| shares(&mixture.objective, &mixture.shares, mixture.shares.0.len())),
    );
    figures
}

/// Distinct values, ascending; at most `keep` of them, spread evenly.
fn spread(values: &[f64], keep: usize) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup_by(|a, b| *a <= *b * 1.1);
    let n = sorted.len();
    match n > keep {
        true => (0..keep).map(|i| sorted[i * (n - 1) / (keep - 1)]).collect(),
        false => sorted,
    }
}

fn ends(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    (low, values.iter().copied().fold(0., f64::max))
}

fn steps(low: f64, high: f64, n: usize) -> impl Iterator<Item = f64> {
    let ratio = (high / low).ln();
    (0..=n).map(move |i| readable(low * (ratio * i as f64 / n as f64).exp()))
}

/// Four significant digits: the tables below figures show where a curve was drawn.
fn readable(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Loss against tokens: points of a few sizes, and the law at those sizes.
fn curves(solved: &Solved) -> Figure {
    let points = &solved.part.observations;
    let column = |name: &str| points.input(name).unwrap_or_default();
    let (n, d) = (column("n"), column("d"));
    let (low, high) = ends(d);
    let mut series = vec![];
    for (slot, size) in spread(n, MAX_CURVES).into_iter().enumerate() {
        let near = |i: &usize| (n[*i] / size).ln().abs() < 0.1;
        let measured: Vec<usize> = (0..points.len()).filter(near).collect();
        let label = format!("{} parameters", counted(size));
        let dots = measured.iter().map(|&i| Point::new(d[i], points.target()[i])).collect();
        let mut measured_series = Series::new("", Style::Points, dots);
        measured_series.slot = Some(slot);
        let others: Vec<(&str, f64)> =
            points.input("u").map(|u| ("u", u[measured[0]])).into_iter().collect();
        let law = |d: f64| {
            let inputs = [&[("n", size), ("d", d)], others.as_slice()].concat();
            let loss = predict(solved.part.law.as_ref(), &solved.fit.theta, &inputs);
            Point::new(d, loss.unwrap_or(f64::NAN))
        };
        let mut line = Series::new(label, Style::Line, steps(low, high, 60).map(law).collect());
        line.slot = Some(slot);
        series.extend([line, measured_series]);
    }
    let plot = Xy {
        x: Axis::log10("training data", "tokens"),
        y: Axis::new("loss", "nats per token"),
        series,
        lines: vec![],
    };
    let caption = "Points are runs within 10 % of a size; lines are the fitted law at that size.";
    Figure { caption: caption.into(), ..Figure::new("Loss against training data", Plot::Xy(plot)) }
}

/// Optimal size and loss against compute, with 95 % bands.
fn frontier(solved: &Solved) -> Vec<Figure> {
    let points = &solved.part.observations;
    let (Some(n), Some(d)) = (points.input("n"), points.input("d")) else { return vec![] };
    let flops: Vec<f64> = n.iter().zip(d).map(|(n, d)| 6. * n * d).collect();
    let (low, high) = ends(&flops);
    let scale = budgets(Flops(low), Flops(100. * high), 13);
    let scale: Vec<Flops> = scale.into_iter().map(|c| Flops(readable(c.0))).collect();
    let band = |estimate: crate::output::Estimate, flops: Flops| Point {
        x: flops.0,
        y: estimate.estimate,
        low: estimate.bounded().map(|ends| ends[0]),
        high: estimate.bounded().map(|ends| ends[1]),
    };
    let size =
        scale.iter().map(|&c| band(solved.estimate(&Quantity::optimal_params(c)), c)).collect();
    let loss = scale.iter().map(|&c| band(solved.estimate(&lowest_loss(c)), c)).collect();
    let runs = |y: &[f64]| flops.iter().zip(y).map(|(&x, &y)| Point::new(x, y)).collect::<Vec<_>>();
    let edge = || vec![ReferenceLine::Vertical { at: high, label: "largest run".into() }];
    let figure = |title: &str, y: Axis, line: Vec<Point>, dots: Vec<Point>| {
        let series = vec![
            Series::new("best for the compute", Style::Line, line),
            Series::new("runs", Style::Points, dots),
        ];
        let plot = Xy { x: Axis::log10("compute", "FLOP"), y, series, lines: edge() };
        let caption = "The band is the 95 % interval; right of the line the law extrapolates.";
        Figure { caption: caption.into(), ..Figure::new(title, Plot::Xy(plot)) }
    };
    vec![
        figure("The best size for a budget", Axis::log10("parameters", ""), size, runs(n)),
        figure(
            "The lowest loss for a budget",
            Axis::new("loss", "nats per token"),
            loss,
            runs(points.target()),
        ),
    ]
}

/// Best learning rates against the horizon.
fn horizon(solved: &Solved) -> Figure {
    let points = &solved.part.observations;
    let d = points.input("d").unwrap_or_default();
    let n = points.input("n");
    let sizes = n.map_or_else(|| vec![f64::NAN], |n| spread(n, MAX_CURVES));
    let (low, high) = ends(d);
    let mut series = vec![];
    for (slot, size) in sizes.into_iter().enumerate() {
        let is_near = |i: &usize| n.is_none_or(|n| (n[*i] / size).ln().abs() < 0.1);
        let found: Vec<usize> = (0..points.len()).filter(is_near).collect();
        let mut dots = Series::new(
            "",
            Style::Points,
            found.iter().map(|&i| Point::new(d[i], points.target()[i])).collect(),
        );
        dots.slot = Some(slot);
        let batch = found.first().and_then(|&i| points.input("batch").map(|batch| batch[i]));
        let law = |d: f64| {
            let inputs = [("n", size), ("d", d), ("batch", batch.unwrap_or(1.))];
            Point::new(
                d,
                predict(solved.part.law.as_ref(), &solved.fit.theta, &inputs).unwrap_or(f64::NAN),
            )
        };
        let label = if size.is_nan() {
            "fitted law".to_owned()
        } else {
            format!("{} parameters", counted(size))
        };
        let inputs_known =
            !size.is_nan() || solved.part.law.inputs().iter().all(|input| input.name != "n");
        if inputs_known {
            let mut line =
                Series::new(label, Style::Line, steps(low, 10. * high, 40).map(law).collect());
            line.slot = Some(slot);
            series.push(line);
        }
        series.push(dots);
    }
    let plot = Xy {
        x: Axis::log10("training data", "tokens"),
        y: Axis::log10("best learning rate", ""),
        series,
        lines: vec![ReferenceLine::Vertical { at: high, label: "longest horizon".into() }],
    };
    Figure::new("The best learning rate against the horizon", Plot::Xy(plot))
}

/// How far a valley's curve is drawn on either side of its lowest point, in `ln lr`, if the runs that it goes by are not
/// closer.
const VALLEY: f64 = 2.;

/// The sweep's cells with their runs and curves, each above its own lowest point: at most twelve.
fn valleys(problem: &Problem) -> Option<Figure> {
    let read = problem.cells().iter().filter_map(|cell| Some((cell, cell.optimum.parabola()?)));
    let shown: Vec<(&SweepCell, &Vertex)> = read.take(12).collect();
    // A run that diverged would flatten all the valleys.
    let height = |(_, vertex): &(&SweepCell, &Vertex)| vertex.curvature.abs() * VALLEY * VALLEY;
    let highest = 1.5 * shown.iter().map(height).fold(0., f64::max);
    let (slant, reach) = match problem.swept.as_ref().map(|swept| swept.valleys) {
        Some(Valleys::OneSlant { slant, reach, .. }) => (slant.coefficient, reach.min(VALLEY)),
        Some(Valleys::Rough { reach }) => (0., reach.min(VALLEY)),
        _ => (0., VALLEY),
    };
    let panel = |(cell, vertex): &(&SweepCell, &Vertex)| {
        let at = |i: i32| {
            let x = 0.1 * reach * f64::from(i);
            Point::new((vertex.ln_x + x).exp(), x * x * (vertex.curvature + slant * x))
        };
        let runs = cell.runs.iter().map(|&run| problem.sweep[run]);
        let runs = runs.map(|(lr, loss)| Point::new(lr, loss - vertex.loss));
        let size = cell.n.map_or_else(String::new, |n| format!("N {}, ", counted(n)));
        let found = if cell.optimum.vertex().is_some() { "" } else { ": no optimum" };
        let curve = Series::new("fitted valley", Style::Line, (-10..=10).map(at).collect());
        let dots = runs.filter(|point| point.y <= highest).collect();
        Panel {
            title: format!("{size}D {}{found}", counted(cell.d)),
            series: vec![curve, Series::new("runs", Style::Points, dots)],
            lines: vec![ReferenceLine::Vertical { at: vertex.x, label: String::new() }],
        }
    };
    let panels: Vec<Panel> = shown.iter().map(panel).collect();
    if panels.is_empty() {
        return None;
    }
    let plot = Panels {
        x: Axis::log10("learning rate", ""),
        y: Axis::new("loss above the lowest", "nats per token"),
        panels,
    };
    let caption = "N parameters, D tokens; the dashed line is the best learning rate. Runs far above the valley are not \
                   drawn.";
    let title = "Loss against learning rate, cell by cell";
    Some(Figure { caption: caption.into(), ..Figure::new(title, Plot::Panels(plot)) })
}

/// Target and prediction, part by part.
fn fitted(solved: &Solved) -> Vec<(f64, f64)> {
    let points = solved.used();
    let law = solved.part.law.as_ref();
    let Ok(design) = Design::new(law, &points) else { return vec![] };
    let predicted = predict_all(law, &solved.fit.theta, &design);
    points.target().iter().copied().zip(predicted).collect()
}

fn predicted(solved: &[Solved]) -> Figure {
    let dots = |one: &Solved| {
        let points =
            fitted(one).into_iter().map(|(target, predicted)| Point::new(predicted, target));
        Series::new(one.part.name.clone(), Style::Points, points.collect())
    };
    let mut series: Vec<Series> = solved.iter().map(dots).collect();
    let x: Vec<f64> = series.iter().flat_map(|s| s.points.iter().map(|point| point.x)).collect();
    let (low, high) = ends(&x);
    series.push(Series::new(
        "equal",
        Style::Line,
        vec![Point::new(low, low), Point::new(high, high)],
    ));
    let plot =
        Xy { x: Axis::new("predicted", ""), y: Axis::new("measured", ""), series, lines: vec![] };
    Figure::new("Measured against predicted", Plot::Xy(plot))
}

fn residuals(solved: &[Solved]) -> Figure {
    let dots = |one: &Solved| {
        let points = fitted(one)
            .into_iter()
            .map(|(target, predicted)| Point::new(predicted, 100. * (target / predicted - 1.)));
        Series::new(one.part.name.clone(), Style::Points, points.collect())
    };
    let plot = Xy {
        x: Axis::new("predicted", ""),
        y: Axis::new("measured less predicted", "%"),
        series: solved.iter().map(dots).collect(),
        lines: vec![ReferenceLine::Horizontal { at: 0., label: String::new() }],
    };
    let caption = "A pattern here says that the law misses something.";
    Figure { caption: caption.into(), ..Figure::new("Residuals", Plot::Xy(plot)) }
}

fn shares(objective: &str, shares: &Named<crate::output::Estimate>, n: usize) -> Figure {
    let bar = |(_, value): &(String, crate::output::Estimate)| match value.bounded() {
        Some([low, high]) => Bar::with_interval(value.estimate, low, high),
        None => Bar::new(value.estimate),
    };
    let values = shares.0.iter().map(bar).collect();
    let plot = Bars {
        axis: Axis::new("share", ""),
        categories: shares.0.iter().map(|(name, _)| name.clone()).collect(),
        series: vec![BarSeries { name: String::new(), values, slot: None }],
        lines: vec![ReferenceLine::Vertical { at: 1. / n.max(1) as f64, label: "uniform".into() }],
    };
    Figure::new(format!("Best mixture for the {objective}"), Plot::Bars(plot))
}

#[cfg(test)]
mod tests;
