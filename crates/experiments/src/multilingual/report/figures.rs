//! The figures: the mixtures with their intervals, regrets at the larger size, loss by share with the fitted laws, and
//! predicted against measured losses.

use forerun_runs::plot::{
    Axis, Bar, BarSeries, Bars, Figure, Panel, Panels, Plot, Point, ReferenceLine, Series, Style,
};

use super::findings::{Findings, Found, HeldOut};
use super::words;
use crate::multilingual::laws::Form;
use crate::multilingual::place::{Stage, Trained};
use crate::multilingual::predictions::Predictor;
use crate::multilingual::verdicts::{COMPARED, PROPORTIONAL, TRANSFERRED};
use crate::report_parts::{Mean, capitalised};

/// Points of a drawn law.
const STEPS: usize = 40;

/// Shares of every family in the mixtures.
pub(super) fn mixtures(findings: &Findings<'_>) -> Figure {
    let of_fit = |found: &Option<Found>, name: &str| {
        let found = found.as_ref()?;
        let bar = |index: usize| {
            let (value, low, high) = (found.shares[index], found.low[index], found.high[index]);
            let end = |end: f64| end.is_finite().then_some(100.0 * end);
            Bar { value: 100.0 * value, low: end(low), high: end(high) }
        };
        let values = (0..found.shares.len()).map(bar).collect();
        Some(BarSeries { name: name.to_owned(), values, slot: None })
    };
    let plain = |mixture: &str, name: &str| {
        let values = findings.shares(mixture)?.iter().map(|share| Bar::new(100.0 * share));
        Some(BarSeries { name: name.to_owned(), values: values.collect(), slot: None })
    };
    let series = [
        of_fit(&findings.small, "small models' optimum"),
        of_fit(&findings.own, "own optimum of the larger size"),
        plain(PROPORTIONAL, "proportional"),
    ];
    let n = findings.body.families.len() as f64;
    let line = ReferenceLine::Vertical { at: 100.0 / n, label: "uniform".to_owned() };
    Figure {
        title: "Share of each family".to_owned(),
        caption: "Whiskers are 95 % intervals of a bootstrap over mixtures, in which every law is fitted and the mixture \
                  found anew."
            .to_owned(),
        plot: Plot::Bars(Bars {
            axis: Axis { min: Some(0.0), ..Axis::new("share of training tokens", "%") },
            categories: findings.body.labels().iter().map(|label| (*label).to_owned()).collect(),
            series: series.into_iter().flatten().collect(),
            lines: vec![line],
        }),
    }
}

/// How much worse than the transferred mixture the others are.
pub(super) fn regrets(findings: &Findings<'_>) -> Figure {
    let others: Vec<(&str, &str)> =
        COMPARED.into_iter().filter(|(name, _)| *name != TRANSFERRED).collect();
    let values = others.iter().map(|(name, _)| bar(findings.above_transferred(name)));
    Figure {
        title: "What the other mixtures cost at the larger size".to_owned(),
        caption: format!(
            "How far {} lies above that of the small models' optimum, paired by seed, with 95 % intervals over seeds. \
             Right of 0 the small models' optimum is better.",
            words::objective(findings.body)
        ),
        plot: Plot::Bars(Bars {
            axis: Axis::new("above the small models' optimum", "%"),
            categories: others.iter().map(|(_, label)| (*label).to_owned()).collect(),
            series: vec![BarSeries { values: values.collect(), ..BarSeries::default() }],
            lines: vec![ReferenceLine::Vertical { at: 0.0, label: "no difference".to_owned() }],
        }),
    }
}

fn bar(mean: Mean) -> Bar {
    let ends = mean.interval.map(|interval| (interval.low, interval.high)).unzip();
    Bar { value: mean.value, low: ends.0, high: ends.1 }
}

/// Loss over share, a panel a family, for the largest small size.
pub(super) fn loss_by_share(findings: &Findings<'_>) -> Figure {
    let body = findings.body;
    let arm = body.design.arms.last().cloned().unwrap_or_default();
    let label = body.arm(&arm).map_or("", |arm| arm.label.as_str());
    let panel = |family: usize| {
        let horizons = body.design.tokens.iter().enumerate();
        let series = horizons.flat_map(|(slot, &tokens)| {
            let measured = measured(findings, family, &arm, tokens, slot);
            [measured, law(findings, family, &arm, tokens, slot)]
        });
        Panel {
            title: body.families[family].label.clone(),
            series: series.collect(),
            lines: Vec::new(),
        }
    };
    Figure {
        title: format!("Loss by share, {label}"),
        caption: "Every point is one model; models of one share differ in their companions and seeds. Lines are the laws, \
                  which are fitted to all sizes and horizons at once."
            .to_owned(),
        plot: Plot::Panels(Panels {
            x: Axis::log2("own share", ""),
            y: Axis::new("held-out loss", "nats per character"),
            panels: (0..body.families.len()).map(panel).collect(),
        }),
    }
}

fn measured(findings: &Findings<'_>, family: usize, arm: &str, tokens: u64, slot: usize) -> Series {
    let here = findings
        .of(Stage::Design)
        .filter(|model| model.place.arm == arm && model.place.tokens == tokens);
    let points = here.map(|model| Point::new(model.shares[family], model.losses[family]));
    let name = format!("{} tokens", words::tokens(tokens));
    Series { slot: Some(slot), ..Series::new(name, Style::Points, points.collect()) }
}

fn law(findings: &Findings<'_>, family: usize, arm: &str, tokens: u64, slot: usize) -> Series {
    let levels = &findings.body.design.levels;
    let (low, high) = levels
        .iter()
        .fold((1.0_f64, 0.0_f64), |(low, high), &level| (low.min(level), high.max(level)));
    let at = findings.size(arm, tokens);
    let point = |step: usize| {
        let share = low * (high / low).powf(step as f64 / STEPS as f64);
        let mut shares = vec![0.0; levels.len()];
        shares[family] = share;
        Point::new(share, findings.predictions.law(Form::OwnShare, family, at, &shares))
    };
    let name = format!("law, {} tokens", words::tokens(tokens));
    // Where there is no law there is no line.
    let points = (0..=STEPS).map(point).filter(|point| point.y.is_finite()).collect();
    Series { slot: Some(slot), ..Series::new(name, Style::Line, points) }
}

/// Errors of the laws on what they have not seen, over the measured loss.
pub(super) fn held_out(findings: &Findings<'_>) -> Figure {
    let labels = findings.body.labels();
    let panel = |set: HeldOut<'_>| {
        let of = |(family, label): (usize, &&str)| {
            let error = |model: &&Trained| {
                let error = findings.predictions.error(Predictor::Law, model, family);
                Point::new(model.losses[family], error)
            };
            let points = set.models.iter().map(error).collect();
            Series { slot: Some(family), ..Series::new(*label, Style::Points, points) }
        };
        Panel {
            series: labels.iter().enumerate().map(of).collect(),
            lines: vec![ReferenceLine::Horizontal { at: 0.0, label: "exact".to_owned() }],
            title: capitalised(&set.label),
        }
    };
    let panels = findings.held_out().into_iter().map(panel).collect();
    Figure {
        title: "Error of the laws on models that they have not seen".to_owned(),
        caption: "Predicted over measured loss, less 1; every point is one model.".to_owned(),
        plot: Plot::Panels(Panels {
            x: Axis::new("measured loss", "nats per character"),
            y: Axis::new("error", "%"),
            panels,
        }),
    }
}
