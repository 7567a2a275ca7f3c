//! What each program did in its turns.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{DRAWS, N_POINTS, Options};
use crate::peers::process::Process;
use crate::peers::ratio::Spread;

/// Two objectives are the same if they differ by less than this, relative.
pub(super) const SAME: f64 = 1e-6;
/// A program that reaches the optimum of this share of the resamples counts as a rival for the bootstrap.
pub(super) const MOST: f64 = 0.95;
/// Seconds that a turn of fits takes at least.
const SECONDS: f64 = 0.5;

/// One program.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) name: &'static str,
    pub(super) versions: String,
    process: Process,
}

/// What a program says after a turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    /// Fits, or draws; a part of one where only a part of its starts was made.
    pub(super) jobs: f64,
    pub(super) seconds: f64,
    pub(super) objectives: Vec<f64>,
    /// Of the draws that were checked from cold starts, those whose warm start had found the optimum, and all.
    pub(super) checks: Option<(u64, u64)>,
}

impl Turn {
    pub(super) fn parse(answer: &Value) -> Option<Self> {
        // NaN is null in JSON, and no optimum.
        let number = |value: &Value| value.as_f64().unwrap_or(f64::INFINITY);
        Some(Self {
            jobs: answer["jobs"].as_f64()?,
            seconds: answer["seconds"].as_f64()?,
            objectives: answer["objectives"].as_array()?.iter().map(number).collect(),
            checks: answer["checked"]
                .as_u64()
                .zip(answer["improved"].as_u64())
                .map(|(checked, improved)| (checked.saturating_sub(improved), checked)),
        })
    }
}

/// Times of one kind of job, one entry a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Times {
    /// Processor seconds a job, user and system.
    pub(super) processor: Vec<f64>,
    /// Seconds a job.
    pub(super) wall: Vec<f64>,
}

/// One program at one objective.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// One fit.
    pub(super) fit: Times,
    /// A bootstrap of [`DRAWS`].
    pub(super) bootstrap: Times,
    /// The lowest objective that it found.
    pub(super) objective: f64,
    /// Of every resample; empty for ours, which draws its own.
    pub(super) refits: Vec<f64>,
    /// As [`Turn::checks`], of the last bootstrap.
    pub(super) checks: Option<(u64, u64)>,
}

impl Runner {
    pub(super) fn start(name: &'static str, mut command: Command, setup: &str) -> Result<Self> {
        command.arg(setup).env_remove("RUST_BACKTRACE");
        for library in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(library, "1");
        }
        let mut process = Process::start(name, &mut command)?;
        let answer = process.answer()?;
        let points = answer["points"].as_u64();
        ensure!(points == Some(u64::from(N_POINTS)), "{name} fits {points:?} points");
        let versions = answer["versions"].as_str().context("no versions")?.to_owned();
        Ok(Self { name, versions, process })
    }

    /// Peak resident memory since it started, bytes.
    pub(super) fn peak(&self) -> Option<u64> {
        self.process.peak()
    }

    /// Every program has one thread.
    fn processor(&self) -> Option<f64> {
        self.process.first_thread_seconds().or_else(|| self.process.processor_seconds())
    }

    /// A turn, and the processor time that it took.
    fn turn(&mut self, line: &str) -> Result<(Turn, f64)> {
        let before = self.processor();
        let answer = self.process.ask(line)?;
        let after = self.processor();
        let turn = Turn::parse(&answer)
            .with_context(|| format!("{} was told `{line}` and said {answer}", self.name))?;
        let processor = before.zip(after).map(|(before, after)| after - before);
        Ok((
            turn,
            processor.context("the system does not say how much processor time a process took")?,
        ))
    }
}

impl Times {
    /// A turn of which `unit` jobs are one.
    fn add(&mut self, turn: &Turn, processor: f64, unit: f64) {
        if turn.jobs > 0. {
            self.processor.push(processor / turn.jobs * unit);
            self.wall.push(turn.seconds / turn.jobs * unit);
        }
    }
}

/// Every program at one objective.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Contest {
    pub(super) objective: &'static str,
    /// Ours first.
    pub(super) entries: Vec<Entry>,
    /// The lowest objective of each resample that any program found.
    pub(super) resamples: Vec<f64>,
}

