//! `import`: other people's logs into one table.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use forerun_runs::atomic::write_atomic;
use forerun_runs::import::{Naming, observations, read, to_csv};
use forerun_runs::results::write_results;

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
        let imported = read(path)?;
        text += &wrap(
            &format!("`{}`: {:?}, {} runs", path.display(), imported.format, imported.rows.len()),
            "",
        );
        rows.extend(imported.rows);
    }
    let naming = Naming {
        columns: arguments
            .columns
            .as_deref()
            .map(number::names)
            .transpose()?
            .unwrap_or_default()
            .into_iter()
            .collect(),
        constants: arguments
            .set
            .as_deref()
            .map(number::pairs)
            .transpose()?
            .unwrap_or_default()
            .into_iter()
            .collect(),
    };
    let observed = observations(&rows, &naming)?;
    for note in &observed.notes {
        text += &wrap(note, "  ");
    }
    let out = &arguments.out;
    match out.extension().is_some_and(|extension| extension == "parquet") {
        true => write_results(out, &observed.rows)?,
        false => write_atomic(out, to_csv(&observed.rows, &observed.columns).as_bytes())
            .with_context(|| format!("cannot write `{}`", out.display()))?,
    }
    text += &wrap(&format!("wrote {} runs to `{}`", observed.rows.len(), out.display()), "");
    Ok(text)
}
