//! What the trainings of the grid say: which of them train, and the largest learning rate of each arm that does.

use std::collections::BTreeSet;

use forerun_runs::results::Row;
use forerun_runs::stats;
use serde_json::Value;

use super::{MagnetoConfig, Place};

/// What the cell that counts tokens is called among the arms.
pub(super) const TEXT: &str = "text";
/// The column of the loss of a guess by the frequencies of tokens, nats per token.
pub(super) const UNIGRAM: &str = "unigram_loss";

/// The final losses of all trainings that came to an end of their own. One that ran out of memory, or was never run,
/// is not there: nobody knows whether it would have trained.
pub(super) struct Grid<'a> {
    body: &'a MagnetoConfig,
    trained: Vec<Trained>,
    unigram: f64,
}

struct Trained {
    place: Place,
    seed: u64,
    /// Held-out loss after the last update, nats per token; NaN if it diverged.
    loss: f64,
}

impl Trained {
    /// What a row of the results says of a training; none if it says of none, or of one without an end.
    fn read(row: &Row) -> Option<Self> {
        let word = |name: &str| row.get(name).and_then(Value::as_str);
        let loss = match (word("step")?, word("outcome")?) {
            ("train", "diverged") => f64::NAN,
            ("train", "finished") => {
                row.get("validation_loss").and_then(Value::as_f64).unwrap_or(f64::NAN)
            }
            _ => return None,
        };
        Some(Self { place: word("arm")?.parse().ok()?, seed: row.get("seed")?.as_u64()?, loss })
    }
}

/// How a training ended, in the words of a report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// It trains, with this loss.
    Trains(f64),
    /// It has learnt less than that.
    Lags(f64),
    /// About as good as a guess by the frequencies of tokens: the plateau of Post-LN.
    Plateau(f64),
    /// Worse than that: too slow, or thrown back.
    Worse(f64),
    /// Its loss was not a number, or above the limit.
    Diverged,
    /// It ran out of memory, or was not run.
    Missing,
}

/// The largest learning rate that trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Largest {
    /// None does.
    None,
    /// This one, and the next larger one of the grid does not.
    At(f64),
    /// All up to the last of the grid: the true one may be larger.
    AtLeast(f64),
    /// A training is missing, so nobody knows.
    Unknown,
}

impl Largest {
    pub(super) fn rate(self) -> Option<f64> {
        match self {
            Self::None | Self::Unknown => None,
            Self::At(rate) | Self::AtLeast(rate) => Some(rate),
        }
    }
}

/// Starting from the rate with the lowest loss, the last one before the first that does not train. What lies beyond a
/// rate that fails does not count, be it a lucky one; nor do low rates that are merely slow.
///
/// `rates` ascend; `losses` belong to them, NaN for what diverged; a loss up to `threshold` trains.
pub(super) fn largest_that_trains(rates: &[f64], losses: &[f64], threshold: f64) -> Largest {
    let pairs: Vec<(f64, f64)> = rates.iter().copied().zip(losses.iter().copied()).collect();
    let finite = pairs.iter().enumerate().filter(|(_, pair)| pair.1.is_finite());
    let Some((best, _)) = finite.min_by(|(_, a), (_, b)| a.1.total_cmp(&b.1)) else {
        return Largest::None;
    };
    let trains = |pair: &&(f64, f64)| pair.1 <= threshold; // not NaN
    match pairs[best..].iter().take_while(trains).last() {
        None => Largest::None,
        Some(last) if Some(last) == pairs.last() => Largest::AtLeast(last.0),
        Some(last) => Largest::At(last.0),
    }
}

impl<'a> Grid<'a> {
    pub(super) fn new(body: &'a MagnetoConfig, rows: &[Row]) -> Self {
        let unigram = rows.iter().find_map(|row| row.get(UNIGRAM)?.as_f64());
        let trained = rows.iter().filter_map(Trained::read).collect();
        Self { body, trained, unigram: unigram.unwrap_or(f64::NAN) }
    }

    /// The loss of a guess by the frequencies of tokens; NaN if it was not measured.
    pub(super) fn unigram(&self) -> f64 {
        self.unigram
    }

    /// The seeds that were trained.
    pub(super) fn seeds(&self) -> BTreeSet<u64> {
        self.trained.iter().map(|trained| trained.seed).collect()
    }

    fn rates(&self) -> &[f64] {
        &self.body.grid.learning_rates
    }

