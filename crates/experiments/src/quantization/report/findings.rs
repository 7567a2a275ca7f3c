//! What a run says about each format.

use std::cmp::Ordering;

use forerun_runs::results::Row;
use serde_json::Value;

use crate::outcome::Outcome;
use crate::quantization::plan::ROUNDED_TO;
use crate::quantization::{
    Arm, DECODE_SPEED, MEMORY_BYTES, PERPLEXITY, PROMPT_SPEED, QuantizationConfig, Weights,
};
use crate::report_parts::Mean;

/// Everything that the report is made of.
pub(super) struct Findings<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) body: &'a QuantizationConfig,
    /// The formats that were measured, in the order of the configuration.
    pub(super) lines: Vec<Line<'a>>,
}

/// What was measured of a format.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    pub(super) arm: &'a Arm,
    /// Geometric mean over pieces.
    pub(super) perplexity: Mean,
    /// Over that of the first format, piece by piece.
    pub(super) ratio: Mean,
    /// Tokens a second, over turns.
    pub(super) prompt: Mean,
    pub(super) decode: Mean,
    /// Over those of the first format, turn by turn.
    pub(super) prompt_ratio: Mean,
    pub(super) decode_ratio: Mean,
    pub(super) weight_bytes: f64,
    pub(super) memory_bytes: f64,
    /// Of the files, for each weight of the model.
    pub(super) bits: f64,
}

impl<'a> Findings<'a> {
    pub(super) fn new(outcome: &'a Outcome, body: &'a QuantizationConfig) -> Self {
        let mut lines = Vec::new();
        let mut baseline = None;
        for arm in &body.arms {
            if let Some(line) = Line::new(outcome, arm, baseline.unwrap_or(arm)) {
                lines.push(line);
                baseline.get_or_insert(arm);
            }
        }
        Self { outcome, body, lines }
    }

    /// The first format, with which the others are compared.
    pub(super) fn baseline(&self) -> &str {
        self.lines.first().map_or("the first", |line| line.arm.label.as_str())
    }

    pub(super) fn line(&self, name: &str) -> Option<&Line<'a>> {
        self.lines.iter().find(|line| line.arm.name == name)
    }

    /// The first of the lines with the format that writes fastest, if that can be said: whose intervals lie above those of all other
    /// formats. How weights were rounded makes no other format.
    pub(super) fn fastest(&self) -> Option<&Line<'a>> {
        let slower = |line: &Line<'_>, than: &Line<'_>| {
            let intervals = line.decode.interval.zip(than.decode.interval);
            intervals.is_some_and(|(own, other)| own.high < other.low)
        };
        let timed: Vec<&Line<'a>> = self.lines.iter().filter(|line| line.is_timed()).collect();
        timed.iter().copied().find(|line| {
            let (same, others): (Vec<&Line<'a>>, Vec<&Line<'a>>) =
                timed.iter().copied().partition(|other| other.has_format_of(line));
            let all_slower = |fast: &&Line<'a>| others.iter().all(|other| slower(other, fast));
            !others.is_empty() && same.iter().all(all_slower)
        })
    }

    /// Formats without a measurement.
    pub(super) fn missing(&self) -> Vec<&'a str> {
        let arms = self.body.arms.iter();
        arms.filter(|arm| self.line(&arm.name).is_none()).map(|arm| arm.label.as_str()).collect()
    }

    /// The format of the weights in the model's GGUF file, if it is one.
    pub(super) fn rounded_to(&self) -> Option<&'a str> {
        self.outcome.rows.iter().find_map(|row| row.get(ROUNDED_TO)?.as_str())
    }

    pub(super) fn n_params(&self) -> Option<f64> {
        self.outcome.rows.iter().find_map(|row| number(row, "n_params"))
    }
}

impl<'a> Line<'a> {
    /// The smaller first; of equally large ones the better.
    pub(super) fn size_then_quality(&self, other: &Self) -> Ordering {
        let by_size = self.weight_bytes.total_cmp(&other.weight_bytes);
        by_size.then(self.ratio.value.total_cmp(&other.ratio.value))
    }

    /// Whether any of its turns was measured.
    pub(super) fn is_timed(&self) -> bool {
        self.prompt.value.is_finite() && self.decode.value.is_finite()
    }

    /// Whether computing with its weights is the same work.
    fn has_format_of(&self, other: &Self) -> bool {
        match (self.arm.weights, other.arm.weights) {
            (
                Weights::Packed { blocks, tables, .. },
                Weights::Packed { blocks: of_blocks, tables: of_tables, .. },
            ) => (blocks, tables) == (of_blocks, of_tables),
            (own, other) => own == other,
        }
    }

    fn new(outcome: &Outcome, arm: &'a Arm, baseline: &Arm) -> Option<Self> {
        let perplexity = by_replicate(outcome, arm, PERPLEXITY);
        let row = outcome.rows_of(&arm.name, "measure").next()?;
        if perplexity.is_empty() {
            return None;
        }
        let over_baseline = |series: &str| {
            let [own, others] = [arm, baseline].map(|arm| by_replicate(outcome, arm, series));
            Mean::geometric(&ratios(&own, &others))
        };
        let values = |series: &str| -> Vec<f64> {
            by_replicate(outcome, arm, series).into_iter().map(|(_, value)| value).collect()
        };
        let weight_bytes = number(row, "weight_bytes")?;
        Some(Self {
            arm,
            perplexity: Mean::geometric(
                &perplexity.iter().map(|(_, value)| *value).collect::<Vec<_>>(),
            ),
            ratio: over_baseline(PERPLEXITY),
            prompt: Mean::of(&values(PROMPT_SPEED)),
            decode: Mean::of(&values(DECODE_SPEED)),
            prompt_ratio: over_baseline(PROMPT_SPEED),
            decode_ratio: over_baseline(DECODE_SPEED),
            weight_bytes,
            memory_bytes: values(MEMORY_BYTES).first().copied().unwrap_or(f64::NAN),
            bits: 8.0 * weight_bytes / number(row, "n_params")?,
        })
    }
}

/// Values over those of a baseline on the same piece or in the same turn.
fn ratios(values: &[(u64, f64)], baseline: &[(u64, f64)]) -> Vec<f64> {
    let of_baseline = |place: u64| baseline.iter().find(|(other, _)| *other == place);
    values.iter().filter_map(|(place, value)| Some(value / of_baseline(*place)?.1)).collect()
}

/// A series' finite values, with the pieces or turns that they belong to.
fn by_replicate(outcome: &Outcome, arm: &Arm, series: &str) -> Vec<(u64, f64)> {
    let curves = outcome.of(&arm.name, series);
    let values = curves.flat_map(|curve| curve.points.iter().map(|point| (curve.seed, point.1)));
    values.filter(|(_, value)| value.is_finite()).collect()
}

fn number(row: &Row, column: &str) -> Option<f64> {
    row.get(column).and_then(Value::as_f64)
}
