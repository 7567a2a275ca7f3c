//! From a source's columns to the ones that fits want.

use std::collections::BTreeMap;

use serde_json::Value;

use super::number;
use crate::error::{Result, ensure};
use crate::results::Row;

/// A column that fits want, and the names that others have for it; the first that is there is taken. Case, and the
/// prefixes `config.` and `summary.`, do not matter.
pub struct Role {
    /// Our name.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Theirs.
    pub aliases: &'static [&'static str],
}

/// The columns of the observations table, those that others follow from included.
pub const ROLES: [Role; 8] = [
    Role {
        name: "n",
        meaning: "parameters of the model, a raw count",
        aliases: &[
            "n",
            "n_params",
            "params",
            "num_params",
            "num_parameters",
            "parameters",
            "model_size",
            "n_parameters",
            "total_params",
            "non_embedding_params",
            "num_trainable_params",
        ],
    },
    Role {
        name: "d",
        meaning: "tokens of training, a raw count",
        aliases: &[
            "d",
            "tokens",
            "n_tokens",
            "num_tokens",
            "train_tokens",
            "total_tokens",
            "tokens_seen",
            "num_input_tokens_seen",
            "throughput/total_tokens",
            "train/tokens",
            "consumed_tokens",
        ],
    },
    Role {
        name: "flops",
        meaning: "compute of training, FLOP",
        aliases: &["flops", "c", "compute", "total_flos", "total_flops", "train_flops"],
    },
    Role {
        name: "batch",
        meaning: "batch, in the source's unit",
        aliases: &[
            "batch",
            "batch_size",
            "global_batch_size",
            "bs",
            "train_batch_size",
            "tokens_per_batch",
            "per_device_train_batch_size",
        ],
    },
    Role {
        name: "steps",
        meaning: "optimiser steps",
        aliases: &["steps", "global_step", "max_steps", "num_steps", "_step"],
    },
    Role {
        name: "seq_len",
        meaning: "tokens in a sequence",
        aliases: &[
            "seq_len",
            "sequence_length",
            "seq_length",
            "max_seq_len",
            "max_seq_length",
            "block_size",
            "context_length",
        ],
    },
    Role {
        name: "lr",
        meaning: "peak learning rate",
        aliases: &[
            "lr",
            "peak_lr",
            "max_lr",
            "learning_rate",
            "optimizer.lr",
            "optimiser.lr",
            "base_lr",
            "train/learning_rate",
        ],
    },
    Role {
        name: "loss",
        meaning: "loss, nats per token",
        aliases: &[
            "loss",
            "eval_loss",
            "eval/loss",
            "val_loss",
            "val/loss",
            "valid_loss",
            "validation_loss",
            "validation/loss",
            "test_loss",
            "final_loss",
            "train/loss.tail_mean",
            "loss.tail_mean",
            "train_loss.tail_mean",
            "train_loss",
            "train/loss",
        ],
    },
];

/// What the caller knows better.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Naming {
    /// Our name to the source's column.
    pub columns: BTreeMap<String, String>,
    /// Our name to a number that holds for every run, where the source does not say it.
    pub constants: BTreeMap<String, f64>,
}

/// The observations table.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// One row a run: `name`, then those of [`ROLES`] that are known, then what mixtures need: shares `p_NAME`, their
    /// `loss_NAME` and `family`, and `u` and `weight`.
    pub rows: Vec<Row>,
    /// Its columns, in the order to write them.
    pub columns: Vec<String>,
    /// Where each column came from, and what is missing.
    pub notes: Vec<String>,
}

