//! `--filter`: rows to keep, and outliers to leave out.

use anyhow::{Context, Result, bail};
use forerun_scaling::{OutlierRule, Table};

use crate::number;

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
        } else if let Some(rest) = residual_limit(filter) {
            let limit = number::positive(rest);
            rule = OutlierRule::ResidualBeyond(
                limit.with_context(|| format!("--filter \"{filter}\""))?,
            );
        } else {
            table = keep(&table, filter)?;
        }
    }
    Ok((table, rule))
}

/// What follows `residual >`, with or without spaces.
fn residual_limit(filter: &str) -> Option<&str> {
    filter.trim().strip_prefix("residual")?.trim_start().strip_prefix('>')
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
