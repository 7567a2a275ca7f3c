//! The questions that the parts of a report ask of a run.

use forerun_runs::results::Row;
use forerun_runs::seed::Seed;
use forerun_runs::stats;
use forerun_scaling::Fit;
use forerun_scaling::audit::rule_of_thumb;
use forerun_scaling::parabola::{Optimum, Reason};
use forerun_scaling::units::Tokens;
use serde_json::Value;

use crate::config::Experiment;
use crate::horizon::fit::Law;
use crate::horizon::spread::{Known, Spread};
use crate::horizon::valley::{Valleys, reason_in_words};
use crate::horizon::{Arm, HELD_OUT, HorizonConfig, fit, verdicts};
use crate::outcome::Curve;
use crate::report_parts::Mean;

/// Everything that the report is made of.
pub(super) struct Findings<'a> {
    pub(super) experiment: &'a Experiment,
    rows: &'a [Row],
    pub(super) body: &'a HorizonConfig,
    pub(super) valleys: Valleys<'a>,
    /// The law of the fitted horizons.
    pub(super) fitted: Option<Spread>,
    /// The law of all horizons.
    pub(super) whole: Option<Spread>,
}

/// A fitted horizon that has no part in the law.
pub(super) struct Missing {
    pub(super) part: f64,
    pub(super) reason: String,
    /// What its part would be, where its best rate lies beyond what its parabola goes through.
    pub(super) beyond: Option<Beyond>,
}

/// What a horizon whose best rate lies beyond what its parabola goes through would make of the law.
pub(super) struct Beyond {
    /// Where the parabola is lowest, or the end of what was tried, if that is nearer.
    pub(super) rate: f64,
    /// Whether it is the end.
    pub(super) is_end: bool,
    /// The exponent with the best rate there.
    pub(super) exponent: f64,
    /// Whether the exponent is larger with a best rate further out.
    pub(super) grows: bool,
}

impl<'a> Findings<'a> {
    pub(super) fn new(
        experiment: &'a Experiment,
        body: &'a HorizonConfig,
        rows: &'a [Row],
        curves: &[Curve],
    ) -> Self {
        let valleys = Valleys::new(body, rows, curves);
        let spread = |parts: &[f64], label: &str| {
            let seed = Seed::new(experiment.root_seed);
            let mut rng = seed.stream(&format!("lr-horizon/{label}"));
            Spread::new(&valleys, body.subject()?, parts, &mut rng)
        };
        let fitted = spread(&body.horizons.fitted, "fitted");
        let all = body.subject().map_or_else(Vec::new, |arm| body.parts(arm));
        let whole = spread(&all, "whole");
        Self { experiment, rows, body, valleys, fitted, whole }
    }

