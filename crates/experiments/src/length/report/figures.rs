//! The figures: perplexity by length, loss by position, attention resolution, loss by step.

use forerun_runs::plot::{
    Axis, Figure, Panel, Panels, Plot, Point, ReferenceLine, Series, Style, Xy,
};

use super::{Findings, MASKS};
use crate::plan::counted;
use crate::report_parts::Mean;

/// Above so many arms a figure has a panel for each mask.
const ARMS_IN_ONE_PANEL: usize = 2;

pub(super) fn perplexity(findings: &Findings<'_>) -> Figure {
    Figure {
        title: "Perplexity by length".to_owned(),
        caption: format!(
            "The same held-out text, cut into windows of each length. Bands are 95 % intervals over {}.",
            counted(findings.outcome.experiment.seeds, "seed")
        ),
        plot: by_arm_and_mask(
            findings,
            "nll",
            (Axis::log2("length read", "tokens"), Axis::log10("perplexity", "per token")),
            Style::LinePoints,
            Mean::exp,
        ),
    }
}

pub(super) fn by_position(findings: &Findings<'_>) -> Figure {
    Figure {
        title: format!("Where the loss arises in windows of {} tokens", findings.longest()),
        caption: "Means over seeds. A model that extrapolates keeps its loss, or lowers it, as it sees more context."
            .to_owned(),
        plot: by_arm_and_mask(
            findings,
            "nll-by-position",
            (Axis::new("position in the window", "tokens"), Axis::new("loss", "nats per token")),
            Style::Line,
            without_band,
        ),
    }
}

pub(super) fn resolution(findings: &Findings<'_>) -> Figure {
    Figure {
        title: "Attention resolution by length".to_owned(),
        caption: "How well the expected attention score tells one distance from the next (paper, eq. 11), the mean over \
                  layers, heads and inputs. A model whose resolution falls cannot tell far tokens apart. Marks at the edge are below 0, where the \
                  expected score rises with distance."
            .to_owned(),
        plot: by_arm_and_mask(
            findings,
            "resolution",
            (Axis::log2("length read", "tokens"), Axis::log10("attention resolution", "")),
            Style::LinePoints,
            without_band,
        ),
    }
}

pub(super) fn training(findings: &Findings<'_>) -> Figure {
    let (x, y) = (Axis::new("update", ""), Axis::new("loss", "nats per token"));
    let (trained, held_out): (Vec<Series>, Vec<Series>) = findings
        .arms()
        .iter()
        .enumerate()
        .map(|(slot, arm)| {
            let curve = findings.means(&arm.name, "loss");
            let plain = curve.iter().map(|&(x, mean)| Point::new(x, mean.value)).collect();
            let held_out =
                findings.means(&arm.name, "validation-loss").into_iter().map(point).collect();
            let series = |slot, style, name: String, points| Series {
                slot: Some(slot),
                ..Series::new(name, style, points)
            };
            if findings.arms().len() > ARMS_IN_ONE_PANEL {
                let line = series(slot, Style::Line, arm.label.clone(), plain);
                (line, series(slot, Style::LinePoints, arm.label.clone(), held_out))
            } else {
                let line = series(2 * slot, Style::Line, arm.label.clone(), plain);
                (
                    line,
                    series(
                        2 * slot + 1,
                        Style::Points,
                        format!("{}, held-out text", arm.label),
                        held_out,
                    ),
                )
            }
        })
        .unzip();
    let plot = if findings.arms().len() > ARMS_IN_ONE_PANEL {
        let panel =
            |title: &str, series| Panel { title: title.to_owned(), series, lines: Vec::new() };
        let panels = vec![panel("training text", trained), panel("held-out text", held_out)];
        Plot::Panels(Panels { x, y, panels })
    } else {
        let series =
            trained.into_iter().zip(held_out).flat_map(|(line, points)| [line, points]).collect();
        Plot::Xy(Xy { x, y, series, lines: Vec::new() })
    };
    Figure {
        title: "Training".to_owned(),
        caption: "Means over seeds; bars and bands are 95 % intervals of the held-out loss."
            .to_owned(),
        plot,
    }
}

/// One series for every arm and mask, always in the same place of the palette; a panel for each mask if there are many.
fn by_arm_and_mask(
    findings: &Findings<'_>,
    name: &str,
    (x, y): (Axis, Axis),
    style: Style,
    map: impl Fn(Mean) -> Mean,
) -> Plot {
    let points = |arm: &str, mask: &str| -> Vec<Point> {
        let means = findings.means(arm, &format!("{name}/{mask}"));
        means.into_iter().map(|(x, mean)| point((x, map(mean)))).collect()
    };
    let lines = vec![training_length(findings)];
    if findings.arms().len() > ARMS_IN_ONE_PANEL {
        let panel = |(mask, label): (&str, &str)| Panel {
            title: format!("{label} attention"),
            series: findings
                .arms()
                .iter()
                .enumerate()
                .map(|(slot, arm)| Series {
                    slot: Some(slot),
                    ..Series::new(arm.label.as_str(), style, points(&arm.name, mask))
                })
                .collect(),
            lines: lines.clone(),
        };
        return Plot::Panels(Panels { x, y, panels: MASKS.map(panel).to_vec() });
    }
    let mut series = Vec::new();
    for arm in findings.arms() {
        for (mask, label) in MASKS {
            let slot = Some(series.len());
            let label = format!("{}, {label}", arm.label);
            series.push(Series { slot, ..Series::new(label, style, points(&arm.name, mask)) });
        }
    }
    Plot::Xy(Xy { x, y, series, lines })
}

/// Where the spread between seeds would hide the lines.
fn without_band(mean: Mean) -> Mean {
    Mean { interval: None, ..mean }
}

pub(super) fn point((x, mean): (f64, Mean)) -> Point {
    mean.point(x)
}

fn training_length(findings: &Findings<'_>) -> ReferenceLine {
    ReferenceLine::Vertical { at: findings.seq_len() as f64, label: "training length".to_owned() }
}
