use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;

const OTHERS: [&str; 4] = ["b", "c", "d", "e"];

/// Runs of five families with noise of 0.002; share `b` lowers the loss of the first by `tau`.
fn runs(n: usize, tau: f64, cells: usize, seed: u64) -> Observations {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut columns = vec![vec![]; 5];
    let (mut loss, mut cell) = (vec![], vec![]);
    for run in 0..n {
        let parts: Vec<f64> = (0..5).map(|_| rng.random_range(0.05..1.)).collect();
        let total: f64 = parts.iter().sum();
        let p: Vec<f64> = parts.iter().map(|part| part / total).collect();
        let noise: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.;
        let level = 2.6 - 0.2 * (run % cells) as f64;
        loss.push(level * p[0].powf(-0.08) * (0.002 * noise - tau * p[1]).exp());
        cell.push(run % cells);
        columns.iter_mut().zip(p).for_each(|(column, p)| column.push(p));
    }
    let mut observations = Observations::new("loss", loss).with_input("p", columns[0].clone());
    for (name, column) in OTHERS.iter().zip(&columns[1..]) {
        observations = observations.with_input(name, column.clone());
    }
    observations.with_clusters(cell)
}

#[test]
fn a_planted_transfer_is_found_and_named() {
    let found = independence("a", &runs(60, 0.03, 1, 1), &OTHERS).unwrap();
    assert!(found.p_value < 1e-8, "{found:?}");
    assert_eq!(found.df, [3, 55]);
    assert_eq!(found.strongest.as_ref().unwrap().0, "b");
    assert!((found.strongest.unwrap().1 + 0.03).abs() < 0.006);
}

#[test]
fn cells_have_levels_of_their_own() {
    let found = independence("a", &runs(60, 0.03, 4, 2), &OTHERS).unwrap();
    assert_eq!((found.n_cells, found.df), (4, [3, 52]));
    assert!(found.p_value < 1e-8);
    assert!((found.gamma - 0.08).abs() < 0.005);
}

#[test]
fn under_the_hypothesis_p_values_are_uniform() {
    let p: Vec<f64> = (0..400)
        .map(|seed| independence("a", &runs(40, 0., 3, seed), &OTHERS).unwrap().p_value)
        .collect();
    for level in [0.05, 0.2, 0.5, 0.9] {
        let below = p.iter().filter(|p| **p < level).count() as f64 / p.len() as f64;
        // Four standard errors of a share of 400.
        assert!(
            (below - level).abs() < 4. * (level * (1. - level) / 400_f64).sqrt(),
            "{below} {level}"
        );
    }
}

#[test]
fn a_weight_of_two_is_a_second_point_but_for_the_degrees_of_freedom() {
    let one = runs(30, 0.01, 2, 5);
    let indices: Vec<usize> = (0..30).chain(0..30).collect();
    let twice = independence("a", &one.select(&indices), &OTHERS).unwrap();
    let weighted = independence("a", &one.with_weights(vec![2.; 30]), &OTHERS).unwrap();
    assert!((twice.gamma - weighted.gamma).abs() < 1e-12);
    assert!((twice.r2_all - weighted.r2_all).abs() < 1e-10);
}

#[test]
fn a_point_without_weight_is_not_there() {
    let all = runs(30, 0.01, 2, 5);
    let weights = (0..30).map(|i| f64::from(u8::from(i % 5 != 0))).collect();
    let others: Vec<usize> = (0..30).filter(|i| i % 5 != 0).collect();
    let weighted = independence("a", &all.clone().with_weights(weights), &OTHERS).unwrap();
    assert_eq!(weighted, independence("a", &all.select(&others), &OTHERS).unwrap());
}

