//! The best mixture of five families.

use forerun_scaling::interval::{expanded_interval, percentile_interval};
use forerun_scaling::law::{Family, internal, predict};
use forerun_scaling::mixture::{
    Component, Weighing, amplitude_covariance, optimise, share_errors, share_intervals,
};
use forerun_scaling::{
    Bootstrap, BootstrapConfig, Fit, FitConfig, Interval, Objective, Observations, Resampling,
    bootstrap, fit,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::{Noise, Tally, is_slow, n_sets};

/// `A, B, E, alpha, beta, gamma` of each family.
const TRUTH: [[f64; 6]; 5] = [
    [210., 520., 1.55, 0.31, 0.3, 0.0825],
    [260., 640., 1.35, 0.32, 0.305, 0.1028],
    [120., 300., 0.72, 0.3, 0.29, 0.15],
    [330., 700., 1.75, 0.335, 0.31, 0.0825],
    [400., 880., 1.95, 0.34, 0.315, 0.0781],
];

/// The size and horizon of the plain sum.
const TARGET: (f64, f64) = (1.2e9, 5e10);

/// What `mixture::share_intervals` gives.
const OURS: &str = "covariances, Student's t";

/// Sets that are bootstrapped too.
const N_BOOTSTRAPPED: u64 = 100;

/// Draws of a bootstrap.
const DRAWS: usize = 200;

/// One table a family: `n` runs at 3 sizes and 3 horizons, of mixtures that are uniform on the simplex but for a floor.
fn runs(n: usize, noise: Noise, seed: u64) -> Vec<Observations> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let law = Family::new("");
    let mut columns = vec![[const { vec![] }; 4]; TRUTH.len()];
    for run in 0..n {
        let size = [8.5e7, 3.97e8, 8.1e8][run % 3];
        let horizon = [5e9, 1.6e10, 5e10][run / 3 % 3];
        let parts: [f64; 5] = std::array::from_fn(|_| 0.1 - (1. - rng.random::<f64>()).ln());
        let total: f64 = parts.iter().sum();
        for ((columns, truth), part) in columns.iter_mut().zip(TRUTH).zip(parts) {
            let p = part / total;
            let inputs = [("n", size), ("d", horizon), ("p", p)];
            let clean = predict(&law, &internal(&law, &truth), &inputs).unwrap();
            let loss = clean * (0.002 * noise.sample(&mut rng)).exp();
            for (column, value) in columns.iter_mut().zip([size, horizon, p, loss]) {
                column.push(value);
            }
        }
    }
    let table = |[n, d, p, loss]: [Vec<f64>; 4]| {
        Observations::new("loss", loss).with_input("n", n).with_input("d", d).with_input("p", p)
    };
    columns.into_iter().map(table).collect()
}

fn components(theta: &[Vec<f64>], weighing: Weighing) -> Vec<Component> {
    let law = Family::new("");
    let one = |theta: &Vec<f64>| Component::fitted("", &law, theta, weighing, 1., TARGET).unwrap();
    theta.iter().map(one).collect()
}

fn shares(theta: &[Vec<f64>], weighing: Weighing) -> Vec<f64> {
    optimise(&components(theta, weighing)).unwrap().shares
}

fn truth(weighing: Weighing) -> Vec<f64> {
    let law = Family::new("");
    shares(&TRUTH.map(|natural| internal(&law, &natural)), weighing)
}

