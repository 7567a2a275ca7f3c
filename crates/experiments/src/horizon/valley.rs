//! What the trainings of a run say, horizon by horizon: the loss against the learning rate is a valley.

use std::collections::BTreeSet;

use forerun_runs::results::Row;
use forerun_scaling::parabola::{Optimum, ParabolaConfig, Reason};
use serde_json::Value;

use super::fit::{self, Law, Run, Upright};
use super::rate::predicted;
use super::{Arm, HELD_OUT, HorizonConfig, Place, Rate};
use crate::outcome::Curve;
use crate::plan::counted;

/// Series of held-out losses that a training leaves, by update or token.
pub(super) const HELD_OUT_LOSS: &str = "validation-loss";

/// All trainings of a run.
#[derive(Clone)]
pub(super) struct Valleys<'a> {
    pub(super) body: &'a HorizonConfig,
    reader: Reader,
    trained: Vec<Trained>,
    /// The seeds that were trained.
    pub(super) seeds: Vec<u64>,
    /// The learning rate that was trained at the held-out horizon as what the law of the shorter ones predicts.
    pub(super) predicted: Option<f64>,
    /// The one that was trained there as that of a shorter horizon.
    pub(super) carried: Option<f64>,
}

/// How the best learning rates are read off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reader {
    /// From a parabola for each horizon.
    Parabolas(ParabolaConfig),
    /// From parabolas less the slant that the horizons of a law share.
    Upright(ParabolaConfig),
}

#[derive(Clone)]
struct Trained {
    place: Place,
    run: Run,
}

/// The best of what was tried at the held-out horizon without the law's help.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Best {
    /// The rate with the lowest mean loss of all but the predicted one. So a prediction that is better than everything
    /// else has a loss below it, and is not compared with itself.
    pub(super) lr: f64,
    /// The lowest mean loss of all is that of the lowest or the highest rate: a better one may lie beyond.
    pub(super) at_edge: bool,
}

impl<'a> Valleys<'a> {
    /// `rows` tell the learning rates that cells found for themselves.
    pub(super) fn new(body: &'a HorizonConfig, rows: &[Row], curves: &[Curve]) -> Self {
        let trained: Vec<Trained> =
            curves.iter().filter_map(|curve| training(body, rows, curve)).collect();
        let seeds: BTreeSet<u64> = trained.iter().map(|one| one.run.seed).collect();
        let chosen = |rate: Rate| {
            let found = trained.iter().find(|one| one.place.rate == rate && one.run.lr.is_finite());
            found.map(|one| one.run.lr)
        };
        let (predicted, carried) = (chosen(Rate::Predicted), chosen(Rate::Carried));
        let reader = Reader::Parabolas(body.sweep.parabola);
        let seeds = seeds.into_iter().collect();
        let trained = trained.into_iter().filter(|one| one.run.lr.is_finite()).collect();
        Self { body, reader, trained, seeds, predicted, carried }
    }

    /// The same trainings, read in another way.
    pub(super) fn read_by(&self, reader: Reader) -> Self {
        Self { reader, ..self.clone() }
    }

    fn config(&self) -> &ParabolaConfig {
        match &self.reader {
            Reader::Parabolas(config) | Reader::Upright(config) => config,
        }
    }

    /// The trainings of an arm at a horizon.
    pub(super) fn runs(&self, arm: &Arm, part: f64) -> Vec<Run> {
        let here = |one: &&Trained| one.place.arm == arm.name && one.place.part == part;
        self.trained.iter().filter(here).map(|one| one.run).collect()
    }

    fn runs_at(&self, arm: &Arm, parts: &[f64]) -> Vec<Run> {
        parts.iter().flat_map(|&part| self.runs(arm, part)).collect()
    }

    /// Learning rates of a horizon with the mean loss over `seeds`, ascending.
    pub(super) fn means(&self, arm: &Arm, part: f64, seeds: &[u64]) -> Vec<(f64, f64)> {
        fit::means(&self.runs(arm, part), self.body.n_tokens(part), seeds)
    }

    /// Where the mean loss over `seeds` is lowest at a horizon, by its parabola.
    pub(super) fn optimum(&self, arm: &Arm, part: f64, seeds: &[u64]) -> Optimum {
        let n_tokens = self.body.n_tokens(part);
        fit::optimum(&self.runs(arm, part), n_tokens, seeds, self.config())
    }

    /// The optima of single seeds at a horizon; NaN where a seed shows none.
    pub(super) fn optima_by_seed(&self, arm: &Arm, part: f64) -> Vec<f64> {
        self.seeds.iter().map(|&seed| self.optimum_of(arm, part, seed)).collect()
    }

    /// The optimum of one seed; NaN if it shows none.
    pub(super) fn optimum_of(&self, arm: &Arm, part: f64, seed: u64) -> f64 {
        self.optimum(arm, part, &[seed]).vertex().map_or(f64::NAN, |vertex| vertex.x)
    }

    fn horizons(&self, parts: &[f64]) -> Vec<f64> {
        parts.iter().map(|&part| self.body.n_tokens(part)).collect()
    }

    /// What the valleys of these horizons show together.
    pub(super) fn upright(&self, arm: &Arm, parts: &[f64], seeds: &[u64]) -> Upright {
        fit::upright(&self.runs_at(arm, parts), &self.horizons(parts), seeds, self.config())
    }

    /// The law through the optima of these horizons.
    pub(super) fn law(&self, arm: &Arm, parts: &[f64], seeds: &[u64]) -> Option<Law> {
        match &self.reader {
            Reader::Parabolas(config) => {
                fit::law(&self.runs_at(arm, parts), &self.horizons(parts), seeds, config)
            }
            Reader::Upright(_) => self.upright(arm, parts, seeds).law(),
        }
    }

