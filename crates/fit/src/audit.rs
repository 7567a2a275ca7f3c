//! `audit-lr`: was this learning rate right?

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use forerun_runs::atomic::write_json;
use forerun_scaling::audit::{
    Audit, BestLr, PUBLISHED, PublishedLr, Target, audit, predict_fitted,
};
use forerun_scaling::parabola::ParabolaConfig;
use forerun_scaling::sweep;
use forerun_scaling::units::{Params, Tokens};
use forerun_scaling::{FitConfig, Objective, fit};

use crate::data::{self, Columns, in_file};
use crate::derived::{far_away, unheard};
use crate::number::{positive, short};
use crate::problem::{LawName, Problem, Reading};
use crate::render::wrap;

/// Compare a run's peak learning rate with the best one: from your own sweep, or from a published law.
#[derive(Args, Debug)]
pub(crate) struct AuditArguments {
    /// Parameters: 7B, 405M
    #[arg(long, value_parser = parse_clap, allow_negative_numbers = true)]
    n: f64,
    /// Tokens of training: 1T
    #[arg(long, value_parser = parse_clap, allow_negative_numbers = true)]
    d: f64,
    /// The peak learning rate that was used
    #[arg(long, value_parser = parse_clap, allow_negative_numbers = true)]
    lr: f64,
    /// Batch, in the unit of the sweep's column
    #[arg(long, value_parser = parse_clap, allow_negative_numbers = true)]
    batch: Option<f64>,
    /// Your sweep: columns d, lr, loss, and n and batch where they vary
    #[arg(long, value_name = "FILE", conflicts_with = "law")]
    data: Option<PathBuf>,
    /// Names of columns: d=tokens,lr=peak_lr
    #[arg(long, value_name = "NAME=COLUMN,…")]
    columns: Option<String>,
    /// What one unit of a column counts, where that is not 1: n=1e9,d=1B
    #[arg(long, value_name = "NAME=NUMBER,…")]
    unit: Option<String>,
    /// A published law, where there is no sweep; its constants are second-hand
    #[arg(long, value_name = "NAME", default_value = "bjorck-2024")]
    law: String,
    /// Curvature of the loss in ln lr, nats: loss = best + curvature · ln(lr / best)² [default: that of the sweep]
    #[arg(long, value_parser = parse_clap, allow_negative_numbers = true)]
    curvature: Option<f64>,
    /// Write the answer as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn parse_clap(text: &str) -> Result<f64, String> {
    positive(text).map_err(|error| error.to_string())
}

/// The best learning rate, and what to know about it.
struct Known {
    best: BestLr,
    curvature: Option<f64>,
    notes: Vec<String>,
    /// Why it may be off by more than its interval says.
    doubts: Vec<String>,
}

/// What no published law says of itself.
const PUBLISHED_DOUBT: &str = "a published law has no interval here; its sizes, batch and data may not be yours, and the \
                               sign of its horizon exponent turns at large batches";

/// Does it; the text for the terminal.
pub(crate) fn run(arguments: &AuditArguments) -> Result<String> {
    let target = Target { n: Params(arguments.n), d: Tokens(arguments.d), batch: arguments.batch };
    let known = match &arguments.data {
        Some(path) => from_sweep(path, arguments, &target)?,
        None => Known {
            best: published(&arguments.law)?.predict(&target),
            curvature: None,
            notes: vec![],
            doubts: vec![PUBLISHED_DOUBT.into()],
        },
    };
    let Known { best, curvature, notes, doubts } = known;
    let mut found = audit(best, arguments.lr, arguments.curvature.or(curvature))?;
    found.problem = Some(doubts.join("; ")).filter(|text| !text.is_empty());
    if let Some(path) = &arguments.json {
        write_json(path, &found)?;
    }
    let mut text = words(&found, arguments);
    notes.iter().for_each(|note| text += &wrap(note, ""));
    doubts.iter().for_each(|doubt| text += &wrap(doubt, "warning: "));
    Ok(text)
}

fn published(name: &str) -> Result<PublishedLr> {
    let names = || PUBLISHED.map(|law| law.name).join(", ");
    PublishedLr::by_name(name)
        .with_context(|| format!("no published law `{name}`; there are {}", names()))
}

fn from_sweep(path: &Path, arguments: &AuditArguments, target: &Target) -> Result<Known> {
    let columns = Columns::parse(arguments.columns.as_deref())?;
    let (table, mut notes) = data::load(path, &columns, arguments.unit.as_deref())?;
    let reading = Reading { columns, offset: false, parabola: ParabolaConfig::default() };
    let problem = Problem::new(LawName::LrHorizon, &table, &reading).map_err(in_file(path))?;
    let part = &problem.parts[0];
    let Some(law) = &part.horizon else { bail!("`{}` is no sweep", path.display()) };
    let points = &part.observations;
    let fitted = fit(law, points, &FitConfig::new(Objective::NlsLog));
    let fitted = fitted.map_err(|error| in_file(path)(error.into()))?;
    notes.extend(problem.notes.iter().cloned());
    let mut doubts: Vec<String> =
        problem.warnings.iter().chain(&fitted.warnings).cloned().collect();
    let mut place = vec![("n".to_owned(), target.n.0), ("d".to_owned(), target.d.0)];
    place.extend(target.batch.map(|batch| ("batch".to_owned(), batch)));
    doubts.extend(unheard(law, points, &place));
    doubts.extend(far_away(points, &place));
    let best = predict_fitted(law, &fitted, target)?;
    Ok(Known { best, curvature: sweep::curvature(problem.cells()), notes, doubts })
}

fn words(found: &Audit, arguments: &AuditArguments) -> String {
    let range = |interval: Option<forerun_scaling::Interval>| match interval {
        Some(interval) => format!(" (95 %: {} .. {})", short(interval.low), short(interval.high)),
        None => String::new(),
    };
    let mut text = wrap(
        &format!(
            "best peak learning rate for {} parameters and {} tokens: {}{}",
            short(arguments.n),
            short(arguments.d),
            short(found.best.lr),
            range(found.best.interval)
        ),
        "",
    );
    let verdict = match found.ratio_interval {
        Some(interval) if interval.contains(1.) => "no difference that the sweep can see",
        _ if found.ratio > 1. => "too large",
        _ => "too small",
    };
    text += &wrap(
        &format!(
            "used: {}, {} times that{}: {verdict}",
            short(found.used),
            short(found.ratio),
            range(found.ratio_interval)
        ),
        "",
    );
    text += &match found.penalty {
        Some(penalty) => wrap(
            &format!(
                "loss above the best: {} nats per token{}",
                short(penalty),
                range(found.penalty_interval)
            ),
            "",
        ),
        None => {
            wrap("what it cost in loss needs a sweep (--data) or its curvature (--curvature)", "")
        }
    };
    text + &wrap(&format!("from: {}", found.best.basis), "")
}
