//! Which points belong together, for the cluster bootstrap and for the test of independence.

use std::collections::BTreeMap;

use anyhow::Result;
use forerun_scaling::{Observations, Table};

use super::Reading;

/// Groups by the column for `cluster` where there is one, else of points with the same `inputs`.
pub(super) fn with(
    points: Observations,
    table: &Table,
    reading: &Reading,
    inputs: &[&str],
) -> Result<Observations> {
    let groups = match reading.columns.find(table, "cluster")? {
        Some(column) => numbered(table.text(&column)?.into_iter().map(str::trim)),
        None => same(&points, inputs),
    };
    Ok(points.with_clusters(groups))
}

/// Which points have the same size and horizon.
pub(crate) fn of_scale(points: &Observations) -> Vec<usize> {
    same(points, &["n", "d"])
}

/// Which points have the same values of `inputs`; one that is not there is the same everywhere.
pub(super) fn same(points: &Observations, inputs: &[&str]) -> Vec<usize> {
    let columns: Vec<&[f64]> = inputs.iter().filter_map(|name| points.input(name)).collect();
    let key = |i: usize| columns.iter().map(|column| column[i].to_bits()).collect::<Vec<u64>>();
    numbered((0..points.len()).map(key))
}

/// Numbers of equal keys, in the order in which they first appear.
pub(super) fn numbered<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<usize> {
    let mut known = BTreeMap::new();
    keys.map(|key| {
        let next = known.len();
        *known.entry(key).or_insert(next)
    })
    .collect()
}
