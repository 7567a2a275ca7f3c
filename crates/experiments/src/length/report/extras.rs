//! The parts that only some experiments have: learning rates, the correlation of attention resolution with the loss
//! that reading further adds, and other constants of xPos.

use forerun_runs::plot::{Axis, Figure, Panel, Panels, Plot, Point, Series, Style, Xy};
use forerun_runs::report::Block;
use forerun_runs::table::{Cell, Column, Table};

use super::{Findings, MASKS, figures};
use crate::length::correlation::observations;
use crate::length::sweep::{SweepConfig, SweepPoint};
use crate::length::tuning::{TuningConfig, tuned};
use crate::plan::counted;
use crate::report_parts::Mean;

/// Every arm's tries: a figure, and a table with what was chosen.
pub(super) fn tuning(findings: &Findings<'_>, tuning: &TuningConfig) -> Vec<Block> {
    let mut series = Vec::new();
    let mut rows = Vec::new();
    for (slot, arm) in findings.arms().iter().enumerate() {
        let found = tuned(findings.outcome, &arm.name);
        let points = found.tries.iter().map(|&(lr, loss)| Point::new(lr, loss)).collect();
        series.push(Series {
            slot: Some(slot),
            ..Series::new(arm.label.as_str(), Style::LinePoints, points)
        });
        let mut row = vec![Cell::from(arm.label.as_str())];
        row.extend(tuning.learning_rates.iter().map(|lr| {
            match found.tries.iter().find(|point| point.0 == *lr) {
                Some((_, loss)) if loss.is_finite() => Cell::number(*loss, 4),
                Some(_) => Cell::from("diverged"),
                None => Cell::Empty,
            }
        }));
        row.push(found.chosen.map_or(Cell::from("none"), Cell::setting));
        row.push(Cell::from(if found.at_edge {
            "the end of the grid: a better one may lie beyond"
        } else {
            ""
        }));
        rows.push(row);
    }
    let mut columns = vec![Column::text("positions")];
    columns.extend(tuning.learning_rates.iter().map(|lr| Column::number(format!("{lr}"), "")));
    columns.extend([Column::number("chosen", ""), Column::text("remark")]);
    let figure = Figure {
        title: "Held-out loss by learning rate".to_owned(),
        caption: "One seed, which no other training has, and text that no evaluation reads."
            .to_owned(),
        plot: Plot::Xy(Xy {
            x: Axis::log10("peak learning rate", ""),
            y: Axis::new("loss", "nats per token"),
            series,
            lines: Vec::new(),
        }),
    };
    let caption = "Held-out loss in nats per token by learning rate; the lowest is taken, of equal ones the lower rate";
    vec![Block::Figure(figure), Block::Table(Table { caption: caption.to_owned(), columns, rows })]
}

/// Attention resolution against the loss that reading further adds, every seed a point.
pub(super) fn correlation(findings: &Findings<'_>) -> Vec<Block> {
    let seen = observations(findings.body, &findings.outcome.curves);
    if seen.is_empty() {
        return Vec::new();
    }
    let panel = |(mask, (_, label)): (usize, (&str, &str))| Panel {
        title: format!("{label} attention"),
        series: findings
            .arms()
            .iter()
            .enumerate()
            .map(|(slot, arm)| {
                let points = seen
                    .iter()
                    .filter(|one| one.arm == slot && one.mask == mask)
                    .map(|one| Point::new(one.resolution, one.added_loss))
                    .collect();
                Series {
                    slot: Some(slot),
                    ..Series::new(arm.label.as_str(), Style::Points, points)
                }
            })
            .collect(),
        lines: Vec::new(),
    };
    let figure = Figure {
        title: "Does attention resolution predict what reading further costs?".to_owned(),
        caption: format!(
            "A point for every arm, seed and length beyond the training length ({} points). If resolution predicts, points \
             fall from the upper left to the lower right.",
            seen.len()
        ),
        plot: Plot::Panels(Panels {
            x: Axis::log10("attention resolution", ""),
            y: Axis::new("loss added", "nats per token"),
            panels: MASKS.into_iter().enumerate().map(panel).collect(),
        }),
    };
    let meaning = "Two correlations are judged. Over all points together: do resolution and cost go together at all? They \
                   may do so because both change with the length and with the mask, which one knows without measuring \
                   resolution. Within one length and one mask: does the arm with the lower resolution pay more, which is \
                   what would help to choose positions?";
    vec![Block::Figure(figure), Block::Paragraph(meaning.to_owned())]
}

