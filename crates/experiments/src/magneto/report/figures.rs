//! The figures: final loss and failures over learning rate and arm, loss by learning rate, update size by depth.

use forerun_runs::plot::{
    Axis, Figure, HeatCell, HeatMap, Panel, Panels, Plot, ReferenceLine, Series, Style, Xy,
};
use forerun_runs::stats;

use super::findings::{Findings, Mean};
use super::words::rate_in_words;
use crate::magneto::grid::{End, PLATEAU};
use crate::plan::counted;

/// Final loss of every arm and learning rate at a depth.
pub(super) fn loss_map(findings: &Findings<'_>, depth: i64) -> Figure {
    let cell = |losses: Vec<f64>| {
        let finite: Vec<f64> = losses.iter().copied().filter(|loss| loss.is_finite()).collect();
        match finite.len() {
            0 => HeatCell::Text("diverged".to_owned()),
            _ => HeatCell::Value(stats::mean(&finite)),
        }
    };
    let mut map = empty_map(findings, Axis::new("final held-out loss", "nats per token"));
    map.cells =
        cells(findings, |arm, rate| cell(findings.losses(&findings.arms()[arm], depth, rate)));
    // What is worse than a guess by frequencies is all of one colour.
    map.value.max = Some(findings.grid.unigram()).filter(|loss| loss.is_finite());
    map.mark = lowest(&map.cells);
    Figure {
        title: format!("Final loss, {depth} layers"),
        caption: format!(
            "Means over those of {} that did not diverge. The frame marks the lowest; a guess by the frequencies of \
             letters has {:.3}.",
            counted(findings.outcome.experiment.seeds, "seed"),
            findings.grid.unigram()
        ),
        plot: Plot::Heat(map),
    }
}

/// How trainings ended at a depth.
pub(super) fn failure_map(findings: &Findings<'_>, depth: i64) -> Figure {
    let cell = |ends: Vec<End>| {
        let all = |of: fn(&End) -> bool| !ends.is_empty() && ends.iter().all(of);
        let word = if all(|end| matches!(end, End::Diverged)) {
            Some("diverged")
        } else if all(|end| matches!(end, End::Plateau(_))) {
            Some("plateau")
        } else if all(|end| matches!(end, End::Worse(_))) {
            Some("worse")
        } else {
            None
        };
        match word {
            Some(word) => HeatCell::Text(word.to_owned()),
            None => {
                let trains = ends.iter().filter(|end| matches!(end, End::Trains(_)));
                HeatCell::Value(trains.count() as f64)
            }
        }
    };
    let n_seeds = findings.outcome.experiment.seeds;
    let mut map = empty_map(findings, Axis::new("seeds that train", format!("of {n_seeds}")));
    (map.value.min, map.value.max) = (Some(0.0), Some(n_seeds as f64));
    map.cells =
        cells(findings, |arm, rate| cell(findings.ends(&findings.arms()[arm], depth, rate)));
    Figure {
        title: format!("What trains, {depth} layers"),
        caption: format!(
            "A model trains if it comes {} % of the way from a guess by letter frequencies to the best model of its \
             depth and seed. Where all seeds failed in one way: “plateau”, within {PLATEAU} nats of that guess; “worse”, \
             above it; “diverged”, without a finite loss below the limit.",
            findings.body.grid.trains_share * 100.0
        ),
        plot: Plot::Heat(map),
    }
}

fn empty_map(findings: &Findings<'_>, value: Axis) -> HeatMap {
    let rates = &findings.body.grid.learning_rates;
    HeatMap {
        x_label: "peak learning rate".to_owned(),
        columns: rates.iter().map(|&rate| rate_in_words(rate)).collect(),
        rows: findings.arms().iter().map(|arm| arm.label.clone()).collect(),
        value,
        ..HeatMap::default()
    }
}

fn cells(findings: &Findings<'_>, cell: impl Fn(usize, usize) -> HeatCell) -> Vec<Vec<HeatCell>> {
    let rates = 0..findings.body.grid.learning_rates.len();
    let row = |arm| rates.clone().map(|rate| cell(arm, rate)).collect();
    (0..findings.arms().len()).map(row).collect()
}

fn lowest(cells: &[Vec<HeatCell>]) -> Option<(usize, usize)> {
    let places = cells.iter().enumerate().flat_map(|(row, cells)| {
        cells.iter().enumerate().filter_map(move |(column, cell)| match cell {
            HeatCell::Value(value) => Some(((row, column), *value)),
            HeatCell::Missing | HeatCell::Text(_) => None,
        })
    });
    places.min_by(|a, b| a.1.total_cmp(&b.1)).map(|place| place.0)
}

/// Final loss by learning rate, a panel for each depth.
pub(super) fn loss_by_rate(findings: &Findings<'_>) -> Figure {
    let unigram = findings.grid.unigram();
    let panel = |&depth: &i64| {
        let series = findings.arms().iter().enumerate().map(|(slot, arm)| {
            let rates = findings.body.grid.learning_rates.iter().enumerate();
            let points = rates
                .map(|(index, &rate)| Mean::of(&findings.losses(arm, depth, index)).point(rate));
            let series = Series::new(arm.label.as_str(), Style::LinePoints, points.collect());
            Series { slot: Some(slot), ..series }
        });
        let label = "letter frequencies".to_owned();
        let line = unigram.is_finite().then_some(ReferenceLine::Horizontal { at: unigram, label });
        Panel {
            title: format!("{depth} layers"),
            series: series.collect(),
            lines: line.into_iter().collect(),
        }
    };
    let panels = Panels {
        x: Axis::log10("peak learning rate", ""),
        y: Axis {
            max: unigram.is_finite().then_some(unigram + 0.3),
            ..Axis::new("final held-out loss", "nats per token")
        },
        panels: findings.body.grid.depths.iter().map(panel).collect(),
    };
    Figure {
        title: "Final loss by learning rate".to_owned(),
        caption: format!(
            "Bands are 95 % intervals over {}. Marks at the edge: diverged, or far above a guess by frequencies.",
            counted(findings.outcome.experiment.seeds, "seed")
        ),
        plot: Plot::Panels(panels),
    }
}

/// Size of one update by depth.
pub(super) fn update_size(findings: &Findings<'_>, step: &str, name: &str) -> Figure {
    let series = findings.arms().iter().enumerate().map(|(slot, arm)| {
        let points = findings.update(arm, step).into_iter().map(|(x, mean)| mean.point(x));
        let series = Series::new(arm.label.as_str(), Style::LinePoints, points.collect());
        Series { slot: Some(slot), ..series }
    });
    let plot = Xy {
        x: Axis::log2("depth", "layers"),
        y: Axis::log10("change of the hidden states", "per unit of learning rate"),
        series: series.collect(),
        lines: Vec::new(),
    };
    let update = &findings.body.update;
    Figure {
        title: format!("Size of one update, {name}"),
        caption: format!(
            "Root mean square change of the last hidden states (whose own is 1) of held-out text after one step on the \
             blocks, before any training. Geometric means of {} initialisations a seed; bands are 95 % intervals over \
             {}.",
            update.draws,
            counted(findings.outcome.experiment.seeds, "seed")
        ),
        plot: Plot::Xy(plot),
    }
}
