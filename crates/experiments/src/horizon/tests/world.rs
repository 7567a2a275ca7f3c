//! Runs that are made up, of laws that are known.

use forerun_runs::results::Row;
use forerun_runs::seed::Seed;
use rand::Rng;
use serde_json::json;

use crate::config::Experiment;
use crate::horizon::valley::{HELD_OUT_LOSS, Valleys};
use crate::horizon::{Arm, HELD_OUT, HorizonConfig, Place, Rate};
use crate::outcome::Curve;

/// What trainings of a law would leave: a valley around the best rate, whose place and level vary with the seed.
#[derive(Clone, Copy)]
pub(in crate::horizon) struct World {
    /// The best learning rate at the held-out horizon.
    pub(in crate::horizon) best: f64,
    pub(in crate::horizon) exponent: f64,
    pub(in crate::horizon) curvature: f64,
    /// By how much too large a rate costs more than too small a one.
    pub(in crate::horizon) slant: f64,
    /// How many times larger the best rate of the narrow arm is.
    pub(in crate::horizon) narrow: f64,
    /// Spread of each seed's best rate at each horizon, natural logarithm.
    pub(in crate::horizon) jitter: f64,
    /// Spread of each loss.
    pub(in crate::horizon) noise: f64,
    pub(in crate::horizon) salt: u64,
}

pub(in crate::horizon) const WORLD: World = World {
    best: 0.0035,
    exponent: 0.25,
    curvature: 0.04,
    slant: 0.0,
    narrow: 1.0,
    jitter: 0.03,
    noise: 0.0,
    salt: 7,
};

/// Everything that a run reads back.
pub(in crate::horizon) struct Made {
    pub(in crate::horizon) rows: Vec<Row>,
    pub(in crate::horizon) curves: Vec<Curve>,
}

impl World {
    fn loss(&self, body: &HorizonConfig, arm: &str, part: f64, seed: u64, lr: f64) -> f64 {
        let stream = |name: String| Seed::new(self.salt).stream(&name);
        let shift = self.jitter * stream(format!("{arm}/{part}/{seed}")).random_range(-1.0..1.0);
        let noise =
            self.noise * stream(format!("{arm}/{part}/{seed}/{lr}")).random_range(-1.0..1.0);
        let horizon = body.n_tokens(part) / body.n_tokens(HELD_OUT);
        let times = if arm == "narrow" { self.narrow } else { 1.0 };
        let best = times * self.best * horizon.powf(-self.exponent) * f64::exp(shift);
        let level = 1.6 - 0.15 * horizon.ln() + 0.02 * seed as f64;
        let beside = (lr / best).ln();
        level + self.curvature * beside.powi(2) + self.slant * beside.powi(3) + noise
    }

    fn curve(&self, body: &HorizonConfig, place: &Place, seed: u64, lr: f64) -> Curve {
        let loss = self.loss(body, &place.arm, place.part, seed, lr);
        // One evaluation on the way, which no valley is made of.
        let points = vec![(1.0, 5.0), (body.end(place.part), loss)];
        Curve { arm: place.to_string(), seed, series: HELD_OUT_LOSS.to_owned(), points }
    }

    /// Everything that an experiment trains.
    pub(in crate::horizon) fn made(&self, experiment: &Experiment, body: &HorizonConfig) -> Made {
        let mut made = Made { rows: Vec::new(), curves: Vec::new() };
        let train = |made: &mut Made, arm: &Arm, part: f64, rate: Rate, seed: u64, lr: f64| {
            let place = Place { arm: arm.name.clone(), part, rate };
            made.rows.push(row(&place, seed, lr));
            made.curves.push(self.curve(body, &place, seed, lr));
        };
        for seed in 0..experiment.seeds {
            for arm in &body.arms {
                for part in body.parts(arm) {
                    for &lr in body.rates(arm, part) {
                        train(&mut made, arm, part, Rate::At(lr), seed, lr);
                    }
                }
            }
        }
        let valleys = made.valleys(body);
        let chosen = [
            (Rate::Predicted, valleys.prediction(&valleys.seeds)),
            (Rate::Carried, valleys.carried_over(&valleys.seeds)),
        ];
        for (rate, lr) in chosen {
            let Some(lr) = lr else { continue };
            for &seed in &valleys.seeds {
                train(&mut made, &body.arms[0], HELD_OUT, rate, seed, lr);
            }
        }
        made
    }
}

/// What a cell says of a training.
fn row(place: &Place, seed: u64, lr: f64) -> Row {
    let row = [("arm", json!(place.to_string())), ("seed", json!(seed)), ("lr", json!(lr))];
    let more = [
        ("variant", json!(place.arm)),
        ("horizon", json!(place.part)),
        ("outcome", json!("finished")),
    ];
    row.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Made {
    pub(in crate::horizon) fn valleys<'a>(&self, body: &'a HorizonConfig) -> Valleys<'a> {
        Valleys::new(body, &self.rows, &self.curves)
    }
}
