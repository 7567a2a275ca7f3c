//! The best learning rate at four times the longest horizon of a sweep.

use forerun_scaling::audit::{Target, predict_fitted};
use forerun_scaling::parabola::{ParabolaConfig, Window};
use forerun_scaling::sweep::{self, Sweep, SweepCell};
use forerun_scaling::units::{CountUnit, Params, Tokens};
use forerun_scaling::{FitConfig, Interval, Objective, fit};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::{Noise, Tally, is_slow, n_sets};

/// What `sweep::cells` and `audit::predict_fitted` give.
const OURS: &str = "as read";

const C: f64 = 1.55e-3;
const ALPHA: f64 = 0.23;
const BETA: f64 = 0.32;

/// The shape of a valley around its lowest point, in `ln lr`.
#[derive(Clone, Copy, Debug)]
enum Valley {
    Parabola,
    /// With a cubic term that ends at 1.5, where the loss jumps: no smooth curve through all points is right.
    Broken,
    /// `e^(0.45 x) - 0.45 x`, which has terms of every order.
    Exponential,
}

impl Valley {
    /// Loss above the lowest, whose curvature is 0.012.
    fn at(self, x: f64) -> f64 {
        match self {
            Self::Parabola => 0.012 * x * x,
            Self::Broken => 0.012 * (x * x + 0.15 * if x.abs() < 1.5 { x.powi(3) } else { 0. }),
            Self::Exponential => {
                let c = 0.45;
                0.024 * ((c * x).exp() - 1. - c * x) / (c * c)
            }
        }
    }
}

/// How a sweep is laid out.
#[derive(Clone, Copy, Debug)]
struct Layout {
    sizes: usize,
    horizons: usize,
    /// Learning rates of a cell, a factor apart.
    rates: usize,
    factor: f64,
}

impl Layout {
    /// What intervals hold at least where valleys break: 19 degrees of freedom, five cells of seven runs, do not always
    /// tell that they do.
    fn floor(self) -> f64 {
        if self.sizes * self.horizons * self.rates < 40 { 0.7 } else { 0.87 }
    }
}

fn best(n: f64, d: f64) -> f64 {
    C * (n / 1e9).powf(-ALPHA) * (d / 1e9).powf(-BETA)
}

/// Columns `n`, `d`, `lr`, `loss`; the grid of learning rates lies anywhere within a step of the best one.
fn runs(layout: Layout, valley: Valley, seed: u64) -> [Vec<f64>; 4] {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut columns = [const { vec![] }; 4];
    for i in 0..layout.sizes {
        for j in 0..layout.horizons {
            let n = 5e7 * 2.5_f64.powi(i as i32);
            let d = 1e9 * 2_f64.powi(j as i32);
            let middle = best(n, d) * layout.factor.powf(rng.random_range(-0.5..0.5));
            for k in 0..layout.rates {
                let steps = k as f64 - 0.5 * (layout.rates - 1) as f64;
                let lr = middle * layout.factor.powf(steps);
                let noise = 0.0015 * Noise::Normal.sample(&mut rng);
                let loss = 3. + valley.at((lr / best(n, d)).ln()) + noise;
                columns.iter_mut().zip([n, d, lr, loss]).for_each(|(c, value)| c.push(value));
            }
        }
    }
    columns
}

fn interval(cells: &[SweepCell], target: &Target) -> Option<Interval> {
    let optima = sweep::optima(cells).ok()?;
    let law = sweep::horizon_law(&optima, CountUnit::Billions).ok()?;
    let fitted = fit(&law, &optima, &FitConfig::new(Objective::NlsLog)).ok()?;
    predict_fitted(&law, &fitted, target).ok()?.interval
}

fn check(layout: Layout, valley: Valley) -> Option<String> {
    let (n, d) =
        (5e7 * 2.5_f64.powi(layout.sizes as i32 - 1), 1e9 * 2_f64.powi(layout.horizons as i32 + 1));
    let target = Target { n: Params(n), d: Tokens(d), batch: None };
    let truth = best(n, d);
    let mut tally = Tally::default();
    for seed in 0..n_sets() {
        let [n, d, lr, loss] = runs(layout, valley, seed);
        let sweep = Sweep { n: Some(&n), d: &d, batch: None, lr: &lr, loss: &loss };
        let all = ParabolaConfig::default();
        let near = ParabolaConfig { window: Window::Around(2), ..all };
        for (method, cells) in [
            (OURS, sweep::cells(&sweep, &all)),
            ("as read, 2 either side", sweep::cells(&sweep, &near)),
            ("parabolas", sweep::parabolas(&sweep, &all)),
            ("parabolas, 2 either side", sweep::parabolas(&sweep, &near)),
        ]
        .into_iter()
        .take(if is_slow() { 4 } else { 1 })
        {
            tally.count(method, interval(&cells.unwrap(), &target), truth);
        }
    }
    let Layout { sizes, horizons, rates, factor } = layout;
    let title = format!(
        "LR*, {sizes} x {horizons} cells of {rates} rates a factor of {factor:.2} apart, {valley:?}"
    );
    match valley {
        Valley::Broken => tally.check_floor(&title, OURS, layout.floor()),
        _ => tally.check(&title, OURS, Noise::Normal),
    }
}

#[test]
fn best_learning_rates() {
    let mut outside = vec![];
    for layout in [
        Layout { sizes: 1, horizons: 5, rates: 7, factor: 2. },
        Layout { sizes: 1, horizons: 5, rates: 9, factor: std::f64::consts::SQRT_2 },
        Layout { sizes: 3, horizons: 5, rates: 7, factor: 2. },
    ] {
        for valley in [Valley::Parabola, Valley::Broken, Valley::Exponential] {
            outside.extend(check(layout, valley));
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
}
