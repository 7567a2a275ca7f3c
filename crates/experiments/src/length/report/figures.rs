//! The figures: perplexity by length, loss by position, loss by step.

use forerun_runs::plot::{Axis, Figure, Plot, Point, ReferenceLine, Series, Style, Xy};

use super::{Findings, MASKS, Mean};
use crate::plan::counted;

pub(super) fn perplexity(findings: &Findings<'_>) -> Figure {
    let series = by_arm_and_mask(findings, "nll", Style::LinePoints, Mean::exp);
    let plot = Xy {
        x: Axis::log2("length read", "tokens"),
        y: Axis::log10("perplexity", "per token"),
        series,
        lines: vec![training_length(findings)],
    };
    Figure {
        title: "Perplexity by length".to_owned(),
        caption: format!(
            "The same held-out text, cut into windows of each length. Bands are 95 % intervals over {}.",
            counted(findings.outcome.experiment.seeds, "seed")
        ),
        plot: Plot::Xy(plot),
    }
}

pub(super) fn by_position(findings: &Findings<'_>) -> Figure {
    let plot = Xy {
        x: Axis::new("position in the window", "tokens"),
        y: Axis::new("loss", "nats per token"),
        series: by_arm_and_mask(findings, "nll-by-position", Style::Line, |mean| mean),
        lines: vec![training_length(findings)],
    };
    Figure {
        title: format!("Where the loss arises in windows of {} tokens", findings.longest()),
        caption: "A model that extrapolates keeps its loss, or lowers it, as it sees more context."
            .to_owned(),
        plot: Plot::Xy(plot),
    }
}

pub(super) fn training(findings: &Findings<'_>) -> Figure {
    let mut series = Vec::new();
    for (slot, arm) in findings.arms().iter().enumerate() {
        let curve = findings.means(&arm.name, "loss");
        let plain = curve.iter().map(|&(x, mean)| Point::new(x, mean.value)).collect();
        series.push(Series {
            slot: Some(2 * slot),
            ..Series::new(arm.label.as_str(), Style::Line, plain)
        });
        let held_out = findings.means(&arm.name, "validation-loss");
        let name = format!("{}, held-out text", arm.label);
        let points = held_out.into_iter().map(point).collect();
        series
            .push(Series { slot: Some(2 * slot + 1), ..Series::new(name, Style::Points, points) });
    }
    let plot = Xy {
        x: Axis::new("update", ""),
        y: Axis::new("loss", "nats per token"),
        series,
        lines: Vec::new(),
    };
    Figure {
        title: "Training".to_owned(),
        caption: "Means over seeds; bars are 95 % intervals of the held-out loss.".to_owned(),
        plot: Plot::Xy(plot),
    }
}

/// One series for every arm and mask, always in the same place of the palette.
fn by_arm_and_mask(
    findings: &Findings<'_>,
    name: &str,
    style: Style,
    map: impl Fn(Mean) -> Mean,
) -> Vec<Series> {
    let mut series = Vec::new();
    for arm in findings.arms() {
        for (mask, label) in MASKS {
            let means = findings.means(&arm.name, &format!("{name}/{mask}"));
            let points = means.into_iter().map(|(x, mean)| point((x, map(mean)))).collect();
            let slot = Some(series.len());
            series.push(Series {
                slot,
                ..Series::new(format!("{}, {label}", arm.label), style, points)
            });
        }
    }
    series
}

fn point((x, mean): (f64, Mean)) -> Point {
    Point { x, y: mean.value, low: mean.low, high: mean.high }
}

fn training_length(findings: &Findings<'_>) -> ReferenceLine {
    ReferenceLine::Vertical { at: findings.seq_len() as f64, label: "training length".to_owned() }
}
