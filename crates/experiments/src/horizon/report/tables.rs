//! The tables: optima, the law and the paper's, what the held-out horizon lost, other arms, what was run.

use forerun_runs::table::{Cell, Column, Table};
use forerun_scaling::Interval;
use forerun_scaling::audit::{Audit, BestLr, RULE_OF_THUMB, audit};

use super::findings::Findings;
use super::words;
use crate::horizon::spread::{Known, Spread};
use crate::horizon::valley::reason_in_words;
use crate::horizon::{Arm, HELD_OUT};
use crate::report_parts::Mean;

/// Every horizon of the first arm.
pub(super) fn optima(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::number("horizon", "tokens"),
        Column::number("updates", ""),
        Column::number("best learning rate", ""),
        Column::text("of single seeds"),
        Column::number("lowest loss", "nats/token"),
        Column::number("curvature", "nats/(ln lr)²"),
        Column::number("R²", ""),
        Column::text("remark"),
    ];
    let rows = findings.subject().map_or_else(Vec::new, |arm| {
        findings.parts(arm).into_iter().map(|part| optimum_row(findings, arm, part)).collect()
    });
    let caption = "The vertex of a parabola through the mean losses of each horizon, with Student's 95 % interval over the \
                   vertices of single seeds"
        .to_owned();
    Table { caption, columns, rows }
}

fn optimum_row(findings: &Findings<'_>, arm: &Arm, part: f64) -> Vec<Cell> {
    let valley = findings.valley(arm, part);
    let vertex = valley.vertex();
    let mut remarks: Vec<String> = reason_in_words(&valley).into_iter().collect();
    match findings.n_diverged(arm, part) {
        0 => {}
        1 => remarks.push("1 training of the grid diverged".to_owned()),
        n => remarks.push(format!("{n} trainings of the grid diverged")),
    }
    if part == HELD_OUT {
        remarks.push("held out".to_owned());
    }
    let updates = findings.body.steps(part).map_or(Cell::Empty, Cell::Count);
    vec![
        Cell::Count(findings.n_tokens(part) as u64),
        updates,
        findings.optimum(arm, part).map_or(Cell::Empty, rate_cell),
        Cell::from(seeds_in_words(&findings.valleys.optima_by_seed(arm, part))),
        vertex.map_or(Cell::Empty, |vertex| Cell::number(vertex.loss, 5)),
        vertex.map_or(Cell::Empty, |vertex| Cell::number(vertex.curvature, 3)),
        vertex.map_or(Cell::Empty, |vertex| Cell::number(vertex.r2, 3)),
        Cell::from(remarks.join("; ")),
    ]
}

fn seeds_in_words(optima: &[f64]) -> String {
    let word = |&lr: &f64| match lr.is_finite() {
        true => words::rate_in_words(lr),
        false => "none".to_owned(),
    };
    optima.iter().map(word).collect::<Vec<_>>().join(", ")
}

pub(super) fn rate_cell(known: Known) -> Cell {
    match known.interval {
        Some(interval) => Cell::range(known.value, interval.low, interval.high),
        None => Cell::number(known.value, 3),
    }
}

/// Our laws.
pub(super) fn law(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::text("fitted to"),
        Column::number("β, mean of single seeds", ""),
        Column::number("β, means of all seeds", ""),
        Column::number("exponent of the size, α", ""),
        Column::number("constant C", ""),
        Column::text("remark"),
    ];
    let mut rows = Vec::new();
    let laws = [("fitted horizons", &findings.fitted), ("all horizons", &findings.whole)];
    for (name, spread) in laws {
        let Some(spread) = spread else {
            let remark = "fewer than three horizons show an optimum";
            let row = vec![Cell::from(name), Cell::Empty, Cell::Empty, Cell::Empty, Cell::Empty];
            rows.push([row, vec![Cell::from(remark)]].concat());
            continue;
        };
        rows.push(vec![
            Cell::from(name),
            rate_cell(spread.exponent()),
            Cell::number(spread.law.exponent(), 3),
            Cell::Empty,
            Cell::number(spread.law.constant(), 3),
            Cell::from(gaps(findings, spread)),
        ]);
    }
    if let Some(fit) = findings.joint() {
        let value =
            |name: &str| fit.value(name).map_or(Cell::Empty, |value| Cell::number(value, 3));
        rows.push(vec![
            Cell::from("size and horizon, standard parametrisation"),
            Cell::Empty,
            value("beta"),
            value("alpha"),
            value("C"),
            Cell::from("a sketch: sizes differ by one step of the width, and count embeddings"),
        ]);
    }
    let caption = "LR* = C · N^-α · D^-β, N and D in billions. β of single seeds, with Student's 95 % interval, is what the \
                   claim is judged by; the law through the mean losses of all seeds is what predicts, and C is its: a value \
                   far outside of what was run"
        .to_owned();
    Table { caption, columns, rows }
}

