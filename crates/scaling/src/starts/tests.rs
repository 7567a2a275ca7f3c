use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal};

use super::*;

/// `-ln N`, `-ln D` and `ln L` of runs that follow `E + A N^-alpha + B D^-beta` with relative errors.
fn runs(seed: u64, n: usize, noise: f64, [alpha, beta]: [f64; 2]) -> [Vec<f64>; 3] {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut columns = [vec![], vec![], vec![]];
    for _ in 0..n {
        let (ln_n, ln_d) = (rng.random_range(17.0..23.0), rng.random_range(20.0..26.0_f64));
        let error: f64 = StandardNormal.sample(&mut rng);
        let of_n = 0.7 * (-alpha * (ln_n - 20_f64)).exp();
        let of_d = 0.9 * (-beta * (ln_d - 23.)).exp();
        columns[0].push(-ln_n);
        columns[1].push(-ln_d);
        columns[2].push((1.7 + of_n + of_d).ln() + noise * error);
    }
    columns
}

/// The sum of squares of relative errors.
fn squares(theta: &[f64], [x, z, y]: &[Vec<f64>; 3], weights: &[f64]) -> f64 {
    let at = |i: usize| {
        let of = |k: usize, column: &[f64]| (theta[k] + theta[3 + k] * column[i] - y[i]).exp();
        of(0, x) + of(1, z) + (theta[2] - y[i]).exp() - 1.
    };
    (0..x.len()).map(|i| weights[i] * at(i) * at(i)).sum()
}

#[test]
fn amplitudes_are_those_of_the_best_support() {
    // Three columns and a target at random: every support by elimination, against the closed form.
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut supports = [0; 8];
    for _ in 0..2000 {
        let mut column =
            || -> Vec<f64> { (0..5).map(|_| rng.random_range(0.02..1.0_f64).powi(3)).collect() };
        let columns = [column(), column(), column()];
        let target = column();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let ff = dot(&columns[2], &columns[2]);
        let without = |column: &[f64]| -> Vec<f64> {
            let share = dot(column, &columns[2]) / ff;
            column.iter().zip(&columns[2]).map(|(x, f)| x - share * f).collect()
        };
        let (u, v, t) = (without(&columns[0]), without(&columns[1]), without(&target));
        let found = Amplitudes::best(&Dots {
            uu: dot(&u, &u),
            uv: dot(&u, &v),
            vv: dot(&v, &v),
            ut: dot(&u, &t),
            vt: dot(&v, &t),
            uf: dot(&columns[0], &columns[2]),
            vf: dot(&columns[1], &columns[2]),
            ff,
            tf: dot(&target, &columns[2]),
            tt: dot(&t, &t),
        });
        let mut best = (dot(&target, &target), 0);
        for support in 1..8_usize {
            let chosen: Vec<&[f64]> =
                (0..3).filter(|k| support >> k & 1 == 1).map(|k| columns[k].as_slice()).collect();
            let ones = vec![1.; 5];
            let solved = crate::linalg::least_squares(&chosen, &target, &ones).unwrap();
            if solved.iter().all(|&value| value >= 0.) {
                let left = |i: usize| {
                    target[i] - chosen.iter().zip(&solved).map(|(c, x)| c[i] * x).sum::<f64>()
                };
                let value: f64 = (0..5).map(|i| left(i) * left(i)).sum();
                if value < best.0 {
                    best = (value, support);
                }
            }
        }
        assert!((found.objective - best.0).abs() < 1e-9 * best.0.max(1e-3), "{found:?} {best:?}");
        let support = (0..3).filter(|&k| found.values[k] > 0.).map(|k| 1 << k).sum::<usize>();
        assert_eq!(support, best.1);
        supports[support] += 1;
    }
    assert!(supports[1..].iter().all(|&count| count > 0), "{supports:?}");
}

#[test]
fn cells_have_the_objective_that_their_parameters_give() {
    let data = runs(2, 40, 0.01, [0.3, 0.4]);
    let weights: Vec<f64> = (0..40).map(|i| 1. + f64::from(i % 3)).collect();
    for exponents in [EXPONENTS.as_slice(), &COARSE_EXPONENTS[..6]] {
        let grid = two_powers(&data[0], &data[1], &data[2], &weights, exponents);
        let n = exponents.len();
        let inside = (0..n * n).filter(|&cell| grid.cells[cell].are_positive());
        let checked = inside
            .map(|cell| {
                let start = grid.start(cell);
                let want = squares(&start.theta, &data, &weights);
                // Smaller amplitudes are raised for the sake of their logarithm.
                let least = 1.01e-2 * grid.shared.typical();
                let is_raised = grid.cells[cell].values.iter().any(|value| *value < least);
                let is_same = (start.objective / want - 1.).abs() < 1e-6;
                assert!(is_same || is_raised, "{} {want}", start.objective);
            })
            .count();
        assert!(checked > 5, "{checked}");
    }
}

#[test]
fn the_bottom_of_a_valley_is_stationary_and_every_start_of_it_counts() {
    for seed in 0..20 {
        let data = runs(seed, 60, 0.004, [0.35, 0.3]);
        let weights = vec![1.; 60];
        let [x, z, y] = &data;
        let found = valleys(x, z, y, &weights, &[], 12);
        let bottom = &found[0];
        let lowest = squares(&bottom.theta, &data, &weights);
        for k in 0..5 {
            for step in [-1e-3, 1e-3] {
                let mut theta = bottom.theta.clone();
                theta[k] += step;
                assert!(squares(&theta, &data, &weights) > lowest * (1. - 1e-9), "{seed} {k}");
            }
        }
        let grid = two_powers(x, z, y, &weights, &EXPONENTS);
        let all: usize = found.iter().map(|valley| valley.starts).sum();
        assert_eq!(all, grid.spread(12).len(), "{seed}");
        assert!(bottom.starts > 1, "{seed}: {found:?}");
    }
}

#[test]
fn exponents_without_noise_are_found_before_any_search() {
    for exponents in [[0.35, 0.37], [0.1, 0.9], [1.3, 0.2], [0.6, 0.61]] {
        let [x, z, y] = runs(5, 50, 0., exponents);
        let found = valleys(&x, &z, &y, &[1.; 50], &[], 12);
        let best = &found[0].theta;
        for (got, want) in best[3..].iter().zip(exponents) {
            assert!((got / want - 1.).abs() < 1e-4, "{exponents:?}: {best:?}");
        }
    }
}

#[test]
fn valleys_around_known_exponents_are_left_out() {
    let [x, z, y] = runs(7, 80, 0.003, [0.35, 0.3]);
    let weights = [1.; 80];
    let found = valleys(&x, &z, &y, &weights, &[], 12);
    let known: Vec<[f64; 2]> = found.iter().map(|v| [v.theta[3], v.theta[4]]).collect();
    let again = valleys(&x, &z, &y, &weights, &known, 12);
    let is_new = |valley: &Valley| {
        known.iter().all(|k| {
            (valley.theta[3] / k[0]).ln().abs() > 0.1 || (valley.theta[4] / k[1]).ln().abs() > 0.1
        })
    };
    assert!(again.iter().all(is_new), "{again:?}");
    assert!(again.len() < found.len());
    // Far from everything, nothing is left out.
    let elsewhere = valleys(&x, &z, &y, &weights, &[[2.9, 2.9]], 12);
    assert_eq!(elsewhere[0].theta, found[0].theta);
}
