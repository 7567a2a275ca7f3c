//! What a run found: gathered from its cells into files, judged by the rules of its configuration, and read back
//! for the report. Nothing here looks at the cells again once the files are written.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use forerun_runs::atomic::{read_json, write_atomic, write_json};
use forerun_runs::manifest::Manifest;
use forerun_runs::recommendation::write_recommendations;
use forerun_runs::report::rule_in_words;
use forerun_runs::results::{Row, read_results, write_results};
use forerun_runs::seed::Seed;
use forerun_runs::verdict::{Judgement, judge};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cell::{Cell, CellResult, MemberResult, Sample, Series};
use crate::config::{Claim, Experiment, Measure};
use crate::plan::{Plan, wrapped};
use crate::store::Store;
use crate::tensorboard;

/// A run directory, read back.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The resolved configuration.
    pub experiment: Experiment,
    /// Where, when and with what it ran.
    pub manifest: Manifest,
    /// One row a cell.
    pub rows: Vec<Row>,
    /// Every curve.
    pub curves: Vec<Curve>,
    /// Every text.
    pub texts: Vec<Text>,
    /// Every claim with its verdict.
    pub verdicts: Vec<ClaimVerdict>,
}

/// One series of one arm and seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The arm's name.
    pub arm: String,
    /// The seed's number.
    pub seed: u64,
    /// The series' name, `nll/causal`.
    pub series: String,
    /// Abscissae and ordinates; NaN where nothing finite was measured.
    pub points: Vec<(f64, f64)>,
}

/// What one arm and seed wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// The arm's name.
    pub arm: String,
    /// The seed's number.
    pub seed: u64,
    /// Prompt, continuation, settings.
    #[serde(flatten)]
    pub sample: Sample,
}

