//! The folder `scaling`: reference fits, whose checks belong to the crate of that name.

use std::collections::BTreeSet;
use std::path::Path;

use forerun_scaling::golden::{self, Check};

use crate::report::{Line, Status};

/// Checks each `X.ref.json` with its table; files of timings (`_perf`) say nothing about correctness.
pub(crate) fn check(folder: &Path, files: &BTreeSet<String>) -> Vec<Line> {
    let stems = files.iter().filter_map(|file| file.strip_suffix(".ref.json"));
    let stems = stems.filter(|stem| !stem.contains("_perf"));
    stems.map(|stem| line(golden::check(folder, stem))).collect()
}

fn line(check: Check) -> Line {
    if !check.is_known {
        return Line::not_implemented(&check.name, &format!("files like `{}`", check.name));
    }
    let status = if check.passes() { Status::Pass } else { Status::Fail };
    let Check { name, cases, worst, mut problems, .. } = check;
    if cases == 0 && problems.is_empty() {
        problems.push("nothing to compare".to_owned());
    }
    Line { name, status, cases, worst, problems }
}
