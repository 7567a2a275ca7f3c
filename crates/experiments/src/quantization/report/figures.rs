//! The figures: perplexity against size, speed, memory.

use forerun_runs::plot::{
    Axis, Bar, BarSeries, Bars, Figure, Plot, ReferenceLine, Series, Style, Xy,
};

use super::findings::{Findings, Line};
use crate::report_parts::Mean;

/// Perplexity of each format over that of the first, by size.
pub(super) fn quality(findings: &Findings<'_>) -> Figure {
    let series = findings.lines.iter().enumerate().map(|(slot, line)| {
        let point = line.ratio.point(line.weight_bytes / 1e6);
        let series = Series::new(line.arm.label.as_str(), Style::Points, vec![point]);
        Series { slot: Some(slot), ..series }
    });
    let label = findings.baseline().to_owned();
    let plot = Xy {
        x: Axis::log2("size of the weights", "MB"),
        y: Axis::new("perplexity, over the first format's", ""),
        series: series.collect(),
        lines: vec![ReferenceLine::Horizontal { at: 1.0, label }],
    };
    Figure {
        title: "What a smaller model costs".to_owned(),
        caption: format!(
            "Geometric means of ratios to {}, piece by piece, with 95 % intervals over pieces. Left and low is good.",
            findings.baseline()
        ),
        plot: Plot::Xy(plot),
    }
}

/// Tokens a second of each format.
pub(super) fn speed(findings: &Findings<'_>) -> Figure {
    let bars = |of: fn(&Line<'_>) -> Mean| -> Vec<Bar> {
        findings.lines.iter().map(|line| bar(of(line))).collect()
    };
    let series = |name: &str, values| BarSeries { name: name.to_owned(), values, slot: None };
    let plot = Bars {
        axis: Axis { min: Some(0.0), ..Axis::new("speed", "tokens/s") },
        categories: categories(findings),
        series: vec![
            series("reading a prompt", bars(|line| line.prompt)),
            series("writing", bars(|line| line.decode)),
        ],
        lines: Vec::new(),
    };
    Figure {
        title: "How fast each format is".to_owned(),
        caption: "Means over turns, each in a process of its own, with 95 % intervals; one text at a time."
            .to_owned(),
        plot: Plot::Bars(plot),
    }
}

/// Memory that each format takes.
pub(super) fn memory(findings: &Findings<'_>) -> Figure {
    let bars = |of: fn(&Line<'_>) -> f64| -> Vec<Bar> {
        let value = |line| Bar { value: of(line) / 1e6, ..Bar::default() };
        findings.lines.iter().map(value).collect()
    };
    let series = |name: &str, values| BarSeries { name: name.to_owned(), values, slot: None };
    let plot = Bars {
        axis: Axis { min: Some(0.0), ..Axis::new("memory", "MB") },
        categories: categories(findings),
        series: vec![
            series("weights in files", bars(|line| line.weight_bytes)),
            series("held while writing", bars(|line| line.memory_bytes)),
        ],
        lines: Vec::new(),
    };
    Figure {
        title: "What each format takes".to_owned(),
        caption: "Size of the files, and the most that a process held to read a prompt and write after it, less what it held without a model."
            .to_owned(),
        plot: Plot::Bars(plot),
    }
}

fn categories(findings: &Findings<'_>) -> Vec<String> {
    findings.lines.iter().map(|line| line.arm.label.clone()).collect()
}

fn bar(mean: Mean) -> Bar {
    let (low, high) = (mean.interval.map(|i| i.low), mean.interval.map(|i| i.high));
    Bar { value: mean.value, low, high }
}
