//! The tables: what each arm reaches, how updates grow with depth, and the paper's own results.

use forerun_runs::table::{Cell, Column, Table};

use super::findings::Findings;
use super::words::largest_in_words;
use crate::magneto::Arm;
use crate::magneto::verdicts::{deeper_half, log_slope};
use crate::report_parts::Mean;

/// Largest and best learning rate and best loss, a row for each depth and arm.
pub(super) fn results(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::number("layers", ""),
        Column::text("arm"),
        Column::number("largest learning rate that trains, by seed", ""),
        Column::number("best learning rate", ""),
        Column::number("best loss", "nats/token"),
    ];
    let mut rows = Vec::new();
    for &depth in &findings.body.grid.depths {
        for arm in findings.arms() {
            rows.push(vec![
                Cell::Count(depth.unsigned_abs()),
                Cell::from(arm.label.as_str()),
                Cell::from(largest_in_words(&findings.largest(arm, depth))),
                rate(&findings.best_rates(arm, depth)),
                Mean::of(&findings.best(arm, depth)).cell(4),
            ]);
        }
    }
    let caption = "Every arm by depth: what it trains at, and its final loss at the best learning rate, which for every \
                   seed is the one that is best on the others (on itself where it is alone), with 95 % intervals over seeds"
        .to_owned();
    Table { caption, columns, rows }
}

/// One number if all seeds agree, else their geometric mean.
fn rate(rates: &[f64]) -> Cell {
    match rates {
        [] => Cell::Empty,
        [first, rest @ ..] if rest.iter().all(|rate| rate == first) => Cell::setting(*first),
        _ => Cell::number(Mean::geometric(rates).value, 2),
    }
}

/// How an update's size grows with depth.
pub(super) fn slopes(findings: &Findings<'_>) -> Table {
    let depths = &findings.body.update.depths;
    let (shallow, deep) =
        (depths.first().copied().unwrap_or(0), depths.last().copied().unwrap_or(0));
    let middle = deeper_half(depths).first().copied().unwrap_or(0);
    let last = depths.len().checked_sub(2).map_or(0, |place| depths[place]);
    let columns = vec![
        Column::text("arm"),
        Column::number(format!("gradient descent, exponent of depth from {shallow} to {deep}"), ""),
        Column::number(format!("from {middle} to {deep}"), ""),
        Column::number(format!("from {last} to {deep}"), ""),
        Column::number(format!("from {shallow} to {deep} layers"), "×"),
        Column::number("AdamW, exponent of depth", ""),
        Column::number(format!("from {shallow} to {deep} layers"), "×"),
    ];
    let growth = |arm: &Arm, step: &str| {
        let curve = findings.update(arm, step);
        match (curve.first(), curve.last()) {
            (Some(first), Some(last)) => Cell::number(last.1.value / first.1.value, 3),
            _ => Cell::Empty,
        }
    };
    let row = |arm: &Arm| {
        vec![
            Cell::from(arm.label.as_str()),
            Mean::of(&findings.slopes(arm, "sgd")).cell(2),
            Mean::of(&findings.deep_slopes(arm, "sgd")).cell(2),
            Mean::of(&findings.last_slopes(arm, "sgd")).cell(2),
            growth(arm, "sgd"),
            Mean::of(&findings.slopes(arm, "adamw")).cell(2),
            growth(arm, "adamw"),
        ]
    };
    let logarithmic = |from: i64| {
        let twice = |&depth: &i64| (depth as f64, (2.0 * depth as f64).ln());
        log_slope(&depths.iter().filter(|&&depth| depth >= from).map(twice).collect::<Vec<_>>())
    };
    let caption = format!(
        "Growth of one update with depth: slope of the logarithm of its size over that of the depth, with 95 % intervals \
         over seeds. 0: bounded; 1: proportional to depth; growth with the logarithm of twice the depth would have {:.2}, \
         {:.2} and {:.2} over these depths",
        logarithmic(shallow),
        logarithmic(middle),
        logarithmic(last)
    );
    Table { caption, columns, rows: findings.arms().iter().map(row).collect() }
}

