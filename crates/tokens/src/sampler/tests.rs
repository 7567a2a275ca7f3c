use proptest::prelude::*;

use super::*;

fn check_error(arguments: (u64, u64, u64), expected: &str) {
    let (n_rows, rank, world) = arguments;
    assert_eq!(Sampler::new(n_rows, 1, rank, world).unwrap_err().to_string(), expected);
}

fn rows(n_rows: u64, seed: u64, epoch: u64) -> Vec<u64> {
    let sampler = Sampler::new(n_rows, seed, 0, 1).unwrap();
    let first = epoch * n_rows;
    (first..first + n_rows)
        .map(|position| {
            let (at, row) = sampler.index(position);
            assert_eq!(at, epoch);
            row
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_epoch_is_a_permutation(n_rows in 1..300_u64, seed: u64, epoch in 0..1_000_000_u64) {
        let mut seen = rows(n_rows, seed, epoch);
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..n_rows).collect::<Vec<_>>());
    }

    #[test]
    fn ranks_partition_the_positions(
        n_rows in 1..50_u64, start in 0..10_000_u64, world in 1..9_u64, n in 0..60_u64
    ) {
        let mut all = Vec::new();
        for rank in 0..world {
            let sampler = Sampler::new(n_rows, 7, rank, world).unwrap();
            all.extend(sampler.positions(start).take_while(|&p| p < start + n));
        }
        all.sort_unstable();
        prop_assert_eq!(all, (start..start + n).collect::<Vec<_>>());
    }

    #[test]
    fn a_resumed_run_reads_on_with_any_number_of_ranks(
        n_rows in 1..50_u64, stop in 0..120_u64, before in 1..6_u64, after in 1..6_u64
    ) {
        let read = |from: u64, to: u64, world: u64| {
            let mut read = Vec::new();
            for rank in 0..world {
                let sampler = Sampler::new(n_rows, 3, rank, world).unwrap();
                let mine = sampler.positions(from).take_while(|&p| p < to);
                read.extend(mine.map(|p| (p, sampler.index(p))));
            }
            read.sort_unstable();
            read
        };
        let resumed = [read(0, stop, before), read(stop, 150, after)].concat();
        prop_assert_eq!(resumed, read(0, 150, 1));
    }

    #[test]
    fn large_streams_stay_inside_and_do_not_repeat(seed: u64, n_rows in (1_u64 << 40)..(1 << 62)) {
        let sampler = Sampler::new(n_rows, seed, 0, 1).unwrap();
        let seen: std::collections::BTreeSet<_> = (0..100).map(|p| sampler.index(p).1).collect();
        prop_assert_eq!(seen.len(), 100);
        prop_assert!(seen.into_iter().all(|row| row < n_rows));
    }
}

#[test]
fn seeds_and_epochs_differ() {
    assert_ne!(rows(100, 1, 0), rows(100, 1, 1));
    assert_ne!(rows(100, 1, 0), rows(100, 2, 0));
    assert_ne!(rows(100, 1, 0), (0..100).collect::<Vec<_>>());
}

/// χ² over where each of 8 rows lands in 4,000 orders: 49 degrees of freedom, so above 85.4 in one
/// of 1,000 cases.
#[test]
fn every_row_lands_everywhere_equally_often() {
    let mut counts = [[0_u32; 8]; 8];
    for seed in 0..4000 {
        for (position, row) in rows(8, seed, 0).into_iter().enumerate() {
            counts[position][row as usize] += 1;
        }
    }
    let chi_squared: f64 =
        counts.iter().flatten().map(|&n| (f64::from(n) - 500.0).powi(2) / 500.0).sum();
    assert!(chi_squared < 85.4, "{chi_squared}");
}

/// A run that is resumed with a newer version has to see the same order.
#[test]
fn the_order_is_fixed_for_good() {
    assert_eq!(rows(10, 42, 0), [0, 6, 9, 1, 5, 3, 7, 4, 8, 2]);
    assert_eq!(rows(10, 42, 1), [6, 1, 5, 7, 9, 3, 4, 8, 0, 2]);
}

#[test]
fn impossible_shares_are_refused_by_name() {
    check_error((0, 0, 1), "n_rows must be from 1 to 2^62, got 0");
    check_error((u64::MAX, 0, 1), "n_rows must be from 1 to 2^62, got 18446744073709551615");
    check_error((5, 0, 0), "world must be positive, got 0");
    check_error((5, 2, 2), "rank must be below 2, got 2");
}

#[test]
fn positions_end_where_numbers_do() {
    let sampler = Sampler::new(5, 1, 0, 2).unwrap();
    assert_eq!(sampler.positions(u64::MAX - 3).collect::<Vec<_>>(), [u64::MAX - 3, u64::MAX - 1]);
}
