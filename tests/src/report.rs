//! What is said about one golden file.

use forerun_tensors::testing::{Comparison, Golden, Tolerance, compare};
use tch::Tensor;

/// The verdict on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything in it agrees.
    Pass,
    /// Something differs, is missing or cannot be read.
    Fail,
    /// It is of a kind, or has an option, that does not exist here yet.
    NotImplemented,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Line {
    /// The file's stem.
    pub name: String,
    /// The verdict.
    pub status: Status,
    /// Outputs compared.
    pub cases: usize,
    /// The largest error, and the tolerance that held where it was largest relative to that.
    pub worst: Option<(f64, f64)>,
    /// What differs, or why nothing was checked.
    pub problems: Vec<String>,
}

impl Line {
    /// `NAME  pass|fail|not-implemented  CASES  WORST_ERROR/TOLERANCE`, the name padded to `width`.
    #[must_use]
    pub fn render(&self, width: usize) -> String {
        let status = match self.status {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::NotImplemented => "not-implemented",
        };
        let worst = match self.worst {
            Some((error, tolerance)) => format!("{error:.1e}/{tolerance:.1e}"),
            None => "-".to_owned(),
        };
        format!("{:width$}  {status:15}  {:4}  {worst}", self.name, self.cases)
    }

    /// A file that is not checked, and why.
    pub(crate) fn not_implemented(name: &str, reason: &str) -> Self {
        let problems = vec![format!("not implemented: {reason}")];
        Self {
            name: name.to_owned(),
            status: Status::NotImplemented,
            cases: 0,
            worst: None,
            problems,
        }
    }
}

/// The process's exit code for these lines.
#[must_use]
pub fn exit_code(lines: &[Line]) -> u8 {
    if lines.is_empty() {
        return 2;
    }
    u8::from(lines.iter().any(|line| line.status == Status::Fail))
}

/// Collects comparisons.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    cases: usize,
    /// Ratio to the tolerance, error, tolerance.
    worst: Option<(f64, f64, f64)>,
    problems: Vec<String>,
}

impl Tally {
    /// Compares with an output of the file, under the file's tolerance.
    pub(crate) fn check(
        &mut self,
        golden: &Golden,
        name: &str,
        actual: &Tensor,
    ) -> anyhow::Result<()> {
        let (expected, tolerance) = (golden.output(name)?, golden.tolerance(name)?);
        self.compare(name, actual, &expected, tolerance);
        Ok(())
    }

    /// Compares with something else.
    pub(crate) fn compare(
        &mut self,
        name: &str,
        actual: &Tensor,
        expected: &Tensor,
        tolerance: Tolerance,
    ) {
        match compare(actual, expected, tolerance) {
            Ok(comparison) => self.count(name, &comparison, tolerance),
            Err(error) => {
                self.cases += 1;
                self.problems.push(format!("{name}: {error}"));
            }
        }
    }

    /// Compares one number.
    pub(crate) fn number(&mut self, name: &str, actual: f64, expected: f64, tolerance: Tolerance) {
        self.compare(name, &Tensor::from(actual), &Tensor::from(expected), tolerance);
    }

    /// Requires something that is true or not.
    pub(crate) fn require(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        self.cases += 1;
        if !holds {
            self.problems.push(problem());
        }
    }

    /// Comparisons so far.
    pub(crate) fn cases(&self) -> usize {
        self.cases
    }

    pub(crate) fn line(self, name: &str) -> Line {
        let status =
            if self.problems.is_empty() && self.cases > 0 { Status::Pass } else { Status::Fail };
        let mut problems = self.problems;
        if self.cases == 0 {
            problems.push("nothing to compare".to_owned());
        }
        let worst = self.worst.map(|(_, error, tolerance)| (error, tolerance));
        Line { name: name.to_owned(), status, cases: self.cases, worst, problems }
    }

    fn count(&mut self, name: &str, comparison: &Comparison, tolerance: Tolerance) {
        self.cases += 1;
        if !comparison.agrees() {
            self.problems.push(format!("{name}: {comparison}"));
        }
        let ratio = comparison.max_error_over_tolerance;
        let (error, allowed) = match comparison.worst {
            Some(worst) => {
                let allowed = tolerance.atol + tolerance.rtol * worst.expected.abs();
                ((worst.actual - worst.expected).abs(), allowed)
            }
            None => (0.0, tolerance.atol),
        };
        if self.worst.is_none_or(|(so_far, ..)| ratio > so_far) {
            self.worst = Some((ratio, error, allowed));
        }
    }
}
