//! Synthetic sweeps over learning rates whose best ones are known.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::Noise;

const C: f64 = 1.55e-3;
const ALPHA: f64 = 0.23;
const BETA: f64 = 0.32;

/// The best learning rate.
pub(super) fn best(n: f64, d: f64) -> f64 {
    C * (n / 1e9).powf(-ALPHA) * (d / 1e9).powf(-BETA)
}

/// The shape of a valley around its lowest point, in `ln lr`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Valley {
    Parabola,
    /// With a cubic term, `cubic` times the square's, that ends at a distance of `at`, where this share of it is lost.
    Broken {
        at: f64,
        jump: f64,
        cubic: f64,
    },
    /// `e^(c x) - c x`, which has terms of every order.
    Exponential {
        c: f64,
    },
    /// With a fourth-order term, a tenth of the square's.
    Quartic,
}

impl Valley {
    /// Broken within most sweeps: the loss jumps by 0.006 nats, and no smooth curve through all points is right.
    pub(super) const BROKEN: Self = Self::Broken { at: 1.5, jump: 1., cubic: 0.15 };

    pub(super) const EXPONENTIAL: Self = Self::Exponential { c: 0.45 };

    /// Loss above the lowest, whose curvature is 0.012.
    fn at(self, x: f64) -> f64 {
        match self {
            Self::Parabola => 0.012 * x * x,
            Self::Broken { at, jump, cubic } => {
                let third =
                    if x.abs() < at { x.powi(3) } else { (1. - jump) * at.powi(3) * x.signum() };
                0.012 * (x * x + cubic * third)
            }
            Self::Exponential { c } => 0.024 * ((c * x).exp() - 1. - c * x) / (c * c),
            Self::Quartic => 0.012 * (x * x + 0.1 * x.powi(4)),
        }
    }

    pub(super) fn is_smooth(self) -> bool {
        !matches!(self, Self::Broken { .. })
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Parabola => "parabola".into(),
            Self::Broken { at, jump, cubic } => {
                format!("broken at {at}, jump {jump}, cubic {cubic}")
            }
            Self::Exponential { c } => format!("exponential, c {c}"),
            Self::Quartic => "quartic".into(),
        }
    }
}

/// How a sweep is laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) sizes: usize,
    pub(super) horizons: usize,
    /// Learning rates of a cell, a factor apart.
    pub(super) rates: usize,
    pub(super) factor: f64,
    /// Runs of each learning rate.
    pub(super) seeds: usize,
}

impl Layout {
    pub(super) const fn new(sizes: usize, horizons: usize, rates: usize, factor: f64) -> Self {
        Self { sizes, horizons, rates, factor, seeds: 1 }
    }

    pub(super) fn name(self) -> String {
        let Self { sizes, horizons, rates, factor, seeds } = self;
        let twice = if seeds > 1 { format!(", {seeds} seeds") } else { String::new() };
        format!("{}, {rates} a factor {factor:.2} apart{twice}", sizes * horizons)
    }

    /// Size and horizon at which the best learning rate is asked for: the largest, and four times the longest.
    pub(super) fn target(self) -> (f64, f64) {
        let n = 5e7 * 2.5_f64.powi(self.sizes as i32 - 1);
        (n, 1e9 * 2_f64.powi(self.horizons as i32 + 1))
    }
}

/// What sweeps are drawn from.
#[derive(Clone, Copy, Debug)]
pub(super) struct World {
    pub(super) layout: Layout,
    pub(super) valley: Valley,
    pub(super) errors: Noise,
    /// Scale of the errors, nats.
    pub(super) noise: f64,
}

impl World {
    pub(super) const fn new(layout: Layout, valley: Valley) -> Self {
        Self { layout, valley, errors: Noise::Normal, noise: 0.0015 }
    }

    pub(super) fn name(self) -> String {
        let Self { layout, valley, errors, noise } = self;
        let heavy = if matches!(errors, Noise::Heavy) { ", heavy errors" } else { "" };
        let noise = if noise == 0.0015 { String::new() } else { format!(", errors of {noise}") };
        format!("{} | {}{noise}{heavy}", layout.name(), valley.name())
    }

    /// Columns `n`, `d`, `lr`, `loss`; the grid of learning rates lies anywhere within a step of the best one.
    pub(super) fn runs(self, seed: u64) -> [Vec<f64>; 4] {
        let Self { layout, valley, errors, noise } = self;
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut columns = [const { vec![] }; 4];
        for i in 0..layout.sizes {
            for j in 0..layout.horizons {
                let n = 5e7 * 2.5_f64.powi(i as i32);
                let d = 1e9 * 2_f64.powi(j as i32);
                let middle = best(n, d) * layout.factor.powf(rng.random_range(-0.5..0.5));
                for k in 0..layout.rates * layout.seeds {
                    let steps = (k / layout.seeds) as f64 - 0.5 * (layout.rates - 1) as f64;
                    let lr = middle * layout.factor.powf(steps);
                    let error = noise * errors.sample(&mut rng);
                    let loss = 3. + valley.at((lr / best(n, d)).ln()) + error;
                    columns.iter_mut().zip([n, d, lr, loss]).for_each(|(c, value)| c.push(value));
                }
            }
        }
        columns
    }
}
