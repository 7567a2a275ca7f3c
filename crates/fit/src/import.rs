//! `import`: other people's logs into one table.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use forerun_runs::atomic::write_atomic;
use forerun_runs::import::{Naming, observations, read, to_csv};
use forerun_runs::results::write_results;

use crate::data::readable_rows;
use crate::number;
use crate::render::wrap;

/// Gather runs from Weights & Biases exports, TensorBoard files, trainer_state.json, CSV, JSON lines or Parquet into
/// one table that `fit` reads.
#[derive(Args, Debug)]
pub(crate) struct ImportArguments {
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The table to write: .csv or .parquet
    #[arg(long, value_name = "FILE", default_value = "runs.csv")]
    out: PathBuf,
    /// Where a column's name is not found: loss=eval/loss,n=params
    #[arg(long, value_name = "NAME=COLUMN,…")]
    columns: Option<String>,
    /// What the source does not say, for all runs: n=125M,seq_len=2048
    #[arg(long, value_name = "NAME=NUMBER,…")]
    set: Option<String>,
}

/// Does it; the text for the terminal.
pub(crate) fn run(arguments: &ImportArguments) -> Result<String> {
    let mut text = String::new();
    let mut rows = vec![];
    for path in &arguments.paths {
        let mut imported = read(path)?;
        if imported.rows.is_empty() {
            bail!("`{}` holds no runs", path.display());
        }
        let n = runs(imported.rows.len());
        text += &wrap(&format!("`{}`: {:?}, {n}", path.display(), imported.format), "");
        for note in readable_rows(&mut imported.rows) {
            text += &wrap(&note, "  ");
        }
        rows.extend(imported.rows);
    }
    let naming = Naming {
        columns: arguments
            .columns
            .as_deref()
            .map(number::names)
            .transpose()
            .context("--columns")?
            .unwrap_or_default()
            .into_iter()
            .collect(),
        constants: arguments
            .set
            .as_deref()
            .map(number::positive_pairs)
            .transpose()
            .context("--set")?
            .unwrap_or_default()
            .into_iter()
            .collect(),
    };
    let observed = observations(&rows, &naming)?;
    if !["n", "d", "lr", "loss"].iter().any(|name| observed.columns.iter().any(|c| c == name)) {
        bail!(
            "no column is known to hold parameters, tokens, learning rate or loss: name them with --columns \
             n=COLUMN,d=COLUMN,loss=COLUMN; {}",
            observed.notes.last().map_or("", String::as_str)
        );
    }
    for note in &observed.notes {
        text += &wrap(note, "  ");
    }
    let out = &arguments.out;
    match out.extension().is_some_and(|extension| extension == "parquet") {
        true => write_results(out, &observed.rows)?,
        false => write_atomic(out, to_csv(&observed.rows, &observed.columns).as_bytes())
            .with_context(|| format!("cannot write `{}`", out.display()))?,
    }
    text += &wrap(&format!("wrote {} to `{}`", runs(observed.rows.len()), out.display()), "");
    Ok(text)
}

fn runs(n: usize) -> String {
    if n == 1 { "1 run".into() } else { format!("{n} runs") }
}
