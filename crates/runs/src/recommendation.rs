//! `recommendation.json`: what to set, how sure we are, and what that rests on.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::atomic::{read_json, write_json};
use crate::error::{Error, Result, ensure};

/// One setting that an experiment recommends.
///
/// The file holds a list of them, so that an experiment may recommend several, or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recommendation {
    /// Name of the setting, as a config calls it: `optimiser.lr`.
    pub setting: String,
    /// What to set it to: a number, a word, or a list of them.
    pub value: Value,
    /// Unit of the value, such as `tokens`; none for what has no unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Where the best value lies at the stated confidence; none where it is not a number or where
    /// the experiment cannot say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<RecommendedInterval>,
    /// What was seen that leads to it, in one or two sentences.
    pub basis: String,
    /// What it does not cover: sizes, data, seeds that were not tried.
    #[serde(default)]
    pub caveats: Vec<String>,
}

/// Interval of a recommended value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecommendedInterval {
    /// Lower end, in the unit of the value.
    pub low: f64,
    /// Upper end, in the unit of the value.
    pub high: f64,
    /// Share of such intervals that hold the true value, between 0 and 1.
    pub confidence: f64,
}

impl Recommendation {
    fn validate(&self) -> Result<()> {
        ensure(!self.setting.trim().is_empty(), "setting", "the name of a setting", "nothing")?;
        let field = |name: &str| format!("{}.{name}", self.setting);
        ensure(!self.basis.trim().is_empty(), &field("basis"), "a sentence", "nothing")?;
        ensure(!self.value.is_null(), &field("value"), "a value", "null")?;
        let Some(interval) = self.interval else { return Ok(()) };
        let RecommendedInterval { low, high, confidence } = interval;
        let ends = format!("[{low}, {high}]");
        let ordered = low.is_finite() && high.is_finite() && low <= high;
        ensure(ordered, &field("interval"), "two finite ends in order", &ends)?;
        let share = confidence > 0.0 && confidence < 1.0;
        ensure(share, &field("confidence"), "between 0 and 1", confidence)?;
        let value = self.value.as_f64();
        ensure(value.is_some(), &field("value"), "a number, as it has an interval", &self.value)?;
        let inside = value.is_some_and(|value| (low..=high).contains(&value));
        ensure(inside, &field("value"), &format!("within {ends}"), &self.value)
    }
}

/// Writes recommendations as JSON, atomically.
///
/// # Errors
/// [`Error::Config`] names a field that is empty, not finite or outside its interval;
/// [`Error::Io`] if the file cannot be written.
pub fn write_recommendations(path: &Path, recommendations: &[Recommendation]) -> Result<()> {
    recommendations.iter().try_for_each(Recommendation::validate)?;
    write_json(path, &recommendations)
}

/// Reads them back.
///
/// # Errors
/// [`Error::Io`] or [`Error::File`] if the file is missing or not of this form.
pub fn read_recommendations(path: &Path) -> Result<Vec<Recommendation>> {
    let recommendations: Vec<Recommendation> = read_json(path)?;
    for recommendation in &recommendations {
        recommendation
            .validate()
            .map_err(|e| Error::File { path: path.to_owned(), reason: e.to_string() })?;
    }
    Ok(recommendations)
}

#[cfg(test)]
mod tests;
