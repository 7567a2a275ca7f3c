//! How far from their lowest points valleys are read.

use rand::{Rng, SeedableRng};

use super::*;

const SLANT: f64 = 0.0018;

fn cubic(x: f64) -> f64 {
    0.012 * x * x + SLANT * x.powi(3)
}

/// Beyond 1 the cubic term is gone, and the loss jumps by 0.0018.
fn broken(x: f64) -> f64 {
    if x.abs() < 1. { cubic(x) } else { 0.012 * x * x }
}

/// 15 cells of 9 learning rates a factor of √2 apart around places that differ from cell to cell, errors that look
/// normal, and valleys of a shape of one's own.
fn shaped(seed: u64, noise: f64, valley: impl Fn(f64) -> f64) -> [Vec<f64>; 4] {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(seed);
    let mut columns = [const { vec![] }; 4];
    for n in [1e8, 4e8, 1.6e9] {
        for d in [1e9, 2e9, 4e9, 8e9, 1.6e10] {
            let best = 1e-3 * (n / 1e8_f64).powf(-0.2) * (d / 1e9_f64).powf(-0.3);
            let centre = best * rng.random_range(-0.17..0.17_f64).exp();
            for i in -4..=4 {
                let lr = centre * 2_f64.powf(0.5 * f64::from(i));
                let error: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.;
                let loss = 2.5 + valley((lr / best).ln()) + noise * error;
                let row = [n, d, lr, loss];
                columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
            }
        }
    }
    columns
}

fn reading(columns: &[Vec<f64>; 4]) -> Reading {
    let [n, d, lr, loss] = columns;
    let sweep = Sweep { n: Some(n), d, batch: None, lr, loss };
    super::super::read(&sweep, &ParabolaConfig::default()).unwrap()
}

/// Of 100 sweeps: those of which all points were used, a part of them, or parabolas; of the first two, those whose slant
/// is within two standard errors.
fn census(valley: fn(f64) -> f64) -> [usize; 4] {
    let mut counts = [0; 4];
    for seed in 0..100 {
        match reading(&shaped(seed, 3e-4, valley)).valleys {
            Valleys::OneSlant { slant, is_narrowed, reach, .. } => {
                assert!(is_narrowed || reach > 1.38, "all points: {reach}");
                counts[usize::from(is_narrowed)] += 1;
                counts[3] += usize::from((slant.coefficient - SLANT).abs() < 2. * slant.se);
            }
            Valleys::Rough { .. } | Valleys::Untested => counts[2] += 1,
        }
    }
    counts
}

#[test]
fn smooth_valleys_are_mostly_read_from_all_points() {
    let [all, narrowed, rough, held] = census(cubic);
    // Two comparisons in two tests at 5 % refuse one sweep in four.
    assert!(all >= 65 && rough <= 3, "{all} {narrowed} {rough}");
    assert!(held >= 90, "{held}");
}

#[test]
fn windows_end_where_the_valleys_do() {
    let [all, narrowed, rough, held] = census(broken);
    assert!(all == 0 && rough <= 12, "{all} {narrowed} {rough}");
    assert!(held >= 85, "{held} of {narrowed}");
}

#[test]
fn valleys_without_a_common_shape_are_parabolas_around_their_lowest_points() {
    // Every other learning rate is worse than its neighbours, by more than the noise.
    let columns = shaped(11, 1e-4, |x| 0.012 * x * x + 0.004 * (9. * x).sin());
    let found = reading(&columns);
    let Valleys::Rough { reach } = found.valleys else { panic!("{:?}", found.valleys) };
    let [n, d, lr, loss] = &columns;
    let config = ParabolaConfig::default();
    let sweep = Sweep { n: Some(n), d, batch: None, lr, loss };
    let mut n_fewer = 0;
    for (cell, all) in found.cells.iter().zip(parabolas(&sweep, &config).unwrap()) {
        let Some(centre) = all.optimum.vertex().map(|vertex| vertex.ln_x) else { continue };
        let near = |run: &&usize| (lr[**run].ln() - centre).abs() <= reach * (1. + 1e-9);
        let runs: Vec<usize> = cell.runs.iter().filter(near).copied().collect();
        n_fewer += usize::from(runs.len() < cell.runs.len());
        let pick = |column: &[f64]| runs.iter().map(|&run| column[run]).collect::<Vec<f64>>();
        assert!(runs.len() >= 3 && cell.slant_error.is_none());
        assert_eq!(cell.optimum, parabola(&pick(lr), &pick(loss), &config).unwrap());
    }
    assert_eq!(n_fewer, 15);
}

#[test]
fn a_wide_cell_of_three_rates_refuses_nothing() {
    let (mut columns, truth) = slanted(0.);
    // Three points are a parabola in any window, and the widest windows have the same points.
    let best = 1e-3 * 4_f64.powf(-0.2) * 64_f64.powf(-0.3);
    for x in [-6., 0., 6_f64] {
        let row = [4e8, 6.4e10, best * x.exp(), 2.5 + 0.02 * x * x + truth * x.powi(3)];
        columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }
    let found = reading(&columns);
    let Valleys::OneSlant { slant, is_narrowed, reach, .. } = found.valleys else {
        panic!("{:?}", found.valleys)
    };
    assert!(!is_narrowed && reach > 6., "{reach}");
    assert!((slant.coefficient - truth).abs() < 1e-9);
}

#[test]
fn cells_that_a_narrow_window_leaves_without_an_optimum_are_counted() {
    let shown = |cells: &[SweepCell]| cells.iter().filter(|c| c.optimum.vertex().is_some()).count();
    let mut n_lost = 0;
    for seed in 0..100 {
        let columns = shaped(seed, 2e-3, broken);
        let [n, d, lr, loss] = &columns;
        let sweep = Sweep { n: Some(n), d, batch: None, lr, loss };
        let found = reading(&columns);
        let all = shown(&parabolas(&sweep, &ParabolaConfig::default()).unwrap());
        assert_eq!(found.n_lost, all - shown(&found.cells), "{seed}");
        n_lost += usize::from(found.n_lost > 0);
    }
    assert!(n_lost > 0, "this test shows nothing");
}