#[test]
fn what_cannot_be_tested_says_why() {
    let check = |observations: &Observations, expected: &str| {
        let error = independence("a", observations, &OTHERS).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(
        &runs(5, 0., 1, 3),
        "independence of `a` is not identified: 5 points in 1 cells for 3 other shares",
    );
    let still = runs(20, 0., 1, 3).with_input("c", vec![0.2; 20]);
    check(&still, "independence of `a` is not identified: `c` never changes within a cell");
    let together = runs(20, 0., 1, 3);
    let copy = together.input("b").unwrap().to_vec();
    check(
        &together.with_input("c", copy),
        "independence of `a` is not identified: the other shares only ever moved together",
    );
    let absent = runs(20, 0., 1, 3).with_input("p", vec![0.; 20]);
    check(&absent, "row 1, column `p`: must be positive, got 0");
}

#[test]
fn holm_orders_and_scales() {
    let adjusted = holm(&[0.01, 0.04, 0.03, 0.5]);
    let expected = [0.04, 0.09, 0.09, 0.5];
    for (a, e) in adjusted.iter().zip(expected) {
        assert!((a - e).abs() < 1e-12, "{adjusted:?}");
    }
}

/// Every family at every level beside every level of every other, in `cells` cells of `blocks` blocks; the loss of the
/// first is bent in `ln p`, and falls with share `b` by `tau`.
fn levels(blocks: usize, cells: usize, bend: f64, tau: f64, seed: u64) -> Observations {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let shares = [0.45, 0.25, 0.15, 0.1, 0.05];
    let mut columns = vec![vec![]; 5];
    let (mut loss, mut cell) = (vec![], vec![]);
    for (block, at) in (1..=blocks).flat_map(|block| (0..cells).map(move |at| (block, at))) {
        for shift in 0..5 {
            let p: Vec<f64> = (0..5).map(|i| shares[(block * i + shift) % 5]).collect();
            let noise: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.;
            let level = 1. - 0.1 * (at + block) as f64;
            let own = -0.1 * p[0].ln() + bend * p[0].ln().powi(2);
            loss.push((level + own - tau * p[1] + 0.003 * noise).exp());
            cell.push(10 * block + at);
            columns.iter_mut().zip(p).for_each(|(column, p)| column.push(p));
        }
    }
    let mut observations = Observations::new("loss", loss).with_input("p", columns[0].clone());
    for (name, column) in OTHERS.iter().zip(&columns[1..]) {
        observations = observations.with_input(name, column.clone());
    }
    observations.with_clusters(cell)
}

#[test]
fn a_bend_in_the_own_share_is_not_laid_to_the_others_at_levels() {
    let bent = |seed| levels(4, 3, 0.03, 0., seed);
    let p: Vec<f64> = (0..400)
        .map(|seed| independence_at_levels("a", &bent(seed), &OTHERS).unwrap().p_value)
        .collect();
    for level in [0.05, 0.2, 0.5, 0.9] {
        let below = p.iter().filter(|p| **p < level).count() as f64 / p.len() as f64;
        // Four standard errors of a share of 400.
        assert!(
            (below - level).abs() < 4. * (level * (1. - level) / 400_f64).sqrt(),
            "{below} {level}"
        );
    }
}

#[test]
fn levels_find_a_planted_transfer_and_count_their_own_freedom() {
    let runs = levels(4, 3, 0.03, 0.03, 2);
    let found = independence_at_levels("a", &runs, &OTHERS).unwrap();
    assert_eq!((found.n_points, found.n_cells, found.df), (60, 12, [3, 60 - 12 - 4 - 3]));
    assert!(found.p_value < 1e-3, "{found:?}");
    assert_eq!(found.strongest.as_ref().unwrap().0, "b");
    // To a straight line the bend is noise, in which the transfer drowns.
    let line = independence("a", &runs, &OTHERS).unwrap();
    assert!(line.p_value > 100. * found.p_value, "{line:?}");
}

#[test]
fn with_one_companion_a_level_nothing_can_be_told_apart() {
    let error = independence_at_levels("a", &levels(1, 4, 0., 0., 3), &OTHERS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "independence of `a` is not identified: the other shares only ever moved together, or with the own one"
    );
}
