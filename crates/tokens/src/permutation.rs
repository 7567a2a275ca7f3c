//! A pseudo-random permutation of 0..n that computes each value on its own, in constant memory.
//!
//! A Feistel network permutes the smallest power of 4 that holds n; a value outside is permuted
//! again until one falls inside (Black and Rogaway 2002, *Ciphers with Arbitrary Finite Domains*,
//! cycle walking), under 4 times on average. Good for shuffling, no cipher: the round function
//! mixes, it does not resist attack.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::hash::hash_parts;

const N_ROUNDS: usize = 8;

/// The order of one epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permutation {
    n: u64,
    half_bits: u32,
    keys: [u64; N_ROUNDS],
}

impl Permutation {
    /// A permutation of `0..n`, 1 ≤ n ≤ 2⁶², for each `seed` and `epoch`.
    pub(crate) fn new(n: u64, seed: u64, epoch: u64) -> Self {
        let label = b"forerun tokens shuffle 1".as_slice();
        let key = hash_parts([label, &seed.to_le_bytes(), &epoch.to_le_bytes()]);
        let mut rng = ChaCha20Rng::from_seed(key);
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        Self { n, half_bits, keys: std::array::from_fn(|_| rng.next_u64()) }
    }

    /// The value at `index`, both below n.
    pub(crate) fn at(&self, index: u64) -> u64 {
        let mut value = self.permute(index);
        while value >= self.n {
            value = self.permute(value);
        }
        value
    }

    fn permute(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): each output bit depends on every input
/// bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
