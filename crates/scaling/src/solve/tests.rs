//! The solver against a slow and plain one: a simplex that walks downhill from many starts.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal, StudentT};

use super::*;
use crate::fit::{FitConfig, Prepared};
use crate::law::{Chinchilla, Family, internal, predict};
use crate::observations::Observations;

/// Runs of a known law with errors of 1 % in the logarithm, heavy-tailed where asked for.
fn runs(seed: u64, is_heavy: bool) -> Observations {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let law = Chinchilla::new();
    let theta = internal(&law, &[400., 1800., 1.7, 0.34, 0.36]);
    let (mut n, mut d, mut loss) = (vec![], vec![], vec![]);
    let heavy = StudentT::new(2.).unwrap();
    for _ in 0..40 {
        let (params, tokens) =
            (10_f64.powf(rng.random_range(7.5..10.)), 10_f64.powf(rng.random_range(9.0..11.5)));
        let normal: f64 = StandardNormal.sample(&mut rng);
        let error = if is_heavy { heavy.sample(&mut rng) } else { normal };
        let clean = predict(&law, &theta, &[("n", params), ("d", tokens)]).unwrap();
        loss.push(clean * (0.01 * error).exp());
        n.push(params);
        d.push(tokens);
    }
    Observations::new("loss", loss).with_input("n", n).with_input("d", d)
}

/// Nelder and Mead 1965, restarted from where it ended until that no longer helps.
fn simplex(start: &[f64], of: &mut dyn FnMut(&[f64]) -> f64) -> (f64, Vec<f64>) {
    let mut best = (of(start), start.to_vec());
    for round in 0..40 {
        let size = 0.3 * 0.7_f64.powi(round);
        let mut points = vec![best.clone()];
        for i in 0..start.len() {
            let mut moved = best.1.clone();
            moved[i] += size;
            points.push((of(&moved), moved));
        }
        for _ in 0..400 {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let last = points.len() - 1;
            let centre: Vec<f64> = (0..start.len())
                .map(|i| points[..last].iter().map(|p| p.1[i]).sum::<f64>() / last as f64)
                .collect();
            let mut along = |by: f64| {
                let point: Vec<f64> =
                    centre.iter().zip(&points[last].1).map(|(c, x)| c + by * (x - c)).collect();
                (of(&point), point)
            };
            let reflected = along(-1.);
            let next = match reflected.0 {
                value if value < points[0].0 => {
                    let further = along(-2.);
                    if further.0 < value { further } else { reflected }
                }
                value if value < points[last - 1].0 => reflected,
                value => along(if value < points[last].0 { -0.5 } else { 0.5 }),
            };
            if next.0 < points[last].0 {
                points[last] = next;
            } else {
                let lowest = points[0].1.clone();
                for point in &mut points[1..] {
                    point.1.iter_mut().zip(&lowest).for_each(|(x, l)| *x = 0.5 * (*x + l));
                    point.0 = of(&point.1);
                }
            }
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if points[0].0 < best.0 {
            best = points.swap_remove(0);
        }
    }
    best
}

#[test]
fn no_start_of_the_oracle_ends_lower() {
    let law = Chinchilla::new();
    for (seed, is_heavy) in [(1, false), (2, true)] {
        let runs = runs(seed, is_heavy);
        for objective in [Objective::HUBER, Objective::Lad, Objective::NlsLog, Objective::Nls] {
            let prepared = Prepared::new(&law, &runs, &FitConfig::new(objective)).unwrap();
            let problem = prepared.problem(&law, objective);
            let mut ws = Workspace::default();
            let mut ours = f64::INFINITY;
            for start in law.starts(&prepared.design, &prepared.log_target, &prepared.weights) {
                ws.free = start;
                let outcome = minimise(&problem, &mut ws, Stop::COLD);
                assert!(outcome.converged, "{objective:?}: {outcome:?}");
                ours = ours.min(outcome.objective);
            }
            let mut of = |theta: &[f64]| {
                ws.free = theta.to_vec();
                value(&problem, &mut ws)
            };
            let starts =
                [[6., 7., 0.5, 0.3, 0.3], [3., 9., 0.1, 0.2, 0.5], [9., 5., 0.7, 0.5, 0.2]];
            for start in starts {
                let theirs = simplex(&start, &mut of).0;
                assert!(
                    ours <= theirs * (1. + 1e-9),
                    "{objective:?}: {ours:e}, the oracle {theirs:e}"
                );
            }
        }
    }
}

#[test]
fn absolute_deviations_end_where_as_many_residuals_are_zero_as_parameters_are_free() {
    let law = Chinchilla::new();
    let prepared = Prepared::new(&law, &runs(3, true), &FitConfig::new(Objective::Lad)).unwrap();
    let problem = prepared.problem(&law, Objective::Lad);
    let starts = law.starts(&prepared.design, &prepared.log_target, &prepared.weights);
    let mut ws = Workspace::from(&starts[0]);
    assert!(minimise(&problem, &mut ws, Stop::COLD).converged);
    value(&problem, &mut ws);
    let zero = ws.residuals.iter().filter(|r| r.abs() < 1e-9).count();
    assert_eq!(zero, 5);
}

#[test]
fn a_warm_start_ends_where_cold_ones_do() {
    let law = Chinchilla::new();
    for objective in [Objective::HUBER, Objective::Lad, Objective::NlsLog, Objective::Nls] {
        let prepared = Prepared::new(&law, &runs(4, false), &FitConfig::new(objective)).unwrap();
        let problem = prepared.problem(&law, objective);
        let starts = law.starts(&prepared.design, &prepared.log_target, &prepared.weights);
        let mut ws = Workspace::from(&starts[0]);
        let cold = minimise(&problem, &mut ws, Stop::COLD);
        ws.free.iter_mut().for_each(|x| *x *= 1.02);
        let warm = minimise(&problem, &mut ws, Stop::WARM);
        assert!(
            warm.converged && (warm.objective / cold.objective - 1.).abs() < 1e-8,
            "{objective:?}"
        );
    }
}

#[test]
fn a_tie_adds_the_derivatives_of_both_parameters() {
    let law = Chinchilla::new();
    let tie = [crate::Constraint::Equal("alpha".into(), "beta".into())];
    let map = FreeMap::new(&law, &tie).unwrap();
    assert_eq!(map.n_free(), 4);
    let mut free = vec![0.; 4];
    map.reduce_gradient(&[1., 2., 3., 4., 5.], &mut free);
    assert_eq!(free, [1., 2., 3., 9.]);
    // The lower triangle of a matrix of ones: the tied pair's square is 1 + 1 + 2.
    let mut square = vec![0.; 16];
    map.reduce_matrix(&[1.; 25], &mut square);
    assert_eq!(square[15], 4.);
    assert_eq!(square[12..15], [2., 2., 2.]);
}

#[test]
fn constraints_that_cannot_be_are_named() {
    let refuse = |constraint: crate::Constraint, want: &str| {
        let error = FreeMap::new(&Family::new("x"), &[constraint]).unwrap_err();
        assert_eq!(error.to_string(), want);
    };
    refuse(
        crate::Constraint::Fixed("gama".into(), 1.),
        "constraint must be on one of A, B, E, alpha, beta, gamma_x, got gama",
    );
    refuse(
        crate::Constraint::Equal("A".into(), "alpha".into()),
        "tied parameter must be like `A` on one scale, got alpha",
    );
    refuse(crate::Constraint::Fixed("alpha".into(), -1.), "alpha must be from 1e-3 to 1e1, got -1");
}