/// xPos with other constants beside the arm itself, over the seeds that all points have.
pub(super) fn sweep(findings: &Findings<'_>, sweep: &SweepConfig) -> Vec<Block> {
    let Some(arm) = findings.body.arm(&sweep.arm) else { return Vec::new() };
    let Some(middle) = sweep.middle(arm) else { return Vec::new() };
    let n_seeds = sweep.n_seeds(findings.outcome.experiment.seeds);
    let mut points = sweep.points(arm);
    points.insert(0, middle);
    points.sort_by(|a, b| a.gamma.total_cmp(&b.gamma).then(a.scale_base.total_cmp(&b.scale_base)));
    let figure = Figure {
        title: format!("{} with other constants", arm.label),
        caption: format!("Perplexity by length, {}.", counted(n_seeds, "seed")),
        plot: Plot::Panels(Panels {
            x: Axis::log2("length read", "tokens"),
            y: Axis::log10("perplexity", "per token"),
            panels: MASKS.map(|mask| sweep_panel(findings, &points, n_seeds, mask)).to_vec(),
        }),
    };
    vec![Block::Figure(figure), Block::Table(sweep_table(findings, &points, &arm.name, n_seeds))]
}

fn sweep_panel(
    findings: &Findings<'_>,
    points: &[SweepPoint],
    n_seeds: u64,
    (mask, label): (&str, &str),
) -> Panel {
    let line = |(slot, point): (usize, &SweepPoint)| {
        let values = findings.lengths().into_iter().map(|length| {
            let losses = findings.losses(&point.name, &format!("nll/{mask}"), length, n_seeds);
            figures::point((length as f64, Mean::of(&losses).exp()))
        });
        let name = format!("γ {}, scale base {}", point.gamma, point.scale_base);
        Series { slot: Some(slot), ..Series::new(name, Style::LinePoints, values.collect()) }
    };
    Panel {
        title: format!("{label} attention"),
        series: points.iter().enumerate().map(line).collect(),
        lines: Vec::new(),
    }
}

fn sweep_table(findings: &Findings<'_>, points: &[SweepPoint], arm: &str, n_seeds: u64) -> Table {
    let (near, far) = (findings.seq_len(), findings.longest());
    let columns = vec![
        Column::number("gamma", ""),
        Column::number("scale base", "tokens"),
        Column::text(""),
        Column::number(format!("at {near}"), "nats/token"),
        Column::number(format!("at {far}, causal"), "nats/token"),
        Column::number(format!("at {far}, blockwise"), "nats/token"),
        Column::number("added, blockwise", "nats/token"),
    ];
    let row = |point: &SweepPoint| {
        let loss = |mask: &str, length| {
            let series = format!("nll/{mask}");
            Mean::of(&findings.losses(&point.name, &series, length, n_seeds)).cell(4)
        };
        vec![
            Cell::setting(point.gamma),
            Cell::setting(point.scale_base),
            Cell::from(if point.name == arm { "the arm itself" } else { "" }),
            loss("causal", near),
            loss("causal", far),
            loss("bca", far),
            Mean::of(&findings.added(&point.name, "bca", far, n_seeds)).cell(4),
        ]
    };
    let caption = format!(
        "Constants of xPos, {} each, all at the learning rate that was tuned for the arm: differences of some hundredths \
         may be noise",
        counted(n_seeds, "seed")
    );
    Table { caption, columns, rows: points.iter().map(row).collect() }
}