/// What the laws of single seeds and of draws of seeds lack.
fn gaps(findings: &Findings<'_>, spread: &Spread) -> String {
    let mut gaps = Vec::new();
    if spread.n_partial > 0 {
        let (n, all) = (spread.n_partial, findings.experiment.seeds);
        gaps.push(format!("{n} of {all} seeds by themselves lack an optimum"));
    }
    if spread.n_failed > 0 {
        let draws = findings.body.sweep.bootstrap;
        gaps.push(format!(
            "{} of {draws} draws of seeds show no law and are left out",
            spread.n_failed
        ));
    }
    gaps.join("; ")
}

/// Exponents of the horizon in the paper, by size; second-hand.
const PAPER: [(&str, f64); 6] = [
    ("50M", 0.7029),
    ("125M", 0.6531),
    ("350M", 0.3799),
    ("760M", 0.3155),
    ("1.3B", 0.3171),
    ("2.7B", 0.4184),
];

/// The paper's laws.
pub(super) fn paper() -> Table {
    let columns = vec![
        Column::text("parameters"),
        Column::number("exponent of the horizon, β", ""),
        Column::text("remark"),
    ];
    let row = |(size, beta): (&str, f64)| {
        vec![Cell::from(size), Cell::number(beta, 4), Cell::from("Table 5 of version 3")]
    };
    let mut rows: Vec<Vec<Cell>> = PAPER.map(row).into();
    rows.push(vec![
        Cell::from("760M and more, together"),
        Cell::number(RULE_OF_THUMB, 2),
        Cell::from("LR* = 1.55e-3 · N^-0.23 · D^-0.32, both in billions"),
    ]);
    let caption = "The paper's: GPT-3 style on RefinedWeb, 25 to 800 billion tokens, batch of 0.5 M tokens. All of it \
                   second-hand, from reviews and other people's code: its tables were not read"
        .to_owned();
    Table { caption, columns, rows }
}

/// What each way to choose the learning rate of the held-out horizon costs.
pub(super) fn regrets(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::text("learning rate"),
        Column::number("", ""),
        Column::number("held-out loss", "nats/token"),
        Column::number("above the best of the others", "nats/token"),
        Column::number("expected above the optimum", "nats/token"),
        Column::number("tokens that would make up for it", "% of the horizon"),
    ];
    let valleys = &findings.valleys;
    let carried_from =
        words::tokens_in_words(findings.n_tokens(findings.body.horizons.carried_from));
    let mut rows = vec![
        best_row(findings),
        regret_row(findings, "predicted by the law", valleys.predicted),
        regret_row(findings, &format!("carried over from {carried_from} tokens"), valleys.carried),
    ];
    if let Some(lr) = findings.thumb() {
        let mut row = vec![
            Cell::from(format!("rule of thumb, exponent {RULE_OF_THUMB} (not run)")),
            Cell::from(words::rate_in_words(lr)),
            Cell::Empty,
            Cell::Empty,
        ];
        row.extend(expected_cells(findings, lr, None));
        rows.push(row);
    }
    let caption = "The held-out horizon at learning rates that were chosen without it; intervals are 95 % over seeds, paired. \
                   Best of the others: of all rates but the predicted one, that with the lowest mean over the other seeds, \
                   so that no seed's own luck makes a rate look good. Expected: by the parabola of that horizon"
        .to_owned();
    Table { caption, columns, rows }
}

/// What the others are compared with; seeds may differ in it.
fn best_row(findings: &Findings<'_>) -> Vec<Cell> {
    let name = Cell::from("best of the others that were tried");
    let rates = findings.best_rates();
    if rates.is_empty() {
        return vec![name, Cell::from("none")];
    }
    let in_words: Vec<String> = rates.iter().map(|&lr| words::rate_in_words(lr)).collect();
    let loss = Cell::number(findings.best_loss(), 5);
    let mut row = vec![name, Cell::from(in_words.join(" or ")), loss, Cell::from("0")];
    match rates.as_slice() {
        [lr] => row.extend(expected_cells(findings, *lr, Some(0.0))),
        _ => row.extend([Cell::Empty, Cell::Empty]),
    }
    row
}