    /// Final losses of an arm by learning rate; NaN for what diverged, none for what is missing.
    pub(super) fn losses(&self, arm: &str, depth: i64, seed: u64) -> Vec<Option<f64>> {
        let at = |&lr: &f64| {
            let here = |trained: &&Trained| {
                let Place { arm: name, depth: layers, lr: rate } = &trained.place;
                (name.as_str(), *layers, *rate, trained.seed) == (arm, depth, lr, seed)
            };
            self.trained.iter().find(here).map(|trained| trained.loss)
        };
        self.rates().iter().map(at).collect()
    }

    /// The same, if none is missing.
    fn complete(&self, arm: &str, depth: i64, seed: u64) -> Option<Vec<f64>> {
        self.losses(arm, depth, seed).into_iter().collect()
    }

    /// The loss of an arm at its best learning rate, and that rate. The rate is the one with the lowest mean loss over
    /// all *other* seeds: the lowest of ten losses of the seed itself would be low by luck as well. With one seed it is
    /// chosen on that. None if a training is missing, or if no rate trained in all other seeds; the loss is NaN if the
    /// rate diverged in this one.
    pub(super) fn best(&self, arm: &str, depth: i64, seed: u64) -> Option<(f64, f64)> {
        let own = self.complete(arm, depth, seed)?;
        let mut judges: Vec<u64> =
            self.seeds().into_iter().filter(|other| *other != seed).collect();
        if judges.is_empty() {
            judges.push(seed);
        }
        let judged: Vec<Vec<f64>> =
            judges.iter().map(|&judge| self.complete(arm, depth, judge)).collect::<Option<_>>()?;
        let mean = |rate: usize| {
            stats::mean(&judged.iter().map(|losses| losses[rate]).collect::<Vec<_>>())
        };
        let means = (0..own.len()).map(|rate| (rate, mean(rate)));
        let (rate, _) =
            means.filter(|(_, mean)| mean.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some((self.rates()[rate], own[rate]))
    }

    /// The lowest final loss of an arm over all learning rates, which is where its training can get; infinite if all
    /// diverged, NaN if one is missing.
    fn lowest(&self, arm: &str, depth: i64, seed: u64) -> f64 {
        let losses = self.complete(arm, depth, seed);
        losses.map_or(f64::NAN, |losses| lowest(losses).unwrap_or(f64::INFINITY))
    }

    /// The loss up to which a model of this depth and seed trains; NaN if nothing learnt anything.
    pub(super) fn threshold(&self, depth: i64, seed: u64) -> f64 {
        let losses = self.body.arms.iter().flat_map(|arm| self.losses(&arm.name, depth, seed));
        match lowest(losses.flatten()) {
            Some(best) if best < self.unigram => {
                self.unigram - self.body.grid.trains_share * (self.unigram - best)
            }
            _ => f64::NAN,
        }
    }

    pub(super) fn largest(&self, arm: &str, depth: i64, seed: u64) -> Largest {
        match self.complete(arm, depth, seed) {
            Some(losses) => largest_that_trains(self.rates(), &losses, self.threshold(depth, seed)),
            None => Largest::Unknown,
        }
    }

    /// Share of the learning rates at which an arm trains; NaN if a training is missing.
    pub(super) fn share_that_trains(&self, arm: &str, depth: i64, seed: u64) -> f64 {
        let threshold = self.threshold(depth, seed);
        self.complete(arm, depth, seed).map_or(f64::NAN, |losses| {
            losses.iter().filter(|&&loss| loss <= threshold).count() as f64 / losses.len() as f64
        })
    }

    /// By how much the lowest loss of an arm misses the threshold, nats per token; negative if it trains, NaN if a
    /// training is missing. An arm whose every training diverged has learnt nothing.
    pub(super) fn miss(&self, arm: &str, depth: i64, seed: u64) -> f64 {
        let lowest = self.lowest(arm, depth, seed);
        let lowest = if lowest == f64::INFINITY { self.unigram } else { lowest };
        lowest - self.threshold(depth, seed)
    }

    /// How a training with this loss ended.
    pub(super) fn end(&self, loss: Option<f64>, depth: i64, seed: u64) -> End {
        match loss {
            None => End::Missing,
            Some(loss) if !loss.is_finite() => End::Diverged,
            Some(loss) if loss <= self.threshold(depth, seed) => End::Trains(loss),
            Some(loss) if loss < self.unigram - PLATEAU => End::Lags(loss),
            Some(loss) if loss <= self.unigram + PLATEAU => End::Plateau(loss),
            Some(loss) => End::Worse(loss),
        }
    }
}

/// A final loss that differs by no more than this from that of a guess by frequencies, nats per token, is that of a
/// model which has learnt next to nothing of what lies before a token.
pub(super) const PLATEAU: f64 = 0.05;

/// The smallest finite value.
fn lowest(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    values.into_iter().filter(|value| value.is_finite()).min_by(f64::total_cmp)
}
