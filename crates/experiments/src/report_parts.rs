//! What the reports of all kinds of experiment have: means over seeds, claims with verdicts, how it was made.

use forerun_runs::report::{Block, Claim, Command, KeyValues};
use forerun_runs::table::Cell;

use crate::config::{self, Experiment};
use crate::outcome::Outcome;

/// A mean over seeds, with Student's interval where there are seeds enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mean {
    pub(crate) value: f64,
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
}

impl Mean {
    /// Of values, one a seed.
    pub(crate) fn of(values: &[f64]) -> Self {
        let value = values.iter().sum::<f64>() / values.len() as f64;
        let interval = forerun_runs::stats::student_interval(values, 0.95).ok();
        Self {
            value,
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
        }
    }

    /// From nats per token to perplexity.
    pub(crate) fn exp(self) -> Self {
        Self { value: self.value.exp(), low: self.low.map(f64::exp), high: self.high.map(f64::exp) }
    }

    /// With half the width of its interval, which takes less room, or with so many digits.
    pub(crate) fn short_cell(self, digits: usize) -> Cell {
        match (self.low, self.high) {
            (Some(low), Some(high)) => Cell::plus_minus(self.value, (high - low) / 2.0),
            _ => Cell::number(self.value, digits),
        }
    }

    /// With its interval, or with so many digits.
    pub(crate) fn cell(self, digits: usize) -> Cell {
        match (self.low, self.high) {
            (Some(low), Some(high)) => Cell::range(self.value, low, high),
            _ => Cell::number(self.value, digits),
        }
    }
}

/// Every claim with its verdict; `unit` is that of a claim's effect.
pub(crate) fn claims(
    outcome: &Outcome,
    unit: impl Fn(&config::Claim) -> &'static str,
) -> Vec<Claim> {
    let rules = outcome.experiment.claims.iter();
    rules
        .filter_map(|claim| {
            let verdict = outcome.verdicts.iter().find(|verdict| verdict.name == claim.name)?;
            Some(Claim {
                text: claim.statement.clone(),
                unit: unit(claim).to_owned(),
                rule: claim.rule.clone(),
                judgement: verdict.judgement.clone(),
            })
        })
        .collect()
}

/// How it was made: the command, the code, the machine, the inputs.
pub(crate) fn provenance(outcome: &Outcome) -> Vec<Block> {
    let (experiment, manifest) = (&outcome.experiment, &outcome.manifest);
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let commit = manifest.code.commit.as_deref().map_or("none".to_owned(), |commit| {
        let dirty = if manifest.code.dirty == Some(true) { " and uncommitted changes" } else { "" };
        format!("{}{dirty}", commit.get(..12).unwrap_or(commit))
    });
    let mut pairs = vec![
        ("paper".to_owned(), experiment.paper.clone()),
        ("started".to_owned(), manifest.started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
        ("commit".to_owned(), commit),
        ("rustc".to_owned(), manifest.code.rustc.clone()),
        ("libtorch".to_owned(), or_unknown(&manifest.code.libtorch)),
        ("processor".to_owned(), or_unknown(&manifest.machine.processor)),
        ("device".to_owned(), manifest.machine.device.clone()),
        (
            "workers".to_owned(),
            format!("{} of {} thread(s)", manifest.machine.jobs, manifest.machine.threads),
        ),
        ("root seed".to_owned(), experiment.root_seed.to_string()),
        ("configuration".to_owned(), format!("sha256 {}", manifest.config_sha256)),
    ];
    for input in &manifest.inputs {
        pairs.push((input.role.clone(), format!("{} (sha256 {})", input.path, input.sha256)));
    }
    vec![
        Block::Command(Command {
            label: "Run it again".to_owned(),
            lines: vec![command(experiment)],
        }),
        Block::KeyValues(KeyValues { caption: "Manifest".to_owned(), pairs }),
    ]
}

/// The command that runs this very configuration.
pub(crate) fn command(experiment: &Experiment) -> String {
    let words = [format!("cargo xtask run-experiment {}", experiment.name)];
    words.iter().chain(&experiment.arguments).cloned().collect::<Vec<_>>().join(" ")
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list(items: &[&str]) -> String {
    match items {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}
