//! Our side of `cargo xtask peers scaling`: fits of one table, again and again, whenever it is our turn.
//!
//! The first argument is the set-up, JSON: `table` (columns N, D, loss), `drop_highest`, `resamples` (rows of 16-bit
//! indices). Then each line of standard input is a turn: `fit OBJECTIVE SECONDS`, `bootstrap OBJECTIVE DRAWS`, or
//! `refit OBJECTIVE COUNT`, which fits the first resamples from cold starts, untimed, for the rivals to be held against.

#![allow(clippy::print_stdout, reason = "a program that answers on standard output")]

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use forerun_runs::seed::Seed;
use forerun_scaling::law::Chinchilla;
use forerun_scaling::{BootstrapConfig, FitConfig, Objective, Observations, Table, bootstrap, fit};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {
    table: PathBuf,
    drop_highest: usize,
    resamples: PathBuf,
}

fn main() -> Result<()> {
    let argument = std::env::args().nth(1).context("usage: fit_speed SETUP")?;
    let setup: Setup = serde_json::from_str(&argument).context("the set-up")?;
    let points = points(&setup.table, setup.drop_highest)?;
    let resamples = resamples(&setup.resamples, points.len())?;
    let versions = concat!("forerun-scaling ", env!("CARGO_PKG_VERSION"));
    println!("{}", json!({ "ready": true, "points": points.len(), "versions": versions }));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[turn, objective, amount] = words.as_slice() else { bail!("not understood: {line}") };
        let (Some(objective), Ok(amount)) = (named(objective), amount.parse::<f64>()) else {
            bail!("not understood: {line}")
        };
        let answer = match turn {
            "fit" => fits(&points, objective, amount)?,
            "bootstrap" => draws(&points, objective, amount as usize)?,
            "refit" => cold(&points, objective, &resamples, amount as usize)?,
            _ => bail!("not understood: {line}"),
        };
        println!("{answer}");
    }
    Ok(())
}

fn named(name: &str) -> Option<Objective> {
    let all = [Objective::HUBER, Objective::Lad, Objective::NlsLog, Objective::Nls];
    all.into_iter().find(|objective| objective.name() == name)
}

/// The runs less those with the highest losses, which every program leaves out before the clock starts.
fn points(path: &Path, drop_highest: usize) -> Result<Observations> {
    let table = Table::read_csv(path)?;
    let all = table.observations("loss", &[("n", "N"), ("d", "D")])?;
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|&i, &j| all.target()[i].total_cmp(&all.target()[j]));
    order.truncate(all.len().saturating_sub(drop_highest));
    order.sort_unstable();
    Ok(all.select(&order))
}

/// `[draw][point]`.
fn resamples(path: &Path, n_points: usize) -> Result<Vec<Vec<usize>>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let row = |row: &[u8]| -> Vec<usize> {
        row.chunks_exact(2)
            .map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])))
            .collect()
    };
    let rows: Vec<Vec<usize>> = bytes.chunks_exact(2 * n_points).map(row).collect();
    let is_known = rows.iter().flatten().all(|&point| point < n_points);
    if !is_known || rows.len() * 2 * n_points != bytes.len() {
        bail!("`{}` does not hold rows of {n_points} points", path.display());
    }
    Ok(rows)
}

fn fits(points: &Observations, objective: Objective, seconds: f64) -> Result<Value> {
    let (law, config) = (Chinchilla::new(), FitConfig::new(objective));
    let start = Instant::now();
    let mut jobs = 0;
    loop {
        let found = fit(&law, points, &config)?;
        jobs += 1;
        let elapsed = start.elapsed().as_secs_f64();
        if elapsed >= seconds {
            let objectives = [found.objective_value];
            return Ok(
                json!({ "jobs": jobs, "seconds": elapsed, "objectives": objectives, "searches": found.n_searches }),
            );
        }
    }
}

fn draws(points: &Observations, objective: Objective, n_draws: usize) -> Result<Value> {
    let (law, config) = (Chinchilla::new(), FitConfig::new(objective));
    let estimate = fit(&law, points, &config)?;
    let settings = BootstrapConfig { n_draws, ..BootstrapConfig::default() };
    let mut rng = Seed::new(1).stream("peers/scaling");
    let start = Instant::now();
    let found = bootstrap(&law, points, &config, &estimate, &settings, &mut rng)?;
    Ok(json!({
        "jobs": n_draws, "seconds": start.elapsed().as_secs_f64(), "objectives": [],
        "failed": found.n_failed, "checked": found.n_checked, "improved": found.n_improved,
    }))
}

fn cold(
    points: &Observations,
    objective: Objective,
    resamples: &[Vec<usize>],
    count: usize,
) -> Result<Value> {
    let (law, config) = (Chinchilla::new(), FitConfig::new(objective));
    let start = Instant::now();
    let value = |rows: &Vec<usize>| Ok(fit(&law, &points.select(rows), &config)?.objective_value);
    let objectives: Vec<f64> = resamples.iter().take(count).map(value).collect::<Result<_>>()?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({ "jobs": objectives.len(), "seconds": seconds, "objectives": objectives }))
}
