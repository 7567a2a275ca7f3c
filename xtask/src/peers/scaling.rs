//! `peers scaling`: fits of Chinchilla's law and their bootstrap, ours and the rivals' in turn, as ratios of processor
//! time.
//!
//! Every program is one process that stays alive, so that neither start-up nor imports count. All of them fit the same
//! points, and the rivals' refits the same resamples, whose objectives are held against ours.

mod measure;
mod table;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::environment::{Environment, Needs};
use crate::program::Program;
use crate::workspace::Workspace;
use crate::{disk, output};
use measure::{Contest, Runner};

/// What may be chosen.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only this objective; all by default
    #[arg(long, value_enum)]
    objective: Option<Objective>,
    /// How often every program has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Bootstrap draws of a rival in one turn; its time is scaled up to the 4,000 that ours makes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=4000))]
    rival_draws: u32,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Objective {
    /// Huber with delta 1e-3 on the log loss
    Huber,
    /// Least absolute deviations of the log loss
    Lad,
    /// Least squares of the log loss
    NlsLog,
    /// Least squares of the loss
    Nls,
}

impl Objective {
    const ALL: [Self; 4] = [Self::Huber, Self::Lad, Self::NlsLog, Self::Nls];

    /// As the programs know it.
    fn name(self) -> &'static str {
        match self {
            Self::Huber => "huber",
            Self::Lad => "lad",
            Self::NlsLog => "nls-log",
            Self::Nls => "nls",
        }
    }
}

/// The rivals, and their programs in `xtask/peers/scaling/`.
const RIVALS: [(&str, &str); 4] = [
    ("scipy, 4,500 starts", "published_script.py"),
    ("scipy, 12 starts", "scipy_best.py"),
    ("lmfit, 12 starts", "lmfit_minimizer.py"),
    ("variable projection", "variable_projection.py"),
];

/// numpy and scipy unpacked take 250 MB.
const NEEDS: Needs = Needs { peer: "scaling", bytes: 500_000_000 };

/// The points that Epoch's replication of Chinchilla read off a figure, less the five highest losses.
const TABLE: &str = "tests/data/scaling/chinchilla_epoch245.csv";
const DROP_HIGHEST: u32 = 5;
const N_POINTS: u32 = 240;
/// Draws of a bootstrap.
const DRAWS: u32 = 4000;

/// Measures and prints.
///
/// # Errors
/// If a program cannot be built, installed or started, ends by itself, or if ours misses an optimum that another finds.
pub(crate) fn compare(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let environment = Environment::ensure(workspace, NEEDS)?;
    let ours = Program::FitSpeed.built(workspace)?;
    let folder = workspace.root.join("target/peers");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let resamples = folder.join("resamples.u16");
    write_resamples(&resamples, options.rival_draws)?;
    let setup = json!({
        "table": workspace.root.join(TABLE),
        "drop_highest": DROP_HIGHEST,
        "resamples": resamples,
    });
    let setup = setup.to_string();
    let mut runners = vec![Runner::start("forerun", ours, &setup)?];
    for (name, program) in RIVALS {
        runners.push(Runner::start(name, environment.program(program), &setup)?);
    }
    output::line(table::definitions(options));
    let mut complaints = vec![];
    for objective in options.objective.map_or(Objective::ALL.to_vec(), |one| vec![one]) {
        let contest = Contest::run(&mut runners, objective.name(), options)?;
        output::line(format!("\n{}", table::render(&contest)));
        complaints.extend(contest.complaint());
    }
    output::line(format!("\n{}", table::programs(&runners)));
    if !complaints.is_empty() {
        bail!("{}", complaints.join("; "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes which points each draw of the rivals has.
fn write_resamples(path: &Path, draws: u32) -> Result<()> {
    let bytes: Vec<u8> = resamples(draws).flat_map(u16::to_le_bytes).collect();
    fs::write(path, bytes).map_err(|error| disk::explain(error, path))
}

/// Points drawn with replacement, as many as there are, draw after draw.
fn resamples(draws: u32) -> impl Iterator<Item = u16> {
    let mut state = 1_u64;
    (0..draws * N_POINTS).map(move |_| {
        // Knuth's MMIX generator; its upper half is what is random.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u64::from(N_POINTS) * (state >> 32)) >> 32) as u16
    })
}

#[cfg(test)]
mod tests;
