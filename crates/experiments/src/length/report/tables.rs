//! The tables of what was measured: perplexity, added loss, attention resolution, training.

use forerun_runs::stats::Interval;
use forerun_runs::table::{Cell, Column, Table};

use super::paper::short;
use super::{Findings, MASKS};
use crate::length::Arm;
use crate::report_parts::Mean;

/// One row an arm and mask, one column a length.
fn by_length(
    findings: &Findings<'_>,
    caption: String,
    lengths: &[i64],
    cell: impl Fn(&Arm, &str, i64) -> Cell,
) -> Table {
    let heading = |length: &i64| Column::number(format!("{length}"), "tokens");
    let columns = std::iter::once(Column::text("positions and attention"))
        .chain(lengths.iter().map(heading))
        .collect();
    let mut rows = Vec::new();
    for arm in findings.arms() {
        for (mask, label) in MASKS {
            let mut row = vec![Cell::from(format!("{}, {label}", arm.label))];
            row.extend(lengths.iter().map(|&length| cell(arm, mask, length)));
            rows.push(row);
        }
    }
    Table { caption, columns, rows }
}

pub(super) fn perplexity(findings: &Findings<'_>) -> Table {
    let caption = format!(
        "Perplexity per token by length read (trained at {} tokens), with 95 % intervals over seeds, which are symmetric in \
         nats, not here",
        findings.seq_len()
    );
    by_length(findings, caption, &findings.lengths(), |arm, mask, length| {
        let mean = findings.at(&arm.name, &format!("nll/{mask}"), length);
        mean.map_or(Cell::Empty, |mean| range(mean.exp()))
    })
}

/// Three digits each, so that a table of many lengths has room on a page.
fn range(mean: Mean) -> Cell {
    match mean.interval {
        _ if !mean.value.is_finite() => Cell::Empty,
        Some(Interval { low, high }) => {
            Cell::from(format!("{} [{}, {}]", short(mean.value), short(low), short(high)))
        }
        None => Cell::number(mean.value, 4),
    }
}

/// What the claims are about: each seed's loss against its own at the training length.
pub(super) fn added_loss(findings: &Findings<'_>) -> Table {
    let lengths: Vec<i64> =
        findings.lengths().into_iter().filter(|length| *length > findings.seq_len()).collect();
    let caption = "What reading further adds to each seed's causal loss at the training length, in nats per token (below 0 is \
                   better); ± is half the 95 % interval over seeds"
        .to_owned();
    by_length(findings, caption, &lengths, |arm, mask, length| {
        let n_seeds = findings.outcome.experiment.seeds;
        Mean::of(&findings.added(&arm.name, mask, length, n_seeds)).short_cell(3)
    })
}

pub(super) fn resolution(findings: &Findings<'_>) -> Table {
    let lengths = findings.resolution_lengths();
    let caption =
        "Attention resolution (paper, eq. 11; higher tells distances apart better); ± is half the 95 % interval over seeds. Far \
         below 0: the expected score rises towards the longest distance, whose weight the sum below the fraction lacks"
            .to_owned();
    by_length(findings, caption, &lengths, |arm, mask, length| {
        let mean = findings.at(&arm.name, &format!("resolution/{mask}"), length);
        mean.map_or(Cell::Empty, |mean| mean.short_cell(3))
    })
}

pub(super) fn training(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::text("positions"),
        Column::number("parameters", ""),
        Column::number("tokens", ""),
        Column::number("learning rate", ""),
        Column::number("training loss", "nats/token"),
        Column::number("validation loss", "nats/token"),
        Column::number("speed", "tokens/s"),
        Column::number("peak memory", "MB"),
    ];
    let row = |arm: &Arm| {
        let values = |column: &str| findings.outcome.training(&arm.name, column);
        let count = |column: &str| {
            values(column).first().map_or(Cell::Empty, |&count| Cell::Count(count as u64))
        };
        let mean = |column: &str| Mean::of(&values(column)).cell(4);
        let largest =
            |column: &str, unit: f64| values(column).into_iter().fold(f64::NAN, f64::max) / unit;
        let speeds = findings.speeds(arm);
        vec![
            Cell::from(arm.label.as_str()),
            count("n_params"),
            count("n_tokens"),
            values("lr").first().map_or(Cell::Empty, |&lr| Cell::setting(lr)),
            mean("train_loss"),
            mean("validation_loss"),
            Cell::number(Mean::of(&speeds).value, 3),
            Cell::number(largest("peak_memory_bytes", 1e6), 3),
        ]
    };
    let caption = "Every arm, means over seeds; speed and memory are those of one worker, with all models that it trains \
                   at once, while the other workers run"
        .to_owned();
    Table { caption, columns, rows: findings.arms().iter().map(row).collect() }
}