    pub(super) fn subject(&self) -> Option<&'a Arm> {
        self.body.subject()
    }

    pub(super) fn n_tokens(&self, part: f64) -> f64 {
        self.body.n_tokens(part)
    }

    /// Every horizon of an arm, as parts of the held-out one.
    pub(super) fn parts(&self, arm: &Arm) -> Vec<f64> {
        self.body.parts(arm)
    }

    /// How the valley of all seeds at a horizon was read.
    pub(super) fn valley(&self, arm: &Arm, part: f64) -> Optimum {
        self.valleys.optimum(arm, part, &self.valleys.seeds)
    }

    /// The best learning rate of a horizon, with Student's interval over the optima of single seeds.
    pub(super) fn optimum(&self, arm: &Arm, part: f64) -> Option<Known> {
        let vertex = *self.valley(arm, part).vertex()?;
        Some(Known::of_rates(vertex.x, &self.valleys.optima_by_seed(arm, part)))
    }

    /// The fitted horizons that have no part in the law, as the means of all seeds show no optimum there.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let Some(arm) = self.subject() else { return Vec::new() };
        let missing = |&part: &f64| {
            let valley = self.valley(arm, part);
            let reason = reason_in_words(&valley)?;
            Some(Missing { part, reason, beyond: self.beyond(arm, part, &valley) })
        };
        self.body.horizons.fitted.iter().filter_map(missing).collect()
    }

    fn beyond(&self, arm: &Arm, part: f64, valley: &Optimum) -> Option<Beyond> {
        let Optimum::NotIdentified(Reason::AtEdge { below, x }, _) = valley else { return None };
        let means = self.valleys.means(arm, part, &self.valleys.seeds);
        let sound: Vec<f64> =
            means.iter().filter(|point| point.1.is_finite()).map(|point| point.0).collect();
        let (first, last) = (*sound.first()?, *sound.last()?);
        let (rate, is_end) = (x.clamp(first, last), !(first..=last).contains(x));
        let others =
            self.body.horizons.fitted.iter().filter_map(|&other| {
                Some((self.n_tokens(other), self.valley(arm, other).vertex()?.x))
            });
        let others: Vec<(f64, f64)> = others.collect();
        let with = |rate: f64| {
            let all = [others.as_slice(), &[(self.n_tokens(part), rate)]].concat();
            Some(Law::through(&all)?.exponent())
        };
        let exponent = with(rate)?;
        let further = if *below { rate / 2.0 } else { rate * 2.0 };
        Some(Beyond { rate, is_end, exponent, grows: with(further)? > exponent })
    }

    /// Of each seed by itself, how many octaves the law's prediction for the held-out horizon and the rate that is carried
    /// over lie from its optimum there, NaN where it has none.
    pub(super) fn distances(&self) -> Option<[Vec<f64>; 2]> {
        let arm = self.subject()?;
        let errors = |&seed: &u64| verdicts::errors(&self.valleys, arm, seed).map(f64::abs);
        let errors: Vec<[f64; 2]> = self.valleys.seeds.iter().map(errors).collect();
        Some([0, 1].map(|index| errors.iter().map(|error| error[index]).collect()))
    }

    /// The exponent between the two longest horizons of the first arm alone, over single seeds.
    pub(super) fn last_exponent(&self) -> Option<Mean> {
        let arm = self.subject()?;
        let shorter = self.body.horizons.fitted.last().copied()?;
        let growth = (self.n_tokens(HELD_OUT) / self.n_tokens(shorter)).ln();
        let [short, long] = [shorter, HELD_OUT].map(|part| self.valleys.optima_by_seed(arm, part));
        let exponents: Vec<f64> =
            short.iter().zip(&long).map(|(short, long)| (short / long).ln() / growth).collect();
        let mean = Mean::of(&exponents);
        mean.value.is_finite().then_some(mean)
    }

    /// The rates that the best of the others means, by seed: the others have it, so that seeds may differ.
    pub(super) fn best_rates(&self) -> Vec<f64> {
        let seeds = self.valleys.seeds.iter();
        let mut rates: Vec<f64> = seeds.filter_map(|&seed| self.valleys.best_for(seed)).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        rates
    }

    /// Mean held-out loss at the best of the others.
    pub(super) fn best_loss(&self) -> f64 {
        let of = |&seed: &u64| self.valleys.held_out_loss(self.valleys.best_for(seed), seed);
        stats::mean(&self.valleys.seeds.iter().map(of).collect::<Vec<f64>>())
    }

    /// Horizons of the first arm that show an optimum.
    pub(super) fn n_horizons(&self) -> usize {
        let Some(arm) = self.subject() else { return 0 };
        let shows = |part: &f64| self.valley(arm, *part).vertex().is_some();
        self.parts(arm).into_iter().filter(shows).count()
    }

    /// Whether the law of all horizons is known to fall.
    pub(super) fn falls(&self) -> bool {
        let exponent = self.whole.as_ref().map(Spread::exponent);
        exponent.and_then(|known| known.interval).is_some_and(|interval| interval.low > 0.0)
    }

    /// By how much the held-out loss at a learning rate lies above that at the best that was tried without the law's
    /// help, which for each seed the others choose, paired by seed; below 0 if it is better.
    pub(super) fn regret(&self, lr: Option<f64>) -> Option<Mean> {
        let above = |&seed: &u64| {
            let best = self.valleys.best_for(seed);
            self.valleys.held_out_loss(lr, seed) - self.valleys.held_out_loss(best, seed)
        };
        let values: Vec<f64> = self.valleys.seeds.iter().map(above).collect();
        values.iter().all(|value| value.is_finite()).then(|| Mean::of(&values))
    }

    /// Mean held-out loss at a learning rate.
    pub(super) fn held_out_loss(&self, lr: Option<f64>) -> f64 {
        let seeds = self.valleys.seeds.iter();
        let losses: Vec<f64> = seeds.map(|&seed| self.valleys.held_out_loss(lr, seed)).collect();
        stats::mean(&losses)
    }

    /// What the rule of thumb makes of the learning rate that is carried over.
    pub(super) fn thumb(&self) -> Option<f64> {
        let (from, to) = (self.body.horizons.carried_from, HELD_OUT);
        let [from, to] = [from, to].map(|part| Tokens(self.n_tokens(part)));
        Some(rule_of_thumb(self.valleys.carried?, from, to))
    }

    /// Nats by which the lowest loss falls when the logarithm of the horizon grows by 1, between the last two horizons.
    pub(super) fn loss_by_log_tokens(&self) -> Option<f64> {
        let arm = self.subject()?;
        let shorter = self.body.horizons.fitted.last().copied()?;
        let lowest = |part| self.valley(arm, part).vertex().map(|vertex| vertex.loss);
        let fall = lowest(shorter)? - lowest(HELD_OUT)?;
        let slope = fall / (self.n_tokens(HELD_OUT) / self.n_tokens(shorter)).ln();
        (slope > 0.0).then_some(slope)
    }

    /// Tokens beyond the horizon that would make up for a loss, as a part of it.
    pub(super) fn tokens_lost(&self, regret: f64) -> Option<f64> {
        Some((regret / self.loss_by_log_tokens()?).exp_m1())
    }

    /// Parameters of an arm, from its trainings.
    pub(super) fn n_params(&self, arm: &Arm) -> Option<f64> {
        self.rows(arm).find_map(|row| row.get("n_params")?.as_f64())
    }

    /// The trainings of an arm.
    pub(super) fn rows(&self, arm: &Arm) -> impl Iterator<Item = &'a Row> {
        let name = arm.name.clone();
        let own = move |row: &&Row| row.get("variant").and_then(|v| v.as_str()) == Some(&name);
        self.rows.iter().filter(own)
    }

    /// Trainings of an arm's grid at a horizon that diverged.
    pub(super) fn n_diverged(&self, arm: &Arm, part: f64) -> usize {
        let diverged = |row: &&Row| {
            let is = |name: &str, word: &str| row.get(name).and_then(Value::as_str) == Some(word);
            let here = row.get("horizon").and_then(Value::as_f64) == Some(part);
            here && is("rate", "grid") && is("outcome", "diverged")
        };
        self.rows(arm).filter(diverged).count()
    }

    /// The law of size and horizon over the arms of the standard parametrisation; none unless there are two sizes.
    pub(super) fn joint(&self) -> Option<Fit> {
        let mut points = Vec::new();
        for arm in self.body.arms.iter().filter(|arm| is_standard(arm)) {
            let Some(n_params) = self.n_params(arm) else { continue };
            for part in self.parts(arm) {
                let vertex = self.valley(arm, part);
                let point = vertex.vertex().map(|vertex| (n_params, self.n_tokens(part), vertex.x));
                points.extend(point);
            }
        }
        fit::joint(&points)
    }

    /// Epochs of the training text in the longest horizon, where the text is ours.
    pub(super) fn epochs(&self) -> Option<f64> {
        if self.body.external.is_some() {
            return None;
        }
        let text = self.rows(self.subject()?).find_map(|row| row.get("text_tokens")?.as_f64())?;
        Some(self.n_tokens(HELD_OUT) / text)
    }
}

fn is_standard(arm: &Arm) -> bool {
    use forerun_arch::Parametrisation;
    let standard = |model: &forerun_arch::DecoderConfig| {
        matches!(model.parametrisation, Parametrisation::Standard)
    };
    arm.model.as_ref().is_none_or(standard)
}