/// Intervals of every share by each method.
fn intervals(
    fits: &[Fit],
    drawn: &[Bootstrap],
    weighing: Weighing,
) -> Vec<(&'static str, Vec<Interval>)> {
    let law = Family::new("");
    let theta: Vec<Vec<f64>> = fits.iter().map(|fit| fit.theta.clone()).collect();
    let parts = components(&theta, weighing);
    let best = optimise(&parts).unwrap().shares;
    let covariances: Vec<[[f64; 2]; 2]> =
        fits.iter().map(|fit| amplitude_covariance(&law, fit, weighing, TARGET).unwrap()).collect();
    let freedom: Vec<f64> = fits.iter().map(|fit| (fit.n_points - fit.n_free) as f64).collect();
    let student = share_intervals(&parts, &best, &covariances, &freedom, 0.95);
    let normal = best.iter().zip(share_errors(&parts, &best, &covariances)).map(|(share, se)| {
        let reach = (1.96 * se / share).exp();
        Interval { low: share / reach, high: share * reach }
    });
    let mut methods = vec![(OURS, student), ("covariances, 1.96", normal.collect())];
    if drawn.is_empty() {
        return methods;
    }
    let draw = |k: usize| {
        let theta: Vec<Vec<f64>> = drawn.iter().map(|drawn| drawn.theta.row(k).to_vec()).collect();
        shares(&theta, weighing)
    };
    let n = drawn.iter().map(Bootstrap::n_draws).min().unwrap();
    let draws: Vec<Vec<f64>> = (0..n).map(draw).collect();
    let column = |i: usize| draws.iter().map(|draw| draw[i]).collect::<Vec<f64>>();
    let (freedom, widen) = (drawn[0].freedom, drawn[0].widen);
    let of = |interval: &dyn Fn(&[f64]) -> Interval| {
        (0..best.len()).map(|i| interval(&column(i))).collect::<Vec<_>>()
    };
    methods.extend([
        ("pairs, percentiles", of(&|values| percentile_interval(values, 0.95))),
        ("pairs", of(&|values| expanded_interval(values, 0.95, freedom, widen))),
    ]);
    methods
}

/// The same draws of runs for every family.
fn draw(config: &FitConfig, tables: &[Observations], fits: &[Fit], seed: u64) -> Vec<Bootstrap> {
    let law = Family::new("");
    let resampling = Resampling::Pairs;
    let draws = BootstrapConfig { n_draws: DRAWS, resampling, recheck_every: DRAWS + 1 };
    let one = |(runs, fit): (&Observations, &Fit)| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        bootstrap(&law, runs, config, fit, &draws, &mut rng).unwrap()
    };
    tables.iter().zip(fits).map(one).collect()
}

fn check(objective: Objective, n: usize, noise: Noise) -> Vec<String> {
    let law = Family::new("");
    let config = FitConfig::new(objective);
    let weighings = [Weighing::Normalised, Weighing::Sum];
    let mut tallies = [Tally::default(), Tally::default()];
    for seed in 0..n_sets() {
        let tables = runs(n, noise, seed);
        let fits: Vec<Fit> = tables.iter().map(|runs| fit(&law, runs, &config).unwrap()).collect();
        let drawn = match is_slow() && seed < N_BOOTSTRAPPED {
            true => draw(&config, &tables, &fits, seed),
            false => vec![],
        };
        for (tally, weighing) in tallies.iter_mut().zip(weighings) {
            let truth = truth(weighing);
            for (method, intervals) in intervals(&fits, &drawn, weighing) {
                for (interval, truth) in intervals.into_iter().zip(&truth) {
                    tally.count(method, Some(interval), *truth);
                }
            }
        }
    }
    let mut outside = vec![];
    for (tally, weighing) in tallies.iter().zip(weighings) {
        let title = format!("shares, {weighing:?}, {}, {n} runs, {noise:?}", objective.name());
        outside.extend(tally.check(&title, OURS, noise));
    }
    outside
}

#[test]
fn best_mixtures() {
    let mut outside = vec![];
    for (objective, noise) in [
        (Objective::NlsLog, Noise::Normal),
        (Objective::HUBER, Noise::Normal),
        (Objective::HUBER, Noise::Heavy),
    ] {
        for n in if is_slow() { vec![24, 60] } else { vec![24] } {
            outside.extend(check(objective, n, noise));
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
}
