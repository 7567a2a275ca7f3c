//! What the trainings of the grid say: which of them train, and the largest learning rate of each arm that does.

use std::collections::BTreeSet;

use super::{MagnetoConfig, Place};
use crate::outcome::Curve;

/// Series of held-out losses that a training leaves, by update.
const HELD_OUT: &str = "validation-loss";
/// What the cell that counts tokens is called among the arms.
pub(super) const TEXT: &str = "text";
/// The loss of a guess by the frequencies of tokens, nats per token.
pub(super) const UNIGRAM: &str = "unigram-loss";

/// The final losses of all trainings.
pub(super) struct Grid<'a> {
    body: &'a MagnetoConfig,
    trained: Vec<Trained>,
    unigram: f64,
}

struct Trained {
    place: Place,
    seed: u64,
    /// Held-out loss after the last update, nats per token; NaN if it diverged before.
    loss: f64,
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
}

impl Largest {
    pub(super) fn rate(self) -> Option<f64> {
        match self {
            Self::None => None,
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
    pub(super) fn new(body: &'a MagnetoConfig, curves: &[Curve]) -> Self {
        let trained = curves.iter().filter(|curve| curve.series == HELD_OUT).filter_map(|curve| {
            let at_the_end = curve.points.iter().find(|point| point.0 == body.last_step());
            let loss = at_the_end.map_or(f64::NAN, |point| point.1);
            Some(Trained { place: curve.arm.parse().ok()?, seed: curve.seed, loss })
        });
        let text = curves.iter().find(|curve| curve.arm == TEXT && curve.series == UNIGRAM);
        let unigram = text.and_then(|curve| curve.points.first()).map_or(f64::NAN, |point| point.1);
        Self { body, trained: trained.collect(), unigram }
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

    /// Final losses of an arm by learning rate; NaN for what diverged or is missing.
    pub(super) fn losses(&self, arm: &str, depth: i64, seed: u64) -> Vec<f64> {
        let at = |&lr: &f64| {
            let here = |trained: &&Trained| {
                let Place { arm: name, depth: layers, lr: rate } = &trained.place;
                (name.as_str(), *layers, *rate, trained.seed) == (arm, depth, lr, seed)
            };
            self.trained.iter().find(here).map_or(f64::NAN, |trained| trained.loss)
        };
        self.rates().iter().map(at).collect()
    }

    /// The lowest final loss of an arm; NaN if every training diverged.
    pub(super) fn best(&self, arm: &str, depth: i64, seed: u64) -> f64 {
        lowest(self.losses(arm, depth, seed))
    }

    /// Where it was reached.
    pub(super) fn best_rate(&self, arm: &str, depth: i64, seed: u64) -> Option<f64> {
        let losses = self.losses(arm, depth, seed);
        let pairs = self.rates().iter().zip(losses).filter(|pair| pair.1.is_finite());
        pairs.min_by(|a, b| a.1.total_cmp(&b.1)).map(|pair| *pair.0)
    }

    /// The loss up to which a model of this depth and seed trains; NaN if nothing learnt anything.
    pub(super) fn threshold(&self, depth: i64, seed: u64) -> f64 {
        let best = lowest(self.body.arms.iter().map(|arm| self.best(&arm.name, depth, seed)));
        if best < self.unigram {
            self.unigram - self.body.grid.trains_share * (self.unigram - best)
        } else {
            f64::NAN
        }
    }

    pub(super) fn largest(&self, arm: &str, depth: i64, seed: u64) -> Largest {
        let losses = self.losses(arm, depth, seed);
        largest_that_trains(self.rates(), &losses, self.threshold(depth, seed))
    }

    /// Share of the learning rates at which an arm trains.
    pub(super) fn share_that_trains(&self, arm: &str, depth: i64, seed: u64) -> f64 {
        let threshold = self.threshold(depth, seed);
        let losses = self.losses(arm, depth, seed);
        losses.iter().filter(|&&loss| loss <= threshold).count() as f64 / losses.len() as f64
    }

    /// By how much the best of an arm misses the threshold, nats per token; negative if it trains. An arm whose every
    /// training diverged has learnt nothing.
    pub(super) fn miss(&self, arm: &str, depth: i64, seed: u64) -> f64 {
        let best = self.best(arm, depth, seed);
        let best = if best.is_finite() { best } else { self.unigram };
        best - self.threshold(depth, seed)
    }

    /// How the training of a place ended.
    pub(super) fn end(&self, loss: f64, depth: i64, seed: u64) -> End {
        match loss {
            loss if !loss.is_finite() => End::Diverged,
            loss if loss <= self.threshold(depth, seed) => End::Trains(loss),
            loss if loss < self.unigram - PLATEAU => End::Lags(loss),
            loss if loss <= self.unigram + PLATEAU => End::Plateau(loss),
            loss => End::Worse(loss),
        }
    }
}

/// A final loss that differs by no more than this from that of a guess by frequencies, nats per token, is that of a
/// model which has learnt next to nothing of what lies before a token.
pub(super) const PLATEAU: f64 = 0.05;

/// The smallest finite value; NaN if there is none.
fn lowest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().filter(|value| value.is_finite()).fold(f64::NAN, f64::min)
}

impl MagnetoConfig {
    fn last_step(&self) -> f64 {
        self.training().steps as f64
    }
}
