//! The figures: a valley for every horizon, the best learning rate against the horizon, the same for every arm.

use forerun_runs::plot::{
    Axis, Figure, Panel, Panels, Plot, Point, ReferenceLine, Series, Style, Xy,
};
use forerun_scaling::audit::RULE_OF_THUMB;

use super::findings::Findings;
use super::words::{rate_in_words, tokens_in_words};
use crate::horizon::spread::Known;
use crate::horizon::{Arm, HELD_OUT};
use crate::plan::counted;
use crate::report_parts::Mean;

/// Points of a smooth line.
const LINE_POINTS: usize = 41;
/// Losses further above the lowest are at the edge of the drawing, nats per token.
const HIGHEST: f64 = 0.15;
/// The lower end of the drawing, for what noise puts below a parabola.
const LOWEST: f64 = -0.05;

/// Loss above the lowest of its horizon by learning rate, a panel for each horizon.
pub(super) fn valleys(findings: &Findings<'_>) -> Figure {
    let panels = match findings.subject() {
        Some(arm) => {
            findings.parts(arm).into_iter().map(|part| valley(findings, arm, part)).collect()
        }
        None => Vec::new(),
    };
    Figure {
        title: "Loss by learning rate and horizon".to_owned(),
        caption: format!(
            "Above the lowest point of each horizon's parabola. Bars are 95 % intervals over {}, after each seed's own level \
             is taken off: seeds differ in level more than learning rates do. Marks at the edge: diverged, or more than \
             {HIGHEST} above.",
            counted(findings.experiment.seeds, "seed")
        ),
        plot: Plot::Panels(Panels {
            x: Axis::log10("peak learning rate", ""),
            y: Axis {
                min: Some(LOWEST),
                max: Some(HIGHEST),
                ..Axis::new("loss above the lowest", "nats per token")
            },
            panels,
        }),
    }
}

fn valley(findings: &Findings<'_>, arm: &Arm, part: f64) -> Panel {
    let valleys = &findings.valleys;
    let parabola = findings.valley(arm, part).parabola().copied();
    let means = valleys.means(arm, part, &valleys.seeds);
    let lowest = parabola.map_or_else(
        || means.iter().map(|point| point.1).fold(f64::INFINITY, f64::min),
        |vertex| vertex.loss,
    );
    let by_seed: Vec<Vec<(f64, f64)>> =
        valleys.seeds.iter().map(|&seed| valleys.means(arm, part, &[seed])).collect();
    let shared = shared_rates(&means);
    let measured = means.iter().map(|&(lr, mean)| {
        let level = |points: &[(f64, f64)]| level(points, &shared);
        let around: Vec<f64> = by_seed
            .iter()
            .filter_map(|points| Some(loss_at(points, lr)? - level(points)))
            .collect();
        let band = Mean::of(&around);
        let half = band.interval.map(|interval| interval.width() / 2.0);
        let y = mean - lowest;
        Point { x: lr, y, low: half.map(|half| y - half), high: half.map(|half| y + half) }
    });
    let mut series = vec![Series {
        slot: Some(0),
        ..Series::new("mean of all seeds", Style::Points, measured.collect())
    }];
    let ends = means.first().zip(means.last()).map(|(first, last)| (first.0, last.0));
    let line = parabola.zip(ends).map_or_else(Vec::new, |(vertex, (low, high))| {
        let at = |lr: f64| Point::new(lr, vertex.curvature * (lr.ln() - vertex.ln_x).powi(2));
        between(low, high).map(at).filter(|point| point.y <= HIGHEST).collect()
    });
    series.push(Series { slot: Some(1), ..Series::new("parabola", Style::Line, line) });
    Panel {
        title: format!("{} tokens", tokens_in_words(findings.n_tokens(part))),
        series,
        lines: marks(findings, arm, part),
    }
}

/// The best learning rate of a horizon; at the held-out one also what was predicted and carried over.
fn marks(findings: &Findings<'_>, arm: &Arm, part: f64) -> Vec<ReferenceLine> {
    let best = findings.valley(arm, part).vertex().map(|vertex| vertex.x);
    let mut marks = vec![("best", best)];
    if part == HELD_OUT {
        marks.push(("predicted", findings.valleys.predicted));
        marks.push(("carried", findings.valleys.carried));
    }
    let line = |(name, at): (&str, Option<f64>)| {
        let label = format!("{name} {}", rate_in_words(at?));
        Some(ReferenceLine::Vertical { at: at?, label })
    };
    marks.into_iter().filter_map(line).collect()
}