/// One line of `verdict.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClaimVerdict {
    /// The claim's name.
    pub name: String,
    /// The claim in a sentence.
    pub statement: String,
    /// The rule in words.
    pub rule: String,
    /// Measured values of what the claim is about, one a seed or whatever takes its place; `null` where there is none.
    pub a: Vec<Option<f64>>,
    /// Measured values of what it is compared with.
    pub b: Vec<Option<f64>>,
    /// What the rule says of them.
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// Writes `results.parquet`, `series.parquet`, `samples.json`, `verdict.json`, `recommendation.json` and the
/// TensorBoard events of a swept plan into `dir`.
pub(crate) fn gather(
    experiment: &Experiment,
    plan: &Plan,
    store: &Store,
    dir: &Path,
) -> Result<()> {
    let (mut rows, mut points, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for planned in &plan.cells {
        let Some(result) = store.result(&planned.key)? else { continue };
        for found in parts(&planned.cell, result) {
            let mut row = found.row;
            row.extend(found.tags.clone());
            row.insert("cell".to_owned(), json!(planned.key));
            row.insert("label".to_owned(), json!(planned.cell.label));
            rows.push(row);
            for series in &found.series {
                for (x, y) in series.x.iter().zip(&series.y) {
                    let mut point: Row = found.tags.clone();
                    point.extend(
                        [("series", json!(series.name)), ("x", json!(x)), ("y", json!(y))].map(own),
                    );
                    points.push(point);
                }
            }
            let (arm, seed) = arm_and_seed(&found.tags);
            texts.extend(found.samples.into_iter().map(|sample| Text {
                arm: arm.clone(),
                seed,
                sample,
            }));
        }
    }
    write_results(&dir.join("results.parquet"), &rows)?;
    write_results(&dir.join("series.parquet"), &points)?;
    write_json(&dir.join("samples.json"), &texts)?;
    let curves = curves(&points);
    write_json(&dir.join("verdict.json"), &judge_all(experiment, &rows, &curves)?)?;
    tensorboard::write(&dir.join("tensorboard"), &curves)?;
    let outcome = Outcome::read(dir)?;
    let recommendations = experiment.body.recommendation(&outcome);
    write_recommendations(&dir.join("recommendation.json"), &recommendations)?;
    Ok(())
}

/// What one model of a cell gave: a cell that is not a stack is one model.
struct Found {
    tags: Row,
    row: Row,
    series: Vec<Series>,
    samples: Vec<Sample>,
}

/// What is said of a whole stack, its speed for example, stands in the row of each of its members.
fn parts(cell: &Cell, result: CellResult) -> Vec<Found> {
    let CellResult { row, series, samples, mut members } = result;
    if cell.members.is_empty() {
        return vec![Found { tags: cell.tags.clone(), row, series, samples }];
    }
    // A stack that ran out of memory says so as a whole, which is true of each member.
    members.resize(cell.members.len(), MemberResult::default());
    let member = |(index, member): (usize, MemberResult)| {
        let mut tags = cell.tags.clone();
        tags.extend(cell.members.get(index).cloned().unwrap_or_default());
        let mut whole = row.clone();
        whole.extend(member.row);
        Found { tags, row: whole, series: member.series, samples: Vec::new() }
    };
    members.into_iter().enumerate().map(member).collect()
}

fn own((name, value): (&str, Value)) -> (String, Value) {
    (name.to_owned(), value)
}

fn arm_and_seed(row: &BTreeMap<String, Value>) -> (String, u64) {
    let arm = row.get("arm").and_then(Value::as_str).unwrap_or_default().to_owned();
    (arm, row.get("seed").and_then(Value::as_u64).unwrap_or_default())
}

/// Points in long form, gathered by arm, seed and series, in the order in which they came.
fn curves(points: &[Row]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for point in points {
        let (arm, seed) = arm_and_seed(point);
        let series = point.get("series").and_then(Value::as_str).unwrap_or_default();
        let number = |name| point.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let pair = (number("x"), number("y"));
        match curves.last_mut() {
            Some(last)
                if (last.arm.as_str(), last.seed, last.series.as_str()) == (&arm, seed, series) =>
            {
                last.points.push(pair);
            }
            _ => curves.push(Curve { arm, seed, series: series.to_owned(), points: vec![pair] }),
        }
    }
    curves
}

pub(crate) fn judge_all(
    experiment: &Experiment,
    rows: &[Row],
    curves: &[Curve],
) -> Result<Vec<ClaimVerdict>> {
    let derived = experiment.body.derived(experiment, rows, curves);
    let curves = [curves, &derived].concat();
    experiment.claims.iter().map(|claim| judge_one(experiment, claim, rows, &curves)).collect()
}

fn judge_one(
    experiment: &Experiment,
    claim: &Claim,
    rows: &[Row],
    curves: &[Curve],
) -> Result<ClaimVerdict> {
    let measured = |measure: &Measure| -> Vec<f64> {
        let n = experiment.body.n_values(experiment, claim);
        (0..n).map(|seed| value(experiment, curves, measure, seed)).collect()
    };
    let a = measured(&claim.a);
    let b = claim.b.as_ref().map_or_else(|| vec![0.0; a.len()], measured);
    let mut rng = Seed::new(experiment.root_seed).stream(&format!("verdict/{}", claim.name));
    let judgement = judge(&claim.rule, &a, &b, &mut rng)?;
    let judgement = experiment.body.reconsider(claim, rows, curves, judgement)?;
    let finite = |values: Vec<f64>| {
        values.into_iter().map(|value| value.is_finite().then_some(value)).collect()
    };
    Ok(ClaimVerdict {
        name: claim.name.clone(),
        statement: claim.statement.clone(),
        rule: rule_in_words(&claim.rule),
        a: finite(a),
        b: finite(b),
        judgement,
    })
}

/// The number that a measure means for one seed; NaN if it was not measured.
fn value(experiment: &Experiment, curves: &[Curve], measure: &Measure, seed: u64) -> f64 {
    let unit = experiment.body.unit_of_at();
    let at = |series: &str, x: f64| {
        curves
            .iter()
            .filter(|curve| {
                curve.arm == measure.arm && curve.seed == seed && curve.series == series
            })
            .flat_map(|curve| &curve.points)
            .find(|point| point.0 == x)
            .map_or(f64::NAN, |point| point.1)
    };
    let value = at(&measure.series, measure.at * unit);
    if measure.beyond_training_length { value - at("nll/causal", unit) } else { value }
}

impl Outcome {
    /// Reads a run directory.
    ///
    /// # Errors
    /// Names the file that is missing or damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let config = dir.join("config.toml");
        let text = std::fs::read_to_string(&config).with_context(|| {
            format!("`{}` is not a run directory: it has no readable config.toml", dir.display())
        })?;
        let verdicts = dir.join("verdict.json");
        if !verdicts.is_file() {
            anyhow::bail!(
                "`{}` has no results yet; run the experiment with --resume",
                dir.display()
            );
        }
        Ok(Self {
            experiment: Experiment::parse(&text)
                .with_context(|| format!("`{}`", config.display()))?,
            manifest: Manifest::read(&dir.join("manifest.json"))?,
            rows: read_results(&dir.join("results.parquet"))?,
            curves: curves(&read_results(&dir.join("series.parquet"))?),
            texts: read_json(&dir.join("samples.json"))?,
            verdicts: read_json(&verdicts)?,
        })
    }

    /// The curves of one arm and series, a seed each.
    pub fn of<'a>(&'a self, arm: &'a str, series: &'a str) -> impl Iterator<Item = &'a Curve> {
        self.curves.iter().filter(move |curve| curve.arm == arm && curve.series == series)
    }

    /// For every abscissa of an arm's series, the values of all seeds, ascending in x.
    pub fn by_x(&self, arm: &str, series: &str) -> Vec<(f64, Vec<f64>)> {
        let mut columns: Vec<(f64, Vec<f64>)> = Vec::new();
        for &(x, y) in self.of(arm, series).flat_map(|curve| &curve.points) {
            match columns.iter_mut().find(|column| column.0 == x) {
                Some(column) => column.1.push(y),
                None => columns.push((x, vec![y])),
            }
        }
        columns.sort_by(|a, b| a.0.total_cmp(&b.0));
        columns
    }

    /// A number of the training rows of an arm, one a seed.
    pub fn training(&self, arm: &str, column: &str) -> Vec<f64> {
        self.rows_of(arm, "train").filter_map(|row| row.get(column)?.as_f64()).collect()
    }

    /// The rows of an arm and a step: `train`, `tune`, `evaluate`.
    pub fn rows_of<'a>(&'a self, arm: &'a str, step: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| {
            let is = |name: &str, value: &str| row.get(name).and_then(Value::as_str) == Some(value);
            is("arm", arm) && is("step", step)
        })
    }
}