impl Contest {
    /// All rounds. Round 0 is not counted; every second round runs in the opposite order.
    pub(super) fn run(
        runners: &mut [Runner],
        objective: &'static str,
        options: &Options,
    ) -> Result<Self> {
        let rival_draws = options.rival_draws;
        let new = |runner: &Runner| Entry {
            name: runner.name,
            objective: f64::INFINITY,
            ..Entry::default()
        };
        let mut entries: Vec<Entry> = runners.iter().map(new).collect();
        for round in 0..=options.rounds {
            let mut order: Vec<usize> = (0..runners.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let (runner, entry) = (&mut runners[index], &mut entries[index]);
                let (fit, fit_time) = runner.turn(&format!("fit {objective} {SECONDS}"))?;
                let job = match index {
                    0 => format!("bootstrap {objective} {DRAWS}"),
                    _ => format!("refit {objective} {rival_draws}"),
                };
                let (draws, draws_time) = runner.turn(&job)?;
                entry.objective = fit.objectives.iter().copied().fold(entry.objective, f64::min);
                if round > 0 {
                    entry.fit.add(&fit, fit_time, 1.);
                    entry.bootstrap.add(&draws, draws_time, f64::from(DRAWS));
                }
                entry.refits = draws.objectives;
                entry.checks = draws.checks;
            }
        }
        let (cold, _) = runners[0].turn(&format!("refit {objective} {rival_draws}"))?;
        let resamples = lowest(&cold.objectives, &entries);
        Ok(Self { objective, entries, resamples })
    }

    /// The lowest objective of all programs.
    pub(super) fn optimum(&self) -> f64 {
        self.entries.iter().map(|entry| entry.objective).fold(f64::INFINITY, f64::min)
    }

    /// Whether a program's fit is that optimum.
    pub(super) fn is_optimal(&self, entry: &Entry) -> bool {
        entry.objective <= self.optimum() * (1. + SAME)
    }

    /// How many resamples a rival carried to their optimum.
    pub(super) fn n_reached(&self, entry: &Entry) -> usize {
        let pairs = entry.refits.iter().zip(&self.resamples);
        pairs.filter(|(found, best)| **found <= **best * (1. + SAME)).count()
    }

    /// The rival with the least processor time for a fit, of those at the optimum.
    pub(super) fn fastest_fit(&self) -> Option<&Entry> {
        fastest(self.rivals().filter(|entry| self.is_optimal(entry)), |entry| &entry.fit)
    }

    /// The rival with the least processor time for a bootstrap, of those that carry draws to their optimum.
    pub(super) fn fastest_bootstrap(&self) -> Option<&Entry> {
        let enough = |entry: &&Entry| {
            !entry.refits.is_empty()
                && self.n_reached(entry) as f64 >= MOST * entry.refits.len() as f64
        };
        fastest(self.rivals().filter(enough), |entry| &entry.bootstrap)
    }

    fn rivals(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().skip(1)
    }

    /// How many times as much processor time a rival takes as we do.
    pub(super) fn ratio(&self, rival: &Entry, of: fn(&Entry) -> &Times) -> Option<Spread> {
        Spread::of_ratios(&of(rival).processor, &of(self.entries.first()?).processor)
    }

    /// What makes the comparison worthless.
    pub(super) fn complaint(&self) -> Option<String> {
        let ours = self.entries.first()?;
        (!self.is_optimal(ours)).then(|| {
            let (found, best) = (ours.objective, self.optimum());
            format!("{}: ours stops at {found:.9e}, and {best:.9e} was found", self.objective)
        })
    }
}

fn fastest<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    of: fn(&Entry) -> &Times,
) -> Option<&'a Entry> {
    let median = |entry: &Entry| Spread::of(of(entry).processor.iter().copied()).map(|s| s.median);
    let known = entries.filter_map(|entry| Some((median(entry)?, entry)));
    known.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, entry)| entry)
}

/// Resample by resample.
fn lowest(cold: &[f64], entries: &[Entry]) -> Vec<f64> {
    let of = |i: usize| entries.iter().filter_map(move |entry| entry.refits.get(i).copied());
    cold.iter().enumerate().map(|(i, &cold)| of(i).fold(cold, f64::min)).collect()
}
