//! The plan of an experiment: its cells, what they will cost here, and what the design can detect.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use forerun_runs::report::rule_in_words;
use forerun_runs::verdict::{Direction, Effect, Rule, detectable_effect};
use serde_json::{Value, json};

use crate::cell::{Cell, Cost, Machine, Task};
use crate::config::Experiment;
use crate::data::Prepared;
use crate::external::External;
use crate::store::Store;

/// Assumed speed of one worker thread until a cell has been measured on this machine, in FLOP/s: about what a
/// decoder of this width reaches on one core of 2023.
const ASSUMED_FLOPS_PER_SEC: f64 = 3.5e10;
const ASSUMED_AT_WIDTH: f64 = 64.0;

/// libtorch with nothing in it, in bytes of resident memory.
pub(crate) const LIBTORCH_BYTES: f64 = 260e6;

/// The cells of one experiment, in the order in which they should run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Every cell with its key.
    pub cells: Vec<PlannedCell>,
}

/// A cell and where its result will lie.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedCell {
    /// Its key in the store.
    pub key: String,
    /// The work.
    pub cell: Cell,
}

impl PlannedCell {
    /// Computes the key of `cell`.
    pub fn new(cell: Cell) -> Self {
        Self { key: cell.key(), cell }
    }
}

/// A cell of `experiment` that reads nothing and needs none.
pub(crate) fn cell(
    experiment: &Experiment,
    task: Task,
    label: String,
    tags: &[(&str, Value)],
    cost: Cost,
) -> Cell {
    let Experiment { name, device, threads, .. } = experiment;
    let tags = tags.iter().cloned().chain([("experiment", json!(name))]);
    Cell {
        task,
        machine: Machine { device: device.clone(), threads: *threads },
        inputs: BTreeMap::new(),
        needs: Vec::new(),
        label,
        tags: tags.map(|(name, value)| (name.to_owned(), value)).collect(),
        members: Vec::new(),
        cost,
    }
}

/// The speed that a plan reckons with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// FLOP/s of one worker on models that are not narrow.
    pub flops_per_sec: f64,
    /// Finished cells that it was measured on; 0 if it is an assumption.
    pub n_cells: usize,
}

impl Rate {
    /// FLOP/s of one worker on `cell`.
    fn of(self, cell: &Cell) -> f64 {
        self.flops_per_sec * narrowness(cell)
    }
}

/// The share of its speed that a worker reaches on narrow models: an assumption, also where the speed was measured.
fn narrowness(cell: &Cell) -> f64 {
    let width = match &cell.task {
        Task::TrainLm(task) => task.model.d_model as f64,
        Task::TrainStack(task) => task.model.d_model as f64,
        Task::TrainMixture(task) => task.model.d_model as f64,
        _ => ASSUMED_AT_WIDTH,
    };
    (width / ASSUMED_AT_WIDTH).min(1.0).sqrt()
}

impl Plan {
    /// Lays out the cells of `experiment` on `data`.
    ///
    /// # Errors
    /// If the configuration does not fit the data (text too short, a length beyond the model's).
    pub fn new(experiment: &Experiment, data: &Prepared) -> Result<Self> {
        Ok(Self { cells: experiment.body.cells(experiment, data)? })
    }

    /// `18 of the cells train 60 models, up to 4 at once`; none without stacks.
    fn stacks(&self) -> Option<String> {
        let trains = |planned: &&PlannedCell| !matches!(planned.cell.task, Task::MeasureWeights(_));
        let sizes: Vec<usize> = self
            .cells
            .iter()
            .filter(trains)
            .map(|planned| planned.cell.members.len())
            .filter(|n| *n > 0)
            .collect();
        let most = sizes.iter().max()?;
        let models = counted(sizes.iter().sum::<usize>() as u64, "model");
        Some(format!("{} of the cells train {models}, up to {most} at once", sizes.len()))
    }

    /// Seconds that `jobs` workers need for the cells that `store` lacks, some of which run alone.
    fn seconds_left(&self, store: &Store, rate: Rate, jobs: usize) -> f64 {
        let left = self.cells.iter().filter(|planned| !store.is_done(&planned.key));
        let secs = left.map(|PlannedCell { cell, .. }| {
            let beside = if cell.task.runs_alone() { 1 } else { jobs };
            cell.cost.flops / rate.of(cell) / beside as f64
        });
        secs.fold(0.0, |a, b| a + b) // `sum` of nothing is -0
    }

