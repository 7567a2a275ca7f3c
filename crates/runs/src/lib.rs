//! Seeds, run directories, metrics, verdicts, plots and reports.