fn regret_row(findings: &Findings<'_>, name: &str, lr: Option<f64>) -> Vec<Cell> {
    let Some(lr) = lr else { return vec![Cell::from(name), Cell::from("none")] };
    let loss = findings.held_out_loss(Some(lr));
    let regret = findings.regret(Some(lr));
    let mut row = vec![
        Cell::from(name),
        Cell::from(words::rate_in_words(lr)),
        if loss.is_finite() { Cell::number(loss, 5) } else { Cell::from("diverged") },
        regret.map_or(Cell::Empty, |regret| regret.cell(2)),
    ];
    row.extend(expected_cells(findings, lr, regret.map(|regret| regret.value)));
    row
}

/// What the parabola of the held-out horizon says of a rate, and how many tokens that is worth, or the measured regret
/// where there is no parabola: it is made of all points, and knows a small regret better than two means do.
fn expected_cells(findings: &Findings<'_>, lr: f64, regret: Option<f64>) -> Vec<Cell> {
    let expected = expected(findings, lr);
    let tokens = expected.or(regret).and_then(|nats| findings.tokens_lost(nats.max(0.0)));
    vec![
        expected.map_or(Cell::Empty, |nats| Cell::number(nats, 2)),
        tokens.map_or(Cell::Empty, |share| Cell::number(100.0 * share, 2)),
    ]
}

/// By how much the parabola of the held-out horizon puts the loss at a rate above the lowest.
pub(super) fn expected(findings: &Findings<'_>, lr: f64) -> Option<f64> {
    audited(findings, lr)?.penalty
}

/// A learning rate against the measured optimum of the held-out horizon.
fn audited(findings: &Findings<'_>, lr: f64) -> Option<Audit> {
    let arm = findings.subject()?;
    let vertex = *findings.valley(arm, HELD_OUT).vertex()?;
    let known = findings.optimum(arm, HELD_OUT)?;
    let interval =
        known.interval.map(|interval| Interval { low: interval.low, high: interval.high });
    let best = BestLr {
        lr: vertex.x,
        interval,
        se_ln: Some(vertex.se_ln_x).filter(|se| se.is_finite()),
        basis: "the parabola of the held-out horizon".to_owned(),
    };
    audit(best, lr, Some(vertex.curvature)).ok()
}

/// The best learning rate of every arm and horizon.
pub(super) fn arms(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::text("arm"),
        Column::number("parameters", ""),
        Column::number("horizon", "tokens"),
        Column::number("best learning rate", ""),
        Column::text("of single seeds"),
        Column::text("remark"),
    ];
    let mut rows = Vec::new();
    for arm in &findings.body.arms {
        for part in findings.parts(arm) {
            let n_params = findings.n_params(arm);
            rows.push(vec![
                Cell::from(arm.label.as_str()),
                n_params.map_or(Cell::Empty, |n| Cell::Count(n as u64)),
                Cell::Count(findings.n_tokens(part) as u64),
                findings.optimum(arm, part).map_or(Cell::Empty, rate_cell),
                Cell::from(seeds_in_words(&findings.valleys.optima_by_seed(arm, part))),
                Cell::from(reason_in_words(&findings.valley(arm, part)).unwrap_or_default()),
            ]);
        }
    }
    let caption = "Every arm and horizon, as above; parameters with embeddings".to_owned();
    Table { caption, columns, rows }
}

/// What was trained.
pub(super) fn cost(findings: &Findings<'_>) -> Table {
    let columns = vec![
        Column::text("arm"),
        Column::number("trainings", ""),
        Column::number("tokens", ""),
        Column::number("speed of a worker", "tokens/s"),
        Column::number("peak memory", "MB"),
    ];
    let row = |arm: &Arm| {
        let values = |column: &str| -> Vec<f64> {
            findings.rows(arm).filter_map(|row| row.get(column)?.as_f64()).collect()
        };
        let mut speeds = values("stack_tokens_per_sec");
        if speeds.is_empty() {
            speeds = values("tokens_per_sec");
        }
        let highest = |values: &[f64]| values.iter().copied().fold(f64::NAN, f64::max);
        let number = |value: f64, digits| match value.is_finite() {
            true => Cell::number(value, digits),
            false => Cell::Empty,
        };
        vec![
            Cell::from(arm.label.as_str()),
            Cell::Count(findings.rows(arm).count() as u64),
            Cell::Count(values("n_tokens").iter().sum::<f64>() as u64),
            number(Mean::of(&speeds).value, 3),
            number(highest(&values("peak_memory_bytes")) / 1e6, 3),
        ]
    };
    let caption = "Speed is the mean of one worker's, with all models that it trains at once, while others run".to_owned();
    let rows = findings.body.arms.iter().map(row).collect();
    Table { caption, columns, rows }
}