/// Learning rates that every seed has a loss at.
fn shared_rates(means: &[(f64, f64)]) -> Vec<f64> {
    means.iter().filter(|point| point.1.is_finite()).map(|point| point.0).collect()
}

fn level(points: &[(f64, f64)], rates: &[f64]) -> f64 {
    let losses: Vec<f64> = rates.iter().filter_map(|&lr| loss_at(points, lr)).collect();
    losses.iter().sum::<f64>() / losses.len() as f64
}

fn loss_at(points: &[(f64, f64)], lr: f64) -> Option<f64> {
    let found = points.iter().find(|point| point.0 == lr)?;
    Some(found.1).filter(|loss| loss.is_finite())
}

/// From `low` to `high` in equal factors.
fn between(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let step = (high / low).ln() / (LINE_POINTS - 1) as f64;
    (0..LINE_POINTS).map(move |index| low * (step * index as f64).exp())
}

/// The best learning rate against the horizon, with the law of the fitted horizons.
pub(super) fn law(findings: &Findings<'_>) -> Figure {
    let Some(arm) = findings.subject() else { return empty("The law") };
    let mut series = vec![Series {
        slot: Some(0),
        ..Series::new("best learning rate", Style::Points, optima(findings, arm))
    }];
    let parts = findings.parts(arm);
    let ends = parts.first().zip(parts.last());
    let (low, high) = ends.map_or((1.0, 2.0), |(first, last)| {
        (findings.n_tokens(*first) / 1.2, findings.n_tokens(*last) * 1.2)
    });
    if let Some(spread) = &findings.fitted {
        let line = between(low, high).map(|n_tokens| point(n_tokens, spread.rate_at(n_tokens)));
        let name = "law of the fitted horizons";
        series.push(Series { slot: Some(1), ..Series::new(name, Style::Line, line.collect()) });
    }
    if let Some(carried) = findings.valleys.carried {
        let from = findings.n_tokens(findings.body.horizons.carried_from);
        let at =
            |n_tokens: f64| Point::new(n_tokens, carried * (from / n_tokens).powf(RULE_OF_THUMB));
        let name = format!("rule of thumb, exponent {RULE_OF_THUMB}");
        let line = between(from, high).map(at).collect();
        series.push(Series { slot: Some(2), ..Series::new(name, Style::Line, line) });
    }
    let at = findings.n_tokens(HELD_OUT);
    Figure {
        title: "Best learning rate by horizon".to_owned(),
        caption: "Bars: 95 % intervals over the optima of single seeds. Band: the wider of that over the laws of single seeds \
                  and of a bootstrap over seeds. The held-out horizon has no part in the law that is drawn."
            .to_owned(),
        plot: Plot::Xy(Xy {
            x: Axis::log2("horizon", "tokens"),
            y: Axis::log10("best peak learning rate", ""),
            series,
            lines: vec![ReferenceLine::Vertical { at, label: "held out".to_owned() }],
        }),
    }
}

/// The best learning rate against the horizon for every arm.
pub(super) fn arms(findings: &Findings<'_>) -> Figure {
    let series = findings.body.arms.iter().enumerate().map(|(slot, arm)| Series {
        slot: Some(slot),
        ..Series::new(arm.label.as_str(), Style::LinePoints, optima(findings, arm))
    });
    Figure {
        title: "Best learning rate by horizon, all arms".to_owned(),
        caption: "Bands and bars: 95 % intervals over the optima of single seeds.".to_owned(),
        plot: Plot::Xy(Xy {
            x: Axis::log2("horizon", "tokens"),
            y: Axis::log10("best peak learning rate", ""),
            series: series.collect(),
            lines: Vec::new(),
        }),
    }
}

fn optima(findings: &Findings<'_>, arm: &Arm) -> Vec<Point> {
    let parts = findings.parts(arm).into_iter();
    let at = |part| Some(point(findings.n_tokens(part), findings.optimum(arm, part)?));
    parts.filter_map(at).collect()
}

fn point(x: f64, known: Known) -> Point {
    let ends = known.interval.map(|interval| (interval.low, interval.high));
    Point { x, y: known.value, low: ends.map(|ends| ends.0), high: ends.map(|ends| ends.1) }
}

fn empty(title: &str) -> Figure {
    Figure::new(title, Plot::Xy(Xy::default()))
}
