//! The figures: final loss and failures over learning rate and arm, loss by learning rate, update size by depth.

use forerun_runs::plot::{
    Axis, Figure, HeatCell, HeatMap, Panel, Panels, Plot, ReferenceLine, Series, Style, Xy,
};
use forerun_runs::stats;

use super::findings::Findings;
use super::words::rate_in_words;
use crate::magneto::grid::{End, PLATEAU};
use crate::plan::counted;
use crate::report_parts::Mean;

/// Final loss of every arm and learning rate at a depth.
pub(super) fn loss_map(findings: &Findings<'_>, depth: i64) -> Figure {
    let mut map = empty_map(findings, Axis::new("final held-out loss", "nats per token"));
    map.cells = cells(findings, |arm, rate| {
        mean_loss(&findings.losses(&findings.arms()[arm], depth, rate))
    });
    // What is worse than a guess by frequencies is all of one colour.
    map.value.max = Some(findings.grid.unigram()).filter(|loss| loss.is_finite());
    map.mark = lowest(&map.cells);
    Figure {
        title: format!("Final loss, {depth} layers"),
        caption: format!(
            "Means over {}, where all of them came to their end. The frame marks the lowest of those; a guess by the \
             frequencies of tokens has {:.3}.",
            counted(findings.outcome.experiment.seeds, "seed"),
            findings.grid.unigram()
        ),
        plot: Plot::Heat(map),
    }
}

/// The mean over seeds if all finished; else what became of the others, so that no cell is the mean of the lucky ones.
fn mean_loss(losses: &[Option<f64>]) -> HeatCell {
    let count = |of: fn(&Option<f64>) -> bool| losses.iter().filter(|&loss| of(loss)).count();
    let (n, missing) = (losses.len(), count(Option::is_none));
    let diverged = count(|loss| loss.is_some_and(|loss| !loss.is_finite()));
    if missing == n {
        HeatCell::Missing
    } else if missing > 0 {
        HeatCell::Text(format!("{missing} of {n} missing"))
    } else if diverged == n {
        HeatCell::Text("diverged".to_owned())
    } else if diverged > 0 {
        HeatCell::Text(format!("{diverged} of {n} diverged"))
    } else {
        HeatCell::Value(stats::mean(&losses.iter().copied().flatten().collect::<Vec<_>>()))
    }
}

/// How trainings ended at a depth.
pub(super) fn failure_map(findings: &Findings<'_>, depth: i64) -> Figure {
    let cell = |ends: Vec<End>| {
        let trains = ends.iter().filter(|end| matches!(end, End::Trains(_))).count();
        let missing = ends.iter().filter(|end| matches!(end, End::Missing)).count();
        if missing == ends.len() {
            return HeatCell::Missing;
        } else if missing > 0 {
            return HeatCell::Text(format!("{trains} of {}", ends.len() - missing));
        }
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
            None => HeatCell::Count(trains as u64),
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
            "A model trains if it comes {} % of the way from a guess by token frequencies to the best model of its \
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
            _ => None,
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
            let points = rates.filter_map(|(index, &rate)| {
                let run: Vec<f64> =
                    findings.losses(arm, depth, index).into_iter().flatten().collect();
                (!run.is_empty()).then(|| Mean::of(&run).point(rate))
            });
            let series = Series::new(arm.label.as_str(), Style::LinePoints, points.collect());
            Series { slot: Some(slot), ..series }
        });
        let label = "token frequencies".to_owned();
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
            "Bands are 95 % intervals over {}. Marks at the edge: a seed diverged, or far above a guess by frequencies.",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_shown_only_where_all_seeds_came_to_their_end() {
        let text = |text: &str| HeatCell::Text(text.to_owned());
        let (nan, none) = (Some(f64::NAN), None);
        assert_eq!(mean_loss(&[Some(2.0), Some(3.0)]), HeatCell::Value(2.5));
        assert_eq!(mean_loss(&[Some(1.0), nan, nan, nan]), text("3 of 4 diverged"));
        assert_eq!(mean_loss(&[nan, nan]), text("diverged"));
        assert_eq!(mean_loss(&[Some(1.0), none, nan]), text("1 of 3 missing"));
        assert_eq!(mean_loss(&[none, none]), HeatCell::Missing);
        let lucky = vec![mean_loss(&[Some(1.0), nan]), mean_loss(&[Some(2.0), Some(2.0)])];
        assert_eq!(lowest(&[lucky]), Some((0, 1)), "the frame is not for the lucky one");
    }
}
