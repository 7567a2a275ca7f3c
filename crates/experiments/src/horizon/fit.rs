//! From the losses of trainings to the best learning rate of each horizon, and from those to the law.

use forerun_scaling::law::LrHorizon;
use forerun_scaling::parabola::{Optimum, ParabolaConfig, Reason, parabola};
use forerun_scaling::units::CountUnit;
use forerun_scaling::{Fit, FitConfig, Objective, Observations, Quantity, fit};

/// One training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    /// Number of its seed.
    pub(super) seed: u64,
    /// Its horizon.
    pub(super) n_tokens: f64,
    /// Its peak learning rate.
    pub(super) lr: f64,
    /// Held-out loss at its end, nats per token; NaN if it did not get there.
    pub(super) loss: f64,
}

/// Learning rates of a horizon, ascending, with the mean loss over `seeds`, of which some may come twice; NaN where a
/// seed has no loss. So every mean is over the same seeds, and what they have in common moves no optimum.
pub(super) fn means(runs: &[Run], n_tokens: f64, seeds: &[u64]) -> Vec<(f64, f64)> {
    let here: Vec<&Run> = runs.iter().filter(|run| run.n_tokens == n_tokens).collect();
    let mut rates: Vec<f64> = here.iter().map(|run| run.lr).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let loss = |lr: f64, seed: u64| {
        let found = here.iter().find(|run| run.lr == lr && run.seed == seed);
        found.map_or(f64::NAN, |run| run.loss)
    };
    let mean = |lr: f64| {
        let losses = seeds.iter().map(|&seed| loss(lr, seed));
        losses.sum::<f64>() / seeds.len() as f64
    };
    rates.into_iter().map(|lr| (lr, mean(lr))).collect()
}

/// Where the mean loss over `seeds` is lowest at a horizon.
pub(super) fn optimum(
    runs: &[Run],
    n_tokens: f64,
    seeds: &[u64],
    config: &ParabolaConfig,
) -> Optimum {
    let (rates, losses): (Vec<f64>, Vec<f64>) = means(runs, n_tokens, seeds).into_iter().unzip();
    // What it refuses was refused with the configuration.
    parabola(&rates, &losses, config)
        .unwrap_or(Optimum::NotIdentified(Reason::TooFewPoints { n: 0 }, None))
}

/// The law of the best learning rate of one kind of model, `LR*(D) = C D^-beta`, D in billions of tokens.
#[derive(Clone, Debug)]
pub(super) struct Law {
    law: LrHorizon,
    fit: Fit,
}

impl Law {
    /// Least squares through the logarithms of pairs of tokens and best learning rate; none through fewer than three.
    pub(super) fn through(optima: &[(f64, f64)]) -> Option<Self> {
        let (tokens, rates): (Vec<f64>, Vec<f64>) = optima.iter().copied().unzip();
        let observations = Observations::new("lr", rates).with_input("d", tokens);
        let law = LrHorizon::of_tokens(CountUnit::Billions);
        let fit = fit(&law, &observations, &FitConfig::new(Objective::NlsLog)).ok()?;
        Some(Self { law, fit })
    }

    /// `beta`: above 0 the best learning rate falls with the horizon.
    pub(super) fn exponent(&self) -> f64 {
        self.fit.value("beta").unwrap_or(f64::NAN)
    }

    /// `C`: the best learning rate at a billion tokens, if the law reached so far.
    pub(super) fn constant(&self) -> f64 {
        self.fit.value("C").unwrap_or(f64::NAN)
    }

    /// The best learning rate at a horizon.
    pub(super) fn at(&self, n_tokens: f64) -> f64 {
        let quantity = Quantity::prediction(&self.law, &[("d", n_tokens)]);
        quantity.map_or(f64::NAN, |quantity| quantity.natural(&self.fit.theta))
    }
}

/// The law through the optima of those horizons that show one.
pub(super) fn law(
    runs: &[Run],
    horizons: &[f64],
    seeds: &[u64],
    config: &ParabolaConfig,
) -> Option<Law> {
    let at = |&n_tokens: &f64| {
        optimum(runs, n_tokens, seeds, config).vertex().map(|vertex| (n_tokens, vertex.x))
    };
    Law::through(&horizons.iter().filter_map(at).collect::<Vec<_>>())
}

/// The law of size and horizon, `C N^-alpha D^-beta` with both in billions, through triples of parameters, tokens and
/// best learning rate; none unless there are more than three of at least two sizes and two horizons.
pub(super) fn joint(optima: &[(f64, f64, f64)]) -> Option<Fit> {
    let column = |of: fn(&(f64, f64, f64)) -> f64| optima.iter().map(of).collect::<Vec<f64>>();
    let (sizes, tokens) = (column(|point| point.0), column(|point| point.1));
    let varies = |values: &[f64]| values.iter().any(|value| *value != values[0]);
    if !(varies(&sizes) && varies(&tokens)) {
        return None;
    }
    let observations = Observations::new("lr", column(|point| point.2))
        .with_input("n", sizes)
        .with_input("d", tokens);
    let law = LrHorizon::of_size_and_tokens(CountUnit::Billions);
    fit(&law, &observations, &FitConfig::new(Objective::NlsLog)).ok()
}