    /// How many of these horizons show an optimum.
    pub(super) fn n_optima(&self, arm: &Arm, parts: &[f64], seeds: &[u64]) -> usize {
        match &self.reader {
            Reader::Parabolas(_) => {
                let shows = |&&part: &&f64| self.optimum(arm, part, seeds).vertex().is_some();
                parts.iter().filter(shows).count()
            }
            Reader::Upright(_) => self.upright(arm, parts, seeds).optima.len(),
        }
    }

    /// The law of the fitted horizons.
    pub(super) fn fitted_law(&self, seeds: &[u64]) -> Option<Law> {
        self.law(self.body.subject()?, &self.body.horizons.fitted, seeds)
    }

    /// What the fitted horizons of these seeds predict for the held-out one.
    pub(super) fn prediction(&self, seeds: &[u64]) -> Option<f64> {
        let runs = self.runs_at(self.body.subject()?, &self.body.horizons.fitted);
        predicted(&runs, self.body.n_tokens(HELD_OUT), seeds, self.config())
    }

    /// What the horizon that is carried from says of these seeds.
    pub(super) fn carried_over(&self, seeds: &[u64]) -> Option<f64> {
        let from = self.body.horizons.carried_from;
        self.optimum(self.body.subject()?, from, seeds).vertex().map(|vertex| vertex.x)
    }

    /// The best learning rates that were tried at the held-out horizon, over all seeds.
    pub(super) fn best(&self) -> Option<Best> {
        let sound = self.sound();
        let of_all = lowest(sound.iter())?;
        let ends = [sound.first()?.0, sound.last()?.0];
        let lr = lowest(sound.iter().filter(|point| Some(point.0) != self.predicted))?;
        Some(Best { lr, at_edge: ends.contains(&of_all) })
    }

    /// The best learning rate for a seed that was tried at the held-out horizon without the law's help, as the other seeds
    /// have it: so no seed's own luck makes a rate look good. A single seed has no others.
    pub(super) fn best_for(&self, seed: u64) -> Option<f64> {
        let others: Vec<u64> = self.seeds.iter().copied().filter(|&other| other != seed).collect();
        let judges = if others.is_empty() { &self.seeds } else { &others };
        let sound: Vec<f64> = self.sound().into_iter().map(|point| point.0).collect();
        let means = self.means(self.body.subject()?, HELD_OUT, judges);
        let counts =
            |point: &&(f64, f64)| sound.contains(&point.0) && Some(point.0) != self.predicted;
        lowest(means.iter().filter(counts))
    }

    /// The rates at the held-out horizon at which no seed diverged, with the mean loss of all.
    fn sound(&self) -> Vec<(f64, f64)> {
        let Some(arm) = self.body.subject() else { return Vec::new() };
        let means = self.means(arm, HELD_OUT, &self.seeds);
        means.into_iter().filter(|point| point.1.is_finite()).collect()
    }

    /// Loss of a seed at the held-out horizon with a learning rate; NaN if there is none.
    pub(super) fn held_out_loss(&self, lr: Option<f64>, seed: u64) -> f64 {
        let Some((arm, lr)) = self.body.subject().zip(lr) else { return f64::NAN };
        let runs = self.runs(arm, HELD_OUT);
        let found = runs.iter().find(|run| run.lr == lr && run.seed == seed);
        found.map_or(f64::NAN, |run| run.loss)
    }
}

/// The rate with the lowest loss.
fn lowest<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> Option<f64> {
    points.min_by(|a, b| a.1.total_cmp(&b.1)).map(|point| point.0)
}

fn training(body: &HorizonConfig, rows: &[Row], curve: &Curve) -> Option<Trained> {
    if curve.series != HELD_OUT_LOSS {
        return None;
    }
    let place: Place = curve.arm.parse().ok()?;
    let end = body.end(place.part);
    let at_the_end = curve.points.iter().find(|point| point.0 == end);
    let lr = match place.rate {
        Rate::At(lr) => lr,
        Rate::Predicted | Rate::Carried => found_rate(rows, curve).unwrap_or(f64::NAN),
    };
    let run = Run {
        seed: curve.seed,
        n_tokens: body.n_tokens(place.part),
        lr,
        loss: at_the_end.map_or(f64::NAN, |point| point.1),
    };
    Some(Trained { place, run })
}

/// The learning rate that a training's cell found, as it told.
fn found_rate(rows: &[Row], curve: &Curve) -> Option<f64> {
    let here = |row: &&Row| {
        row.get("arm").and_then(Value::as_str) == Some(curve.arm.as_str())
            && row.get("seed").and_then(Value::as_u64) == Some(curve.seed)
    };
    rows.iter().find(here)?.get("lr")?.as_f64()
}

/// Why a valley shows no optimum, for people.
pub(super) fn reason_in_words(optimum: &Optimum) -> Option<String> {
    let Optimum::NotIdentified(reason, _) = optimum else { return None };
    Some(match reason {
        Reason::TooFewPoints { n } => {
            let rates = counted(*n as u64, "learning rate");
            format!("{rates} with a loss near the lowest at every seed, and a parabola needs three")
        }
        Reason::NotConvex { .. } => "the losses do not curve upwards".to_owned(),
        Reason::AtEdge { below: true, .. } => {
            "the best learning rate lies below all that its parabola goes through".to_owned()
        }
        Reason::AtEdge { below: false, .. } => {
            "the best learning rate lies above all that its parabola goes through".to_owned()
        }
        Reason::PoorFit { r2 } => format!("a parabola explains only {:.0} % of it", r2 * 100.0),
    })
}