    /// What `plan NAME` prints: what will be done, what it costs, what it can show.
    pub fn describe(
        &self,
        experiment: &Experiment,
        store: &Store,
        jobs: usize,
        rate: Rate,
    ) -> Result<String> {
        let mut text = wrapped("", "  ", &format!("{}: {}", experiment.name, experiment.summary));
        text.push('\n');
        let mut line = |name: &str, value: String| {
            text.push_str(&wrapped(&format!("  {name:<12} "), &" ".repeat(15), &value));
        };
        let done = self.cells.iter().filter(|planned| store.is_done(&planned.key)).count();
        let total =
            |of: fn(&Cell) -> f64| self.cells.iter().map(|planned| of(&planned.cell)).sum::<f64>();
        let largest = |of: fn(&Cell) -> f64| {
            self.cells.iter().map(|planned| of(&planned.cell)).fold(0.0, f64::max)
        };
        let jobs = jobs.min(self.cells.len()).max(1);
        line("paper", experiment.paper.clone());
        line("cells", format!("{} ({done} there already), {jobs} at a time", self.cells.len()));
        if let Some(stacks) = self.stacks() {
            line("stacks", stacks);
        }
        line(
            "parameters",
            format!("{} in the largest model", quantity(largest(|cell| cell.cost.n_params as f64))),
        );
        line("tokens", quantity(total(|cell| cell.cost.n_tokens as f64)));
        line("compute", format!("{}FLOP", quantity(total(|cell| cell.cost.flops))));
        line("time", self.time(experiment, store, jobs, rate));
        line(
            "memory",
            format!("{}B", quantity(jobs as f64 * largest(|cell| cell.cost.memory_bytes as f64))),
        );
        line("disk", format!("{}B", quantity(total(|cell| cell.cost.disk_bytes as f64))));
        text.push_str(&claims(experiment)?);
        Ok(text)
    }

    fn time(&self, experiment: &Experiment, store: &Store, jobs: usize, rate: Rate) -> String {
        let commands = self.commands_left(store);
        if let [_, ..] = commands.as_slice() {
            return self.time_of_commands(experiment, &commands, jobs);
        }
        let minutes = self.seconds_left(store, rate, jobs) / 60.0;
        let basis = match rate.n_cells {
            0 => "an assumption until a cell has run here".to_owned(),
            n => format!("measured on {n} cells here"),
        };
        let speed = quantity(rate.flops_per_sec);
        format!(
            "about {minutes:.1} min of {} allowed on two cores ({speed}FLOP/s a worker, {basis})",
            experiment.minutes
        )
    }

    /// External commands that have not run yet.
    fn commands_left(&self, store: &Store) -> Vec<&External> {
        let left = self.cells.iter().filter(|planned| !store.is_done(&planned.key));
        left.filter_map(|planned| match &planned.cell.task {
            Task::External(command) => Some(command),
            _ => None,
        })
        .collect()
    }

    /// How long external commands take is not ours to know.
    fn time_of_commands(&self, experiment: &Experiment, left: &[&External], jobs: usize) -> String {
        let runs = counted(left.len() as u64, "external run");
        let secs: Option<Vec<f64>> = left.iter().map(|command| command.expected_secs).collect();
        let Some(secs) = secs else {
            return format!(
                "unknown: {runs} left, and external.tokens_per_sec does not say how fast; {} min allowed",
                experiment.minutes
            );
        };
        let minutes = secs.iter().sum::<f64>() / jobs as f64 / 60.0;
        format!(
            "about {minutes:.1} min of {} allowed, {runs} left at the speed that external.tokens_per_sec states",
            experiment.minutes
        )
    }
}

