//! A user's table: read, filtered, its columns found.

mod cells;
mod filter;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use forerun_runs::import::{self, ROLES};
use forerun_scaling::{Error, Table};

use crate::number;

pub(crate) use cells::readable_rows;
pub(crate) use filter::filter;

/// Reads a table, and says what was read in another way than it is written: tables of text as they are, everything else
/// by way of an import. `unit` says what one unit of a column counts: `n=1e9`.
pub(crate) fn load(
    path: &Path,
    columns: &Columns,
    unit: Option<&str>,
) -> Result<(Table, Vec<String>)> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let table = match extension.as_deref() {
        Some("csv" | "tsv" | "txt") => {
            let text = fs::read_to_string(path).map_err(|error| explain(error, path))?;
            Table::parse_csv(&import::with_commas(path, &text)?, Some(path))?
        }
        _ => {
            let rows = import::read(path)?.rows;
            let mut names: Vec<String> = rows.iter().flat_map(|row| row.keys().cloned()).collect();
            names.sort();
            names.dedup();
            Table::parse_csv(&import::to_csv(&rows, &names), Some(path))?
        }
    };
    if table.names().is_empty() {
        bail!("`{}` is empty", path.display());
    }
    if table.is_empty() {
        bail!("`{}` has a header and no rows", path.display());
    }
    let units = unit.map(number::positive_pairs).transpose().context("--unit")?.unwrap_or_default();
    cells::readable(table, columns, &units)
}

fn explain(error: std::io::Error, path: &Path) -> anyhow::Error {
    let is_other_text = error.kind() == ErrorKind::InvalidData;
    let way_out = if is_other_text { ": its text is not UTF-8; save it as such" } else { "" };
    anyhow::Error::new(error).context(format!("cannot read `{}`{way_out}", path.display()))
}

/// What columns may be named for.
const NAMES: [&str; 9] = ["n", "d", "u", "batch", "lr", "loss", "weight", "family", "cluster"];

/// Columns that an error lists.
const MAX_NAMES: usize = 20;

/// Our names to the table's columns, as the caller gave them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns(BTreeMap<String, String>);

impl Columns {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self> {
        let pairs = text.map(number::names).transpose().context("--columns")?;
        let pairs = pairs.unwrap_or_default();
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !NAMES.contains(&name.as_str())) {
            bail!(
                "--columns: `{name}` is none of {}; write NAME=COLUMN, as n=params",
                NAMES.join(", ")
            );
        }
        Ok(Self(pairs.into_iter().collect()))
    }

    /// The column for `name`: the one that was named, or one that is called so, or as others call it.
    pub(crate) fn find(&self, table: &Table, name: &str) -> Result<Option<String>> {
        if let Some(column) = self.0.get(name) {
            table.text(column).with_context(|| format!("--columns {name}={column}"))?;
            return Ok(Some(column.clone()));
        }
        let role = ROLES.iter().find(|role| role.name == name);
        let aliases = role.map_or_else(|| vec![name], |role| role.aliases.to_vec());
        let called = |alias: &str| {
            table
                .names()
                .iter()
                .find(|column| column.to_lowercase() == alias || plain(column) == alias)
        };
        let Some(column) = aliases.into_iter().find_map(called) else { return Ok(None) };
        if table.names().iter().filter(|known| *known == column).count() > 1 {
            let reason = format!("two columns have this name, and `{name}` may be either");
            return Err(fault(table, None, column, reason).into());
        }
        Ok(Some(column.clone()))
    }

    /// Which columns were found for `names` that others call so, in words; none if the table has our names.
    pub(crate) fn taken(&self, table: &Table, names: &[&str]) -> Result<Option<String>> {
        let mut found = vec![];
        for name in names {
            found.extend(self.find(table, name)?.map(|column| (*name, column)));
        }
        let is_news =
            |(name, column): &(&str, String)| plain(column) != *name && !self.0.contains_key(*name);
        let words: Vec<String> =
            found.iter().map(|(name, column)| format!("{name} = `{column}`")).collect();
        Ok(found.iter().any(is_news).then(|| format!("columns: {}", words.join(", "))))
    }

    /// As [`Columns::require`], of several at once: what is missing is said together.
    pub(crate) fn require_all(&self, table: &Table, names: &[&str]) -> Result<Vec<String>> {
        let mut missing = vec![];
        for name in names {
            if self.find(table, name)?.is_none() {
                missing.push(*name);
            }
        }
        if missing.len() > 1 {
            let meant: Vec<String> =
                missing.iter().map(|name| format!("`{name}`{}", meaning(name))).collect();
            let way_out: Vec<String> =
                missing.iter().map(|name| format!("{name}=COLUMN")).collect();
            let file =
                table.file.as_ref().map_or_else(String::new, |f| format!("`{}`: ", f.display()));
            bail!(
                "{file}no columns for {}; there are {}; name them with --columns {}",
                meant.join(", "),
                listed(table),
                way_out.join(",")
            );
        }
        names.iter().map(|name| self.require(table, name)).collect()
    }

    /// As [`Columns::find`]; a column that is not there is an error that says what to do.
    pub(crate) fn require(&self, table: &Table, name: &str) -> Result<String> {
        if let Some(column) = self.find(table, name)? {
            return Ok(column);
        }
        let reason = format!(
            "no column for this{}; there are {}; name one with --columns {name}=COLUMN",
            meaning(name),
            listed(table)
        );
        Err(fault(table, None, name, reason).into())
    }

    /// Columns `PREFIX_…`, with what follows the prefix.
    pub(crate) fn with_prefix(table: &Table, prefix: &str) -> Vec<(String, String)> {
        let strip =
            |column: &String| Some((column.strip_prefix(prefix)?.to_owned(), column.clone()));
        table.names().iter().filter_map(strip).collect()
    }
}

/// `Peak LR`, `peak-lr` and `config.peak_lr` are `peak_lr`.
fn plain(column: &str) -> String {
    let text = column.trim().to_lowercase().replace([' ', '-'], "_");
    let inner = text.strip_prefix("config.").or_else(|| text.strip_prefix("summary."));
    inner.unwrap_or(&text).to_owned()
}

/// What a name stands for, in brackets.
fn meaning(name: &str) -> String {
    let role = ROLES.iter().find(|role| role.name == name);
    role.map_or_else(String::new, |role| format!(" ({})", role.meaning))
}

/// The table's columns, the first of them.
fn listed(table: &Table) -> String {
    let (all, shown) = (table.names(), table.names().len().min(MAX_NAMES));
    let more = all.len() - shown;
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", all[..shown].join(", "))
}

/// An error of a fit, with the file that it is about.
pub(crate) fn in_file(path: &Path) -> impl Fn(anyhow::Error) -> anyhow::Error {
    let file = format!("`{}`", path.display());
    move |error| match error.downcast_ref::<Error>() {
        Some(Error::TooFewPoints { .. } | Error::NotIdentified { .. }) => {
            error.context(file.clone())
        }
        _ => error,
    }
}

/// An error at a place of the table.
pub(crate) fn fault(table: &Table, row: Option<usize>, column: &str, reason: String) -> Error {
    Error::Data { file: table.file.clone(), row, column: column.to_owned(), reason }
}

#[cfg(test)]
mod tests;
