//! The paper's Tables 2, 3 and 5 with our numbers beside theirs.
//!
//! The paper's: 24 layers, width 1024, trained at 1,024 tokens, perplexity per subword on arXiv. Levels of perplexity
//! have nothing in common with ours; what can be compared is how much it grows, which stands in brackets.

use std::ops::Range;

use forerun_arch::Positions;
use forerun_runs::table::{Cell, Column, Table};

use super::{Findings, MASKS};
use crate::length::Arm;

/// A row of a table of the paper: what it is called there, which positions and mask it means, its numbers at 1x, 2x
/// and 4x of the training length; NaN where the table has none.
type Row = (&'static str, Kind, usize, [f64; 3]);

/// Positions that the paper has; `Absolute` is one row there and two of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Absolute,
    Alibi,
    Rope,
    Xpos,
}

const CAUSAL: usize = 0;
const BLOCKWISE: usize = 1;
const NONE: f64 = f64::NAN;

const TABLE_2: [Row; 4] = [
    ("Transformer (absolute)", Kind::Absolute, CAUSAL, [29.94, 132.63, 1283.79]),
    ("ALiBi", Kind::Alibi, CAUSAL, [24.99, 23.14, 24.26]),
    ("RoFormer (RoPE)", Kind::Rope, CAUSAL, [25.52, 73.6, 294.45]),
    ("LeX (xPos + BCA)", Kind::Xpos, BLOCKWISE, [23.31, 21.6, 20.73]),
];

const TABLE_3: [Row; 5] = [
    ("Transformer (absolute)", Kind::Absolute, CAUSAL, [0.87, 0.28, NONE]),
    ("ALiBi", Kind::Alibi, CAUSAL, [0.81, 0.88, NONE]),
    ("RoFormer (RoPE)", Kind::Rope, CAUSAL, [0.91, 0.08, NONE]),
    ("LeX (xPos + BCA)", Kind::Xpos, BLOCKWISE, [0.98, 1.08, NONE]),
    ("LeX without BCA", Kind::Xpos, CAUSAL, [0.98, 0.54, NONE]),
];

/// The first column is not in Table 5, and not shown: it is Table 2's, of causal attention, which growth is held against.
const TABLE_5: [Row; 6] = [
    ("RoPE", Kind::Rope, CAUSAL, [25.52, 73.6, 294.45]),
    ("RoPE + BCA", Kind::Rope, BLOCKWISE, [25.52, 25.57, 25.65]),
    ("ALiBi", Kind::Alibi, CAUSAL, [24.99, 23.14, 24.26]),
    ("ALiBi + BCA", Kind::Alibi, BLOCKWISE, [24.99, 24.6, 25.37]),
    ("xPos", Kind::Xpos, CAUSAL, [23.31, 22.56, 28.43]),
    ("xPos + BCA", Kind::Xpos, BLOCKWISE, [23.31, 21.6, 20.73]),
];

/// Multiples of the training length in the paper's columns; its Table 2 has a quarter and a half as well.
const RATIOS: [i64; 3] = [1, 2, 4];

/// Tables 2, 5 and 3, as far as the run has the arms for them.
pub(super) fn tables(findings: &Findings<'_>) -> Vec<Table> {
    let growth = "perplexity (and how many times that at 1x with causal attention";
    let [two, five, three] = [
        format!("Table 2 beside this run: {growth})"),
        format!("Table 5 beside this run: {growth}, for the paper from its Table 2)"),
        "Table 3 beside this run: attention resolution".to_owned(),
    ];
    let found = [
        beside(findings, &TABLE_2, two, Measure::Perplexity, 0..3),
        beside(findings, &TABLE_5, five, Measure::Perplexity, 1..3),
        beside(findings, &TABLE_3, three, Measure::Resolution, 0..2),
    ];
    found.into_iter().flatten().collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Perplexity,
    Resolution,
}

/// The paper's rows in the columns that it has, each with ours behind it, where the run has an arm for it.
fn beside(
    findings: &Findings<'_>,
    paper: &[Row],
    caption: String,
    measure: Measure,
    shown: Range<usize>,
) -> Option<Table> {
    let ratios = match measure {
        Measure::Perplexity => &findings.body.evaluation.ratios,
        Measure::Resolution => &findings.body.evaluation.resolution_ratios,
    };
    let heading = |who: &str, ratio: &i64| Column::number(format!("{who} {ratio}x"), "");
    let mut columns = vec![Column::text("")];
    columns.extend(RATIOS[shown.clone()].iter().map(|ratio| heading("paper", ratio)));
    columns.extend(ratios.iter().map(|ratio| heading("here", ratio)));
    let mut rows = Vec::new();
    for row in paper {
        let arms = findings.arms().iter().filter(|arm| kind_of(arm) == Some(row.1));
        rows.extend(arms.map(|arm| line(findings, row, arm, measure, shown.clone(), ratios)));
    }
    (!rows.is_empty() && !ratios.is_empty()).then_some(Table { caption, columns, rows })
}

fn line(
    findings: &Findings<'_>,
    &(name, kind, mask, theirs): &Row,
    arm: &Arm,
    measure: Measure,
    shown: Range<usize>,
    ratios: &[i64],
) -> Vec<Cell> {
    let ours = |mask, ratio| here(findings, arm, mask, ratio * findings.seq_len(), measure);
    // What the paper has at the training length was read with causal attention.
    let near = ours(CAUSAL, 1);
    // One row of the paper's stands beside two arms of ours.
    let label = match kind {
        Kind::Absolute => format!("{name}; here: {}", arm.label.to_lowercase()),
        _ => name.to_owned(),
    };
    let paper = theirs[shown].iter().map(|&value| grown(value, theirs[0], measure));
    let here = ratios.iter().map(|&ratio| grown(ours(mask, ratio), near, measure));
    std::iter::once(Cell::from(label)).chain(paper).chain(here).collect()
}

fn kind_of(arm: &Arm) -> Option<Kind> {
    match arm.model.positions {
        Positions::Learned { .. } | Positions::Sinusoidal => Some(Kind::Absolute),
        Positions::Alibi => Some(Kind::Alibi),
        Positions::Rope { .. } => Some(Kind::Rope),
        Positions::Xpos { .. } => Some(Kind::Xpos),
        Positions::None => None,
    }
}

fn here(findings: &Findings<'_>, arm: &Arm, mask: usize, length: i64, measure: Measure) -> f64 {
    let mask = MASKS[mask].0;
    let (series, exponential) = match measure {
        Measure::Perplexity => (format!("nll/{mask}"), true),
        Measure::Resolution => (format!("resolution/{mask}"), false),
    };
    let value = findings.at(&arm.name, &series, length).map_or(NONE, |mean| mean.value);
    if exponential { value.exp() } else { value }
}

/// `73.6 (2.88x)`, or the number alone.
fn grown(value: f64, near: f64, measure: Measure) -> Cell {
    if value.is_nan() {
        return Cell::Empty;
    }
    match measure {
        Measure::Resolution => Cell::number(value, 3),
        Measure::Perplexity => {
            let (number, ratio) = (short(value), value / near);
            let at_training_length = (ratio - 1.0).abs() < 1e-12;
            Cell::from(if at_training_length {
                number
            } else {
                format!("{number} ({}x)", short(ratio))
            })
        }
    }
}

/// Three or four digits, without an exponent.
pub(super) fn short(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}
