//! A run's history in a few numbers.

use serde_json::Value;

use super::number;
use crate::results::Row;

/// The training loss of a run is the mean of this share of its last points: single steps are noisy.
const TAIL: f64 = 0.05;

/// Adds what a series of `(step, value)` says: the last value of anything, the mean of the tail of a training loss, the
/// largest of a learning rate, the smallest of an evaluation's loss.
pub(super) fn add(row: &mut Row, tag: &str, series: &[(f64, f64)]) {
    let Some(&(last_step, last)) = series.last() else { return };
    let values = || series.iter().map(|point| point.1);
    let lower = tag.to_lowercase();
    row.insert(tag.to_owned(), number(last));
    if lower.contains("learning_rate") || lower.rsplit(['/', '.', '_']).next() == Some("lr") {
        row.insert("peak_lr".into(), number(values().fold(f64::NEG_INFINITY, f64::max)));
    }
    if lower.contains("loss") {
        let start =
            series.len() - ((TAIL * series.len() as f64).ceil() as usize).clamp(1, series.len());
        let tail = &series[start..];
        let mean = tail.iter().map(|point| point.1).sum::<f64>() / tail.len() as f64;
        row.insert(format!("{tag}.tail_mean"), number(mean));
        row.insert(format!("{tag}.min"), number(values().fold(f64::INFINITY, f64::min)));
    }
    let steps = row.get("steps").and_then(Value::as_f64).unwrap_or(0.);
    row.insert("steps".into(), number(steps.max(last_step)));
}
