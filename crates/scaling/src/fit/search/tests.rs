//! The search against what it is a short cut for: every cell that the grid offers, each carried to convergence.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal, StudentT};

use super::*;
use crate::fit::FitConfig;
use crate::law::{Chinchilla, Design, PowerLaw, internal, predict_all};
use crate::observations::Observations;

const OBJECTIVES: [Objective; 4] =
    [Objective::HUBER, Objective::Lad, Objective::NlsLog, Objective::Nls];

/// Runs as different as people have them: few and many, on grids, along one compute budget or anywhere, with and
/// without a floor, with errors from none to a tenth, heavy tails, outliers, weights and repeated points.
fn runs(seed: u64) -> Observations {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let n = [8, 12, 20, 40, 120][rng.random_range(0..5)];
    let width = rng.random_range(1.0..7.0_f64);
    let shape = rng.random_range(0..3);
    let side = rng.random_range(3..6_u32);
    let (mut ln_n, mut ln_d) = (vec![], vec![]);
    for i in 0..n as u32 {
        let (x, z) = match shape {
            0 => (f64::from(i % side), f64::from(i / side % side)),
            1 => {
                let x = rng.random_range(0.0..1.0);
                (x, 1. - x + f64::from(i % 3))
            }
            _ => (rng.random_range(0.0..1.0), rng.random_range(0.0..1.0)),
        };
        let unit = if shape == 0 { width / f64::from(side - 1) } else { width };
        ln_n.push(18. + unit * x);
        ln_d.push(22. + unit * z);
    }
    let (alpha, beta) = (rng.random_range(0.05..1.0_f64), rng.random_range(0.05..1.0_f64));
    let floor = [1e-6, 0.3, 1.7, 1.7][rng.random_range(0..4)];
    let parts = [rng.random_range(0.02..2.0), rng.random_range(0.02..2.0)];
    let noise = [0., 1e-5, 1e-3, 5e-3, 0.02, 0.1][rng.random_range(0..6)];
    let (is_heavy, outliers) = (rng.random_bool(0.3), [0., 0., 0.05, 0.2][rng.random_range(0..4)]);
    let heavy = StudentT::new(2.).unwrap();
    let mut loss = vec![];
    for (x, z) in ln_n.iter().zip(&ln_d) {
        let clean =
            floor + parts[0] * (-alpha * (x - 18.)).exp() + parts[1] * (-beta * (z - 22.)).exp();
        let normal: f64 = StandardNormal.sample(&mut rng);
        let error = if is_heavy { heavy.sample(&mut rng) } else { normal };
        let is_outlier = rng.random_bool(outliers);
        let off = if is_outlier { rng.random_range(-0.3..1.5) } else { 0. };
        loss.push(clean * (noise * error + off).clamp(-3., 3.).exp());
    }
    let weights: Vec<f64> = match rng.random_range(0..3) {
        0 => (0..n).map(|_| rng.random_range(0.1..3.0)).collect(),
        1 => (0..n).map(|_| f64::from(rng.random_range(1..3_u32))).collect(),
        _ => vec![1.; n],
    };
    let natural = |logs: Vec<f64>| logs.into_iter().map(f64::exp).collect();
    Observations::new("loss", loss)
        .with_input("n", natural(ln_n))
        .with_input("d", natural(ln_d))
        .with_weights(weights)
}

/// Sets of runs. Of the first 2,000 under four objectives, 8,000 searches, every start of the law leads lower in two (set
/// 752 under Huber by 0.7 %, set 1781 under absolute deviations by 4e-6), and less low in 136.
const N_SETS: u64 = 200;

/// What the search finds, and every start of the law leads to; with the evaluations that they took.
fn both(runs: &Observations, objective: Objective) -> [(Found, usize); 2] {
    let law = Chinchilla::new();
    let prepared = Prepared::new(&law, runs, &FitConfig::new(objective)).unwrap();
    let problem = prepared.problem(&law, objective);
    let run = |from: &dyn Fn(&mut Workspace) -> Found| {
        let mut ws = Workspace::default();
        let mut found = from(&mut ws);
        if objective == Objective::Lad {
            found.explore(&problem, &mut ws);
        }
        (found, ws.n_evaluations)
    };
    let ours = run(&|ws| search(&problem, ws, &[]));
    let oracle = run(&|ws| {
        let mut found = Found::default();
        found.exhaust(&problem, ws);
        found
    });
    [ours, oracle]
}

