//! What is fitted: a target (a loss, or a best learning rate) with the inputs that a law asks for.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// One target a row, with named inputs, weights and groups. Counts are raw, losses in nats per token, shares are
/// fractions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observations {
    target_name: String,
    target: Vec<f64>,
    inputs: Vec<(String, Vec<f64>)>,
    weights: Option<Vec<f64>>,
    clusters: Option<Vec<usize>>,
    shared_error: Option<Vec<f64>>,
    rows: Vec<usize>,
    file: Option<PathBuf>,
    /// What the file calls the inputs.
    columns: Vec<(String, String)>,
}

impl Observations {
    /// Observations of `target`; the name is for messages.
    pub fn new(name: &str, target: Vec<f64>) -> Self {
        let rows = (1..=target.len()).collect();
        Self { target_name: name.to_owned(), target, rows, ..Self::default() }
    }

    /// Adds an input under the name that the law knows: `n`, `d`, `p`, …
    #[must_use]
    pub fn with_input(mut self, name: &str, values: Vec<f64>) -> Self {
        self.inputs.retain(|(other, _)| other != name);
        self.inputs.push((name.to_owned(), values));
        self
    }

    /// Weighs the points: a weight says how exact a point is beside the others, as `1 / variance` does. Only ratios count;
    /// 0 leaves a point out.
    ///
    /// A weight of 2 moves estimates as a second, equal point does. Intervals differ: a second point is counted as one more
    /// that was measured, a weight is not.
    #[must_use]
    pub fn with_weights(mut self, weights: Vec<f64>) -> Self {
        self.weights = Some(weights);
        self
    }

    /// Says which points belong together (one family of runs, one cell): the cluster bootstrap draws whole groups.
    #[must_use]
    pub fn with_clusters(mut self, clusters: Vec<usize>) -> Self {
        self.clusters = Some(clusters);
        self
    }

    /// Says by how much the logarithm of each target moves with one standard error of something that all of them share,
    /// as a slant of all valleys does with their lowest points. It does not show in the scatter of the points, but
    /// belongs to the errors of what is fitted to them.
    #[must_use]
    pub fn with_shared_error(mut self, shifts: Vec<f64>) -> Self {
        self.shared_error = Some(shifts);
        self
    }

    /// Numbers of the rows, for messages and reports.
    #[must_use]
    pub fn with_rows(mut self, rows: Vec<usize>) -> Self {
        self.rows = rows;
        self
    }

    /// The file they came from, for messages.
    #[must_use]
    pub fn with_file(mut self, file: Option<PathBuf>) -> Self {
        self.file = file;
        self
    }

    /// What the file calls an input, for messages.
    #[must_use]
    pub fn with_column_name(mut self, input: &str, column: &str) -> Self {
        self.columns.push((input.to_owned(), column.to_owned()));
        self
    }

    /// Points.
    pub fn len(&self) -> usize {
        self.target.len()
    }

    /// Whether there is no point.
    pub fn is_empty(&self) -> bool {
        self.target.is_empty()
    }

    /// What the law predicts, one value a point.
    pub fn target(&self) -> &[f64] {
        &self.target
    }

    /// An input's values, if there is such an input.
    pub fn input(&self, name: &str) -> Option<&[f64]> {
        self.inputs.iter().find(|(other, _)| other == name).map(|(_, values)| values.as_slice())
    }

    /// Weights, if there are any.
    pub fn weights(&self) -> Option<&[f64]> {
        self.weights.as_deref()
    }

    /// Groups, if there are any.
    pub fn clusters(&self) -> Option<&[usize]> {
        self.clusters.as_deref()
    }

    /// Shifts of the logarithms of the targets with a standard error that they share, if there is one.
    pub fn shared_error(&self) -> Option<&[f64]> {
        self.shared_error.as_deref()
    }

    /// Row numbers.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// The chosen points in the given order; an index may come twice.
    #[must_use]
    pub fn select(&self, points: &[usize]) -> Self {
        let pick = |values: &[f64]| points.iter().map(|&i| values[i]).collect::<Vec<f64>>();
        let pick_index = |values: &[usize]| points.iter().map(|&i| values[i]).collect();
        Self {
            target_name: self.target_name.clone(),
            target: pick(&self.target),
            inputs: self.inputs.iter().map(|(n, values)| (n.clone(), pick(values))).collect(),
            weights: self.weights.as_deref().map(pick),
            clusters: self.clusters.as_deref().map(pick_index),
            shared_error: self.shared_error.as_deref().map(pick),
            rows: pick_index(&self.rows),
            file: self.file.clone(),
            columns: self.columns.clone(),
        }
    }

    /// The same points with other targets, as a residual or parametric bootstrap makes them.
    #[must_use]
    pub fn with_target(&self, target: Vec<f64>) -> Self {
        Self { target, ..self.clone() }
    }

    pub(crate) fn fault(
        &self,
        point: impl Into<Option<usize>>,
        column: &str,
        reason: impl Into<String>,
    ) -> Error {
        let row = point.into().map(|point| self.rows.get(point).copied().unwrap_or(point + 1));
        let known = self.columns.iter().find(|(input, _)| input == column);
        let column = known.map_or(column, |(_, own)| own);
        Error::data(self.file.as_deref(), row, column, reason)
    }

    /// Lengths agree, and every value is finite; targets are positive, weights not negative.
    ///
    /// # Errors
    /// [`Error::Data`] names file, row and column of the first value that is not so.
    pub fn check(&self) -> Result<()> {
        let n = self.len();
        if n == 0 {
            return Err(self.fault(None, &self.target_name, "there are no rows"));
        }
        let inputs = self.inputs.iter().map(|(name, values)| (name.as_str(), values.as_slice()));
        let weights = self.weights.as_deref().map(|weights| ("weights", weights));
        let shared = self.shared_error.as_deref().map(|shifts| ("shared error", shifts));
        let optional = weights.into_iter().chain(shared);
        for (name, values) in inputs.chain(optional).chain([(&*self.target_name, &*self.target)]) {
            if values.len() != n {
                let reason = format!("{} values for {n} points", values.len());
                return Err(self.fault(None, name, reason));
            }
            if let Some(i) = values.iter().position(|value| !value.is_finite()) {
                let reason = format!("must be a finite number, got {}", values[i]);
                return Err(self.fault(i, name, reason));
            }
        }
        let positive = self.target.iter().position(|&value| value <= 0.);
        if let Some(i) = positive {
            let reason = format!("must be positive, got {}", self.target[i]);
            return Err(self.fault(i, &self.target_name, reason));
        }
        if let Some(i) = weights.and_then(|(_, w)| w.iter().position(|&weight| weight < 0.)) {
            return Err(self.fault(i, "weights", "must not be negative"));
        }
        match &self.clusters {
            Some(clusters) if clusters.len() != n => {
                let reason = format!("{} groups for {n} points", clusters.len());
                Err(self.fault(None, "clusters", reason))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
