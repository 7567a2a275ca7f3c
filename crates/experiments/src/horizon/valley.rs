//! What the trainings of a run say, horizon by horizon: the loss against the learning rate is a valley.

use std::collections::BTreeSet;

use forerun_scaling::parabola::{Optimum, Reason};

use super::fit::{self, Law, Run};
use super::rate::predicted;
use super::{Arm, HELD_OUT, HorizonConfig, Place, Rate};
use crate::outcome::Curve;
use crate::plan::counted;

/// Series of held-out losses that a training leaves, by update or token.
pub(super) const HELD_OUT_LOSS: &str = "validation-loss";

/// All trainings of a run.
pub(super) struct Valleys<'a> {
    pub(super) body: &'a HorizonConfig,
    trained: Vec<Trained>,
    /// The seeds that were trained.
    pub(super) seeds: Vec<u64>,
    /// The learning rate that the law of the shorter horizons predicts for the held-out one.
    pub(super) predicted: Option<f64>,
    /// The one that is carried over.
    pub(super) carried: Option<f64>,
}

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
    pub(super) fn new(body: &'a HorizonConfig, curves: &[Curve]) -> Self {
        let mut trained: Vec<Trained> =
            curves.iter().filter_map(|curve| training(body, curve)).collect();
        let seeds: BTreeSet<u64> = trained.iter().map(|one| one.run.seed).collect();
        let seeds: Vec<u64> = seeds.into_iter().collect();
        let mut valleys = Self { body, trained: Vec::new(), seeds, predicted: None, carried: None };
        let chosen = trained.extract_if(.., |one| !matches!(one.place.rate, Rate::At(_)));
        let chosen: Vec<Trained> = chosen.collect();
        valleys.trained = trained;
        valleys.predicted = valleys.prediction(&valleys.seeds);
        valleys.carried = valleys.carried_over();
        for mut one in chosen {
            // The very number that its cell computed, from the same losses.
            let lr = match one.place.rate {
                Rate::Predicted => valleys.predicted,
                _ => valleys.carried,
            };
            let Some(lr) = lr else { continue };
            one.run.lr = lr;
            valleys.trained.push(one);
        }
        valleys
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

    /// Where the mean loss over `seeds` is lowest at a horizon.
    pub(super) fn optimum(&self, arm: &Arm, part: f64, seeds: &[u64]) -> Optimum {
        let n_tokens = self.body.n_tokens(part);
        fit::optimum(&self.runs(arm, part), n_tokens, seeds, &self.body.sweep.parabola)
    }

    /// The optima of single seeds at a horizon; NaN where a seed shows none.
    pub(super) fn optima_by_seed(&self, arm: &Arm, part: f64) -> Vec<f64> {
        let of = |&seed: &u64| {
            self.optimum(arm, part, &[seed]).vertex().map_or(f64::NAN, |vertex| vertex.x)
        };
        self.seeds.iter().map(of).collect()
    }

    /// The law through the optima of these horizons.
    pub(super) fn law(&self, arm: &Arm, parts: &[f64], seeds: &[u64]) -> Option<Law> {
        let horizons: Vec<f64> = parts.iter().map(|&part| self.body.n_tokens(part)).collect();
        fit::law(&self.runs_at(arm, parts), &horizons, seeds, &self.body.sweep.parabola)
    }

    /// The law of the fitted horizons.
    pub(super) fn fitted_law(&self, seeds: &[u64]) -> Option<Law> {
        self.law(self.body.subject()?, &self.body.horizons.fitted, seeds)
    }

    /// What the fitted horizons of these seeds predict for the held-out one.
    pub(super) fn prediction(&self, seeds: &[u64]) -> Option<f64> {
        let runs = self.runs_at(self.body.subject()?, &self.body.horizons.fitted);
        let held_out = self.body.n_tokens(HELD_OUT);
        predicted(&runs, held_out, seeds, &self.body.sweep.parabola)
    }

    fn carried_over(&self) -> Option<f64> {
        let from = self.body.horizons.carried_from;
        self.optimum(self.body.subject()?, from, &self.seeds).vertex().map(|vertex| vertex.x)
    }

    /// The best learning rates that were tried at the held-out horizon, over all seeds.
    pub(super) fn best(&self) -> Option<Best> {
        let means = self.means(self.body.subject()?, HELD_OUT, &self.seeds);
        let sound: Vec<(f64, f64)> =
            means.into_iter().filter(|point| point.1.is_finite()).collect();
        let lowest = |points: &mut dyn Iterator<Item = &(f64, f64)>| {
            points.min_by(|a, b| a.1.total_cmp(&b.1)).map(|point| point.0)
        };
        let of_all = lowest(&mut sound.iter())?;
        let ends = [sound.first()?.0, sound.last()?.0];
        let others = |point: &&(f64, f64)| Some(point.0) != self.predicted;
        let lr = lowest(&mut sound.iter().filter(others))?;
        Some(Best { lr, at_edge: ends.contains(&of_all) })
    }

    /// Loss of a seed at the held-out horizon with a learning rate; NaN if there is none.
    pub(super) fn held_out_loss(&self, lr: Option<f64>, seed: u64) -> f64 {
        let Some((arm, lr)) = self.body.subject().zip(lr) else { return f64::NAN };
        let runs = self.runs(arm, HELD_OUT);
        let found = runs.iter().find(|run| run.lr == lr && run.seed == seed);
        found.map_or(f64::NAN, |run| run.loss)
    }
}

fn training(body: &HorizonConfig, curve: &Curve) -> Option<Trained> {
    if curve.series != HELD_OUT_LOSS {
        return None;
    }
    let place: Place = curve.arm.parse().ok()?;
    let end = body.end(place.part);
    let at_the_end = curve.points.iter().find(|point| point.0 == end);
    let lr = match place.rate {
        Rate::At(lr) => lr,
        Rate::Predicted | Rate::Carried => f64::NAN,
    };
    let run = Run {
        seed: curve.seed,
        n_tokens: body.n_tokens(place.part),
        lr,
        loss: at_the_end.map_or(f64::NAN, |point| point.1),
    };
    Some(Trained { place, run })
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
            "the best learning rate lies below all that were tried".to_owned()
        }
        Reason::AtEdge { below: false, .. } => {
            "the best learning rate lies above all that were tried".to_owned()
        }
        Reason::PoorFit { r2 } => format!("a parabola explains only {:.0} % of it", r2 * 100.0),
    })
}