/// Data without noise leave rounding alone, of this size a point.
fn rounding(runs: &Observations, objective: Objective) -> f64 {
    let scale = runs.target().iter().fold(0., |m: f64, y| m.max(*y));
    let n = runs.len() as f64;
    match objective {
        Objective::Lad => 1e-9 * n,
        Objective::Nls => 1e-18 * n * scale * scale,
        _ => 1e-18 * n,
    }
}

#[test]
fn no_start_of_the_law_leads_lower() {
    // With the variable set, so many sets are tried and what was found is printed.
    let (seeds, is_wide) = match std::env::var("SEARCH_SEEDS") {
        Ok(seeds) => (seeds.parse().unwrap(), true),
        Err(_) => (N_SETS, false),
    };
    for objective in OBJECTIVES {
        let (mut worse, mut better, mut taken, mut clear) = (vec![], 0, [0; 2], 0);
        for seed in 0..seeds {
            let runs = runs(seed);
            let [(ours, own), (oracle, all)] = both(&runs, objective);
            let [lowest, wanted] = [ours.lowest(), oracle.lowest()];
            let slack = 1e-6 * wanted + rounding(&runs, objective);
            if lowest.is_nan() || lowest > wanted + slack {
                worse.push(format!(
                    "{seed}: {lowest:e} in {} searches, {wanted:e}",
                    ours.n_searches
                ));
                if is_wide {
                    println!(
                        "{objective:?} {} of {}\n  {:?}\n  {:?}",
                        worse[worse.len() - 1],
                        runs.len(),
                        ours.optima,
                        oracle.optima[0]
                    );
                }
            }
            better += usize::from(lowest < wanted - slack);
            taken = [taken[0] + own, taken[1] + all];
            clear += usize::from(ours.n_searches <= 3);
        }
        if is_wide {
            let n = worse.len();
            println!(
                "{objective:?}: {n} worse, {better} better, {clear} clear, evaluations {taken:?}"
            );
        } else {
            assert!(worse.is_empty(), "{objective:?}: {worse:?}");
        }
    }
}

#[test]
fn the_search_of_two_powers_is_one_or_few() {
    // A table of the size that people fit, with little noise: one valley, and a second look for robust objectives.
    let law = Chinchilla::new();
    let inputs = (0..48).map(|i| (1e8 * 2_f64.powi(i % 8), 2e9 * 3_f64.powi(i / 8)));
    let (n, d): (Vec<f64>, Vec<f64>) = inputs.unzip();
    let grid = Observations::new("loss", vec![1.; 48]).with_input("n", n).with_input("d", d);
    let theta = internal(&law, &[480., 2100., 1.8, 0.35, 0.37]);
    let clean = predict_all(&law, &theta, &Design::new(&law, &grid).unwrap());
    for seed in 0..10 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut noisy = |y: &f64| {
            let error: f64 = StandardNormal.sample(&mut rng);
            y * (0.004 * error).exp()
        };
        let runs = grid.clone().with_target(clean.iter().map(&mut noisy).collect());
        for objective in OBJECTIVES {
            let fit = crate::fit(&law, &runs, &FitConfig::new(objective)).unwrap();
            assert!(fit.n_searches <= 3, "{seed} {objective:?}: {}", fit.n_searches);
            assert!(
                fit.n_starts >= 9 && fit.optima[0].starts >= 7,
                "{seed} {objective:?}: {fit:?}"
            );
            let counted: usize = fit.optima.iter().map(|optimum| optimum.starts).sum();
            assert_eq!(counted + fit.n_failed, fit.n_starts, "{seed} {objective:?}");
        }
    }
}

#[test]
fn a_law_without_valleys_is_searched_from_each_of_its_starts() {
    let law = PowerLaw::with_floor("n");
    let runs = runs(3);
    let prepared = Prepared::new(&law, &runs, &FitConfig::default()).unwrap();
    let problem = prepared.problem(&law, Objective::HUBER);
    let found = search(&problem, &mut Workspace::default(), &[vec![1., 0.3, 0.5]]);
    assert_eq!((found.n_starts, found.n_searches), (7, 7));
}
