//! From the losses of trainings to the best learning rate of each horizon, and from those to the law.

use forerun_scaling::law::LrHorizon;
use forerun_scaling::parabola::{Optimum, ParabolaConfig, Reason, parabola};
use forerun_scaling::sweep::{self, Slant, Sweep, Valleys};
use forerun_scaling::units::CountUnit;
use forerun_scaling::{Fit, FitConfig, Objective, Observations, fit};

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

/// The law of the best learning rate of one kind of model, `LR*(D) = C D^-beta`, D in billions of tokens: what
/// [`LrHorizon::of_tokens`] fits with [`Objective::NlsLog`], here in closed form, as it is a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Law {
    ln_constant: f64,
    exponent: f64,
}

impl Law {
    /// Least squares through the logarithms of pairs of tokens and best learning rate; none through fewer than three, or
    /// through one horizon.
    pub(super) fn through(optima: &[(f64, f64)]) -> Option<Self> {
        let unit = CountUnit::Billions.size();
        let points: Vec<(f64, f64)> =
            optima.iter().map(|&(tokens, lr)| ((tokens / unit).ln(), lr.ln())).collect();
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
        let law = Self { ln_constant: y - slope * x, exponent: -slope };
        (points.len() > 2 && law.exponent.is_finite()).then_some(law)
    }

    /// `beta`: above 0 the best learning rate falls with the horizon.
    pub(super) fn exponent(&self) -> f64 {
        self.exponent
    }

    /// `C`: the best learning rate at a billion tokens, if the law reached so far.
    pub(super) fn constant(&self) -> f64 {
        self.ln_constant.exp()
    }

    /// The best learning rate at a horizon.
    pub(super) fn at(&self, n_tokens: f64) -> f64 {
        let billions = n_tokens / CountUnit::Billions.size();
        (self.ln_constant - self.exponent * billions.ln()).exp()
    }
}

/// The law through the optima of those horizons that show one: the others have no part in it.
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

/// What is read off the valleys of several horizons at once, less the slant that they share.
pub(super) struct Upright {
    /// Horizons that show an optimum, with it and the number of points that it was read off.
    pub(super) optima: Vec<(f64, f64, usize)>,
    /// The slant; none where the points do not tell it.
    pub(super) slant: Option<Slant>,
}

impl Upright {
    pub(super) fn law(&self) -> Option<Law> {
        Law::through(&self.optima.iter().map(|&(tokens, lr, _)| (tokens, lr)).collect::<Vec<_>>())
    }
}

/// The best learning rates of horizons where too large a rate costs more than too small a one, or less: the vertex of a
/// parabola then lies beside the lowest point, by an amount that hangs on which rates were tried.
pub(super) fn upright(
    runs: &[Run],
    horizons: &[f64],
    seeds: &[u64],
    config: &ParabolaConfig,
) -> Upright {
    let points = horizons.iter().flat_map(|&n_tokens| {
        means(runs, n_tokens, seeds).into_iter().map(move |(lr, loss)| (n_tokens, lr, loss))
    });
    let points: Vec<(f64, f64, f64)> = points.collect();
    let column = |of: fn(&(f64, f64, f64)) -> f64| points.iter().map(of).collect::<Vec<f64>>();
    let (d, lr, loss) = (column(|point| point.0), column(|point| point.1), column(|point| point.2));
    let sweep = Sweep { n: None, d: &d, batch: None, lr: &lr, loss: &loss };
    // What it refuses was refused with the configuration.
    let Ok(read) = sweep::read(&sweep, config) else {
        return Upright { optima: Vec::new(), slant: None };
    };
    let optimum = |cell: &sweep::SweepCell| {
        cell.optimum.vertex().map(|vertex| (cell.d, vertex.x, vertex.n_points))
    };
    Upright {
        optima: read.cells.iter().filter_map(optimum).collect(),
        slant: match read.valleys {
            Valleys::OneSlant { slant, .. } => Some(slant),
            Valleys::Rough { .. } | Valleys::Untested => None,
        },
    }
}

/// The law of size and horizon, `C N^-alpha D^-beta` with both in billions, through triples of parameters, tokens and
/// best learning rate; none unless there are more than three of at least two sizes and two horizons.
pub(super) fn joint(optima: &[(f64, f64, f64)]) -> Option<Fit> {
    let column = |of: fn(&(f64, f64, f64)) -> f64| optima.iter().map(of).collect::<Vec<f64>>();
    let (sizes, tokens) = (column(|point| point.0), column(|point| point.1));
    let varies = |values: &[f64]| values.iter().any(|value| *value != values[0]);
    if optima.is_empty() || !(varies(&sizes) && varies(&tokens)) {
        return None;
    }
    let observations = Observations::new("lr", column(|point| point.2))
        .with_input("n", sizes)
        .with_input("d", tokens);
    let law = LrHorizon::of_size_and_tokens(CountUnit::Billions);
    fit(&law, &observations, &FitConfig::new(Objective::NlsLog)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_straight_line_is_the_fit_of_the_law() {
        let optima = [(2.6e5, 0.0081), (5.2e5, 0.0088), (1.05e6, 0.0062), (2.1e6, 0.0049)];
        let ours = Law::through(&optima).unwrap();
        let (tokens, rates): (Vec<f64>, Vec<f64>) = optima.iter().copied().unzip();
        let observations = Observations::new("lr", rates).with_input("d", tokens);
        let law = LrHorizon::of_tokens(CountUnit::Billions);
        let fit = fit(&law, &observations, &FitConfig::new(Objective::NlsLog)).unwrap();
        assert!((ours.exponent() - fit.value("beta").unwrap()).abs() < 1e-9);
        assert!((ours.constant() / fit.value("C").unwrap() - 1.0).abs() < 1e-8);
        assert!((ours.at(1e9) / ours.constant() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn two_points_or_one_horizon_are_no_law() {
        assert_eq!(Law::through(&[(1e6, 0.01), (2e6, 0.008)]), None);
        assert_eq!(Law::through(&[(1e6, 0.01), (1e6, 0.008), (1e6, 0.009)]), None);
        assert_eq!(Law::through(&[]), None);
    }

    #[test]
    fn the_law_of_size_and_horizon_needs_two_of_each() {
        let at = |n: f64, d: f64| (n, d, 0.5 * n.powf(-0.2) * d.powf(-0.3));
        let grid = [at(1e5, 1e6), at(1e5, 2e6), at(4e5, 1e6), at(4e5, 4e6)];
        let found = joint(&grid).unwrap();
        assert!((found.value("alpha").unwrap() - 0.2).abs() < 1e-6);
        assert!((found.value("beta").unwrap() - 0.3).abs() < 1e-6);
        assert!(joint(&grid[..2]).is_none() && joint(&[]).is_none());
    }
}