fn claims(experiment: &Experiment) -> Result<String> {
    let mut text = String::from("\nclaims\n");
    for claim in &experiment.claims {
        text.push_str(&wrapped("  ", "    ", &format!("{}: {}", claim.name, claim.statement)));
        text.push_str(&wrapped("    rule: ", "    ", &rule_in_words(&claim.rule)));
        let n = experiment.body.replicates(claim).unwrap_or(experiment.seeds);
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        let replicate = &claim.rule.replicate;
        let effect = match detectable_effect(&claim.rule, n, claim.seed_sd)? {
            Some(effect) => {
                let found = found_from(&claim.rule, effect);
                format!("{found} (at a noise of {} between {})", claim.seed_sd, replicate.many)
            }
            None => format!(
                "unpowered with {}; the verdict will be `inconclusive`",
                replicate.counted(n)
            ),
        };
        let label = match claim.rule.direction {
            Direction::Same => "    largest that it finds to be the same: ",
            Direction::Higher | Direction::Lower => "    smallest effect it can detect: ",
        };
        text.push_str(&wrapped(label, "    ", &effect));
    }
    Ok(text)
}

/// A detectable effect as the rule compares: a rule that allows some loss finds effects that go against the claim's direction.
fn found_from(rule: &Rule, effect: f64) -> String {
    let (noun, none) = match rule.effect {
        Effect::Difference => ("difference", 0.0),
        Effect::Ratio => ("ratio", 1.0),
    };
    let (signed, which) = match rule.direction {
        Direction::Higher => (effect, "or more"),
        Direction::Lower => (-effect, "or less"),
        Direction::Same => (effect, "or less"),
    };
    format!("a {noun} of {:.*} {which}", decimals(effect), none + signed)
}

/// Three, or as many as two digits of a small number take.
fn decimals(effect: f64) -> usize {
    (1.0 - effect.abs().log10().floor()).clamp(3.0, 9.0) as usize
}

/// The median speed of those training cells in `store` that ran on a machine like the plan's, on models of about the
/// size of its largest: small models are far slower a FLOP.
pub fn measured_rate(store: &Path, plan: &Plan) -> Rate {
    let largest =
        plan.cells.iter().map(|planned| planned.cell.cost.n_params).max().unwrap_or(0) as f64;
    let machine = plan.cells.first().map(|planned| planned.cell.machine.clone());
    let alike = |cell: &Cell| {
        let size = cell.cost.n_params as f64 / largest;
        Some(&cell.machine) == machine.as_ref() && (0.5..=2.0).contains(&size)
    };
    let cells = Store::new(store);
    let speed = |key: String| {
        let cell = cells.cell(&key).filter(|cell| alike(cell))?;
        let measured = cells.result(&key).ok()??.row.get("flops_per_sec")?.as_f64()?;
        Some(measured / narrowness(&cell))
    };
    let mut rates: Vec<f64> = std::fs::read_dir(store)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(speed)
        .filter(|rate| rate.is_finite() && *rate > 0.0)
        .collect();
    rates.sort_by(f64::total_cmp);
    match rates.get(rates.len() / 2) {
        Some(&flops_per_sec) => Rate { flops_per_sec, n_cells: rates.len() },
        None => {
            let threads = machine.map_or(1, |machine| machine.threads);
            Rate { flops_per_sec: ASSUMED_FLOPS_PER_SEC * f64::from(threads), n_cells: 0 }
        }
    }
}

/// `1 seed`, `3 seeds`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Lines of at most 80 columns, broken between words: `first` stands before the first, `indent` before the others.
pub(crate) fn wrapped(first: &str, indent: &str, text: &str) -> String {
    const COLUMNS: usize = 80;
    let mut lines = String::new();
    let mut line = first.to_owned();
    let mut bare = true;
    for word in text.split_whitespace() {
        if !bare && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push_str(&line);
            lines.push('\n');
            (line, bare) = (indent.to_owned(), true);
        }
        if !bare {
            line.push(' ');
        }
        line.push_str(word);
        bare = false;
    }
    lines + &line + "\n"
}

/// `1.23 M`, with the unit's letter to follow.
pub(crate) fn quantity(value: f64) -> String {
    const PREFIXES: [(f64, &str); 6] =
        [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match PREFIXES.iter().find(|(scale, _)| value.abs() >= *scale) {
        Some((scale, prefix)) => format!("{:.1} {prefix}", value / scale),
        None => format!("{value:.0} "),
    }
}

#[cfg(test)]
mod tests;