/// Renames, fills in and derives; nothing is guessed silently: every column's origin is a note.
///
/// # Errors
/// [`crate::Error::Config`] for a name that is none of [`ROLES`], or a column that the source does not have.
pub fn observations(rows: &[Row], naming: &Naming) -> Result<Observed> {
    let known: Vec<&str> = ROLES.iter().map(|role| role.name).collect();
    for name in naming.columns.keys().chain(naming.constants.keys()) {
        ensure(
            known.contains(&name.as_str()),
            "columns",
            &format!("names among {}", known.join(", ")),
            name,
        )?;
    }
    let mut out: Vec<Row> = rows.iter().map(named).collect();
    let mut notes = vec![];
    for role in &ROLES {
        if let Some(column) = naming.columns.get(role.name) {
            let there = rows.iter().any(|row| row.contains_key(column));
            ensure(
                there,
                role.name,
                &format!("a column of the source ({})", columns(rows)),
                column,
            )?;
            copy(rows, &mut out, role.name, column);
            notes.push(format!("{} = `{column}`, as asked", role.name));
        } else if let Some(&value) = naming.constants.get(role.name) {
            out.iter_mut().for_each(|row| {
                row.insert(role.name.into(), number(value));
            });
            notes.push(format!("{} = {value}, as given", role.name));
        } else if let Some(column) = find(rows, role) {
            copy(rows, &mut out, role.name, &column);
            notes.push(format!("{} = `{column}`", role.name));
        }
    }
    derive(&mut out, &mut notes);
    let kept = of_mixtures(rows);
    for name in &kept {
        copy(rows, &mut out, name, name);
    }
    if !kept.is_empty() {
        notes.push(format!("kept: {}", kept.join(", ")));
    }
    let has = |name: &&str| out.iter().any(|row| row.contains_key(*name));
    for name in ["n", "d", "loss"].into_iter().filter(|name| !has(name)) {
        let meaning = ROLES.iter().find(|role| role.name == name).map_or("", |role| role.meaning);
        notes.push(format!("{name} is missing ({meaning}): name its column, or give its value"));
    }
    if ["n", "d", "loss"].iter().any(|name| !has(name)) {
        notes.push(format!("the columns are {}", columns(rows)));
    }
    let order = ["name", "n", "d", "flops", "batch", "steps", "seq_len", "lr", "loss"];
    let columns = order.into_iter().filter(has).map(str::to_owned).chain(kept).collect();
    Ok(Observed { rows: out, columns, notes })
}

/// Columns that laws of mixtures and of repeated data read, and that are called the same everywhere.
fn of_mixtures(rows: &[Row]) -> Vec<String> {
    let mut names: Vec<&String> = rows.iter().flat_map(Row::keys).collect();
    names.sort_unstable();
    names.dedup();
    let is_share = |name: &str| name.starts_with("p_") && names.iter().any(|known| *known == name);
    let is_kept = |name: &str| match name.strip_prefix("loss_") {
        Some(share) => is_share(&format!("p_{share}")),
        None => is_share(name) || ["family", "u", "weight"].contains(&name),
    };
    names.iter().filter(|name| is_kept(name)).map(|name| (*name).clone()).collect()
}

/// A row with the run's name alone.
fn named(row: &Row) -> Row {
    let name = ["name", "Name", "run", "run_name", "id"].into_iter().find_map(|name| row.get(name));
    name.map(|name| ("name".to_owned(), name.clone())).into_iter().collect()
}

fn plain(name: &str) -> String {
    let lower = name.to_lowercase();
    let short = lower.strip_prefix("config.").or_else(|| lower.strip_prefix("summary."));
    short.unwrap_or(&lower).to_owned()
}

/// The source's column for a role: the first alias that some row has a number for.
fn find(rows: &[Row], role: &Role) -> Option<String> {
    // A trainer that does not count its tokens says 0 of them.
    let is_number = |value: &Value| {
        as_number(value).is_some_and(|value| role.name == "loss" || value > 0. || value.is_nan())
    };
    role.aliases.iter().find_map(|alias| {
        rows.iter().find_map(|row| {
            let hit = row.iter().find(|(name, value)| plain(name) == *alias && is_number(value));
            hit.map(|(name, _)| name.clone())
        })
    })
}

fn copy(from: &[Row], to: &mut [Row], name: &str, column: &str) {
    for (from, to) in from.iter().zip(to) {
        if let Some(value) = from.get(column) {
            to.insert(name.to_owned(), value.clone());
        }
    }
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A column, how it follows from others in words, and in numbers.
type Rule<'a> = (&'a str, &'a str, &'a dyn Fn(&Row) -> Option<f64>);

/// Tokens from steps, batch and sequence length, or from compute and size; compute from size and tokens.
fn derive(rows: &mut [Row], notes: &mut Vec<String>) {
    let get = |row: &Row, name: &str| row.get(name).and_then(as_number).filter(|value| *value > 0.);
    let rules: [Rule; 3] = [
        ("d", "steps x batch x seq_len", &|row| {
            Some(get(row, "steps")? * get(row, "batch")? * get(row, "seq_len")?)
        }),
        ("d", "flops / (6 n)", &|row| Some(get(row, "flops")? / (6. * get(row, "n")?))),
        ("flops", "6 n d", &|row| Some(6. * get(row, "n")? * get(row, "d")?)),
    ];
    for (name, text, rule) in rules {
        let mut filled = 0;
        for row in rows.iter_mut().filter(|row| get(row, name).is_none()) {
            if let Some(value) = rule(row) {
                row.insert(name.to_owned(), number(value));
                filled += 1;
            }
        }
        if filled > 0 {
            notes.push(format!("{name} = {text} in {filled} of {} rows", rows.len()));
        }
    }
}

fn columns(rows: &[Row]) -> String {
    let mut names: Vec<&str> = rows.iter().flat_map(|row| row.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(20);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
