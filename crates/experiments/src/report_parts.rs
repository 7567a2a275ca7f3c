//! What the reports of all kinds of experiment have: means over seeds, claims with verdicts, how it was made.

use forerun_runs::plot::Point;
use forerun_runs::report::{Block, Claim, Command, KeyValues};
use forerun_runs::stats::{self, Interval};
use forerun_runs::table::Cell;
use forerun_runs::verdict::Replicate;

use crate::config::{self, Experiment, Scale};
use crate::outcome::Outcome;

/// Confidence of every interval of a report.
pub(crate) const CONFIDENCE: f64 = 0.95;

/// A mean over seeds, with Student's interval where there are seeds enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mean {
    pub(crate) value: f64,
    pub(crate) interval: Option<Interval>,
}

impl Mean {
    /// Of values, one a seed.
    pub(crate) fn of(values: &[f64]) -> Self {
        let interval = stats::student_interval(values, CONFIDENCE).ok();
        Self { value: stats::mean(values), interval }
    }

    /// Mean and interval of logarithms: the geometric mean.
    pub(crate) fn geometric(values: &[f64]) -> Self {
        Self::of(&values.iter().map(|value| value.ln()).collect::<Vec<_>>()).exp()
    }

    /// From nats per token to perplexity.
    pub(crate) fn exp(self) -> Self {
        let exp = |Interval { low, high }| Interval { low: low.exp(), high: high.exp() };
        Self { value: self.value.exp(), interval: self.interval.map(exp) }
    }

    /// With half the width of its interval, which must be symmetric, or with so many digits; empty if it is not a number.
    pub(crate) fn short_cell(self, digits: usize) -> Cell {
        match self.interval {
            _ if !self.value.is_finite() => Cell::Empty,
            Some(Interval { low, high }) => Cell::plus_minus(self.value, (high - low) / 2.0),
            None => Cell::number(self.value, digits),
        }
    }

    /// With its interval, or with so many digits; empty if it is not a number.
    pub(crate) fn cell(self, digits: usize) -> Cell {
        match self.interval {
            _ if !self.value.is_finite() => Cell::Empty,
            Some(Interval { low, high }) => Cell::range(self.value, low, high),
            None => Cell::number(self.value, digits),
        }
    }

    /// Above `x` in a figure, with its interval.
    pub(crate) fn point(self, x: f64) -> Point {
        let (low, high) = (self.interval.map(|i| i.low), self.interval.map(|i| i.high));
        Point { x, y: self.value, low, high }
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

/// Whether a run may say what to set: none does at the smoke scale, nor with fewer seeds than the claims on them ask for.
pub(crate) fn can_recommend(experiment: &Experiment) -> bool {
    let on_seeds =
        experiment.claims.iter().filter(|claim| experiment.body.replicates(claim).is_none());
    let asked_for = on_seeds.map(|claim| claim.rule.min_seeds as u64).max().unwrap_or(2);
    experiment.scale != Scale::Smoke && experiment.seeds >= asked_for
}

/// What claims have too little of: what it is, how much there is, and what they ask for.
fn too_few(experiment: &Experiment) -> Vec<(&Replicate, u64, u64)> {
    let mut found: Vec<(&Replicate, u64, u64)> = Vec::new();
    for claim in &experiment.claims {
        let n = experiment.body.replicates(claim).unwrap_or(experiment.seeds);
        let (replicate, asked_for) = (&claim.rule.replicate, claim.rule.min_seeds as u64);
        match found.iter_mut().find(|known| (known.0, known.1) == (replicate, n)) {
            _ if n >= asked_for => {}
            Some(known) => known.2 = known.2.max(asked_for),
            None => found.push((replicate, n, asked_for)),
        }
    }
    found
}

/// What no run of this size can show.
pub(crate) fn caveats(experiment: &Experiment) -> Vec<String> {
    let mut caveats = Vec::new();
    if experiment.scale == Scale::Smoke {
        caveats.push(
            "This is the smoke scale: it shows that everything runs, and nothing about the claims."
                .to_owned(),
        );
    }
    for (replicate, n, asked_for) in too_few(experiment) {
        let there = replicate.counted(usize::try_from(n).unwrap_or(usize::MAX));
        let of = if *replicate == Replicate::default() { " of every arm" } else { "" };
        caveats.push(format!("{there}{of}; the claims ask for {asked_for}."));
    }
    caveats
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

/// Commands worth trying after a run: on other text, with what each option of `changes` says, with more seeds.
pub(crate) fn next_steps(experiment: &Experiment, changes: &[(&str, &str)]) -> Vec<Block> {
    let mut steps = vec![try_next(experiment, "On your own text", "--data my.txt")];
    steps.extend(changes.iter().map(|(label, options)| try_next(experiment, label, options)));
    let label = "More seeds, for narrower intervals (finished cells are reused)";
    steps.push(try_next(experiment, label, &more_seeds(experiment)));
    steps
}

/// The experiment with other options.
pub(crate) fn try_next(experiment: &Experiment, label: &str, options: &str) -> Block {
    let line = format!("cargo xtask run-experiment {} {options}", experiment.name);
    Block::Command(Command { label: label.to_owned(), lines: vec![line] })
}

/// Twice as many, six at least.
pub(crate) fn more_seeds(experiment: &Experiment) -> String {
    format!("--seeds {}", 2 * experiment.seeds.max(3))
}

/// The command that runs this very configuration.
pub(crate) fn command(experiment: &Experiment) -> String {
    let words = [format!("cargo xtask run-experiment {}", experiment.name)];
    words.iter().chain(&experiment.arguments).cloned().collect::<Vec<_>>().join(" ")
}

/// With a capital letter first.
pub(crate) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_geometric_mean_is_one_of_logarithms() {
        let mean = Mean::geometric(&[1.0, 100.0]);
        assert!((mean.value - 10.0).abs() < 1e-9);
        assert!(mean.interval.unwrap().low > 0.0);
    }

    #[test]
    fn a_list_ends_with_and() {
        assert_eq!(list::<&str>(&[]), "");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
    }

    #[test]
    fn a_capital_letter_stands_first() {
        assert_eq!(capitalised("über 3 Seeds"), "Über 3 Seeds");
        assert_eq!(capitalised(""), "");
    }
}
