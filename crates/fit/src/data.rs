//! A user's table: read, filtered, its columns found.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use forerun_runs::import::{self, ROLES};
use forerun_scaling::{Error, OutlierRule, Table};

use crate::number;

/// Reads a table: CSV as it is, everything else by way of an import.
pub(crate) fn load(path: &Path) -> Result<Table> {
    if path.extension().is_some_and(|extension| extension == "csv") {
        return Ok(Table::read_csv(path)?);
    }
    let rows = import::read(path)?.rows;
    let mut names: Vec<String> = rows.iter().flat_map(|row| row.keys().cloned()).collect();
    names.sort();
    names.dedup();
    Ok(Table::parse_csv(&import::to_csv(&rows, &names), Some(path))?)
}

/// Our names to the table's columns, as the caller gave them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns(BTreeMap<String, String>);

impl Columns {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self> {
        let pairs = text.map(number::names).transpose().context("--columns")?;
        Ok(Self(pairs.unwrap_or_default().into_iter().collect()))
    }

    /// The column for `name`: the one that was named, or one that is called so, or as others call it.
    pub(crate) fn find(&self, table: &Table, name: &str) -> Result<Option<String>> {
        if let Some(column) = self.0.get(name) {
            table.text(column).with_context(|| format!("--columns {name}={column}"))?;
            return Ok(Some(column.clone()));
        }
        let role = ROLES.iter().find(|role| role.name == name);
        let aliases = role.map_or_else(|| vec![name], |role| role.aliases.to_vec());
        let called =
            |alias: &str| table.names().iter().find(|column| column.to_lowercase() == alias);
        Ok(aliases.into_iter().find_map(called).cloned())
    }

    /// As [`Columns::find`]; a column that is not there is an error that says what to do.
    pub(crate) fn require(&self, table: &Table, name: &str) -> Result<String> {
        if let Some(column) = self.find(table, name)? {
            return Ok(column);
        }
        let meaning = ROLES.iter().find(|role| role.name == name).map(|role| role.meaning);
        let meaning = meaning.map_or_else(String::new, |meaning| format!(" ({meaning})"));
        let there = table.names().join(", ");
        let reason = format!(
            "no column for this{meaning}; there are {there}; name one with --columns {name}=COLUMN"
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

/// An error at a place of the table.
pub(crate) fn fault(table: &Table, row: Option<usize>, column: &str, reason: String) -> Error {
    Error::Data { file: table.file.clone(), row, column: column.to_owned(), reason }
}

/// `--filter`: an outlier rule, or rows to keep.
pub(crate) fn filter(table: Table, filters: &[String]) -> Result<(Table, OutlierRule)> {
    let mut rule = OutlierRule::Keep;
    let mut table = table;
    for filter in filters {
        if let Some(rest) = filter.trim().strip_prefix("drop-worst") {
            let count = rest.trim_start_matches(['=', ' ']);
            let count = count
                .parse()
                .with_context(|| format!("--filter \"{filter}\": `{count}` is no count"))?;
            rule = OutlierRule::DropHighest(count);
        } else if let Some(rest) = filter.trim().strip_prefix("residual>") {
            rule = OutlierRule::ResidualBeyond(
                number::parse(rest).with_context(|| format!("--filter \"{filter}\""))?,
            );
        } else {
            table = keep(&table, filter)?;
        }
    }
    Ok((table, rule))
}

/// Rows for which every condition of `a OP b and c OP d` holds.
fn keep(table: &Table, filter: &str) -> Result<Table> {
    let mut table = table.clone();
    for condition in filter.split(" and ") {
        let found = ["==", "!=", "<=", ">=", "<", ">"].into_iter().find_map(|op| {
            condition.split_once(op).map(|(column, value)| (column.trim(), op, value.trim()))
        });
        let Some((column, op, value)) = found else {
            bail!(
                "--filter \"{filter}\": `{condition}` must be COLUMN OP VALUE (== != < <= > >=), drop-worst K, or residual>R"
            );
        };
        let kept =
            holds(&table, column, op, value).with_context(|| format!("--filter \"{filter}\""))?;
        table = table.filter(|row| kept[row]);
    }
    if table.is_empty() {
        bail!("--filter \"{filter}\" leaves no row");
    }
    Ok(table)
}

fn holds(table: &Table, column: &str, op: &str, value: &str) -> Result<Vec<bool>> {
    let Ok(value) = number::parse(value) else {
        let value = value.trim_matches(['"', '\'']);
        let cells = table.text(column)?;
        return match op {
            "==" => Ok(cells.iter().map(|cell| cell.trim() == value).collect()),
            "!=" => Ok(cells.iter().map(|cell| cell.trim() != value).collect()),
            _ => bail!("`{value}` is no number, and {op} needs one"),
        };
    };
    let compare = |cell: &f64| match op {
        "==" => *cell == value,
        "!=" => *cell != value,
        "<=" => *cell <= value,
        ">=" => *cell >= value,
        "<" => *cell < value,
        _ => *cell > value,
    };
    Ok(table.numbers(column)?.iter().map(compare).collect())
}

#[cfg(test)]
mod tests;
