//! Mixtures of a design: every family takes every level of share, beside different companions each time.
//!
//! With `k` families, mixture `shift` of the block with multiplier `m` gives family `i` the level `(m i + shift) mod k`.
//! In one block every family has every level once. For a prime `k` all `k - 1` blocks together give any two families
//! every pair of different levels exactly once (the affine maps of the integers modulo `k` act so), so that no
//! companion's share follows from a family's own.

/// One block: as many mixtures as there are families. `number` counts the blocks of a design from 0 and goes round.
pub(super) fn block(levels: &[f64], number: u64) -> Vec<Vec<f64>> {
    let k = levels.len();
    let multipliers: Vec<usize> = (1..k).filter(|&m| coprime(m, k)).collect();
    let m = multipliers[(number % multipliers.len() as u64) as usize];
    let mixture = |shift| (0..k).map(|i| levels[(m * i + shift) % k]).collect();
    (0..k).map(mixture).collect()
}

fn coprime(a: usize, b: usize) -> bool {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LEVELS: [f64; 5] = [0.45, 0.25, 0.15, 0.1, 0.05];

    #[test]
    fn a_block_gives_every_family_every_level_once() {
        for number in 0..9 {
            let block = block(&LEVELS, number);
            for family in 0..5 {
                let mut taken: Vec<f64> = block.iter().map(|mixture| mixture[family]).collect();
                taken.sort_by(|a, b| b.total_cmp(a));
                assert_eq!(taken, LEVELS);
            }
            for mixture in block {
                assert!((mixture.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn four_blocks_give_two_families_every_pair_of_levels_once() {
        let all: Vec<Vec<f64>> = (0..4).flat_map(|number| block(&LEVELS, number)).collect();
        for (a, b) in [(0, 1), (0, 4), (2, 3), (4, 1)] {
            let pairs: BTreeSet<[u64; 2]> =
                all.iter().map(|mixture| [mixture[a].to_bits(), mixture[b].to_bits()]).collect();
            assert_eq!(pairs.len(), 20, "families {a} and {b}");
        }
    }

    #[test]
    fn any_number_of_families_has_blocks() {
        for k in [3, 4, 6, 12] {
            let levels: Vec<f64> = (1..=k).map(f64::from).collect();
            for number in 0..20 {
                let block = block(&levels, number);
                let families: BTreeSet<u64> =
                    block.iter().map(|mixture| mixture[1].to_bits()).collect();
                assert_eq!((block.len(), families.len()), (k as usize, k as usize));
            }
        }
    }
}
