//! Layers of TOML: an experiment's base, its scale, an arm, and what the user set on the command line.

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// Lays `over` upon `base`: tables merge key by key, a table upon a list merges with the items that it names, and
/// everything else is replaced.
pub(crate) fn merge(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) if same_variant(below, above) => {
                merge(below, above)
            }
            (Some(Value::Array(items)), Value::Table(by_name)) => {
                for item in items.iter_mut().filter_map(Value::as_table_mut) {
                    let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
                    if let Some(Value::Table(above)) = by_name.get(name) {
                        merge(item, above);
                    }
                }
            }
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Tables of two kinds do not mix: `positions = { kind = "rope", … }` replaces `{ kind = "xpos", … }` whole, and so
/// does `schedule = { linear = { … } }` another schedule.
fn same_variant(below: &Table, above: &Table) -> bool {
    let only = |table: &Table| match table.iter().next() {
        Some((key, Value::Table(_))) if table.len() == 1 => Some(key.clone()),
        _ => None,
    };
    match (below.get("kind"), above.get("kind")) {
        (Some(below), Some(above)) => below == above,
        _ => match (only(below), only(above)) {
            (Some(below), Some(above)) => below == above,
            _ => true,
        },
    }
}

/// Applies one `--set a.b=v`. `v` is read as TOML if it can be, else as a string; `arms.NAME.…` goes to the arm
/// of that name.
pub(crate) fn set(table: &mut Table, assignment: &str) -> Result<()> {
    let (path, text) = assignment.split_once('=').with_context(|| {
        format!("--set wants KEY=VALUE, for example training.optimiser.lr=3e-4, got `{assignment}`")
    })?;
    let value = parse_value(text.trim());
    let keys: Vec<&str> = path.trim().split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        bail!("--set: `{path}` has an empty key");
    }
    insert(table, &keys, value).with_context(|| format!("--set {assignment}"))
}

fn parse_value(text: &str) -> Value {
    match format!("value = {text}").parse::<Table>() {
        Ok(mut table) => table.remove("value").unwrap_or(Value::String(text.to_owned())),
        Err(_) => Value::String(text.to_owned()),
    }
}

fn insert(table: &mut Table, keys: &[&str], value: Value) -> Result<()> {
    let (key, rest) = match keys {
        [] => bail!("an empty key"),
        [last] => {
            table.insert((*last).to_owned(), value);
            return Ok(());
        }
        [key, rest @ ..] => (*key, rest),
    };
    match table.entry(key.to_owned()).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(below) => insert(below, rest, value),
        Value::Array(items) => {
            let item =
                items.iter_mut().filter_map(Value::as_table_mut).find(|item| named(item, rest[0]));
            match (item, rest) {
                (Some(item), [_, below @ ..]) if !below.is_empty() => insert(item, below, value),
                _ => bail!("`{key}` is a list; name one of its items and a field of it"),
            }
        }
        _ => bail!("`{key}` is a value, not a table"),
    }
}

fn named(item: &Table, name: &str) -> bool {
    item.get("name").and_then(Value::as_str) == Some(name)
}

#[cfg(test)]
mod tests;