/// Renders `report.html` and `report.md` from the files of a run directory.
///
/// # Errors
/// Names the file that is missing or damaged.
pub fn render(dir: &Path) -> Result<()> {
    let outcome = Outcome::read(dir)?;
    let report = outcome.experiment.body.report(&outcome)?;
    let (markdown, figures) = report.to_markdown_with_figures("figures");
    std::fs::create_dir_all(dir.join("figures"))?;
    for figure in figures {
        write_atomic(&dir.join("figures").join(&figure.name), figure.content.as_bytes())?;
    }
    write_atomic(&dir.join("report.html"), report.to_html().as_bytes())?;
    write_atomic(&dir.join("report.md"), markdown.as_bytes())?;
    Ok(())
}

/// What the terminal shows at the end of a run.
pub(crate) fn summary(dir: &Path) -> Result<String> {
    let outcome = Outcome::read(dir)?;
    let mut text = String::from("\n");
    for verdict in &outcome.verdicts {
        let claim = format!("{}: {}", verdict.judgement.verdict, verdict.statement);
        text.push_str(&wrapped("", "  ", &claim));
        text.push_str(&wrapped("  ", "  ", &verdict.judgement.reason));
    }
    for name in ["report.html", "report.md"] {
        text.push_str(&format!("\n{}", dir.join(name).display()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
