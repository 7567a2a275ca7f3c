//! The paper's Tables 2, 3 and 5 with our numbers beside theirs.
//!
//! The paper's: 24 layers, width 1024, trained at 1,024 tokens, perplexity per subword on arXiv. Levels of perplexity
//! have nothing in common with ours; what can be compared is how much it grows, which stands in brackets.

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

/// The first column is not in Table 5 but in Table 2: at the training length the mask makes no difference.
const TABLE_5: [Row; 6] = [
    ("RoPE", Kind::Rope, CAUSAL, [25.52, 73.6, 294.45]),
    ("RoPE + BCA", Kind::Rope, BLOCKWISE, [25.52, 25.57, 25.65]),
    ("ALiBi", Kind::Alibi, CAUSAL, [24.99, 23.14, 24.26]),
    ("ALiBi + BCA", Kind::Alibi, BLOCKWISE, [24.99, 24.6, 25.37]),
    ("xPos", Kind::Xpos, CAUSAL, [23.31, 22.56, 28.43]),
    ("xPos + BCA", Kind::Xpos, BLOCKWISE, [23.31, 21.6, 20.73]),
];

/// Multiples of the training length that the paper's tables have beyond our reach of comparison: it also reads 256 and
/// 512 tokens, a quarter and a half.
const RATIOS: [i64; 3] = [1, 2, 4];

/// Tables 2, 3 and 5, as far as the run has the arms for them.
pub(super) fn tables(findings: &Findings<'_>) -> Vec<Table> {
    let perplexity = "perplexity, and in brackets how many times that at the training length it is";
    [
        beside(findings, &TABLE_2, &format!("The paper's Table 2 beside this run: {perplexity}"), Measure::Perplexity),
        beside(findings, &TABLE_5, &format!("The paper's Table 5 beside this run: {perplexity}"), Measure::Perplexity),
        beside(
            findings,
            &TABLE_3,
            "The paper's Table 3 beside this run: attention resolution. By its equation 3 it cannot exceed 1, which the \
             paper's 1.08 does, so that only the order can be compared",
            Measure::Resolution,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Perplexity,
    Resolution,
}

fn beside(
    findings: &Findings<'_>,
    paper: &[Row],
    caption: &str,
    measure: Measure,
) -> Option<Table> {
    let ratios: Vec<i64> = match measure {
        Measure::Perplexity => findings.body.evaluation.ratios.clone(),
        Measure::Resolution => findings.body.evaluation.resolution_ratios.clone(),
    };
    let n_paper = if measure == Measure::Perplexity { 3 } else { 2 };
    let mut columns = vec![Column::text("positions"), Column::text("our arm")];
    columns.extend(
        RATIOS[..n_paper].iter().map(|ratio| Column::number(format!("paper {ratio}x"), "")),
    );
    columns.extend(ratios.iter().map(|ratio| Column::number(format!("here {ratio}x"), "")));
    let mut rows = Vec::new();
    for &(name, kind, mask, theirs) in paper {
        for arm in findings.arms().iter().filter(|arm| kind_of(arm) == Some(kind)) {
            let ours: Vec<f64> = ratios
                .iter()
                .map(|ratio| here(findings, arm, mask, ratio * findings.seq_len(), measure))
                .collect();
            let near = match measure {
                // The mask of the paper's first column is causal.
                Measure::Perplexity => here(findings, arm, CAUSAL, findings.seq_len(), measure),
                Measure::Resolution => NONE,
            };
            let label = format!("{}, {}", arm.label, MASKS[mask].1);
            let mut row = vec![Cell::from(name), Cell::from(label)];
            row.extend(theirs[..n_paper].iter().map(|&value| grown(value, theirs[0], measure)));
            row.extend(ours.iter().map(|&value| grown(value, near, measure)));
            rows.push(row);
        }
    }
    (!rows.is_empty() && !ratios.is_empty()).then(|| Table {
        caption: caption.to_owned(),
        columns,
        rows,
    })
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
            let number = |value: f64| match value {
                value if value < 100.0 => format!("{value:.2}"),
                value => format!("{value:.1}"),
            };
            let ratio = value / near;
            let ratio = if ratio < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.1}") };
            Cell::from(format!("{} ({ratio}x)", number(value)))
        }
    }
}