/// What a training costs, a row for each depth.
pub(super) fn cost(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::number("layers", ""),
        Column::number("parameters", ""),
        Column::number("tokens of each model", ""),
        Column::number("speed of a worker", "tokens/s"),
        Column::number("peak memory", "MB"),
    ];
    let row = |&depth: &i64| {
        let of_depth = |column: &str| -> Vec<f64> {
            let rows = findings.outcome.rows.iter();
            rows.filter(|row| {
                row.get("depth").and_then(serde_json::Value::as_f64) == Some(depth as f64)
            })
            .filter_map(|row| row.get(column)?.as_f64())
            .collect()
        };
        let largest = |column: &str| of_depth(column).into_iter().fold(f64::NAN, f64::max);
        let speeds = of_depth("stack_tokens_per_sec");
        vec![
            Cell::Count(depth.unsigned_abs()),
            Cell::Count(largest("n_params") as u64),
            Cell::Count(largest("n_tokens") as u64),
            Cell::number(Mean::of(&speeds).value, 3),
            Cell::number(largest("peak_memory_bytes") / 1e6, 3),
        ]
    };
    let caption =
        "What was trained; the speed is that of all learning rates of a stack together, while the other workers run"
            .to_owned();
    Table { caption, columns, rows: findings.body.grid.depths.iter().map(row).collect() }
}

/// Zero-shot averages of the paper's causal language models.
pub(super) fn paper_language_models() -> Table {
    const PAPER: [(u64, &str, &str, &str); 10] = [
        (24, "Pre-LN", "5e-4", "59.0"),
        (24, "Pre-LN, Normformer", "1e-3", "diverged"),
        (24, "Normformer", "5e-4", "60.1"),
        (24, "Sub-LN", "1e-3", "61.4"),
        (48, "Pre-LN", "5e-4", "61.6"),
        (48, "Normformer", "5e-4", "62.7"),
        (48, "Sub-LN", "1.2e-3", "64.1"),
        (72, "Pre-LN", "5e-4", "64.1"),
        (72, "Normformer", "5e-4", "65.4"),
        (72, "Sub-LN", "1.2e-3", "65.8"),
    ];
    let columns = vec![
        Column::number("layers", ""),
        Column::text("model"),
        Column::number("learning rate", ""),
        Column::number("zero-shot average", "%"),
    ];
    let row = |&(layers, model, lr, average): &(u64, &str, &str, &str)| {
        vec![Cell::Count(layers), Cell::from(model), Cell::from(lr), Cell::from(average)]
    };
    let caption = "For comparison, the paper's causal language models, one run a row: width 1024, 16 heads, length 2048, \
                   batch 256; 500,000 updates without dropout at 24 layers, 250,000 with dropout 0.1 at 48 and 72; four \
                   tasks, learning rates tried 5e-4, 7e-4, 1e-3 and 1.2e-3; none of them is Post-LN"
        .to_owned();
    Table { caption, columns, rows: PAPER.iter().map(row).collect() }
}

/// Where the paper's Post-LN stands: the other tasks.
pub(super) fn paper_other_tasks() -> Table {
    const PAPER: [(&str, &str, &str, &str); 2] = [
        (
            "masked language model, 12 layers (GLUE)",
            "5e-4: 85.7; 1e-3 diverged",
            "1e-3: 84.6; 2e-3 diverged",
            "3e-3: 86.3",
        ),
        ("translation, 18 + 18 layers (average BLEU)", "diverged", "30.5", "31.0"),
    ];
    let columns = ["task", "Post-LN", "Pre-LN", "Sub-LN"].map(Column::text).to_vec();
    let row = |&(task, post, pre, sub): &(&str, &str, &str, &str)| {
        [task, post, pre, sub].map(Cell::from).to_vec()
    };
    let caption = "And where its Post-LN stands, on two other tasks. Masked language model: the largest learning rate that \
                   converges, with the result there, and the next that was tried; 3e-3 was the largest tried at all. \
                   Translation: the results, without learning rates"
        .to_owned();
    Table { caption, columns, rows: PAPER.iter().map(row).collect() }
}
