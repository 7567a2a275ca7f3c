//! A learning rate for a longer horizon: Marin, 11 optimisers; the grid has a factor of 2, so optima are coarse.

use std::collections::BTreeMap;

use anyhow::Result;
use forerun_scaling::Table;
use forerun_scaling::audit::rule_of_thumb;
use forerun_scaling::units::Tokens;

use super::{Tried, lowest, regret};

/// Learning rates a cell must have.
const MIN_RUNS: usize = 3;

/// Losses above this have diverged, as the table's notes have it.
const DIVERGED: f64 = 7.;

/// Learning rates with their losses, by horizon.
type Horizons = BTreeMap<u64, Vec<(f64, f64)>>;

pub(super) fn regrets(table: &Table) -> Result<Vec<Tried>> {
    let (optimizer, size) = (table.text("optimizer")?, table.text("size")?);
    let (horizon, batch) = (table.numbers("chinchilla")?, table.numbers("bs")?);
    let (lr, loss) = (table.numbers("lr")?, table.numbers("loss")?);
    // Optimiser, size and batch; then the horizon: learning rates with their losses.
    let mut sweeps: BTreeMap<(&str, &str, u64), Horizons> = BTreeMap::new();
    for row in 0..table.len() {
        if loss[row] <= DIVERGED && lr[row] > 0. {
            let sweep = sweeps.entry((optimizer[row], size[row], batch[row] as u64)).or_default();
            sweep.entry(horizon[row] as u64).or_default().push((lr[row], loss[row]));
        }
    }
    let mut carried =
        Tried { method: "the best of the shortest horizon, unchanged", regrets: vec![] };
    let mut thumb = Tried { method: "the rule of thumb, D^-0.32", regrets: vec![] };
    let mut twice = Tried { method: "twice that of the shortest horizon", regrets: vec![] };
    for horizons in sweeps.values() {
        let mut usable = horizons.iter().filter(|(_, points)| points.len() >= MIN_RUNS);
        let Some((&first, short)) = usable.next() else { continue };
        let best = lowest(short).0;
        for (&later, points) in usable {
            carried.regrets.push(regret(points, best));
            let scaled = rule_of_thumb(best, Tokens(first as f64), Tokens(later as f64));
            thumb.regrets.push(regret(points, scaled));
            twice.regrets.push(regret(points, 2. * best));
        }
    }
    Ok(vec![thumb, carried, twice])
}
